//! What attempts write, how they end, and cancelling.

use std::sync::Arc;

use rusqlite::{OptionalExtension, ToSql, params_from_iter};

use super::{
    codec::{decode, signed, status, time, unsigned},
    journal::append,
    writer::{Transaction, Trouble},
};
use crate::{
    model::{
        AttemptCounts, CancelStep, Cancellation, Event, EventBody, Json, Outcome, Progress, Seq, StatusChange, Task,
        TaskError, TaskId, TaskStatus, after_attempt, code,
    },
    store::{AttemptWrite, Commit, NewEvent, StatusMove, StoreError},
};

/// A task as the writer changes it: read, changed in memory, written back with its events.
struct Draft {
    id: TaskId,
    kind: Arc<str>,
    kind_number: i64,
    concurrency_key: Option<String>,
    tags: Vec<String>,
    from: TaskStatus,
    status: TaskStatus,
    attempt: u32,
    session: i64,
    last_write: u64,
    head: Seq,
    chunks: u64,
    bytes: u64,
    counts: AttemptCounts,
    progress: Progress,
    progress_at: Option<i64>,
    ending: Option<Ending>,
    events: Vec<Arc<Event>>,
}

/// What the end of an attempt writes into its task, beside what any event can change.
struct Ending {
    failures: u32,
    lost: u32,
    error: Option<String>,
    result: Option<Json>,
    run_at: Option<i64>,
    completed_at: Option<i64>,
}

impl Draft {
    fn read(transaction: &Transaction<'_>, id: TaskId) -> Result<Self, Trouble> {
        let mut select = transaction.connection.prepare_cached(
            "SELECT (SELECT name FROM kind WHERE kind.id = task.kind), tags, status, attempt, session, last_write, head, \
             chunks, failures, lost, max_attempts, max_lost, cancel_requested, percent, done, total, message, progress_at, \
             kind, concurrency_key, bytes, deadline FROM task WHERE id = ?1",
        )?;
        let draft = select
            .query_row([id.as_i64()], |row| {
                let status = status(row.get(2)?, 2)?;
                Ok(Self {
                    id,
                    kind: Arc::from(row.get_ref(0)?.as_str()?),
                    kind_number: row.get(18)?,
                    concurrency_key: row.get(19)?,
                    bytes: unsigned(row.get(20)?),
                    tags: decode(row.get_ref(1)?.as_str()?, 1)?,
                    from: status,
                    status,
                    attempt: row.get(3)?,
                    session: row.get(4)?,
                    last_write: unsigned(row.get(5)?),
                    head: unsigned(row.get(6)?),
                    chunks: unsigned(row.get(7)?),
                    counts: AttemptCounts {
                        failures: row.get(8)?,
                        lost: row.get(9)?,
                        max_attempts: row.get(10)?,
                        max_lost: row.get(11)?,
                        cancel_requested: row.get(12)?,
                        deadline: row.get::<_, Option<i64>>(21)?.map(time),
                    },
                    progress: Progress {
                        percent: row.get(13)?,
                        done: row.get(14)?,
                        total: row.get(15)?,
                        message: row.get(16)?,
                    },
                    progress_at: row.get(17)?,
                    ending: None,
                    events: Vec::new(),
                })
            })
            .optional()?;
        Ok(draft.ok_or(StoreError::NotFound(id))?)
    }

    /// The task of a write, if the writer is its running attempt; `None` if the write was done before.
    fn of(transaction: &Transaction<'_>, write: &AttemptWrite) -> Result<Option<Self>, Trouble> {
        let stale = StoreError::Stale(write.by);
        let mut draft = match Self::read(transaction, write.by.task) {
            Err(Trouble::Refused(StoreError::NotFound(_))) => return Err(stale.into()),
            other => other?,
        };
        if draft.attempt != write.by.attempt || draft.session != write.by.session {
            return Err(stale.into());
        }
        if write.number <= draft.last_write {
            return Ok(None);
        }
        if draft.status != TaskStatus::Running {
            return Err(stale.into());
        }
        draft.last_write = write.number;
        for event in &write.events {
            draft.add(transaction, event.clone())?;
        }
        Ok(Some(draft))
    }

