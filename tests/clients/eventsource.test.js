// The browser's own EventSource, in real Chromium: its ids, its end, its errors, and pages of other origins.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { after, before, test } from "node:test";
import { launch, openPage, picture, unreachable } from "./support/browser.js";
import { openExamplePage } from "./support/eventsource.js";
import { EXAMPLES } from "./support/examples.js";
import { assertRecord } from "./support/record.js";
import { startServer } from "./support/server.js";
import { codes } from "./support/websocket.js";

const EVENTS = "seq cursor ... on TaskStatusChanged { status }";

let server, allowed, stranger, browser;
before(async () => {
  [allowed, stranger] = [await serveFiles(), await serveFiles()];
  const config = `
    [server.streams]
    sse_retry_ms = 20

    [server.cors]
    allowed_origins = ["${allowed.origin}"]
  `;
  server = await startServer({ config });
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await server?.stop();
  allowed?.close();
  stranger?.close();
});

/** A server of an origin of its own that has the examples. */
async function serveFiles() {
  const listener = createServer(async (request, response) => {
    const file = new URL(request.url, "http://files").pathname.slice(1);
    const body = await readFile(new URL(file, EXAMPLES)).catch(() => response.writeHead(404).end());
    response.setHeader("content-type", file.endsWith(".js") ? "text/javascript" : "text/html").end(body);
  });
  await new Promise((resolve) => listener.listen(0, "127.0.0.1", resolve));
  const { port } = listener.address();
  return Object.assign(listener, { origin: `http://127.0.0.1:${port}` });
}

/** The example's page as another server has it. */
async function openFrom(files, id) {
  const page = await openPage(browser, unreachable);
  await page.goto(`${files.origin}/eventsource.html?task=${id}&server=${server.endpoint}`);
  return page;
}

const address = (query) => `${server.endpoint}?${new URLSearchParams({ query })}`;

/** What an EventSource tells until it is closed; `complete` closes it unless it is to be `deaf` to that. */
const listen = (page, query, { deaf = false } = {}) =>
  page.evaluate(({ url, deaf }) => {
    const source = new EventSource(url);
    const told = [];
    return new Promise((resolve) => {
      source.addEventListener("next", ({ data, lastEventId }) => told.push({ lastEventId, ...JSON.parse(data) }));
      source.addEventListener("complete", ({ data }) => {
        told.push({ complete: data });
        if (!deaf) resolve(source.close());
      });
      source.addEventListener("error", () => source.readyState === EventSource.CLOSED && resolve());
    }).then(() => told);
  }, { url: address(query), deaf });

/** The lines of the example's page, when the last one is as expected. */
async function lines(page, last) {
  await page.locator("li", { hasText: last }).waitFor();
  return page.locator("li").allInnerTexts();
}

test("every event comes with its cursor as id, and the end is told", async () => {
  const id = await server.simulate({ steps: 2, stepMs: 50 });
  const page = await openExamplePage(browser, server.endpoint);
  const told = await listen(page, `subscription { taskEvents(id: "${id}") { __typename ${EVENTS} } }`);
  assert.deepEqual(told.pop(), { complete: "" });
  assertRecord(told.map(({ data }) => data.taskEvents));
  for (const { data, lastEventId } of told) assert.equal(lastEventId, data.taskEvents.cursor);
  await page.close();
});

test("who does not close at the end asks once more, is told 204, and stops", async () => {
  const id = await server.simulate({ steps: 2, stepMs: 50 });
  const page = await openExamplePage(browser, server.endpoint);
  const requests = [];
  page.on("request", (request) => request.url().startsWith(server.endpoint) && requests.push(request));
  const told = await listen(page, `subscription { taskEvents(id: "${id}") { __typename ${EVENTS} } }`, { deaf: true });
  assert.deepEqual(told.pop(), { complete: "" });
  assertRecord(told.map(({ data }) => data.taskEvents));
  const statuses = requests.map(async (request) => (await request.response()).status());
  assert.deepEqual(await Promise.all(statuses), [200, 204]);
  await page.close();
});

test("an execution error and a validation error are results without an id, and the stream ends", async () => {
  const page = await openExamplePage(browser, server.endpoint);
  const [failed, ...rest] = await listen(page, `subscription { taskEvents(id: "nothing") { seq } }`);
  assert.deepEqual([failed.data, failed.lastEventId, codes(failed.errors)], [null, "", ["NOT_FOUND"]]);
  assert.deepEqual(rest, [{ complete: "" }]);
  const [refused, ...end] = await listen(page, "subscription { nothing }");
  assert.deepEqual([refused.data, codes(refused.errors), end], [undefined, ["BAD_REQUEST"], [{ complete: "" }]]);
  await page.close();
});

for (const from of ["the server's own origin", "another origin that is allowed"]) {
  test(`the example's page shows a task, from ${from}`, async (t) => {
    const id = await server.simulate({ steps: 2, stepMs: 50 });
    const own = from.includes("own");
    const page = await (own ? openExamplePage(browser, server.endpoint, `?task=${id}`) : openFrom(allowed, id));
    const shown = await lines(page, "COMPLETED");
    assert.deepEqual(shown.filter((line) => line.startsWith("TaskStatusChanged")), [
      "TaskStatusChanged PENDING",
      "TaskStatusChanged RUNNING",
      "TaskStatusChanged COMPLETED",
    ]);
    t.diagnostic(await picture(page, own ? "eventsource" : "eventsource-other-origin"));
    await page.close();
  });
}

test("a page of an origin that is not allowed is refused, and does not ask for ever", async () => {
  const page = await openFrom(stranger, await server.simulate({ steps: 1, stepMs: 0 }));
  assert.deepEqual(await lines(page, "refused"), ["the server has refused the request"]);
  await page.close();
});
