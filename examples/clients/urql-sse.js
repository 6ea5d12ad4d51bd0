// urql: subscriptions as server-sent events by graphql-sse, queries and mutations over HTTP.
//
// graphql-sse connects again by itself and sends the same request object again, as that is then: so the last event is
// named in its variables. The subscription has to declare `$after`.

import { cacheExchange, Client, fetchExchange, subscriptionExchange } from "@urql/core";
import { createClient } from "graphql-sse";

const EVENTS = `subscription WatchTask($id: ID!, $after: String) {
  taskEvents(id: $id, after: $after) {
    __typename seq attempt cursor
    ... on TaskStatusChanged { status result error { code message } }
    ... on TaskProgressed { percent }
  }
}`;

export function connect(url, { retryMs = 1000 } = {}) {
  const sse = createClient({
    url,
    retryAttempts: 60,
    retry: () => new Promise((resolve) => setTimeout(resolve, retryMs)),
  });
  const forwardSubscription = (request) => ({
    subscribe(sink) {
      const next = (result) => {
        if (result.extensions?.cursor) request.variables = { ...request.variables, after: result.extensions.cursor };
        sink.next(result);
      };
      return { unsubscribe: sse.subscribe(request, { ...sink, next }) };
    },
  });
  return new Client({
    url,
    exchanges: [cacheExchange, fetchExchange, subscriptionExchange({ forwardSubscription })],
    preferGetMethod: false,
  });
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
