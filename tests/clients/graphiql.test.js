// GraphiQL in a real browser.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { fromPackages, launch, openPage, PACKAGES, picture, unreachable } from "./support/browser.js";
import { startServer } from "./support/server.js";

let server, browser;
before(async () => {
  server = await startServer();
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await server?.stop();
});

/** Opens a tab of GraphiQL and runs what is in it, with other variables if there are any. */
async function runTab(page, name, variables) {
  await page.getByRole("tab", { name }).click();
  // The editor reads its new text a moment later.
  await page.waitForFunction((name) => {
    return document.querySelector(".graphiql-query-editor .CodeMirror").CodeMirror.operationName === name;
  }, name);
  if (variables) {
    const editor = page.locator(".graphiql-editor-tool .graphiql-editor:not(.hidden) .CodeMirror");
    await editor.evaluate(({ CodeMirror }, text) => CodeMirror.setValue(text), JSON.stringify(variables));
  }
  await page.getByRole("button", { name: "Execute query" }).click();
}

/** The answer that is shown, once there is one that has `wanted` in it. */
async function answer(page, wanted) {
  const found = await page.waitForFunction((wanted) => {
    const text = document.querySelector(".result-window .CodeMirror")?.CodeMirror.getValue() ?? "";
    return new RegExp(wanted).test(text) && JSON.parse(text);
  }, wanted.source);
  return found.jsonValue();
}

const shown = async (page, wanted) => (await answer(page, wanted)).data;

/** Starts a task and watches it to its end, as a visitor does; its id. */
async function startAndWatch(page) {
  await runTab(page, "StartTask");
  const { task } = (await shown(page, /"startTask"/)).startTask;
  assert.equal(task.kind, "simulate");
  await runTab(page, "WatchProgress");
  const end = (await shown(page, /"status": "COMPLETED"/)).taskProgress;
  assert.deepEqual([end.percent, end.result], [100, { steps: 10 }]);
  return task.id;
}

/** What a visitor reads when GraphiQL is not there. */
async function explanation(page) {
  await page.getByRole("alert").waitFor();
  return page.getByRole("alert").innerText();
}

test("from the CDN: a mutation and a subscription run, and their results are seen", async (t) => {
  const page = await openPage(browser, fromPackages());
  await page.goto(server.page);
  const id = await startAndWatch(page);
  t.diagnostic(await picture(page, "graphiql"));
  await runTab(page, "Tasks");
  const { tasks } = await shown(page, /"nodes"/);
  assert.deepEqual(tasks.nodes.map((task) => task.id), [id]);
  assert.deepEqual(page.complaints, []);
  await page.close();
});

test("every example runs as it stands", async () => {
  const page = await openPage(browser, fromPackages());
  await page.goto(server.page);
  await runTab(page, "Collect");
  await shown(page, /"startTask"/);
  await runTab(page, "WatchEvents");
  assert.deepEqual((await shown(page, /"status": "COMPLETED"/)).taskEvents.result, { rows: 100 });
  await runTab(page, "Stream");
  assert.equal((await shown(page, /"chunk_9"/)).dataStream.id, 9);
  await runTab(page, "Join");
  const { data: profile, elapsedMs } = (await shown(page, /"joinedData"/)).joinedData;
  assert.deepEqual(profile, { userName: "User", apiStatus: "success", processedData: 6 });
  assert.ok(elapsedMs >= 250);
  await runTab(page, "Compare");
  assert.ok((await shown(page, /"comparison"/)).comparison.improvementPercent > 0);
  await runTab(page, "Overview");
  assert.equal((await shown(page, /"joins"/)).joinedData.data.health, "ready");
  await runTab(page, "Tasks");
  const { kinds, sources } = await shown(page, /"nodes"/);
  assert.ok(kinds.some(({ name }) => name === "collect") && sources.some(({ name }) => name === "random"));
  // What the schema does not know would be underlined.
  for (const tab of await page.getByRole("tab").all()) {
    await tab.click();
    await page.locator(".graphiql-query-editor .CodeMirror-line").first().waitFor();
    assert.equal(await page.locator(".CodeMirror-lint-mark-error").count(), 0, await tab.innerText());
  }
  assert.deepEqual(page.complaints, []);
  await page.close();
});

