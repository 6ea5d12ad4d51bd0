// Apollo Client: everything over HTTP, subscriptions in parts (multipart/mixed).
//
// RetryLink sends an operation again when its connection was lost, and a link below it names the last event in the
// operation's variables. The subscription has to declare `$after`.

import { ApolloClient, ApolloLink, gql, HttpLink, InMemoryCache } from "@apollo/client";
import { CombinedProtocolErrors, ServerError } from "@apollo/client/errors";
import { RetryLink } from "@apollo/client/link/retry";
import { tap } from "rxjs";

const EVENTS = gql`
  subscription WatchTask($id: ID!, $after: String) {
    taskEvents(id: $id, after: $after) {
      __typename seq attempt cursor
      ... on TaskStatusChanged { status result error { code message } }
      ... on TaskProgressed { percent }
    }
  }
`;

export function connect(url, { retryMs = 1000 } = {}) {
  const retry = new RetryLink({
    // A mutation may have been done although its answer was lost.
    attempts: (_, operation, error) => operation.operationType === "subscription" && isLost(error),
    delay: () => retryMs,
  });
  const resume = new ApolloLink((operation, forward) =>
    forward(operation).pipe(
      tap(({ extensions }) => {
        if (extensions?.cursor) operation.variables = { ...operation.variables, after: extensions.cursor };
      }),
    ),
  );
  return new ApolloClient({
    cache: new InMemoryCache(),
    link: ApolloLink.from([retry, resume, new HttpLink({ uri: url })]),
  });
}

/** Whether the connection was lost or the server stops, so that it helps to come again. */
function isLost(error) {
  if (CombinedProtocolErrors.is(error)) return error.errors[0].extensions?.code === "UNAVAILABLE";
  return !ServerError.is(error) || error.statusCode >= 500;
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
