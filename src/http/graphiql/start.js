
(() => {
  "use strict";

  const SLOW_MS = 8000;

  const { base, local, files } = JSON.parse(document.getElementById("files").textContent);
  // The page is at PREFIX/ or PREFIX/graphiql, and the API at PREFIX/graphql, also behind a proxy that adds PREFIX.
  const prefix = location.pathname.replace(/\/(graphiql\/?)?$/, "");
  const endpoint = new URL(`${prefix}/graphql`, location.href);
  const filesUrl = new URL(local ? `${prefix}/${base}` : base, location.href);

  for (const element of document.querySelectorAll(".endpoint")) element.textContent = endpoint.href;
  document.getElementById("offline").hidden = local;
  document.getElementById("again").onclick = () => location.reload();
  document.getElementById("loading").textContent = `Loading GraphiQL from ${filesUrl.host} …`;

  function explain(problem) {
    document.getElementById("problem").textContent = problem;
    document.getElementById("loading").hidden = true;
    document.getElementById("help").hidden = false;
  }

  function load({ name, integrity, script }) {
    const url = new URL(name, filesUrl).href;
    const element = document.createElement(script ? "script" : "link");
    // Loaded side by side, run in order.
    Object.assign(element, script ? { src: url, async: false } : { href: url, rel: "stylesheet" });
    Object.assign(element, { integrity, crossOrigin: "anonymous" });
    document.head.append(element);
    return new Promise((resolve, reject) => {
      element.onload = resolve;
      element.onerror = () => reject(new Error(`${url} did not arrive, or is not the file that was expected.`));
    });
  }

  // When the connection drops, the client subscribes again with the same operation id, and the server goes on
  // after the cursor that is named for it here. GraphiQL runs one operation at a time, so one is enough.
  // A WebSocket has no headers: what stands in the page's `Authorization` header goes with its first message.
  function subscriptionClient(authorization) {
    let cursors = {};
    const url = new URL(endpoint);
    url.protocol = url.protocol.replace("http", "ws");
    return graphqlWs.createClient({
      url: url.href,
      // Also when the server cannot be reached: it may be about to start again.
      shouldRetry: () => true,
      connectionParams: () => ({ cursors, ...authorization() }),
      on: {
        message({ type, id, payload }) {
          const cursor = type === "next" && payload.extensions?.cursor;
          cursors = cursor ? { [id]: cursor } : {};
        },
      },
    });
  }

  function taskFetcher() {
    let headers = {};
    const authorization = () => {
      const [, value] = Object.entries(headers).find(([name]) => name.toLowerCase() === "authorization") ?? [];
      return value ? { authorization: value } : {};
    };
    const fetcher = GraphiQL.createFetcher({
      url: endpoint.href,
      wsClient: subscriptionClient(authorization),
      // Queries and mutations have one answer here.
      enableIncrementalDelivery: false,
    });
    let lastStarted = "";
    const failed = (message) => ({ errors: [{ message }] });
    return async (operation, options) => {
      headers = options?.headers ?? {};
      const { variables } = operation;
      const meansLast = variables?.id === "";
      if (meansLast && !lastStarted) {
        return failed("No task was started on this page yet: run StartTask first, or write a task's id into the variables.");
      }
      const request = meansLast ? { ...operation, variables: { ...variables, id: lastStarted } } : operation;
      try {
        const result = await fetcher(request, options);
        lastStarted = result?.data?.startTask?.task?.id ?? lastStarted;
        return result;
      } catch (error) {
        // What the browser says when there is no answer at all.
        if (!(error instanceof TypeError)) throw error;
        return failed(`${endpoint.href} cannot be reached (${error.message}): is the server running?`);
      }
    };
  }

  function show() {
    const root = document.getElementById("graphiql");
    const page = React.createElement(GraphiQL, {
      fetcher: taskFetcher(),
      defaultTabs: examples,
      defaultEditorToolsVisibility: "variables",
      // Other GraphiQLs on this host keep their tabs to themselves.
      storage: GraphiQL.createLocalStorage({ namespace: `meanwhile${prefix}` }),
    });
    const notice = document.getElementById("notice");
    // React takes everything away when rendering fails.
    addEventListener("error", ({ message }) => {
      notice.hidden = root.childElementCount > 0;
      explain(`GraphiQL has failed: ${message}`);
    });
    ReactDOM.createRoot(root).render(page);
    notice.hidden = true;
  }

  const slow = setTimeout(() => explain(`Its files are slow to come from ${filesUrl.host}.`), SLOW_MS);
  Promise.all(files.map(load))
    .then(show)
    .catch((error) => explain(error.message))
    .finally(() => clearTimeout(slow));
})();
