// How stock clients show what goes wrong with a subscription: while it is executed, and before that.

import assert from "node:assert/strict";
import { get } from "node:http";
import { createRequire } from "node:module";
import { after, before, test } from "node:test";
import { parse } from "graphql";
import { connect, EXAMPLES, examples } from "./support/examples.js";
import { startServer } from "./support/server.js";
import { codes } from "./support/websocket.js";

/** A package as the examples have it. */
const examplesRequire = createRequire(EXAMPLES);

const FAILS = `subscription { taskEvents(id: "nothing") { seq } }`;
const DOES_NOT_FIT = `subscription { taskEvents(id: "nothing") { nothing } }`;

let server;
before(async () => (server = await startServer()));
after(() => server?.stop());

const client = (name) => connect(examples[name], server.endpoint);

/** What a sink is told, until there is an error or the end. */
const told = (subscribe) =>
  new Promise((resolve) => {
    const calls = [];
    const end = (name) => (value) => resolve([...calls, value === undefined ? [name] : [name, value]]);
    subscribe({ next: (value) => calls.push(["next", value]), error: end("error"), complete: end("complete") });
  });

/** The first thing that is told. */
const first = (subscribe) => new Promise(subscribe);

test("graphql-ws: an execution error is a result, a validation error goes to `error`", async () => {
  const shown = (query) => told((sink) => client("graphql-ws").subscribe({ query }, sink));
  const [[kind, { data, errors }], ...rest] = await shown(FAILS);
  assert.deepEqual([kind, data, codes(errors), rest], ["next", null, ["NOT_FOUND"], [["complete"]]]);
  assert.deepEqual(errors[0].path, ["taskEvents"]);
  const [[refusedKind, refused], ...none] = await shown(DOES_NOT_FIT);
  assert.deepEqual([refusedKind, codes(refused), none], ["error", ["BAD_REQUEST"], []]);
});

test("graphql-sse: both are results, and the stream ends; without execution there is no `data`", async () => {
  const shown = (query) => told((sink) => client("graphql-sse").subscribe({ query }, sink));
  const [[kind, { data, errors }], ...rest] = await shown(FAILS);
  assert.deepEqual([kind, data, codes(errors), rest], ["next", null, ["NOT_FOUND"], [["complete"]]]);
  const [[refusedKind, refused], ...end] = await shown(DOES_NOT_FIT);
  assert.deepEqual([refusedKind, codes(refused.errors), end], ["next", ["BAD_REQUEST"], [["complete"]]]);
  assert.ok(!("data" in refused));
});

for (const [name, refusedName] of [
  ["apollo-websocket", "CombinedGraphQLErrors"],
  ["apollo-multipart", "CombinedProtocolErrors"],
]) {
  test(`${name}: an execution error is CombinedGraphQLErrors, a validation error ${refusedName}`, async () => {
    const shown = (query) => first((next) => client(name).subscribe({ query: parse(query) }).subscribe({ next }));
    const { data, error } = await shown(FAILS);
    assert.deepEqual([data, error.name, codes(error.errors)], [undefined, "CombinedGraphQLErrors", ["NOT_FOUND"]]);
    assert.equal(error.message, `there is no task "nothing"`);
    const refused = await shown(DOES_NOT_FIT);
    assert.deepEqual([refused.error.name, codes(refused.error.errors)], [refusedName, ["BAD_REQUEST"]]);
  });
}

for (const name of ["urql-websocket", "urql-sse", "urql-fetch"]) {
  test(`${name}: both are a CombinedError with graphQLErrors, and none of the network`, async () => {
    const shown = (query) => first((next) => client(name).subscription(query, {}).subscribe(next));
    for (const [query, code] of [[FAILS, "NOT_FOUND"], [DOES_NOT_FIT, "BAD_REQUEST"]]) {
      const { error } = await shown(query);
      assert.deepEqual([error.name, error.networkError, codes(error.graphQLErrors)], ["CombinedError", undefined, [code]]);
    }
  });
}

test("Relay: an execution error is a RelayNetwork error with its source, a validation error the list of errors", async () => {
  const error = await examples.relay.watchTask(client("relay"), "nothing", () => {}).catch((error) => error);
  assert.deepEqual([error.name, codes(error.source.errors)], ["RelayNetwork", ["NOT_FOUND"]]);
  assert.match(error.message, /there is no task "nothing"/);
  const operation = { id: null, name: "", metadata: {}, operationKind: "subscription", text: DOES_NOT_FIT };
  const [[kind, refused]] = await told((sink) => client("relay").getNetwork().execute(operation, {}, {}).subscribe(sink));
  assert.deepEqual([kind, codes(refused)], ["error", ["BAD_REQUEST"]]);
});

/** The bodies of the parts of one response, by either build of meros. */
const builds = {
  browser: async (query) => {
    const body = JSON.stringify({ query });
    const headers = { "content-type": "application/json", accept: "multipart/mixed; subscriptionSpec=1.0" };
    const response = await fetch(server.endpoint, { method: "POST", headers, body });
    return bodies(await examplesRequire("meros/browser").meros(response));
  },
  "Node.js": async (query) => {
    const headers = { accept: `multipart/mixed;boundary="-";subscriptionSpec="1.0"` };
    const response = await new Promise((resolve) =>
      get(`${server.endpoint}?${new URLSearchParams({ query })}`, { headers }, resolve),
    );
    return bodies(await examplesRequire("meros/node").meros(response));
  },
};

async function bodies(parts) {
  const bodies = [];
  for await (const { json, body } of parts) {
    assert.ok(json);
    bodies.push(body);
  }
  return bodies;
}

for (const [build, request] of Object.entries(builds)) {
  test(`meros for ${build}: an execution error stands in \`payload\`, a validation error beside it`, async () => {
    const [{ payload, ...none }, ...more] = await request(FAILS);
    assert.deepEqual([payload.data, codes(payload.errors), none, more], [null, ["NOT_FOUND"], {}, []]);
    const [refused, ...noMore] = await request(DOES_NOT_FIT);
    assert.deepEqual([refused.payload, codes(refused.errors), noMore], [null, ["BAD_REQUEST"], []]);
  });

  test(`meros for ${build}: every event is a part, up to the end`, async () => {
    const id = await server.simulate({ steps: 2, stepMs: 50 });
    const parts = await request(`subscription { taskEvents(id: "${id}") { seq ... on TaskStatusChanged { status } } }`);
    const events = parts.map(({ payload }) => payload.data.taskEvents);
    assert.deepEqual(events.map(({ seq }) => seq), events.map((_, index) => index + 1));
    assert.equal(events.at(-1).status, "COMPLETED");
  });
}

test("curl: the answer is shown as it is", async () => {
  const errors = await examples.curl.watchTask(server.endpoint, "nothing", () => {}).catch((errors) => errors);
  assert.deepEqual(codes(errors), ["NOT_FOUND"]);
});

test("curl: what is refused before it is read as GraphQL is an error of the script", async () => {
  const error = await examples.curl.watchTask(`${server.endpoint}?`, `"`, () => {}).catch((error) => error);
  assert.match(error.message, /^1: \{"errors":\[.*BAD_REQUEST/);
});
