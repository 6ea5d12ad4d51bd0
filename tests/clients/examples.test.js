// The examples for stock clients: each event of a task is shown exactly once, whatever happens to the connection.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { text } from "node:stream/consumers";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { launch } from "./support/browser.js";
import { eventsource } from "./support/eventsource.js";
import { EXAMPLES, examples, watch } from "./support/examples.js";
import { startProxy } from "./support/proxy.js";
import { assertRecord } from "./support/record.js";
import { startServer } from "./support/server.js";

const CONFIG = `
[server.streams]
multipart_heartbeat_ms = 60_000
sse_retry_ms = 20

[sources.rows]
type = "simulated"
rows = 60
interval_ms = 10
`;

// How many bytes of its answers each connection lets through.
const SOME = (number) => 50 + ((number * 97) % 1500);
// graphql-sse shows nothing of what has arrived together with a part of an event, so it gets on only with more.
const MORE_AND_MORE = (number) => 50 + number * 397;

let server, browser;
before(async () => {
  server = await startServer({ config: CONFIG });
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await server?.stop();
});

/** A proxy before a server, for one test. */
async function proxyFor(t, server, options) {
  const proxy = await startProxy(server, options);
  t.after(() => proxy.stop());
  return proxy;
}

/**
 * A server for one test, a task that waits, and what an example shows of it: the task begins to work when the example
 * has shown that it waits. `on` is told of each event.
 */
async function watchFromStart(t, example, { url = (own) => own.endpoint, on }) {
  const own = { server: await startServer() };
  t.after(async () => {
    await own.restarted;
    await own.server.stop();
  });
  await own.server.pause("simulate");
  const id = await own.server.simulate({ steps: 10, stepMs: 100 });
  return watch(example, await url(own.server), id, (event) => {
    if (event.seq === 1) own.server.resume("simulate");
    on(event, own);
  });
}

/** Ends the server with `end` in the middle of the task, and starts it again where it was. */
const restart = (end) => (event, own) => {
  if (event.seq !== 5) return;
  own.restarted = end(own.server).then(async () => {
    own.server = await startServer({ data: own.server.data, port: own.server.port });
  });
};

// Who does not get on repeats for ever.
const OPTIONS = { timeout: 60_000 };

describe("examples", { concurrency: 4 }, () => {
  for (const [name, example] of Object.entries({ eventsource: eventsource(() => browser), ...examples })) {
    test(`${name}: an event is shown at once, and not when the next thing is sent`, OPTIONS, async (t) => {
      const proxy = await proxyFor(t, server);
      const id = await server.simulate({ steps: 1, stepMs: 3_600_000 });
      let behind;
      const events = await watch(example, proxy.endpoint, id, ({ status, cursor }) => {
        if (status !== "RUNNING") return;
        behind = proxy.answered.slice(proxy.answered.lastIndexOf(cursor) + cursor.length);
        server.cancel(id);
      });
      // The event's own end: no sign of life, no other event.
      assert.match(behind, /^["}\s]*(--graphql\s*)?$/);
      assertRecord(events, ["PENDING", "RUNNING", "CANCELLED"]);
    });

    test(`${name}: a task is watched from PENDING to COMPLETED, across lost connections`, OPTIONS, async (t) => {
      let proxy;
      let lost = 0;
      const events = await watchFromStart(t, example, {
        url: async (own) => (proxy = await proxyFor(t, own)).endpoint,
        on({ seq }) {
          // In the middle, and once more at the first event after that.
          if (seq < 4 || proxy.cuts === 2 || proxy.connections === lost) return;
          lost = proxy.connections;
          proxy.cut();
        },
      });
      assert.equal(proxy.cuts, 2);
      assertRecord(events);
      assert.deepEqual(events.at(-1).result, { steps: 10 });
    });

    test(`${name}: wherever the answer is cut, also within an event, nothing is lost or shown twice`, OPTIONS, async (t) => {
      const id = await server.start("collect", { source: "rows" });
      const proxy = await proxyFor(t, server, { budget: name.endsWith("-sse") ? MORE_AND_MORE : SOME });
      const events = await watch(example, proxy.endpoint, id);
      t.diagnostic(`${proxy.cuts} cuts`);
      assert.ok(proxy.cuts >= 10, `${proxy.cuts} cuts`);
      assertRecord(events);
      assert.deepEqual(events, await watch(example, server.endpoint, id));
    });

    test(`${name}: it goes on after a crash of the server, and so does the task`, OPTIONS, async (t) => {
      const events = await watchFromStart(t, example, { on: restart((own) => own.crash()) });
      assertRecord(events, ["PENDING", "RUNNING", "PENDING", "RUNNING", "COMPLETED"]);
      const lost = events.find((event) => event.error);
      assert.deepEqual([lost.status, lost.error.code], ["PENDING", "ATTEMPT_LOST"]);
      const ordered = events.every(({ attempt, seq }) => attempt <= 1 === seq <= lost.seq);
      assert.ok(ordered, "each attempt's events in one row");
    });

    test(`${name}: it goes on after the server was stopped and started again`, OPTIONS, async (t) => {
      assertRecord(await watchFromStart(t, example, { on: restart((own) => own.shutDown()) }));
    });
  }
});

describe("run.js", () => {
  const run = (t, args) => {
    const env = { ...process.env, MEANWHILE_URL: server.endpoint };
    const child = spawn(process.execPath, [fileURLToPath(new URL("run.js", EXAMPLES)), ...args], { env });
    t.after(() => child.kill());
    return child;
  };

  test("it watches the task that is named", async (t) => {
    const id = await server.simulate({ steps: 1, stepMs: 10 });
    const lines = (await text(run(t, ["graphql-ws", id]).stdout)).trim().split("\n");
    assert.deepEqual([lines[0], lines.at(-1)], [
      "1 TaskStatusChanged PENDING",
      `${lines.length} TaskStatusChanged COMPLETED`,
    ]);
  });

  test("without one it starts one", async (t) => {
    const [line] = await once(createInterface(run(t, ["meros"]).stdout), "line");
    assert.equal(line, "1 TaskStatusChanged PENDING");
  });

  test("it says what went wrong, and fails", async (t) => {
    const runs = ["graphql-ws", "apollo-multipart", "urql-fetch", "relay"].map(async (name) => {
      const child = run(t, [name, "nothing"]);
      const [stderr, [code]] = await Promise.all([text(child.stderr), once(child, "close")]);
      assert.match(stderr, /there is no task "nothing"/);
      assert.equal(code, 1, name);
    });
    await Promise.all(runs);
  });
});
