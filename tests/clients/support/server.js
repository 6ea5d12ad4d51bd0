// The real program, on a port and a data folder of its own.

import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { start } from "./child.js";

const BINARY = process.env.MEANWHILE_BIN ?? fileURLToPath(new URL("../../../target/debug/meanwhile", import.meta.url));

// Settings of whoever runs the tests are not the tests' settings.
const ENV = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("MEANWHILE_")));

/**
 * Starts the server; it is ready when this resolves. Stop it with `stop()`. `config` is the text of a configuration.
 * With the `data` and the `port` of an earlier one it goes on where that was.
 */
export async function startServer({ args = [], config, data, port = 0 } = {}) {
  data ??= await mkdtemp(join(tmpdir(), "meanwhile-"));
  if (config !== undefined) {
    const file = join(data, "meanwhile.toml");
    await writeFile(file, config);
    args = [...args, "--config", file];
  }
  const child = start(BINARY, ["--listen", `127.0.0.1:${port}`, "--data", data, ...args], { env: ENV });
  const exited = new Promise((resolve) => child.once("close", (code, signal) => resolve(code ?? signal)));
  let stderr = "";
  child.stderr.on("data", (text) => (stderr += text));

  const endpoint = await new Promise((resolve, reject) => {
    child.once("error", reject);
    exited.then((how) => reject(new Error(`${BINARY} ended (${how}) before it was ready:\n${stderr}`)));
    createInterface(child.stdout).on("line", (line) => {
      const [url] = line.match(/https?:\/\/\S+\/graphql\b/) ?? [];
      if (url) resolve(url);
    });
  });

  return {
    data,
    endpoint,
    port: Number(new URL(endpoint).port),
    page: endpoint.replace(/graphql$/, "graphiql"),
    websocket: endpoint.replace(/^http/, "ws"),

    /** Asks the server to stop, waits until it has, and says how it ended. */
    async stop() {
      const how = await this.shutDown();
      await rm(data, { recursive: true, force: true });
      return how;
    },

    /** The same, but its data stays. */
    async shutDown() {
      child.kill("SIGTERM");
      return exited;
    },

    /** Kills the server without warning; its data stays. */
    async crash() {
      child.kill("SIGKILL");
      return exited;
    },

    /** One operation over POST: the status, and the JSON of the answer. */
    async post(query, variables) {
      const response = await fetch(endpoint, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({ query, variables }),
      });
      return { status: response.status, ...(await response.json()) };
    },

    /** The same, where no error is expected: the data of the answer. */
    async ask(query, variables) {
      const { data, errors } = await this.post(query, variables);
      if (errors) throw new Error(JSON.stringify(errors));
      return data;
    },

    /** Starts a task; its id. */
    async start(kind, input) {
      const start =
        "mutation($kind: String!, $input: JSON!) { startTask(input: {kind: $kind, input: $input}) { task { id } } }";
      return (await this.ask(start, { kind, input })).startTask.task.id;
    },

    simulate(input) {
      return this.start("simulate", input);
    },

    cancel(id) {
      return this.ask("mutation($id: ID!) { cancelTask(input: {id: $id}) { task { id } } }", { id });
    },
  };
}
