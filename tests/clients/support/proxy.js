// A proxy that breaks connections.

import { connect, createServer } from "node:net";

/**
 * Passes bytes on to a server and back. `cut()` breaks the connections that there are. `budget` says how many bytes of
 * the server's answers the connection with this number lets through before it breaks.
 */
export async function startProxy(server, { budget = () => Infinity } = {}) {
  const open = new Set();
  const proxy = {
    connections: 0,
    cuts: 0,
    /** What the server has answered, on all connections. */
    answered: "",

    /** Breaks all connections. */
    cut() {
      proxy.cuts += 1;
      for (const client of open) client.resetAndDestroy();
    },
    stop() {
      listener.close();
      for (const client of open) client.destroy();
    },
  };

  const listener = createServer((client) => {
    const upstream = connect(server.port, "127.0.0.1");
    let left = budget(proxy.connections);
    proxy.connections += 1;
    open.add(client);
    client.on("data", (bytes) => upstream.write(bytes));
    upstream.on("data", (bytes) => {
      const passed = bytes.subarray(0, left);
      left -= passed.length;
      proxy.answered += passed.toString("latin1");
      client.write(passed);
      if (left > 0) return;
      // What was passed on is to arrive: so no reset, but an end in the middle.
      proxy.cuts += 1;
      upstream.destroy();
      client.end();
    });
    // One side's loss is the other's.
    client.on("close", () => (open.delete(client), upstream.destroy()));
    upstream.on("close", () => client.end());
    client.on("error", () => {});
    upstream.on("error", () => {});
  });
  await new Promise((resolve) => listener.listen(0, "127.0.0.1", resolve));
  proxy.port = listener.address().port;
  proxy.endpoint = `http://127.0.0.1:${proxy.port}/graphql`;
  proxy.page = `http://127.0.0.1:${proxy.port}/graphiql`;
  return proxy;
}
