// The browser's own EventSource: server-sent events.
//
// It connects again by itself and sends the id of the last event it saw (`Last-Event-ID`), which is the event's cursor.
// Nothing is to be done but to close it at the end.

const EVENTS = `subscription WatchTask($id: ID!) {
  taskEvents(id: $id) {
    __typename seq attempt cursor
    ... on TaskStatusChanged { status result error { code message } }
    ... on TaskProgressed { percent }
  }
}`;
const ENDED = ["COMPLETED", "FAILED", "CANCELLED"];

export const connect = (url) => url;

/** Shows each event of a task once, until it has ended. */
export function watchTask(url, id, show) {
  const operation = new URLSearchParams({ query: EVENTS, variables: JSON.stringify({ id }) });
  const source = new EventSource(`${url}?${operation}`);
  let last;
  return new Promise((resolve, reject) => {
    source.addEventListener("next", ({ data: text }) => {
      const { data, errors } = JSON.parse(text);
      if (errors) return reject(errors);
      show((last = data.taskEvents));
    });
    source.addEventListener("complete", () => resolve());
    source.addEventListener("error", () => {
      if (source.readyState !== EventSource.CLOSED) return;
      // It has given up: there is nothing after the last event, or the server has refused the request.
      if (ENDED.includes(last?.status)) resolve();
      else reject(new Error("the server has refused the request"));
    });
  }).finally(() => source.close());
}
