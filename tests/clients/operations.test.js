// Queries and mutations, with fetch and with stock clients: the same answers.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { parse } from "graphql";
import { connect as connectExample, examples } from "./support/examples.js";
import { startServer } from "./support/server.js";
import { codes, connect, run } from "./support/websocket.js";

let server;
before(async () => (server = await startServer()));
after(() => server?.stop());

/** Without the `__typename` that a cache asks for. */
const plain = (data) => JSON.parse(JSON.stringify(data ?? null, (name, value) => (name === "__typename" ? undefined : value)));
const isMutation = (query) => query.startsWith("mutation");
const client = (name) => connectExample(examples[name], server.endpoint);

const transports = {
  fetch: async (query, variables) => {
    const { data, errors = [] } = await server.post(query, variables);
    return { data: data ?? null, errors };
  },
  WebSocket: async (query, variables) => {
    const { data, errors } = await run(connect(server), query, variables);
    assert.ok(data.length <= 1);
    return { data: data[0] ?? null, errors };
  },
  "graphql-sse": async (query, variables) => {
    const results = [];
    for await (const result of client("graphql-sse").iterate({ query, variables })) results.push(result);
    assert.equal(results.length, 1);
    const [{ data, errors = [] }] = results;
    return { data: data ?? null, errors };
  },
  "Apollo Client": async (query, variables) => {
    const apollo = client("apollo-websocket");
    const [document, errorPolicy] = [parse(query), "all"];
    const { data, error } = await (isMutation(query)
      ? apollo.mutate({ mutation: document, variables, errorPolicy })
      : apollo.query({ query: document, variables, errorPolicy }));
    return { data: plain(data), errors: error?.errors ?? [] };
  },
  urql: async (query, variables = {}) => {
    const urql = client("urql-websocket");
    const { data, error } = await (isMutation(query) ? urql.mutation(query, variables) : urql.query(query, variables));
    assert.equal(error?.networkError, undefined);
    return { data: plain(data), errors: error?.graphQLErrors ?? [] };
  },
  Relay: async (text, variables = {}) => {
    const operationKind = isMutation(text) ? "mutation" : "query";
    const network = client("relay").getNetwork();
    const { data, errors = [] } = await network.execute({ id: null, name: "", metadata: {}, operationKind, text }, variables, {}).toPromise();
    return { data: data ?? null, errors };
  },
};

