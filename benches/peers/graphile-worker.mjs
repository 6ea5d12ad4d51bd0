// graphile-worker with its local queue, through its own client library: the same work as benches/peers.rs.
// node graphile-worker.mjs TASKS; DATABASE_URL. The worker is a process of its own: both cores are used.
import { fork } from "node:child_process";
import { Logger, makeWorkerUtils, run } from "graphile-worker";

const connectionString = process.env.DATABASE_URL;
const CLIENTS = 64;
const BULK_CLIENTS = 4;
const BULK = 256;
// It would print a line for each job.
const logger = new Logger(() => () => {});

if (process.argv[2] === "worker") {
  let left = Number(process.argv[3]);
  // Its own figures for the highest throughput: a local queue, and completions in batches.
  const worker = {
    connectionString,
    concurrentJobs: CLIENTS,
    localQueue: { size: 500 },
    completeJobBatchDelay: 0,
    failJobBatchDelay: 0,
    logger,
  };
  const nothing = async () => {};
  const runner = await run({ preset: { worker }, taskList: { nothing }, noHandleSignals: true });
  process.on("message", async () => {
    await runner.stop();
    process.disconnect();
  });
  runner.events.on("job:complete", () => {
    left -= 1;
    if (left === 0) process.send("done");
  });
  process.send("ready");
} else {
  const tasks = Number(process.argv[2] ?? 20000);
  const utils = await makeWorkerUtils({ preset: { worker: { connectionString, maxPoolSize: 20, logger } } });
  await utils.migrate();
  for (const [label, clients, bulk] of [["one-by-one", CLIENTS, 1], ["bulk", BULK_CLIENTS, BULK]]) {
    const worker = fork(new URL(import.meta.url).pathname, ["worker", String(tasks)]);
    const heard = (wanted) => new Promise((resolve) => worker.on("message", (message) => message === wanted && resolve()));
    worker.on("exit", (code) => code && process.exit(code));
    const done = heard("done");
    await heard("ready");
    const begin = performance.now();
    const client = async (number) => {
      let left = Math.floor(tasks / clients) + (number < tasks % clients ? 1 : 0);
      while (left > 0) {
        const batch = Math.min(left, bulk);
        if (bulk === 1) await utils.addJob("nothing", {});
        else await utils.addJobs(Array.from({ length: batch }, () => ({ identifier: "nothing", payload: {} })));
        left -= batch;
      }
    };
    await Promise.all(Array.from({ length: clients }, (_, number) => client(number)));
    await done;
    // The worker says so before it is written. A job that is complete is deleted: when none is left, all are.
    const left = "SELECT EXISTS (SELECT FROM graphile_worker.jobs) AS left";
    while ((await utils.withPgClient((client) => client.query(left))).rows[0].left);
    console.log(`graphile-worker ${label} ${Math.round(tasks / ((performance.now() - begin) / 1000))}`);
    const ended = new Promise((resolve) => worker.on("exit", resolve));
    worker.send("stop");
    await ended;
  }
  await utils.release();
}
