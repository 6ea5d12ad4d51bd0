// urql: subscriptions over a WebSocket by graphql-ws, queries and mutations over HTTP.
//
// graphql-ws connects again by itself and sends the same operation again, under the same id and with the same
// variables. What it asks anew is `connectionParams`: so that is where the last event of each operation is named.

import { cacheExchange, Client, fetchExchange, subscriptionExchange } from "@urql/core";
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

export function connect(url, { retryMs = 1000 } = {}) {
  const websocket = createClient({
    url: url.replace(/^http/, "ws"),
    retryAttempts: 60,
    // Also when the server cannot be reached; by default that is the end.
    shouldRetry: () => true,
    retryWait: () => new Promise((resolve) => setTimeout(resolve, retryMs)),
    ...resuming(),
  });
  const forwardSubscription = (request) => ({
    subscribe: (sink) => ({ unsubscribe: websocket.subscribe(request, sink) }),
  });
  return new Client({
    url,
    exchanges: [cacheExchange, fetchExchange, subscriptionExchange({ forwardSubscription })],
    preferGetMethod: false,
  });
}

/** The options that make graphql-ws go on where it was. */
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
export function watchTask(client, id, show) {
  return new Promise((resolve, reject) => {
    client.subscription(EVENTS, { id }).subscribe(({ data, error, hasNext }) => {
      if (error) reject(error);
      else if (hasNext) show(data.taskEvents);
      // At the end urql gives the last result once more.
      else resolve();
    });
  });
}
