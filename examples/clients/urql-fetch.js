// urql: everything over HTTP by its own fetchExchange, subscriptions as server-sent events.
//
// urql does not connect again: a lost connection is an error of the network, and a new subscription names the last
// event. Nor does it tell a stream that has ended from one that was cut off between two events, so the last event says
// whether there is more to come.

import { cacheExchange, Client, fetchExchange } from "@urql/core";

const EVENTS = `subscription WatchTask($id: ID!, $after: String) {
  taskEvents(id: $id, after: $after) {
    __typename seq attempt cursor
    ... on TaskStatusChanged { status result error { code message } }
    ... on TaskProgressed { percent }
  }
}`;
const ENDED = ["COMPLETED", "FAILED", "CANCELLED"];

export const connect = (url) =>
  new Client({ url, exchanges: [cacheExchange, fetchExchange], fetchSubscriptions: true, preferGetMethod: false });

/** Shows each event of a task once, until it has ended. */
export async function watchTask(client, id, show, { retryMs = 1000 } = {}) {
  let last;
  for (;;) {
    await follow(client, { id, after: last?.cursor }, (event) => show((last = event)));
    if (ENDED.includes(last?.status)) return;
    await new Promise((resolve) => setTimeout(resolve, retryMs));
  }
}

/** Shows events until the stream ends or is lost. */
function follow(client, variables, show) {
  return new Promise((resolve, reject) => {
    client.subscription(EVENTS, variables).subscribe(({ data, error, hasNext }) => {
      if (error?.networkError) resolve();
      else if (error) reject(error);
      else if (hasNext) show(data.taskEvents);
      // At the end urql gives the last result once more.
      else resolve();
    });
  });
}
