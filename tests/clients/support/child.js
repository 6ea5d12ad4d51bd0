// Programs that end with the tests at the latest.

import { spawn } from "node:child_process";

const children = new Set();
process.on("exit", () => children.forEach((child) => child.kill("SIGKILL")));

/** Starts a program; a test that fails need not end it. */
export function start(program, args, options) {
  const child = spawn(program, args, options);
  children.add(child);
  child.once("close", () => children.delete(child));
  return child;
}
