-- A kind can be paused: since when.
ALTER TABLE kind ADD COLUMN paused_at INTEGER;

-- Made anew, so that the new columns that an attempt reads and changes come before the long ones, too.
CREATE TABLE task_new (
    id                   INTEGER PRIMARY KEY,
    kind                 INTEGER NOT NULL,
    status               INTEGER NOT NULL,
    priority             INTEGER NOT NULL,
    run_at               INTEGER NOT NULL,
    -- It waits for a task with the same concurrency key to end.
    parked               INTEGER NOT NULL DEFAULT 0,
    head                 INTEGER NOT NULL,
    pruned_through       INTEGER NOT NULL DEFAULT 0,
    attempt              INTEGER NOT NULL DEFAULT 0,
    session              INTEGER NOT NULL DEFAULT 0,
    last_write           INTEGER NOT NULL DEFAULT 0,
    failures             INTEGER NOT NULL DEFAULT 0,
    lost                 INTEGER NOT NULL DEFAULT 0,
    chunks               INTEGER NOT NULL DEFAULT 0,
    -- What its events say, in bytes, over its whole life.
    bytes                INTEGER NOT NULL DEFAULT 0,
    cancel_requested     INTEGER NOT NULL DEFAULT 0,
    started_at           INTEGER,
    completed_at         INTEGER,
    progress_at          INTEGER,
    percent              REAL NOT NULL DEFAULT 0,
    done                 REAL,
    total                REAL,
    message              TEXT,
    max_attempts         INTEGER NOT NULL,
    max_lost             INTEGER NOT NULL,
    timeout_ms           INTEGER,
    deadline             INTEGER,
    deadline_ms          INTEGER,
    retry_backoff_ms     INTEGER NOT NULL,
    max_retry_backoff_ms INTEGER NOT NULL,
    concurrency_key      TEXT,
    idempotency_key      TEXT,
    retry_of             INTEGER,
    tags                 TEXT NOT NULL,
    error                TEXT,
    input                TEXT NOT NULL,
    result               TEXT
) STRICT;

INSERT INTO task_new (
    id, kind, status, priority, run_at, head, pruned_through, attempt, session, last_write, failures, lost, chunks,
    cancel_requested, started_at, completed_at, progress_at, percent, done, total, message, max_attempts, max_lost,
    timeout_ms, retry_backoff_ms, max_retry_backoff_ms, idempotency_key, retry_of, tags, error, input, result
)
SELECT
    id, kind, status, priority, run_at, head, pruned_through, attempt, session, last_write, failures, lost, chunks,
    cancel_requested, started_at, completed_at, progress_at, percent, done, total, message, max_attempts, max_lost,
    timeout_ms, 1000, 600000, key, retry_of, tags, error, input, result
FROM task LEFT JOIN idempotency ON idempotency.task = task.id;

DROP TABLE task;
ALTER TABLE task_new RENAME TO task;

-- The queue: each kind's pending tasks in the order in which they are claimed.
CREATE INDEX task_claim ON task (kind, priority DESC, run_at, id) WHERE status = 0 AND parked = 0;
-- Pending tasks that wait for another one with the same key, in the same order.
CREATE INDEX task_parked ON task (kind, concurrency_key, priority DESC, run_at, id) WHERE status = 0 AND parked = 1;
-- Attempts under way: what a restart has to look at.
CREATE INDEX task_running ON task (id) WHERE status = 1;
-- Attempts under way with a key.
CREATE INDEX task_running_key ON task (kind, concurrency_key) WHERE status = 1 AND concurrency_key IS NOT NULL;
-- Pending tasks that fail when they have not ended by then.
CREATE INDEX task_deadline ON task (deadline) WHERE status = 0 AND deadline IS NOT NULL;
-- Lists and counts by kind and status.
CREATE INDEX task_list ON task (kind, status, id);
-- Ended tasks, the earliest first: what retention looks at.
CREATE INDEX task_ended ON task (completed_at, id) WHERE completed_at IS NOT NULL;
