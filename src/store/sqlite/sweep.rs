//! Deleting ended tasks and their events, in slices.

use rusqlite::{OptionalExtension, params};

use super::{
    codec::{decode, signed, status, time, unsigned},
    journal::prune,
    writer::{Transaction, Trouble},
};
use crate::{
    model::{Seq, TaskId, TaskStatus},
    store::{Commit, StatusMove, StoreError, SweepPlace, SweepQuery, Swept},
};

/// Events deleted in one transaction: keeps it short.
const SLICE_EVENTS: u64 = 10_000;

/// What deleting has to know of a task.
struct Ended {
    id: TaskId,
    head: Seq,
    pruned_through: Seq,
    completed_at: i64,
}

/// Deletes an ended task; `false` when so far only some of its events are gone.
pub(super) fn delete(transaction: &mut Transaction<'_>, id: TaskId) -> Result<bool, Trouble> {
    let known: Option<(TaskStatus, Ended)> = transaction
        .connection
        .prepare_cached("SELECT status, head, pruned_through, coalesce(completed_at, 0) FROM task WHERE id = ?1")?
        .query_row([id.as_i64()], |row| {
            let ended = Ended {
                id,
                head: unsigned(row.get(1)?),
                pruned_through: unsigned(row.get(2)?),
                completed_at: row.get(3)?,
            };
            Ok((status(row.get(0)?, 0)?, ended))
        })
        .optional()?;
    let (status, ended) = known.ok_or(StoreError::NotFound(id))?;
    if !status.is_terminal() {
        let message = format!("task {id} has not ended: cancel it first, or wait");
        return Err(StoreError::Conflict(message).into());
    }
    let mut budget = SLICE_EVENTS;
    remove(transaction, &ended, &mut budget)
}

/// Deletes what is older than was said, in one slice.
pub(super) fn sweep(transaction: &mut Transaction<'_>, query: &SweepQuery) -> Result<Swept, Trouble> {
    let mut swept = Swept { after: query.after, ..Swept::default() };
    let limit = query.limit.max(1);
    let full = SLICE_EVENTS.min(limit as u64);
    let mut budget = full;
    if let Some(before) = query.tasks_before {
        let ended = ended(transaction, None, before.timestamp_millis(), limit)?;
        swept.more |= ended.len() == limit;
        for task in &ended {
            if !remove(transaction, task, &mut budget)? {
                swept.more = true;
                break;
            }
            swept.tasks += 1;
        }
    }
    if let Some(before) = query.events_before
        && !swept.more
    {
        let ended = ended(transaction, query.after, before.timestamp_millis(), limit)?;
        swept.more |= ended.len() == limit;
        for task in &ended {
            if !shorten(transaction, task, task.head - 1, &mut budget)? {
                swept.more = true;
                break;
            }
            swept.after = Some(SweepPlace { completed_at: time(task.completed_at), task: task.id });
        }
    }
    swept.events = usize::try_from(full - budget).unwrap_or(usize::MAX);
    Ok(swept)
}

/// Tasks that ended before a moment, the earliest first.
fn ended(
    transaction: &Transaction<'_>,
    after: Option<SweepPlace>,
    before_ms: i64,
    limit: usize,
) -> rusqlite::Result<Vec<Ended>> {
    let mut select = transaction.connection.prepare_cached(
        "SELECT id, head, pruned_through, completed_at FROM task INDEXED BY task_ended \
         WHERE completed_at IS NOT NULL AND (completed_at, id) > (?1, ?2) AND completed_at < ?3 \
         ORDER BY completed_at, id LIMIT ?4",
    )?;
    let (at, id) = after.map_or((i64::MIN, 0), |place| (place.completed_at.timestamp_millis(), place.task.as_i64()));
    let rows = select.query_map(params![at, id, before_ms, signed(limit as u64)], |row| {
        Ok(Ended {
            id: TaskId::from_i64(row.get(0)?),
            head: unsigned(row.get(1)?),
            pruned_through: unsigned(row.get(2)?),
            completed_at: row.get(3)?,
        })
    })?;
    rows.collect()
}

/// Deletes stored events up to `through`, as far as the budget goes; whether that was all.
fn shorten(transaction: &Transaction<'_>, task: &Ended, through: Seq, budget: &mut u64) -> Result<bool, Trouble> {
    let wanted = through.saturating_sub(task.pruned_through);
    let now = wanted.min(*budget);
    *budget -= now;
    if now > 0 {
        prune(transaction, task.id, task.pruned_through + now)?;
    }
    Ok(now == wanted)
}

/// Deletes a task, as far as the budget goes; whether it is gone.
fn remove(transaction: &mut Transaction<'_>, task: &Ended, budget: &mut u64) -> Result<bool, Trouble> {
    if !shorten(transaction, task, task.head - 1, budget)? || *budget == 0 {
        return Ok(false);
    }
    *budget -= 1;
    let id = task.id.as_i64();
    // Its id is never given again. Where there is a newer task, that one's is above it.
    transaction
        .connection
        .prepare_cached(
            "UPDATE store SET last_task = ?1 WHERE last_task < ?1 AND NOT EXISTS (SELECT 1 FROM task WHERE id > ?1)",
        )?
        .execute([id])?;
    let (kind, tags, from, key): (String, Vec<String>, TaskStatus, Option<String>) = transaction
        .connection
        .prepare_cached(
            "DELETE FROM task WHERE id = ?1 \
             RETURNING (SELECT name FROM kind WHERE kind.id = task.kind), tags, status, idempotency_key",
        )?
        .query_row([id], |row| {
            Ok((row.get(0)?, decode(row.get_ref(1)?.as_str()?, 1)?, status(row.get(2)?, 2)?, row.get(3)?))
        })?;
    transaction.connection.prepare_cached("DELETE FROM event WHERE task = ?1")?.execute([id])?;
    for tag in &tags {
        transaction
            .connection
            .prepare_cached("DELETE FROM task_tag WHERE tag = ?1 AND task = ?2")?
            .execute(params![tag, id])?;
    }
    if let Some(key) = key {
        transaction
            .connection
            .prepare_cached("DELETE FROM idempotency WHERE key = ?1 AND task = ?2")?
            .execute(params![key, id])?;
    }
    transaction.commits.push(Commit {
        task: task.id,
        head: task.head,
        events: Vec::new(),
        change: StatusMove { kind: kind.into(), tags: tags.into(), from: Some(from), to: None },
    });
    Ok(true)
}
