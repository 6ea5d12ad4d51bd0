-- Random name of this very store; event cursors carry it.
CREATE TABLE store (
    generation INTEGER NOT NULL
) STRICT;

-- Names of kinds, so that a row and its index entries hold a small number.
CREATE TABLE kind (
    id   INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
) STRICT;

-- Times are milliseconds since 1970. The columns that an attempt changes come before the long ones.
CREATE TABLE task (
    id               INTEGER PRIMARY KEY,
    kind             INTEGER NOT NULL,
    status           INTEGER NOT NULL,
    priority         INTEGER NOT NULL,
    run_at           INTEGER NOT NULL,
    head             INTEGER NOT NULL,
    pruned_through   INTEGER NOT NULL DEFAULT 0,
    attempt          INTEGER NOT NULL DEFAULT 0,
    session          INTEGER NOT NULL DEFAULT 0,
    last_write       INTEGER NOT NULL DEFAULT 0,
    failures         INTEGER NOT NULL DEFAULT 0,
    lost             INTEGER NOT NULL DEFAULT 0,
    chunks           INTEGER NOT NULL DEFAULT 0,
    cancel_requested INTEGER NOT NULL DEFAULT 0,
    started_at       INTEGER,
    completed_at     INTEGER,
    progress_at      INTEGER,
    percent          REAL NOT NULL DEFAULT 0,
    done             REAL,
    total            REAL,
    message          TEXT,
    max_attempts     INTEGER NOT NULL,
    max_lost         INTEGER NOT NULL,
    timeout_ms       INTEGER,
    retry_of         INTEGER,
    tags             TEXT NOT NULL,
    error            TEXT,
    input            TEXT NOT NULL,
    result           TEXT
) STRICT;

-- The queue: each kind's pending tasks in the order in which they are claimed.
CREATE INDEX task_claim ON task (kind, priority DESC, run_at, id) WHERE status = 0;
-- Attempts under way: what a restart has to look at.
CREATE INDEX task_running ON task (id) WHERE status = 1;
-- Lists and counts by kind and status.
CREATE INDEX task_list ON task (kind, status, id);

CREATE TABLE task_tag (
    tag  TEXT NOT NULL,
    task INTEGER NOT NULL,
    PRIMARY KEY (tag, task)
) STRICT, WITHOUT ROWID;

CREATE TABLE idempotency (
    key         TEXT NOT NULL PRIMARY KEY,
    task        INTEGER NOT NULL,
    fingerprint BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- The journal.
CREATE TABLE event (
    task    INTEGER NOT NULL,
    seq     INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    at      INTEGER NOT NULL,
    type    INTEGER NOT NULL,
    body    TEXT NOT NULL,
    PRIMARY KEY (task, seq)
) STRICT, WITHOUT ROWID;
