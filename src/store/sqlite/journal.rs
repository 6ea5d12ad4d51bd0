//! The journal's table: adding, reading and pruning events.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, params};

use super::{
    codec::{self, body_text, signed, unsigned},
    readers::ReadTrouble,
    writer::{Transaction, Trouble},
};
use crate::{
    model::{Event, Seq, TaskId},
    store::{EventPage, EventQuery, NewEvent, StoreError},
};

/// Adds an event. The caller moves the task's `head` in the same transaction.
pub(super) fn append(
    transaction: &Transaction<'_>,
    task: TaskId,
    seq: Seq,
    attempt: u32,
    event: NewEvent,
) -> Result<Arc<Event>, Trouble> {
    transaction
        .connection
        .prepare_cached("INSERT INTO event (task, seq, attempt, at, type, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?
        .execute(params![
            task.as_i64(),
            signed(seq),
            attempt,
            event.at.timestamp_millis(),
            event.body.event_type().to_i64(),
            body_text(&event.body)?,
        ])?;
    Ok(Arc::new(Event { task, seq, attempt, at: event.at, body: event.body }))
}

/// A page of events, with what a reader needs to know about those that are not in it.
pub(super) fn page(connection: &Connection, query: &EventQuery) -> Result<EventPage, ReadTrouble> {
    let (head, pruned_through): (i64, i64) = connection
        .prepare_cached("SELECT head, pruned_through FROM task WHERE id = ?1")?
        .query_row([query.task.as_i64()], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?
        .ok_or(StoreError::NotFound(query.task))?;
    let types = match query.types.as_slice() {
        [] => !0,
        types => types.iter().fold(0_i64, |mask, t| mask | 1 << t.to_i64()),
    };
    let mut page = EventPage {
        events: Vec::new(),
        head: unsigned(head),
        pruned_through: unsigned(pruned_through),
        has_more: false,
    };
    let mut select = connection.prepare_cached(
        "SELECT seq, attempt, at, type, body FROM event \
         WHERE task = ?1 AND seq > ?2 AND (1 << type) & ?3 ORDER BY seq LIMIT ?4",
    )?;
    let limit = i64::try_from(query.limit).unwrap_or(i64::MAX - 1) + 1;
    let mut rows = select.query(params![query.task.as_i64(), signed(query.after), types, limit])?;
    let mut weight_bytes = 0;
    while let Some(row) = rows.next()? {
        if page.events.len() == query.limit || (weight_bytes >= query.limit_bytes && !page.events.is_empty()) {
            page.has_more = true;
            break;
        }
        let event = codec::event(query.task, row)?;
        weight_bytes += event.weight_bytes();
        page.events.push(Arc::new(event));
    }
    Ok(page)
}

/// Removes events up to `through`, but never the newest.
pub(super) fn prune(transaction: &Transaction<'_>, task: TaskId, through: Seq) -> Result<(), Trouble> {
    let moved = transaction
        .connection
        .prepare_cached(
            "UPDATE task SET pruned_through = max(pruned_through, min(?2, head - 1)) WHERE id = ?1 \
             RETURNING pruned_through",
        )?
        .query_row(params![task.as_i64(), signed(through)], |row| row.get::<_, i64>(0))
        .optional()?
        .ok_or(StoreError::NotFound(task))?;
    transaction
        .connection
        .prepare_cached("DELETE FROM event WHERE task = ?1 AND seq <= ?2")?
        .execute(params![task.as_i64(), moved])?;
    Ok(())
}