test("what cannot be done is said in words", async (t) => {
  const local = await startServer();
  t.after(() => local.stop());
  const page = await openPage(browser, fromPackages());
  await page.goto(local.page);
  const complaint = async (wanted) => (await answer(page, wanted)).errors[0];
  await runTab(page, "WatchProgress");
  assert.match((await complaint(/No task was started/)).message, /run StartTask first/);
  await local.stop();
  await runTab(page, "Tasks");
  const { message, stack } = await complaint(/cannot be reached/);
  assert.ok(message.startsWith(local.endpoint) && message.endsWith("is the server running?"), message);
  assert.equal(stack, undefined);
  await page.close();
});

test("what is shown changes when the task does", async () => {
  const id = await server.simulate({ steps: 1, stepMs: 3_600_000 });
  const page = await openPage(browser, fromPackages());
  await page.goto(server.page);
  await runTab(page, "WatchProgress", { id });
  await shown(page, /"status": "RUNNING"/);
  await server.cancel(id);
  await shown(page, /"status": "CANCELLED"/);
  await page.close();
});

test("after a lost connection the page names the cursor it had come to", async () => {
  const cursors = [];
  const inits = [];
  const page = await openPage(browser, fromPackages());
  await page.routeWebSocket(server.websocket, (socket) => {
    const upstream = socket.connectToServer();
    socket.onMessage((text) => {
      const { type, payload } = JSON.parse(text);
      if (type === "connection_init") inits.push(payload.cursors);
      upstream.send(text);
    });
    upstream.onMessage((text) => {
      const { type, id, payload } = JSON.parse(text);
      if (type === "next") cursors.push({ [id]: payload.extensions.cursor });
      socket.send(text);
      // As a server does that is restarted.
      if (cursors.length === 3 && inits.length === 1) socket.close({ code: 1012 });
    });
  });
  await page.goto(server.page);
  await startAndWatch(page);
  assert.equal(inits.length, 2);
  assert.deepEqual(inits, [{}, cursors[2]]);
  await page.close();
});

test("after a crash of the server the page goes on where it was", async (t) => {
  let own = await startServer();
  t.after(() => own.stop());
  const id = await own.simulate({ steps: 2, stepMs: 3_600_000 });
  const page = await openPage(browser, fromPackages());
  const seen = [];
  page.on("websocket", (socket) => socket.on("framereceived", ({ payload }) => {
    const { type, payload: result } = JSON.parse(payload);
    if (type === "next") seen.push(result.data.taskEvents.seq);
  }));
  await page.goto(own.page);
  await runTab(page, "WatchEvents", { id });
  await shown(page, /"status": "RUNNING"/);
  const refused = page.waitForEvent("websocket").then((socket) => socket.waitForEvent("socketerror"));
  await own.crash();
  await refused;
  own = await startServer({ data: own.data, port: own.port });
  await shown(page, /"code": "ATTEMPT_LOST"|"attempt": 2/);
  await own.cancel(id);
  await shown(page, /"status": "CANCELLED"/);
  assert.deepEqual(seen, seen.map((_, index) => index + 1));
  await page.close();
});

test("from a local folder: nothing is asked of anybody else", async (t) => {
  const local = await startServer({ args: ["--graphiql-assets", PACKAGES] });
  t.after(() => local.stop());
  const asked = [];
  const page = await openPage(browser, (route) => (asked.push(route.request().url()), route.abort()));
  await page.goto(new URL("/", local.endpoint).href);
  await startAndWatch(page);
  assert.deepEqual([asked, page.complaints], [[], []]);
  await page.close();
});

test("without internet the page says what to do", async (t) => {
  const page = await openPage(browser, unreachable);
  await page.goto(server.page);
  const text = await explanation(page);
  for (const expected of ["npm install --prefix", "graphiql@4.1.2", "meanwhile --graphiql-assets", server.endpoint]) {
    assert.ok(text.includes(expected), `${expected} is missing in\n${text}`);
  }
  t.diagnostic(await picture(page, "graphiql-unreachable"));
  await page.close();
});

test("a file that was changed on its way does not run", async () => {
  const page = await openPage(browser, fromPackages({ change: (content) => `${content}\n;window.changed = 1` }));
  await page.goto(server.page);
  assert.match(await explanation(page), /is not the file that was expected/);
  assert.equal(await page.evaluate(() => window.changed), undefined);
  await page.close();
});