for (const [name, ask] of Object.entries(transports)) {
  test(`${name}: a mutation starts a task, a query reads it`, async () => {
    const started = await ask(`mutation { startTask(input: {kind: "simulate", tags: ["one"]}) { task { id kind status } } }`);
    assert.deepEqual(started.errors, []);
    const { id, ...task } = started.data.startTask.task;
    assert.deepEqual(task, { kind: "simulate", status: "PENDING" });
    const read = await ask("query($id: ID!) { task(id: $id) { id kind tags maxAttempts } node(id: $id) { id } }", { id });
    assert.deepEqual(read.errors, []);
    assert.equal(read.data.node.id, id);
    assert.deepEqual(read.data.task.tags, ["one"]);
    const cancelled = await ask("mutation($id: ID!) { cancelTask(input: {id: $id}) { task { id } } }", { id });
    assert.deepEqual(cancelled, { data: { cancelTask: { task: { id } } }, errors: [] });
  });

  test(`${name}: many tasks start together or not at all`, async () => {
    const start = "mutation($tasks: [StartTaskInput!]!) { startTasks(input: {tasks: $tasks}) { tasks { id } } }";
    const input = { steps: 1, stepMs: 0 };
    const three = await ask(start, { tasks: Array(3).fill({ kind: "simulate", input, tags: [`${name}-all`] }) });
    assert.equal(new Set(three.data.startTasks.tasks.map((task) => task.id)).size, 3);
    const tags = [`${name}-none`];
    const none = await ask(start, { tasks: [{ kind: "simulate", input, tags }, { kind: "nothing", tags }] });
    assert.deepEqual(codes(none.errors), ["UNKNOWN_KIND"]);
    const count = "query($tags: [String!]) { tasks(filter: {tags: $tags}) { totalCount } }";
    assert.equal((await ask(count, { tags: [`${name}-all`] })).data.tasks.totalCount, 3);
    assert.equal((await ask(count, { tags })).data.tasks.totalCount, 0);
  });

  test(`${name}: errors carry a code and help`, async () => {
    const unknown = await ask(`mutation { startTask(input: {kind: "simulat"}) { task { id } } }`);
    assert.deepEqual([unknown.data, codes(unknown.errors)], [null, ["UNKNOWN_KIND"]]);
    assert.match(unknown.errors[0].message, /simulate/);
    const missing = await ask(`mutation { cancelTask(input: {id: "nothing"}) { task { id } } }`);
    assert.deepEqual([missing.data, codes(missing.errors)], [null, ["NOT_FOUND"]]);
    assert.deepEqual(missing.errors[0].path, ["cancelTask"]);
  });

  test(`${name}: the origin's joins and the overview give their wholes, and say how long they took`, async () => {
    const { data, errors } = await ask(`query($join: String!) {
      joinedData(join: $join) { data elapsedMs sequentialMs parts { name dependsOn startedMs elapsedMs error { code } } }
      comparison(join: "three_reads") { improvementPercent speedup sequential { elapsedMs } concurrent { elapsedMs } }
      overview: joinedData(join: "overview") { data parts { name source error { code message } } }
    }`, { join: "profile" });
    assert.deepEqual(errors, []);
    const { joinedData: profile, comparison, overview } = data;
    assert.deepEqual(profile.data, { userName: "User", apiStatus: "success", processedData: 6 });
    const [user, api, process] = profile.parts;
    assert.ok(profile.elapsedMs >= 250 && profile.sequentialMs >= 350, JSON.stringify(profile));
    assert.ok(process.startedMs >= Math.max(user.elapsedMs, api.elapsedMs), JSON.stringify(profile));
    assert.ok(comparison.sequential.elapsedMs >= 450 && comparison.concurrent.elapsedMs >= 200, JSON.stringify(comparison));
    assert.ok(comparison.improvementPercent > 0 && comparison.speedup > 1, JSON.stringify(comparison));
    assert.equal(overview.data.health, "ready", JSON.stringify(overview));
    assert.equal(typeof overview.data.tasks.total, "number");
  });

  test(`${name}: what does not fit the schema is refused before anything runs`, async () => {
    const { data, errors } = await ask("{ tasks { nodes { nothing } } }");
    assert.deepEqual([data, errors.length], [null, 1]);
    assert.match(errors[0].message, /nothing/);
  });
}

test("a failing operation leaves the others on its connection alone", async () => {
  const client = connect(server);
  const [stream, refused, query] = await Promise.all([
    run(client, `subscription { dataStream(source: "random", first: 4) { id } }`),
    run(client, `subscription { taskEvents(id: "nothing") { seq } }`),
    run(client, "{ __typename }"),
  ]);
  assert.equal(stream.data.length, 4);
  assert.deepEqual(codes(refused.errors), ["NOT_FOUND"]);
  assert.deepEqual(query, { data: [{ __typename: "Query" }], errors: [] });
});

test("a cursor that does not belong to the task is refused with its code", async () => {
  const [one, other] = [await server.simulate({ steps: 1, stepMs: 0 }), await server.simulate({ steps: 1, stepMs: 0 })];
  const { data } = await server.post("query($id: ID!) { task(id: $id) { cursor } }", { id: one });
  const events = "subscription($id: ID!, $after: String) { taskEvents(id: $id, after: $after) { seq } }";
  for (const after of [data.task.cursor, "nonsense", ""]) {
    const { errors } = await run(connect(server), events, { id: other, after });
    assert.deepEqual(codes(errors), ["CURSOR_INVALID"], after);
  }
});

test("the server stops when it is asked to", async () => {
  const own = await startServer();
  assert.equal(await own.stop(), 0);
});