    fn add(&mut self, transaction: &Transaction<'_>, mut event: NewEvent) -> Result<(), Trouble> {
        self.head += 1;
        self.bytes += event.body.weight_bytes() as u64;
        match &mut event.body {
            EventBody::Chunk { index, .. } => {
                *index = self.chunks;
                self.chunks += 1;
            }
            EventBody::Progress(progress) => {
                self.progress = progress.clone();
                self.progress_at = Some(event.at.timestamp_millis());
            }
            EventBody::Status(_) | EventBody::Log { .. } | EventBody::Cancellation(_) => {}
        }
        self.events.push(append(transaction, self.id, self.head, self.attempt, event)?);
        Ok(())
    }

    /// Ends the attempt.
    fn end(&mut self, transaction: &Transaction<'_>, outcome: Outcome) -> Result<(), Trouble> {
        let now_ms = transaction.now_ms;
        let next = after_attempt(self.counts, outcome, time(now_ms));
        if next.status == TaskStatus::Completed {
            self.progress.percent = 100.0;
        }
        if let Some(step) = next.cancellation {
            self.add_cancellation(transaction, step, None)?;
        }
        self.status = next.status;
        let change = StatusChange {
            status: next.status,
            progress: self.progress.clone(),
            result: next.result,
            error: next.error,
            run_at: next.run_at,
        };
        self.ending = Some(Ending {
            failures: next.failures,
            lost: next.lost,
            error: change.error.as_ref().map(serde_json::to_string).transpose()?,
            result: change.result.clone(),
            run_at: change.run_at.map(|at| at.timestamp_millis()),
            completed_at: next.status.is_terminal().then_some(now_ms),
        });
        self.add(transaction, NewEvent { at: time(now_ms), body: EventBody::Status(change) })
    }

    fn add_cancellation(
        &mut self,
        transaction: &Transaction<'_>,
        step: CancelStep,
        message: Option<String>,
    ) -> Result<(), Trouble> {
        let body = EventBody::Cancellation(Cancellation { step, message });
        self.add(transaction, NewEvent { at: time(transaction.now_ms), body })
    }

    /// Writes the task's row, and tells what happened.
    fn save(self, transaction: &mut Transaction<'_>) -> Result<TaskStatus, Trouble> {
        // One statement each, of which the first leaves the indexes alone.
        const EVENTS: &str = "UPDATE task SET head = ?2, chunks = ?3, last_write = ?4, percent = ?5, done = ?6, \
             total = ?7, message = ?8, progress_at = ?9, cancel_requested = ?10, bytes = ?11 WHERE id = ?1";
        const END: &str = "UPDATE task SET head = ?2, chunks = ?3, last_write = ?4, percent = ?5, done = ?6, \
             total = ?7, message = ?8, progress_at = ?9, cancel_requested = ?10, bytes = ?11, status = ?12, \
             failures = ?13, lost = ?14, error = coalesce(?15, error), result = ?16, \
             run_at = coalesce(?17, run_at), completed_at = ?18 WHERE id = ?1";
        let mut update = transaction.connection.prepare_cached(if self.ending.is_some() { END } else { EVENTS })?;
        let any: [&dyn ToSql; 11] = [
            &self.id.as_i64(),
            &signed(self.head),
            &signed(self.chunks),
            &signed(self.last_write),
            &self.progress.percent,
            &self.progress.done,
            &self.progress.total,
            &self.progress.message,
            &self.progress_at,
            &self.counts.cancel_requested,
            &signed(self.bytes),
        ];
        match &self.ending {
            None => update.execute(&any[..])?,
            Some(ending) => {
                let (status, result) = (self.status.to_i64(), ending.result.as_ref().map(Json::as_str));
                let end: [&dyn ToSql; 7] = [
                    &status,
                    &ending.failures,
                    &ending.lost,
                    &ending.error,
                    &result,
                    &ending.run_at,
                    &ending.completed_at,
                ];
                update.execute(params_from_iter(any.into_iter().chain(end)))?
            }
        };
        drop(update);
        if let (Some(_), Some(key)) = (&self.ending, &self.concurrency_key) {
            super::claim::unpark(transaction, self.kind_number, key)?;
        }
        transaction.commits.push(Commit {
            task: self.id,
            head: self.head,
            events: self.events,
            change: StatusMove {
                kind: self.kind,
                tags: self.tags.into(),
                from: Some(self.from),
                to: Some(self.status),
            },
        });
        Ok(self.status)
    }
}

