// Relay: a network layer with subscriptions over a WebSocket by graphql-ws, queries and mutations over HTTP.
//
// graphql-ws connects again by itself and sends the same operation again, under the same id and with the same
// variables. What it asks anew is `connectionParams`: so that is where the last event of each operation is named.

import { createClient } from "graphql-ws";
import { Environment, Network, Observable, RecordSource, requestSubscription, Store } from "relay-runtime";
import { WebSocket } from "ws";
import EVENTS from "./__generated__/relayWatchTaskSubscription.graphql.js";

// Browsers have one, and Node.js from 22 on.
globalThis.WebSocket ??= WebSocket;

// EVENTS is what relay-compiler makes of this, and its Babel plugin puts in its place:
// graphql`subscription relayWatchTaskSubscription($id: ID!) {
//   taskEvents(id: $id) {
//     __typename seq attempt cursor
//     ... on TaskStatusChanged { status result error { code message } }
//     ... on TaskProgressed { percent }
//   }
// }`

export function connect(url, { retryMs = 1000 } = {}) {
  const websocket = createClient({
    url: url.replace(/^http/, "ws"),
    retryAttempts: 60,
    // Also when the server cannot be reached; by default that is the end.
    shouldRetry: () => true,
    retryWait: () => new Promise((resolve) => setTimeout(resolve, retryMs)),
    ...resuming(),
  });
  const fetchQuery = async ({ text }, variables) => {
    const body = JSON.stringify({ query: text, variables });
    const response = await fetch(url, { method: "POST", headers: { "content-type": "application/json" }, body });
    return response.json();
  };
  const subscribe = ({ text }, variables) =>
    Observable.create((sink) => websocket.subscribe({ query: text, variables }, sink));
  return new Environment({ network: Network.create(fetchQuery, subscribe), store: new Store(new RecordSource()) });
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
export function watchTask(environment, id, show) {
  return new Promise((resolve, reject) => {
    requestSubscription(environment, {
      subscription: EVENTS,
      variables: { id },
      onNext: ({ taskEvents }) => show(taskEvents),
      onError: reject,
      onCompleted: resolve,
    });
  });
}
