//! Beginning attempts: which pending tasks may run now.
//!
//! A due task whose concurrency key has no room is *parked*: taken out of the queue's index, so that no later claim
//! looks at it in vain. Whenever a task with that key ends an attempt or stops waiting, the next parked one is put back.
//! So a parked task always has another one of its key in the queue or running.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
};

use chrono::{DateTime, Utc};
use rusqlite::{Connection, OptionalExtension, params};

use super::{
    attempt::expire,
    codec::{decode, signed, time, unsigned},
    journal::append,
    writer::{Transaction, Trouble},
};
use crate::{
    model::{Backoff, EventBody, Json, Progress, StatusChange, TaskId, TaskStatus},
    store::{Attempt, AttemptRef, Claimed, Commit, KindClaim, NewEvent, StatusMove},
};

/// Tasks failed for their deadline in one claim, and tasks parked in one claim: keeps a transaction short.
const SLICE: usize = 256;

/// A task that could be claimed: sorts in the order of the queue.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    /// Negated, so that the highest comes first.
    priority: i64,
    run_at: i64,
    id: i64,
    kind: usize,
}

/// Begins up to `limit` attempts at due tasks of `kinds`.
pub(super) fn claim(transaction: &mut Transaction<'_>, kinds: &[KindClaim], limit: usize) -> Result<Claimed, Trouble> {
    let mut claimed = Claimed { expired: expire(transaction, SLICE)?, ..Claimed::default() };
    claimed.more = claimed.expired == SLICE;
    // Those that begin are not among what is overdue: that has to have failed first.
    let limit = if claimed.more { 0 } else { limit };
    let mut candidates = Vec::new();
    let mut next_due: Option<i64> = None;
    for (index, kind) in kinds.iter().enumerate() {
        let Some(number) = transaction.known_kind(&kind.name)? else { continue };
        let room = room(transaction, number, kind, limit)?;
        let mut queue =
            Queue { kind: number, index, per_key: kind.concurrency_per_key, keys: HashMap::new(), parked: 0 };
        let due = queue.collect(transaction, room, &mut candidates)?;
        next_due = [next_due, due].into_iter().flatten().min();
        claimed.more |= queue.parked >= SLICE;
    }
    candidates.sort_unstable();
    candidates.truncate(limit);
    claimed.next_due = next_due.map(time);
    claimed.attempts.reserve(candidates.len());
    for candidate in candidates {
        claimed.attempts.push(begin(transaction, TaskId::from_i64(candidate.id), &kinds[candidate.kind].name)?);
    }
    claimed.more |= limit > 0 && claimed.attempts.len() == limit;
    claimed.next_deadline = next_deadline(transaction)?;
    Ok(claimed)
}

fn next_deadline(transaction: &Transaction<'_>) -> rusqlite::Result<Option<DateTime<Utc>>> {
    let mut select = transaction.connection.prepare_cached(
        "SELECT deadline FROM task INDEXED BY task_deadline WHERE status = 0 AND deadline IS NOT NULL \
         ORDER BY deadline LIMIT 1",
    )?;
    Ok(select.query_row([], |row| row.get(0)).optional()?.map(time))
}

/// How many more tasks of a kind may begin, up to `limit`.
fn room(transaction: &Transaction<'_>, number: i64, kind: &KindClaim, limit: usize) -> rusqlite::Result<usize> {
    let mut paused = transaction.connection.prepare_cached("SELECT paused_at IS NOT NULL FROM kind WHERE id = ?1")?;
    if paused.query_row([number], |row| row.get(0))? {
        return Ok(0);
    }
    let Some(concurrency) = kind.concurrency else { return Ok(limit) };
    let mut running = transaction.connection.prepare_cached(
        "SELECT count(*) FROM (SELECT 1 FROM task INDEXED BY task_list WHERE kind = ?1 AND status = 1 LIMIT ?2)",
    )?;
    let running: i64 = running.query_row([number, signed(concurrency as u64)], |row| row.get(0))?;
    Ok(limit.min(concurrency.saturating_sub(usize::try_from(running).unwrap_or(usize::MAX))))
}

