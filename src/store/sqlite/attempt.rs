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
        AttemptCounts, Event, EventBody, Json, LogLevel, Outcome, Progress, Seq, StatusChange, Task, TaskError, TaskId,
        TaskStatus, after_attempt, code,
    },
    store::{AttemptWrite, Commit, NewEvent, StatusMove, StoreError},
};

/// A task as the writer changes it: read, changed in memory, written back with its events.
struct Draft {
    id: TaskId,
    kind: Arc<str>,
    tags: Vec<String>,
    from: TaskStatus,
    status: TaskStatus,
    attempt: u32,
    session: i64,
    last_write: u64,
    head: Seq,
    chunks: u64,
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
             chunks, failures, lost, max_attempts, max_lost, cancel_requested, percent, done, total, message, progress_at \
             FROM task WHERE id = ?1",
        )?;
        let draft = select
            .query_row([id.as_i64()], |row| {
                let status = status(row.get(2)?, 2)?;
                Ok(Self {
                    id,
                    kind: Arc::from(row.get_ref(0)?.as_str()?),
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
        match &mut event.body {
            EventBody::Chunk { index, .. } => {
                *index = self.chunks;
                self.chunks += 1;
            }
            EventBody::Progress(progress) => {
                self.progress = progress.clone();
                self.progress_at = Some(event.at.timestamp_millis());
            }
            EventBody::Status(_) | EventBody::Log { .. } => {}
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

    /// Writes the task's row, and tells what happened.
    fn save(self, transaction: &mut Transaction<'_>) -> Result<TaskStatus, Trouble> {
        // One statement each, of which the first leaves the indexes alone.
        const EVENTS: &str = "UPDATE task SET head = ?2, chunks = ?3, last_write = ?4, percent = ?5, done = ?6, \
             total = ?7, message = ?8, progress_at = ?9, cancel_requested = ?10 WHERE id = ?1";
        const END: &str = "UPDATE task SET head = ?2, chunks = ?3, last_write = ?4, percent = ?5, done = ?6, \
             total = ?7, message = ?8, progress_at = ?9, cancel_requested = ?10, status = ?11, failures = ?12, \
             lost = ?13, error = coalesce(?14, error), result = ?15, run_at = coalesce(?16, run_at), \
             completed_at = ?17 WHERE id = ?1";
        let mut update = transaction.connection.prepare_cached(if self.ending.is_some() { END } else { EVENTS })?;
        let any: [&dyn ToSql; 10] = [
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
    let because = reason.map_or_else(String::new, |reason| format!(": {reason}"));
    match draft.status {
        TaskStatus::Pending => {
            let error = TaskError {
                code: code::CANCELLED.into(),
                message: format!("cancelled before it ran{because}"),
                details: None,
                attempt: draft.attempt,
                retryable: false,
            };
            draft.end(transaction, Outcome::Cancelled(error))?;
            draft.save(transaction)?;
        }
        TaskStatus::Running if !draft.counts.cancel_requested => {
            draft.counts.cancel_requested = true;
            let body = EventBody::Log { level: LogLevel::Info, message: format!("asked to stop{because}") };
            draft.add(transaction, NewEvent { at: time(transaction.now_ms), body })?;
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
        .prepare_cached("SELECT id FROM task INDEXED BY task_running WHERE status = 1 AND session <> ?1")?
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
    Ok(lost.len())
}
