// A task watched with a stock client: from its start to its end, and by those who leave and come back.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { assertRecord } from "./support/record.js";
import { startServer } from "./support/server.js";
import { connect, run } from "./support/websocket.js";

const EVENTS = `subscription($id: ID!, $after: String) {
  taskEvents(id: $id, after: $after) {
    __typename seq cursor
    ... on TaskStatusChanged { status result }
    ... on TaskProgressed { percent }
  }
}`;
const PROGRESS = `subscription($id: ID!, $after: String) {
  taskProgress(id: $id, after: $after) { status percent cursor result }
}`;

// Far enough apart that no two updates are joined, also on a slow disk.
const TEN_STEPS = { steps: 10, stepMs: 250 };
// PENDING, RUNNING, ten times progress, COMPLETED.
const EVENTS_OF_TEN_STEPS = 13;

let server;
before(async () => (server = await startServer()));
after(() => server?.stop());

/** What is seen until `leave` says so about an event; then the connection is lost without a goodbye. */
async function watchUntil(leave, variables) {
  const client = connect(server);
  const seen = [];
  const watching = async () => {
    for await (const { data } of client.iterate({ query: EVENTS, variables })) {
      seen.push(data.taskEvents);
      if (leave(data.taskEvents)) client.cut();
    }
  };
  // After the last event the stream may have ended already.
  await watching().catch(({ code }) => assert.equal(code, 1006));
  return seen;
}

test("a task is watched from PENDING to COMPLETED", async () => {
  const id = await server.simulate(TEN_STEPS);
  const { data, errors } = await run(connect(server), EVENTS, { id });
  const events = data.map((answer) => answer.taskEvents);
  assert.deepEqual(errors, []);
  assertRecord(events);
  assert.equal(events.length, EVENTS_OF_TEN_STEPS);
  const percents = events.filter((event) => event.__typename === "TaskProgressed").map((event) => event.percent);
  assert.deepEqual(percents, [10, 20, 30, 40, 50, 60, 70, 80, 90, 100]);
  assert.deepEqual(events.at(-1).result, { steps: 10 });
});

test("who leaves in the middle comes back with `after` and misses nothing", async () => {
  const id = await server.simulate(TEN_STEPS);
  const seen = await watchUntil((event) => event.percent === 50, { id });
  const { data, errors } = await run(connect(server), EVENTS, { id, after: seen.at(-1).cursor });
  assert.deepEqual(errors, []);
  const rest = data.map((answer) => answer.taskEvents);
  assert.ok(seen.length >= 3 && rest.length >= 1, `${seen.length} and ${rest.length} events`);
  assertRecord([...seen, ...rest]);
});

test("after every single event one can leave and come back", async () => {
  const id = await server.simulate({ steps: 5, stepMs: 100 });
  const seen = [];
  while (seen.at(-1)?.status !== "COMPLETED") {
    seen.push(...(await watchUntil(() => true, { id, after: seen.at(-1)?.cursor })));
  }
  assertRecord(seen);
});

test("a finished task is replayed from its first event, and the stream ends", async () => {
  const id = await server.simulate({ steps: 2, stepMs: 0 });
  await run(connect(server), PROGRESS, { id });
  const replays = [await run(connect(server), EVENTS, { id }), await run(connect(server), EVENTS, { id })];
  assertRecord(replays[0].data.map((answer) => answer.taskEvents));
  assert.deepEqual(replays[0], replays[1]);
});

test("progress begins with the present state, never goes back, and ends with the result", async () => {
  const id = await server.simulate(TEN_STEPS);
  await watchUntil((event) => event.percent === 20, { id });
  const { data, errors } = await run(connect(server), PROGRESS, { id });
  assert.deepEqual(errors, []);
  const states = data.map((answer) => answer.taskProgress);
  const percents = states.map((state) => state.percent);
  assert.ok(percents[0] >= 20, `began with ${percents[0]} %`);
  assert.deepEqual(percents, percents.toSorted((one, other) => one - other));
  const { status, percent, result } = states.at(-1);
  assert.deepEqual({ status, percent, result }, { status: "COMPLETED", percent: 100, result: { steps: 10 } });
});
