// Programs that end with the tests at the latest.

import { spawn } from "node:child_process";
import { after } from "node:test";

const children = new Set();
process.on("exit", () => children.forEach((child) => child.kill("SIGKILL")));

// What a failed test has left, such as a client that asks for ever, is given this long when all others are done.
const GRACE_MS = 5_000;
after(() => setTimeout(() => process.exit(), GRACE_MS).unref());

/** Starts a program; a test that fails need not end it. */
export function start(program, args, options) {
  const child = spawn(program, args, options);
  children.add(child);
  child.once("close", () => children.delete(child));
  return child;
}