/// One kind's pending tasks.
struct Queue {
    kind: i64,
    index: usize,
    per_key: usize,
    /// How many more may begin with each key seen.
    keys: HashMap<String, usize>,
    parked: usize,
}

impl Queue {
    /// Adds the first due tasks that may run, up to `room` of them, and says when the next one becomes due. The queue's
    /// index holds, for each priority, first the due tasks and then the others: no task is looked at in vain.
    fn collect(
        &mut self,
        transaction: &Transaction<'_>,
        room: usize,
        candidates: &mut Vec<Candidate>,
    ) -> rusqlite::Result<Option<i64>> {
        let mut highest = transaction.connection.prepare_cached(
            "SELECT priority FROM task INDEXED BY task_claim \
             WHERE status = 0 AND parked = 0 AND kind = ?1 AND priority < ?2 ORDER BY priority DESC LIMIT 1",
        )?;
        let mut later = transaction.connection.prepare_cached(
            "SELECT run_at FROM task INDEXED BY task_claim \
             WHERE status = 0 AND parked = 0 AND kind = ?1 AND priority = ?2 AND run_at > ?3 ORDER BY run_at LIMIT 1",
        )?;
        let mut next_due: Option<i64> = None;
        let mut found = 0;
        let mut below = i64::MAX;
        while found < room && self.parked < SLICE {
            let highest = highest.query_row([self.kind, below], |row| row.get::<_, i64>(0)).optional()?;
            let Some(priority) = highest else { break };
            below = priority;
            found += self.due(transaction, priority, room - found, candidates)?;
            let future =
                later.query_row([self.kind, priority, transaction.now_ms], |row| row.get::<_, i64>(0)).optional()?;
            next_due = [next_due, future].into_iter().flatten().min();
        }
        Ok(next_due)
    }

    /// The due tasks of one priority that may run, up to `room` of them. How many there were.
    fn due(
        &mut self,
        transaction: &Transaction<'_>,
        priority: i64,
        room: usize,
        candidates: &mut Vec<Candidate>,
    ) -> rusqlite::Result<usize> {
        let mut select = transaction.connection.prepare_cached(
            "SELECT run_at, id, concurrency_key FROM task INDEXED BY task_claim \
             WHERE status = 0 AND parked = 0 AND kind = ?1 AND priority = ?2 AND (run_at, id) > (?3, ?4) AND run_at <= ?5 \
             ORDER BY run_at, id LIMIT ?6",
        )?;
        let mut found = 0;
        let mut last = (i64::MIN, i64::MIN);
        while found < room && self.parked < SLICE {
            let wanted = room - found;
            let rows = select.query_map(
                params![self.kind, priority, last.0, last.1, transaction.now_ms, signed(wanted as u64)],
                |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
            )?;
            // All read before the first is parked, which changes the index that is being read.
            let rows: Vec<(i64, i64, Option<String>)> = rows.collect::<Result<_, _>>()?;
            let is_last = rows.len() < wanted;
            for (run_at, id, key) in rows {
                last = (run_at, id);
                if let Some(key) = key
                    && !self.has_room(transaction, key)?
                {
                    transaction.connection.prepare_cached("UPDATE task SET parked = 1 WHERE id = ?1")?.execute([id])?;
                    self.parked += 1;
                } else {
                    candidates.push(Candidate { priority: -priority, run_at, id, kind: self.index });
                    found += 1;
                }
            }
            if is_last {
                break;
            }
        }
        Ok(found)
    }

    /// Takes a place of the key, if there is one.
    fn has_room(&mut self, transaction: &Transaction<'_>, key: String) -> rusqlite::Result<bool> {
        let left = match self.keys.entry(key) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                let mut running = transaction.connection.prepare_cached(
                    "SELECT count(*) FROM task INDEXED BY task_running_key \
                     WHERE status = 1 AND concurrency_key IS NOT NULL AND kind = ?1 AND concurrency_key = ?2",
                )?;
                let running = unsigned(running.query_row(params![self.kind, new.key()], |row| row.get(0))?);
                let running = usize::try_from(running).unwrap_or(usize::MAX);
                new.insert(self.per_key.saturating_sub(running))
            }
        };
        let has_room = *left > 0;
        *left = left.saturating_sub(1);
        Ok(has_room)
    }
}

