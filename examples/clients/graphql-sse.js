// graphql-sse: server-sent events.
//
// It connects again by itself and sends the same request object again, as that is then: so the last event is named in
// its variables.

import { createClient } from "graphql-sse";

const EVENTS = `subscription WatchTask($id: ID!, $after: String) {
  taskEvents(id: $id, after: $after) {
    __typename seq attempt cursor
    ... on TaskStatusChanged { status result error { code message } }
    ... on TaskProgressed { percent }
  }
}`;

export const connect = (url, { retryMs = 1000 } = {}) =>
  createClient({
    url,
    retryAttempts: 60,
    retry: () => new Promise((resolve) => setTimeout(resolve, retryMs)),
  });

/** Shows each event of a task once, until it has ended. */
export function watchTask(client, id, show) {
  const request = { query: EVENTS, variables: { id } };
  return new Promise((resolve, reject) => {
    client.subscribe(request, {
      next({ data, errors }) {
        if (errors) return reject(errors);
        request.variables.after = data.taskEvents.cursor;
        show(data.taskEvents);
      },
      error: reject,
      complete: resolve,
    });
  });
}
