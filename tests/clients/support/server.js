// The real program, on a port and a data folder of its own.

import { spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

const BINARY = process.env.MEANWHILE_BIN ?? fileURLToPath(new URL("../../../target/debug/meanwhile", import.meta.url));

// Settings of whoever runs the tests are not the tests' settings.
const ENV = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("MEANWHILE_")));

/** Starts the server; it is ready when this resolves. Stop it with `stop()`. With `data` it goes on with old tasks. */
export async function startServer({ args = [], data } = {}) {
  data ??= await mkdtemp(join(tmpdir(), "meanwhile-"));
  const child = spawn(BINARY, ["--listen", "127.0.0.1:0", "--data", data, ...args], { env: ENV });
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
    page: endpoint.replace(/graphql$/, "graphiql"),
    websocket: endpoint.replace(/^http/, "ws"),

    /** Asks the server to stop, waits until it has, and says how it ended. */
    async stop() {
      child.kill("SIGTERM");
      const how = await exited;
      await rm(data, { recursive: true, force: true });
      return how;
    },

    /** Kills the server without warning; its data stays. */
    async crash() {
      child.kill("SIGKILL");
      await exited;
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

    /** Starts a `simulate` task over POST; its id. */
    async simulate(input) {
      const { data, errors } = await this.post(
        `mutation($input: JSON!) { startTask(input: {kind: "simulate", input: $input}) { task { id } } }`,
        { input },
      );
      if (errors) throw new Error(JSON.stringify(errors));
      return data.startTask.task.id;
    },
  };
}
