// What was seen of a task.

import assert from "node:assert/strict";

/** The record of a task has no gap, no duplicate, these statuses, and ends with the last of them. */
export function assertRecord(events, statuses = ["PENDING", "RUNNING", "COMPLETED"]) {
  assert.deepEqual(events.map((event) => event.seq), Array.from(events, (_, index) => index + 1));
  const changes = events.filter((event) => event.__typename === "TaskStatusChanged");
  assert.deepEqual(changes.map((event) => event.status), statuses);
  assert.equal(events.at(-1).status, statuses.at(-1));
}
