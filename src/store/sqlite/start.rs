//! Storing new tasks.

use std::{collections::HashMap, sync::Arc};

use rusqlite::{Connection, OptionalExtension, params};

use super::{
    codec::{signed, time, unsigned},
    journal::append,
    writer::{Transaction, Trouble},
};
use crate::{
    model::{Backoff, EventBody, IdempotencyKey, NewTask, Progress, StatusChange, Task, TaskId, TaskStatus},
    store::{Commit, NewEvent, Started, StatusMove, StoreError},
};

/// The end of the year 9999, as far as RFC 3339 can say times.
const LAST_MS: i64 = 253_402_300_799_999;

/// Stores `tasks`, or refuses all of them.
pub(super) fn start(transaction: &mut Transaction<'_>, tasks: &[NewTask]) -> Result<Vec<Started>, Trouble> {
    // All checks come before the first write: a refusal leaves nothing behind.
    let mut earlier: Vec<Option<TaskId>> = Vec::with_capacity(tasks.len());
    let mut in_request: HashMap<&str, &IdempotencyKey> = HashMap::new();
    for task in tasks {
        let known = match &task.idempotency {
            None => None,
            Some(key) => {
                if in_request.insert(&key.key, key).is_some_and(|other| other != key) {
                    return Err(conflict(&key.key).into());
                }
                known_key(transaction.connection, key)?
            }
        };
        earlier.push(known);
    }
    let mut in_request: HashMap<&str, TaskId> = HashMap::new();
    let mut started = Vec::with_capacity(tasks.len());
    for (task, known) in tasks.iter().zip(earlier) {
        let key = task.idempotency.as_ref().map(|key| key.key.as_str());
        match known.or_else(|| in_request.get(key?).copied()) {
            Some(id) => started.push(Started { task: super::tasks::one(transaction.connection, id)?, existed: true }),
            None => {
                let stored = insert(transaction, task, None)?;
                if let Some(key) = key {
                    in_request.insert(key, stored.id);
                }
                started.push(Started { task: stored, existed: false });
            }
        }
    }
    Ok(started)
}

/// The task that was started with each of these keys.
pub(super) fn started(
    transaction: &mut Transaction<'_>,
    keys: &[IdempotencyKey],
) -> Result<Vec<Option<Task>>, Trouble> {
    let task = |key| match known_key(transaction.connection, key)? {
        None => Ok(None),
        Some(id) => super::tasks::one(transaction.connection, id).map(Some),
    };
    keys.iter().map(task).collect()
}

/// Stores a task that repeats the ended task `id`.
pub(super) fn retry(
    transaction: &mut Transaction<'_>,
    id: TaskId,
    key: Option<&IdempotencyKey>,
) -> Result<Started, Trouble> {
    if let Some(key) = key
        && let Some(known) = known_key(transaction.connection, key)?
    {
        return Ok(Started { task: super::tasks::one(transaction.connection, known)?, existed: true });
    }
    let old = super::tasks::one(transaction.connection, id)?;
    if !old.status.is_terminal() {
        let message = format!("task {id} has not ended: only an ended task can be retried");
        return Err(StoreError::Conflict(message).into());
    }
    let (max_lost, deadline_ms, backoff) = transaction
        .connection
        .prepare_cached("SELECT max_lost, deadline_ms, retry_backoff_ms, max_retry_backoff_ms FROM task WHERE id = ?1")?
        .query_row([id.as_i64()], |row| {
            let backoff = Backoff { first_ms: unsigned(row.get(2)?), max_ms: unsigned(row.get(3)?) };
            Ok((row.get(0)?, row.get::<_, Option<i64>>(1)?.map(unsigned), backoff))
        })?;
    let task = NewTask {
        kind: old.kind,
        input: old.input,
        tags: old.tags,
        priority: old.priority,
        run_at: None,
        idempotency: key.cloned(),
        max_attempts: old.max_attempts,
        max_lost,
        timeout_ms: old.timeout_ms,
        deadline_ms,
        concurrency_key: old.concurrency_key,
        backoff,
    };
    Ok(Started { task: insert(transaction, &task, Some(id))?, existed: false })
}

