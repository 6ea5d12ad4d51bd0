// BullMQ through its own client library: the same work as benches/peers.rs.
// node bullmq.mjs TASKS; REDIS_PORT. The worker is a process of its own, as BullMQ recommends: both cores are used.
import { fork } from "node:child_process";
import { Queue, Worker } from "bullmq";

const CLIENTS = 64;
const BULK_CLIENTS = 4;
const BULK = 256;
// Commands of callers that are under way at the same time travel together, which is a little quicker.
const connection = { host: "127.0.0.1", port: Number(process.env.REDIS_PORT), enableAutoPipelining: true };

if (process.argv[2] === "worker") {
  const [, , , name, tasks] = process.argv;
  let left = Number(tasks);
  const worker = new Worker(name, async () => null, { connection, concurrency: CLIENTS });
  worker.on("completed", async () => {
    left -= 1;
    if (left === 0) {
      process.send("done");
      await worker.close();
      process.disconnect();
    }
  });
  await worker.waitUntilReady();
  process.send("ready");
} else {
  const tasks = Number(process.argv[2] ?? 20000);
  for (const [label, clients, bulk] of [["one-by-one", CLIENTS, 1], ["bulk", BULK_CLIENTS, BULK]]) {
    const name = `bench-${label}`;
    const worker = fork(new URL(import.meta.url).pathname, ["worker", name, String(tasks)]);
    const heard = (wanted) => new Promise((resolve) => worker.on("message", (message) => message === wanted && resolve()));
    worker.on("exit", (code) => code && process.exit(code));
    const done = heard("done");
    await heard("ready");
    const queue = new Queue(name, { connection });
    await queue.waitUntilReady();
    const begin = performance.now();
    const client = async (number) => {
      let left = Math.floor(tasks / clients) + (number < tasks % clients ? 1 : 0);
      while (left > 0) {
        const batch = Math.min(left, bulk);
        if (bulk === 1) await queue.add("nothing", null);
        else await queue.addBulk(Array.from({ length: batch }, () => ({ name: "nothing", data: null })));
        left -= batch;
      }
    };
    await Promise.all(Array.from({ length: clients }, (_, number) => client(number)));
    await done;
    console.log(`bullmq ${label} ${Math.round(tasks / ((performance.now() - begin) / 1000))}`);
    await queue.close();
  }
}
