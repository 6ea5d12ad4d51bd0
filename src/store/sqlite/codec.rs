//! How rows and columns become tasks and events, and back.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use rusqlite::{Row, types::Type};
use serde::{Deserialize, Serialize};

use crate::model::{Event, EventBody, EventType, Json, LogLevel, Progress, StatusChange, Task, TaskId, TaskStatus};

/// The columns [`task`] reads; `kind` is joined.
/// (No join: with one, SQLite 3.54 with STAT4 prepares the statement anew for each value bound.)
pub(super) const TASK_COLUMNS: &str = "id, (SELECT name FROM kind WHERE kind.id = task.kind), status, priority, run_at, head, attempt, started_at, \
     completed_at, progress_at, percent, done, total, message, max_attempts, timeout_ms, retry_of, tags, error, \
     input, result, cancel_requested, deadline, concurrency_key";

/// Reads a row of [`TASK_COLUMNS`].
pub(super) fn task(row: &Row<'_>) -> rusqlite::Result<Task> {
    let progress = Progress { percent: row.get(10)?, done: row.get(11)?, total: row.get(12)?, message: row.get(13)? };
    Ok(Task {
        id: TaskId::from_i64(row.get(0)?),
        kind: Arc::from(row.get_ref(1)?.as_str()?),
        status: status(row.get(2)?, 2)?,
        priority: row.get(3)?,
        run_at: time(row.get(4)?),
        head: unsigned(row.get(5)?),
        attempt: row.get(6)?,
        started_at: row.get::<_, Option<i64>>(7)?.map(time),
        completed_at: row.get::<_, Option<i64>>(8)?.map(time),
        progress_at: row.get::<_, Option<i64>>(9)?.map(time),
        progress,
        max_attempts: row.get(14)?,
        timeout_ms: row.get::<_, Option<i64>>(15)?.map(unsigned),
        retry_of: row.get::<_, Option<i64>>(16)?.map(TaskId::from_i64),
        tags: decode(row.get_ref(17)?.as_str()?, 17)?,
        error: row.get_ref(18)?.as_str_or_null()?.map(|text| decode(text, 18)).transpose()?,
        input: Json::trusted(row.get_ref(19)?.as_str()?),
        result: row.get_ref(20)?.as_str_or_null()?.map(Json::trusted),
        cancel_requested: row.get(21)?,
        deadline: row.get::<_, Option<i64>>(22)?.map(time),
        concurrency_key: row.get(23)?,
    })
}

/// Reads `seq, attempt, at, type, body`.
pub(super) fn event(task: TaskId, row: &Row<'_>) -> rusqlite::Result<Event> {
    let text = row.get_ref(4)?.as_str()?;
    let event_type = EventType::from_i64(row.get(3)?).ok_or_else(|| corrupt(3, "unknown type of event"))?;
    let body = match event_type {
        EventType::Status => EventBody::Status(decode::<StatusChange>(text, 4)?),
        EventType::Progress => EventBody::Progress(decode::<Progress>(text, 4)?),
        EventType::Log => {
            let Log { level, message } = decode(text, 4)?;
            EventBody::Log { level, message: message.into_owned() }
        }
        EventType::Chunk => {
            let Chunk { index, value } = decode(text, 4)?;
            EventBody::Chunk { index, value }
        }
        EventType::Cancellation => EventBody::Cancellation(decode(text, 4)?),
    };
    Ok(Event { task, seq: unsigned(row.get(0)?), attempt: row.get(1)?, at: time(row.get(2)?), body })
}

/// The text of `body`'s column.
pub(super) fn body_text(body: &EventBody) -> Result<String, serde_json::Error> {
    match body {
        EventBody::Status(change) => serde_json::to_string(change),
        EventBody::Progress(progress) => serde_json::to_string(progress),
        EventBody::Cancellation(cancellation) => serde_json::to_string(cancellation),
        EventBody::Log { level, message } => {
            serde_json::to_string(&Log { level: *level, message: message.as_str().into() })
        }
        // Written by hand: the value is JSON already and need not be read again.
        EventBody::Chunk { index, value } => Ok(format!("{{\"index\":{index},\"value\":{value}}}")),
    }
}

#[derive(Serialize, Deserialize)]
struct Log<'a> {
    level: LogLevel,
    message: std::borrow::Cow<'a, str>,
}

#[derive(Deserialize)]
struct Chunk {
    index: u64,
    value: Json,
}

pub(super) fn status(number: i64, column: usize) -> rusqlite::Result<TaskStatus> {
    TaskStatus::from_i64(number).ok_or_else(|| corrupt(column, "unknown status"))
}

pub(super) fn time(ms: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(ms).unwrap_or_default()
}

/// SQLite's integers are signed; what is stored through [`signed`] is never negative.
pub(super) fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn decode<'a, T: Deserialize<'a>>(text: &'a str, column: usize) -> rusqlite::Result<T> {
    serde_json::from_str(text)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(column, Type::Text, error.into()))
}

fn corrupt(column: usize, what: &str) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Integer, what.into())
}
