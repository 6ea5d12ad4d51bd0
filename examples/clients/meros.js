// meros with fetch: subscriptions in parts (multipart/mixed).
//
// meros reads one response. When that is lost, a new request names the last event.

import { meros } from "meros/browser";

const EVENTS = `subscription WatchTask($id: ID!, $after: String) {
  taskEvents(id: $id, after: $after) {
    __typename seq attempt cursor
    ... on TaskStatusChanged { status result error { code message } }
    ... on TaskProgressed { percent }
  }
}`;

export const connect = (url) => url;

/** Shows each event of a task once, until it has ended. */
export async function watchTask(url, id, show, { retryMs = 1000 } = {}) {
  for await (const { data, errors } of subscribe(url, { id }, retryMs)) {
    if (errors) throw errors;
    show(data.taskEvents);
  }
}

/** The results of a subscription, across lost connections. */
async function* subscribe(url, variables, retryMs) {
  for (;;) {
    try {
      for await (const result of request(url, variables)) {
        yield result;
        variables = { ...variables, after: result.extensions?.cursor };
      }
      return;
    } catch (error) {
      if (!isLost(error)) throw error;
    }
    await new Promise((resolve) => setTimeout(resolve, retryMs));
  }
}

/** The results that one response has. */
async function* request(url, variables) {
  const response = await fetch(url, {
    method: "POST",
    headers: { "content-type": "application/json", accept: "multipart/mixed; subscriptionSpec=1.0" },
    body: JSON.stringify({ query: EVENTS, variables }),
  });
  const parts = await meros(response);
  // What is refused at once is a response like any other.
  if (parts === response) throw (await response.json()).errors;
  for await (const { body } of parts) {
    // An error of the whole stream stands beside `payload`, and `{}` is a sign of life.
    if (body.errors) throw body.errors;
    if (body.payload) yield body.payload;
  }
}

/** Whether the connection was lost, as fetch says it, or the server stops: then it helps to come again. */
function isLost(error) {
  return error instanceof TypeError || error[0]?.extensions?.code === "UNAVAILABLE";
}
