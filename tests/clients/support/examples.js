// The examples for stock clients, and what they show.

import { once } from "node:events";
import { createInterface } from "node:readline";
import { text } from "node:stream/consumers";
import { fileURLToPath } from "node:url";
import { start } from "./child.js";

export const EXAMPLES = new URL("../../../examples/clients/", import.meta.url);
/** Tests come again at once. */
const OPTIONS = { retryMs: 20 };

const load = (name) => import(new URL(`${name}.js`, EXAMPLES));

/** The shell script, in the form of the others. */
const curl = {
  connect: (url) => url,
  async watchTask(url, id, show) {
    const script = fileURLToPath(new URL("curl.sh", EXAMPLES));
    const env = { ...process.env, RETRY_SECONDS: OPTIONS.retryMs / 1000 };
    const child = start("bash", [script, url, id], { env, stdio: ["ignore", "pipe", "pipe"] });
    const stderr = text(child.stderr);
    for await (const line of createInterface(child.stdout)) {
      const { data, errors } = JSON.parse(line);
      if (errors) throw errors;
      show(data.taskEvents);
    }
    const [code] = child.exitCode === null ? await once(child, "close") : [child.exitCode];
    if (code !== 0) throw new Error(`${code}: ${await stderr}`);
  },
};

/** Each by its name; all but the browser's. */
export const examples = {
  "graphql-ws": await load("graphql-ws"),
  "graphql-sse": await load("graphql-sse"),
  "apollo-websocket": await load("apollo-websocket"),
  "apollo-multipart": await load("apollo-multipart"),
  "urql-websocket": await load("urql-websocket"),
  "urql-sse": await load("urql-sse"),
  "urql-fetch": await load("urql-fetch"),
  relay: await load("relay"),
  meros: await load("meros"),
  curl,
};

/** The client of an example. */
export const connect = (example, url) => example.connect(url, OPTIONS);

/** What an example shows of a task until it has ended; `on` is told of each event. */
export async function watch(example, url, id, on = () => {}) {
  const events = [];
  const show = (event) => {
    events.push(event);
    on(event);
  };
  await example.watchTask(connect(example, url), id, show, OPTIONS);
  return events;
}
