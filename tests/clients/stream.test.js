// A data stream with the stock client.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { startServer } from "./support/server.js";
import { codes, connect, run } from "./support/websocket.js";

const STREAM = `subscription($first: Int) {
  dataStream(source: "random", first: $first) { streamId id timestamp value metadata }
}`;

let server;
before(async () => (server = await startServer()));
after(() => server?.stop());

test("chunks count from 0 and end after `first`", async () => {
  const { data, errors } = await run(connect(server), STREAM, { first: 5 });
  assert.deepEqual(errors, []);
  const chunks = data.map((answer) => answer.dataStream);
  assert.deepEqual(chunks.map((chunk) => chunk.id), [0, 1, 2, 3, 4]);
  assert.deepEqual(chunks.map((chunk) => chunk.metadata), [0, 1, 2, 3, 4].map((id) => `chunk_${id}`));
  assert.equal(new Set(chunks.map((chunk) => chunk.streamId)).size, 1);
  for (const { timestamp, value } of chunks) {
    assert.ok(!Number.isNaN(Date.parse(timestamp)) && typeof value === "number", `${timestamp} ${value}`);
  }
});

test("each subscription is a stream of its own", async () => {
  const client = connect(server);
  const [one, other] = await Promise.all([run(client, STREAM, { first: 2 }), run(client, STREAM, { first: 2 })]);
  assert.notEqual(one.data[0].dataStream.streamId, other.data[0].dataStream.streamId);
});

test("who leaves hears no more of it, and the connection goes on", async () => {
  const received = [];
  const client = connect(server, { on: { message: (message) => received.push(message) } });
  let taken = 0;
  for await (const _ of client.iterate({ query: STREAM, variables: { first: 100 } })) {
    taken += 1;
    if (taken === 3) break;
  }
  const { id } = received.find((message) => message.type === "next");
  // What was under way when we left has arrived when the answer to a later request is here.
  await run(client, "{ __typename }");
  const after = received.length;
  // A row comes each 50 ms: two rows of a second stream leave the first one time to be heard.
  await run(client, STREAM, { first: 3 });
  assert.ok(received.length > after);
  assert.deepEqual(received.slice(after).filter((message) => message.id === id), []);
});

test("an unknown source is refused with its code", async () => {
  const { data, errors } = await run(connect(server), `subscription { dataStream(source: "rondom") { id } }`);
  assert.deepEqual([data, codes(errors)], [[], ["UNKNOWN_SOURCE"]]);
  assert.match(errors[0].message, /random/);
});