fn known_key(connection: &Connection, key: &IdempotencyKey) -> Result<Option<TaskId>, Trouble> {
    let known: Option<(i64, Vec<u8>)> = connection
        .prepare_cached("SELECT task, fingerprint FROM idempotency WHERE key = ?1")?
        .query_row([&key.key], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    match known {
        Some((_, fingerprint)) if fingerprint != key.fingerprint => Err(conflict(&key.key).into()),
        Some((id, _)) => Ok(Some(TaskId::from_i64(id))),
        None => Ok(None),
    }
}

fn conflict(key: &str) -> StoreError {
    StoreError::Conflict(format!("the idempotency key `{key}` was used before with a different request"))
}

fn insert(transaction: &mut Transaction<'_>, task: &NewTask, retry_of: Option<TaskId>) -> Result<Task, Trouble> {
    let id = transaction.next_id();
    let kind = transaction.kind(&task.kind)?;
    let now_ms = transaction.now_ms;
    let run_at = task.run_at.unwrap_or_else(|| time(now_ms));
    let deadline = |ms| time(run_at.timestamp_millis().max(now_ms).saturating_add(signed(ms)).min(LAST_MS));
    let deadline = task.deadline_ms.map(deadline);
    transaction
        .connection
        .prepare_cached(
            "INSERT INTO task (id, kind, status, priority, run_at, head, max_attempts, max_lost, timeout_ms, \
             retry_of, tags, input, deadline, deadline_ms, retry_backoff_ms, max_retry_backoff_ms, concurrency_key, \
             idempotency_key) \
             VALUES (?1, ?2, 0, ?3, ?4, 1, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)",
        )?
        .execute(params![
            id.as_i64(),
            kind,
            task.priority,
            run_at.timestamp_millis(),
            task.max_attempts,
            task.max_lost,
            task.timeout_ms.map(signed),
            retry_of.map(TaskId::as_i64),
            serde_json::to_string(&task.tags)?,
            task.input.as_str(),
            deadline.map(|at| at.timestamp_millis()),
            task.deadline_ms.map(signed),
            signed(task.backoff.first_ms),
            signed(task.backoff.max_ms),
            task.concurrency_key,
            task.idempotency.as_ref().map(|key| &key.key),
        ])?;
    for tag in &task.tags {
        transaction
            .connection
            .prepare_cached("INSERT OR IGNORE INTO task_tag (tag, task) VALUES (?1, ?2)")?
            .execute(params![tag, id.as_i64()])?;
    }
    if let Some(key) = &task.idempotency {
        transaction
            .connection
            .prepare_cached("INSERT INTO idempotency (key, task, fingerprint) VALUES (?1, ?2, ?3)")?
            .execute(params![key.key, id.as_i64(), key.fingerprint])?;
    }
    let body = EventBody::Status(StatusChange {
        status: TaskStatus::Pending,
        progress: Progress::default(),
        result: None,
        error: None,
        run_at: Some(run_at),
    });
    let event = append(transaction, id, 1, 0, NewEvent { at: time(now_ms), body })?;
    transaction.commits.push(Commit {
        task: id,
        head: 1,
        events: vec![event],
        change: StatusMove {
            kind: task.kind.clone(),
            tags: Arc::from(task.tags.as_slice()),
            from: None,
            to: Some(TaskStatus::Pending),
        },
    });
    Ok(Task {
        id,
        kind: task.kind.clone(),
        status: TaskStatus::Pending,
        input: task.input.clone(),
        result: None,
        error: None,
        progress: Progress::default(),
        progress_at: None,
        attempt: 0,
        max_attempts: task.max_attempts,
        timeout_ms: task.timeout_ms,
        tags: task.tags.clone(),
        priority: task.priority,
        run_at,
        started_at: None,
        completed_at: None,
        retry_of,
        cancel_requested: false,
        deadline,
        concurrency_key: task.concurrency_key.clone(),
        head: 1,
    })
}
