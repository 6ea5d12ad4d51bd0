// The work of a task, done by the test: it goes on when the test says so, and not by time.

import { once } from "node:events";
import { createServer } from "node:http";

/** Does the work of tasks of the kind `steps`, whose program asks for its output here; one task at a time. */
export async function startWorker() {
  const outputs = [];
  const listener = createServer((_, output) => {
    output.on("error", () => {});
    output.flushHeaders();
    outputs.push(output);
    listener.emit("attempt");
  });
  await new Promise((resolve) => listener.listen(0, "127.0.0.1", resolve));

  /** The output of an attempt, once it has begun. */
  const output = async (attempt) => {
    while (outputs.length < attempt) await once(listener, "attempt");
    return outputs[attempt - 1];
  };
  const line = (value) => `${JSON.stringify(value)}\n`;

  return {
    config: `
      [kinds.steps]
      command = ["curl", "--silent", "--no-buffer", "http://127.0.0.1:${listener.address().port}"]
    `,

    /** What comes after an event that was seen: ten steps, each a progress, and the end. */
    async goOn({ attempt, status, percent = 0 }) {
      if (status && status !== "RUNNING") return;
      if (percent < 100) (await output(attempt)).write(line({ progress: percent + 10 }));
      else (await output(attempt)).end(line({ result: { steps: 10 } }));
    },
    stop() {
      listener.close();
      listener.closeAllConnections();
    },
  };
}