/// Puts the next parked task of a key back into the queue.
pub(super) fn unpark(transaction: &Transaction<'_>, kind: i64, key: &str) -> rusqlite::Result<()> {
    transaction
        .connection
        .prepare_cached(
            "UPDATE task SET parked = 0 WHERE id = (SELECT id FROM task INDEXED BY task_parked \
             WHERE status = 0 AND parked = 1 AND kind = ?1 AND concurrency_key = ?2 \
             ORDER BY priority DESC, run_at, id LIMIT 1)",
        )?
        .execute(params![kind, key])?;
    Ok(())
}

/// Has a kind's tasks wait, or go on.
pub(super) fn pause(transaction: &mut Transaction<'_>, kind: &Arc<str>, paused: bool) -> Result<(), Trouble> {
    let number = transaction.kind(kind)?;
    let since = paused.then_some(transaction.now_ms);
    // Paused again, it is paused since the first time.
    transaction
        .connection
        .prepare_cached("UPDATE kind SET paused_at = iif(?2 IS NULL, NULL, coalesce(paused_at, ?2)) WHERE id = ?1")?
        .execute(params![number, since])?;
    Ok(())
}

/// The kinds that are paused.
pub(super) fn paused(connection: &Connection) -> rusqlite::Result<Vec<(Arc<str>, DateTime<Utc>)>> {
    connection
        .prepare_cached("SELECT name, paused_at FROM kind WHERE paused_at IS NOT NULL ORDER BY name")?
        .query_map([], |row| Ok((Arc::from(row.get_ref(0)?.as_str()?), time(row.get(1)?))))?
        .collect()
}

fn begin(transaction: &mut Transaction<'_>, id: TaskId, kind: &Arc<str>) -> Result<Attempt, Trouble> {
    let now_ms = transaction.now_ms;
    let session = transaction.session;
    // Read and then written: with RETURNING, SQLite would keep a copy of each page that it changes.
    let (attempt, tags) = transaction
        .connection
        .prepare_cached(
            "SELECT attempt, head, input, timeout_ms, failures, tags, bytes, deadline, retry_backoff_ms, \
             max_retry_backoff_ms, concurrency_key IS NOT NULL FROM task WHERE id = ?1",
        )?
        .query_row([id.as_i64()], |row| {
            let attempt = Attempt {
                by: AttemptRef { task: id, attempt: row.get::<_, u32>(0)? + 1, session },
                kind: kind.clone(),
                input: Json::trusted(row.get_ref(2)?.as_str()?),
                timeout_ms: row.get::<_, Option<i64>>(3)?.map(unsigned),
                failures: row.get(4)?,
                events: unsigned(row.get(1)?) + 1,
                bytes: unsigned(row.get(6)?),
                deadline: row.get::<_, Option<i64>>(7)?.map(time),
                backoff: Backoff { first_ms: unsigned(row.get(8)?), max_ms: unsigned(row.get(9)?) },
                has_key: row.get(10)?,
            };
            let tags: Vec<String> = decode(row.get_ref(5)?.as_str()?, 5)?;
            Ok((attempt, tags))
        })?;
    transaction
        .connection
        .prepare_cached(
            "UPDATE task SET status = 1, attempt = ?2, session = ?3, head = ?4, last_write = 0, started_at = ?5, \
             percent = 0, done = NULL, total = NULL, message = NULL, progress_at = NULL WHERE id = ?1",
        )?
        .execute(params![id.as_i64(), attempt.by.attempt, session, signed(attempt.events), now_ms])?;
    let body = EventBody::Status(StatusChange {
        status: TaskStatus::Running,
        progress: Progress::default(),
        result: None,
        error: None,
        run_at: None,
    });
    let head = attempt.events;
    let event = append(transaction, id, head, attempt.by.attempt, NewEvent { at: time(now_ms), body })?;
    transaction.commits.push(Commit {
        task: id,
        head,
        events: vec![event],
        change: StatusMove {
            kind: kind.clone(),
            tags: tags.into(),
            from: Some(TaskStatus::Pending),
            to: Some(TaskStatus::Running),
        },
    });
    Ok(attempt)
}
