// graphql-ws: WebSocket.
//
// It connects again by itself and sends the same operation again, under the same id and with the same variables. What
// it asks anew is `connectionParams`: so that is where the last event of each operation is named.

import { createClient } from "graphql-ws";
import { WebSocket } from "ws";

// Browsers have one, and Node.js from 22 on.
globalThis.WebSocket ??= WebSocket;

const EVENTS = `subscription WatchTask($id: ID!) {
  taskEvents(id: $id) {
    __typename seq attempt cursor
    ... on TaskStatusChanged { status result error { code message } }
    ... on TaskProgressed { percent }
  }
}`;

export const connect = (url, { retryMs = 1000 } = {}) =>
  createClient({
    url: url.replace(/^http/, "ws"),
    retryAttempts: 60,
    // Also when the server cannot be reached; by default that is the end.
    shouldRetry: () => true,
    retryWait: () => new Promise((resolve) => setTimeout(resolve, retryMs)),
    ...resuming(),
  });

/** The options that make the client go on where it was. */
function resuming() {
  const cursors = new Map();
  return {
    connectionParams: () => ({ cursors: Object.fromEntries(cursors) }),
    on: {
      message({ type, id, payload }) {
        cursors.delete(id);
        if (type === "next" && payload.extensions?.cursor) cursors.set(id, payload.extensions.cursor);
        // Operations that were left without an end go when a thousand newer ones have come.
        if (cursors.size > 1000) cursors.delete(cursors.keys().next().value);
      },
    },
  };
}

/** Shows each event of a task once, until it has ended. */
export async function watchTask(client, id, show) {
  for await (const { data, errors } of client.iterate({ query: EVENTS, variables: { id } })) {
    if (errors) throw errors;
    show(data.taskEvents);
  }
}
