//! Beginning attempts.

use std::sync::Arc;

use rusqlite::{OptionalExtension, params};

use super::{
    codec::{decode, time, unsigned},
    journal::append,
    writer::{Transaction, Trouble},
};
use crate::{
    model::{EventBody, Json, Progress, StatusChange, TaskId, TaskStatus},
    store::{Attempt, AttemptRef, Claimed, Commit, NewEvent, StatusMove},
};

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
pub(super) fn claim(transaction: &mut Transaction<'_>, kinds: &[Arc<str>], limit: usize) -> Result<Claimed, Trouble> {
    let mut candidates = Vec::new();
    let mut next_due: Option<i64> = None;
    for (index, name) in kinds.iter().enumerate() {
        let Some(kind) = transaction.known_kind(name)? else { continue };
        let due = collect(transaction, kind, index, limit, &mut candidates)?;
        next_due = [next_due, due].into_iter().flatten().min();
    }
    candidates.sort_unstable();
    candidates.truncate(limit);
    let mut claimed = Claimed { attempts: Vec::with_capacity(candidates.len()), next_due: next_due.map(time) };
    for candidate in candidates {
        claimed.attempts.push(begin(transaction, TaskId::from_i64(candidate.id), &kinds[candidate.kind])?);
    }
    Ok(claimed)
}

/// Adds the first `limit` due tasks of one kind, and says when the next one becomes due. The queue's index
/// holds, for each priority, first the due tasks and then the others: no task is looked at in vain.
fn collect(
    transaction: &Transaction<'_>,
    kind: i64,
    index: usize,
    limit: usize,
    candidates: &mut Vec<Candidate>,
) -> Result<Option<i64>, Trouble> {
    let mut highest = transaction.connection.prepare_cached(
        "SELECT priority FROM task INDEXED BY task_claim \
         WHERE status = 0 AND kind = ?1 AND priority < ?2 ORDER BY priority DESC LIMIT 1",
    )?;
    let mut due = transaction.connection.prepare_cached(
        "SELECT run_at, id FROM task INDEXED BY task_claim \
         WHERE status = 0 AND kind = ?1 AND priority = ?2 AND run_at <= ?3 ORDER BY run_at, id LIMIT ?4",
    )?;
    let mut later = transaction.connection.prepare_cached(
        "SELECT run_at FROM task INDEXED BY task_claim \
         WHERE status = 0 AND kind = ?1 AND priority = ?2 AND run_at > ?3 ORDER BY run_at LIMIT 1",
    )?;
    let mut next_due: Option<i64> = None;
    let mut found = 0;
    let mut below = i64::MAX;
    while found < limit {
        let Some(priority) = highest.query_row([kind, below], |row| row.get::<_, i64>(0)).optional()? else { break };
        below = priority;
        let room = i64::try_from(limit - found).unwrap_or(i64::MAX);
        let mut rows = due.query([kind, priority, transaction.now_ms, room])?;
        while let Some(row) = rows.next()? {
            candidates.push(Candidate { priority: -priority, run_at: row.get(0)?, id: row.get(1)?, kind: index });
            found += 1;
        }
        let future = later.query_row([kind, priority, transaction.now_ms], |row| row.get::<_, i64>(0)).optional()?;
        next_due = [next_due, future].into_iter().flatten().min();
    }
    Ok(next_due)
}

fn begin(transaction: &mut Transaction<'_>, id: TaskId, kind: &Arc<str>) -> Result<Attempt, Trouble> {
    let now_ms = transaction.now_ms;
    let session = transaction.session;
    let (attempt, head, tags) = {
        let mut update = transaction.connection.prepare_cached(
            "UPDATE task SET status = 1, attempt = attempt + 1, session = ?2, head = head + 1, last_write = 0, \
             started_at = ?3, percent = 0, done = NULL, total = NULL, message = NULL, progress_at = NULL \
             WHERE id = ?1 RETURNING attempt, head, input, timeout_ms, failures, tags",
        )?;
        update.query_row(params![id.as_i64(), session, now_ms], |row| {
            let attempt = Attempt {
                by: AttemptRef { task: id, attempt: row.get(0)?, session },
                kind: kind.clone(),
                input: Json::trusted(row.get_ref(2)?.as_str()?),
                timeout_ms: row.get::<_, Option<i64>>(3)?.map(unsigned),
                failures: row.get(4)?,
            };
            let tags: Vec<String> = decode(row.get_ref(5)?.as_str()?, 5)?;
            Ok((attempt, unsigned(row.get(1)?), tags))
        })?
    };
    let body = EventBody::Status(StatusChange {
        status: TaskStatus::Running,
        progress: Progress::default(),
        result: None,
        error: None,
        run_at: None,
    });
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
