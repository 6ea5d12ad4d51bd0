// The examples for stock clients: each event of a task is shown exactly once, whatever happens to the connection.

import assert from "node:assert/strict";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { text } from "node:stream/consumers";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { launch } from "./support/browser.js";
import { start } from "./support/child.js";
import { eventsource } from "./support/eventsource.js";
import { EXAMPLES, examples, watch } from "./support/examples.js";
import { startProxy } from "./support/proxy.js";
import { assertRecord } from "./support/record.js";
import { startServer } from "./support/server.js";
import { startWorker } from "./support/worker.js";

const CONFIG = `
[server.streams]
multipart_heartbeat_ms = 60_000
sse_retry_ms = 20

[sources.rows]
type = "simulated"
rows = 40
interval_ms = 10
`;
const OWN_CONFIG = `
[server]
# What is not done by then is given back, and begins again.
shutdown_deadline_ms = 100

[server.streams]
sse_retry_ms = 20
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
 * What an example shows of a task of a server of its own. The task goes a step further when the example has shown the
 * last one, and `on` was told of it.
 */
async function watchSteps(t, example, { url = (own) => own.endpoint, on }) {
  const worker = await startWorker();
  t.after(() => worker.stop());
  const config = `${OWN_CONFIG}${worker.config}`;
  const own = { config, server: await startServer({ config }) };
  t.after(async () => {
    await own.restarted;
    await own.server.stop();
  });
  const id = await own.server.start("steps", {});
  return watch(example, await url(own.server), id, (event) => {
    on(event, own);
    worker.goOn(event);
  });
}

/** Ends the server with `end` in the middle of the task, and starts it again where it was. */
const restart = (end) => (event, own) => {
  if (event.seq !== 5) return;
  own.restarted = end(own.server).then(async () => {
    const { data, port } = own.server;
    own.server = await startServer({ config: own.config, data, port });
  });
};

const RESTARTED = ["PENDING", "RUNNING", "PENDING", "RUNNING", "COMPLETED"];
// Who does not get on repeats for ever.
const OPTIONS = { timeout: 120_000 };

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
      const events = await watchSteps(t, example, {
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
      assert.deepEqual([events.length, events.at(-1).result], [13, { steps: 10 }]);
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
      const events = await watchSteps(t, example, { on: restart((own) => own.crash()) });
      assertRecord(events, RESTARTED);
      const lost = events.find((event) => event.error);
      assert.deepEqual([lost.status, lost.error.code], ["PENDING", "ATTEMPT_LOST"]);
      const ordered = events.every(({ attempt, seq }) => attempt <= 1 === seq <= lost.seq);
      assert.ok(ordered, "each attempt's events in one row");
    });

    test(`${name}: it goes on after the server was stopped and started again`, OPTIONS, async (t) => {
      assertRecord(await watchSteps(t, example, { on: restart((own) => own.shutDown()) }), RESTARTED);
    });
  }
});

describe("run.js", () => {
  const run = (args) => {
    const env = { ...process.env, MEANWHILE_URL: server.endpoint };
    return start(process.execPath, [fileURLToPath(new URL("run.js", EXAMPLES)), ...args], { env });
  };

  test("it watches the task that is named", async () => {
    const id = await server.simulate({ steps: 1, stepMs: 10 });
    const lines = (await text(run(["graphql-ws", id]).stdout)).trim().split("\n");
    assert.deepEqual([lines[0], lines.at(-1)], [
      "1 TaskStatusChanged PENDING",
      `${lines.length} TaskStatusChanged COMPLETED`,
    ]);
  });

  test("without one it starts one", async () => {
    const child = run(["meros"]);
    const [line] = await once(createInterface(child.stdout), "line");
    child.kill();
    assert.equal(line, "1 TaskStatusChanged PENDING");
  });

  test("it says what went wrong, and fails", async () => {
    const runs = ["graphql-ws", "apollo-multipart", "urql-fetch", "relay"].map(async (name) => {
      const child = run([name, "nothing"]);
      const [stderr, [code]] = await Promise.all([text(child.stderr), once(child, "close")]);
      assert.match(stderr, /there is no task "nothing"/);
      assert.equal(code, 1, name);
    });
    await Promise.all(runs);
  });
});
