// The examples for stock clients: each event of a task is shown exactly once, whatever happens to the connection.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { launch } from "./support/browser.js";
import { eventsource } from "./support/eventsource.js";
import { assertRecord, examples, watch } from "./support/examples.js";
import { startProxy } from "./support/proxy.js";
import { startServer } from "./support/server.js";

const TEN_STEPS = { steps: 10, stepMs: 100 };
const CONFIG = `
[server.streams]
multipart_heartbeat_ms = 60_000
sse_retry_ms = 20

[sources.rows]
type = "simulated"
rows = 60
interval_ms = 10
`;

/** How many bytes of its answers each connection lets through. */
const budgets = {
  // It shows nothing of what has arrived together with a part of an event, so it gets further when there is more.
  "graphql-sse": (number) => 50 + number * 397,
  other: (number) => 50 + ((number * 97) % 1500),
};

let server, browser;
before(async () => {
  server = await startServer({ config: CONFIG });
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await server?.stop();
});

/** A proxy before the server, for one test. */
async function proxyFor(t, options) {
  const proxy = await startProxy(server, options);
  t.after(() => proxy.stop());
  return proxy;
}

/** A server for one test that `end` ends in the middle of a task, and that is started again where it was. */
async function restartedFor(t, example, end) {
  let own = await startServer();
  let restarted;
  t.after(async () => {
    await restarted;
    await own.stop();
  });
  const id = await own.simulate(TEN_STEPS);
  const restart = async () => {
    await end(own);
    own = await startServer({ data: own.data, port: own.port });
  };
  const events = await watch(example, own.endpoint, id, ({ seq }) => {
    if (seq === 5) restarted = restart();
  });
  assert.ok(restarted, "the server was restarted");
  return events;
}

describe("examples", { concurrency: 4 }, () => {
  for (const [name, example] of Object.entries({ ...examples, eventsource: eventsource(() => browser) })) {
    test(`${name}: a task is watched from PENDING to COMPLETED`, async () => {
      const id = await server.simulate(TEN_STEPS);
      const events = await watch(example, server.endpoint, id);
      assertRecord(events);
      assert.deepEqual(events.at(-1).result, { steps: 10 });
    });

    test(`${name}: an event is shown at once, and not when the next thing is sent`, async (t) => {
      const proxy = await proxyFor(t);
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

    test(`${name}: after a lost connection it goes on where it was`, async (t) => {
      const proxy = await proxyFor(t);
      const id = await server.simulate(TEN_STEPS);
      const events = await watch(example, proxy.endpoint, id, ({ seq }) => {
        if (seq === 4 || seq === 7) proxy.cut();
      });
      assert.equal(proxy.cuts, 2);
      assertRecord(events);
    });

    test(`${name}: wherever the answer is cut, also within an event, nothing is lost or shown twice`, async (t) => {
      const id = await server.start("collect", { source: "rows" });
      const proxy = await proxyFor(t, { budget: budgets[name] ?? budgets.other });
      const events = await watch(example, proxy.endpoint, id);
      assert.ok(proxy.cuts >= 10, `${proxy.cuts} cuts`);
      assertRecord(events);
      assert.deepEqual(events, await watch(example, server.endpoint, id));
    });

    test(`${name}: it goes on after a crash of the server, and so does the task`, async (t) => {
      const events = await restartedFor(t, example, (own) => own.crash());
      assertRecord(events, ["PENDING", "RUNNING", "PENDING", "RUNNING", "COMPLETED"]);
      const lost = events.find((event) => event.error);
      assert.deepEqual([lost.status, lost.error.code], ["PENDING", "ATTEMPT_LOST"]);
      const ordered = events.every(({ attempt, seq }) => attempt <= 1 === seq <= lost.seq);
      assert.ok(ordered, "each attempt's events in one row");
    });

    test(`${name}: it goes on after the server was stopped and started again`, async (t) => {
      assertRecord(await restartedFor(t, example, (own) => own.shutDown()));
    });
  }
});
