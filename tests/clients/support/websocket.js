// The stock graphql-ws client, with what the tests look at.

import { createClient } from "graphql-ws";
import WebSocket from "ws";

/** A client of `graphql-ws` that counts its connections; `cut()` drops the present one without a goodbye. */
export function connect(server, options = {}) {
  let socket;
  let connections = 0;
  const client = createClient({
    url: () => server.websocket,
    webSocketImpl: WebSocket,
    retryAttempts: 0,
    ...options,
    on: {
      ...options.on,
      opened(opened) {
        socket = opened;
        connections += 1;
      },
    },
  });
  return Object.assign(client, { connections: () => connections, cut: () => socket.terminate() });
}

/** What one operation says until it ends: the `data` of each answer, and all errors. */
export async function run(client, query, variables) {
  const outcome = { data: [], errors: [] };
  const add = ({ data, errors = [] }) => {
    if (data) outcome.data.push(data);
    outcome.errors.push(...errors);
  };
  await new Promise((resolve, reject) => {
    // A refused operation is an array of errors; anything else is a broken connection.
    const error = (reason) => (Array.isArray(reason) ? resolve(add({ errors: reason })) : reject(reason));
    client.subscribe({ query, variables }, { next: add, error, complete: resolve });
  });
  return outcome;
}

/** What the errors' `extensions` say, in order. */
export const codes = (errors) => errors.map((error) => error.extensions?.code);