/// Adds events of a running attempt.
pub(super) fn record(transaction: &mut Transaction<'_>, write: &AttemptWrite) -> Result<(), Trouble> {
    if let Some(draft) = Draft::of(transaction, write)? {
        draft.save(transaction)?;
    }
    Ok(())
}

/// Adds the last events of a running attempt and ends it.
pub(super) fn finish(
    transaction: &mut Transaction<'_>,
    write: &AttemptWrite,
    outcome: &Outcome,
) -> Result<TaskStatus, Trouble> {
    match Draft::of(transaction, write)? {
        Some(mut draft) => {
            draft.end(transaction, outcome.clone())?;
            draft.save(transaction)
        }
        None => Ok(Draft::read(transaction, write.by.task)?.status),
    }
}

/// Cancels a pending task; asks a running one to stop.
pub(super) fn cancel(transaction: &mut Transaction<'_>, id: TaskId, reason: Option<&str>) -> Result<Task, Trouble> {
    let mut draft = Draft::read(transaction, id)?;
    match draft.status {
        TaskStatus::Pending => {
            let error = TaskError {
                code: code::CANCELLED.into(),
                message: reason.map_or_else(
                    || "cancelled before it ran".to_owned(),
                    |reason| format!("cancelled before it ran: {reason}"),
                ),
                details: None,
                attempt: draft.attempt,
                retryable: false,
            };
            draft.end(transaction, Outcome::Cancelled(error))?;
            draft.save(transaction)?;
        }
        TaskStatus::Running if !draft.counts.cancel_requested => {
            draft.counts.cancel_requested = true;
            draft.add_cancellation(transaction, CancelStep::Requested, reason.map(str::to_owned))?;
            draft.save(transaction)?;
        }
        TaskStatus::Running | TaskStatus::Cancelled => {}
        TaskStatus::Completed | TaskStatus::Failed => {
            let message = format!("task {id} has already ended: it cannot be cancelled");
            return Err(StoreError::Conflict(message).into());
        }
    }
    super::tasks::one(transaction.connection, id)
}

/// Ends the attempts of earlier sessions: their process is gone, since this one has the folder's lock.
pub(super) fn recover(transaction: &mut Transaction<'_>) -> Result<usize, Trouble> {
    let lost: Vec<i64> = transaction
        .connection
        .prepare_cached(
            "SELECT task.id FROM kind JOIN task INDEXED BY task_list ON task.kind = kind.id \
             WHERE task.status = 1 AND task.session <> ?1 ORDER BY task.id",
        )?
        .query_map([transaction.session], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    for id in &lost {
        let mut draft = Draft::read(transaction, TaskId::from_i64(*id))?;
        let error = TaskError {
            code: code::ATTEMPT_LOST.into(),
            message: "the server ended while this attempt was under way".into(),
            details: None,
            attempt: draft.attempt,
            retryable: true,
        };
        draft.end(transaction, Outcome::Lost(error))?;
        draft.save(transaction)?;
    }
    // The limits may be others than before: whoever waits for a key is looked at anew.
    transaction
        .connection
        .execute("UPDATE task INDEXED BY task_parked SET parked = 0 WHERE status = 0 AND parked = 1", [])?;
    Ok(lost.len())
}

/// Fails pending tasks whose deadline has passed, up to `limit` of them.
pub(super) fn expire(transaction: &mut Transaction<'_>, limit: usize) -> Result<usize, Trouble> {
    let overdue: Vec<i64> = transaction
        .connection
        .prepare_cached(
            "SELECT id FROM task INDEXED BY task_deadline WHERE status = 0 AND deadline IS NOT NULL AND deadline <= ?1 \
             ORDER BY deadline, id LIMIT ?2",
        )?
        .query_map([transaction.now_ms, signed(limit as u64)], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    for id in &overdue {
        let mut draft = Draft::read(transaction, TaskId::from_i64(*id))?;
        let error = TaskError {
            code: code::DEADLINE_EXCEEDED.into(),
            message: "the task's deadline passed while it was waiting".into(),
            details: None,
            attempt: draft.attempt,
            retryable: false,
        };
        draft.end(transaction, Outcome::Failed { error, retry_at: None })?;
        draft.save(transaction)?;
    }
    Ok(overdue.len())
}
