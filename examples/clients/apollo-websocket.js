// Apollo Client: subscriptions over a WebSocket by graphql-ws, queries and mutations over HTTP.
//
// graphql-ws connects again by itself and sends the same operation again, under the same id and with the same
// variables. What it asks anew is `connectionParams`: so that is where the last event of each operation is named.

import { ApolloClient, ApolloLink, gql, HttpLink, InMemoryCache } from "@apollo/client";
import { GraphQLWsLink } from "@apollo/client/link/subscriptions";
import { createClient } from "graphql-ws";
import { WebSocket } from "ws";

// Browsers have one, and Node.js from 22 on.
globalThis.WebSocket ??= WebSocket;

const EVENTS = gql`
  subscription WatchTask($id: ID!) {
    taskEvents(id: $id) {
      __typename seq attempt cursor
      ... on TaskStatusChanged { status result error { code message } }
      ... on TaskProgressed { percent }
    }
  }
`;

export function connect(url, { retryMs = 1000 } = {}) {
  const websocket = createClient({
    url: url.replace(/^http/, "ws"),
    retryAttempts: 60,
    // Also when the server cannot be reached; by default that is the end.
    shouldRetry: () => true,
    retryWait: () => new Promise((resolve) => setTimeout(resolve, retryMs)),
    ...resuming(),
  });
  return new ApolloClient({
    cache: new InMemoryCache(),
    link: ApolloLink.split(
      ({ operationType }) => operationType === "subscription",
      new GraphQLWsLink(websocket),
      new HttpLink({ uri: url }),
    ),
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
    client.subscribe({ query: EVENTS, variables: { id } }).subscribe({
      next: ({ data, error }) => (error ? reject(error) : show(data.taskEvents)),
      complete: resolve,
    });
  });
}
