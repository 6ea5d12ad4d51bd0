//! Deleting ended tasks and their events when they are old enough, while the server runs.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};

use super::manager::Shared;
use crate::store::{StoreError, SweepPlace, SweepQuery};

/// How long ended tasks are kept. Space in the store is used again, not given back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetentionOptions {
    /// Ended tasks, with all that belongs to them, in milliseconds after their end; `None`: for ever.
    pub keep_tasks_ms: Option<u64>,
    /// Events of ended tasks except the newest of each, in milliseconds after the task's end; `None`: as long as the
    /// task.
    pub keep_events_ms: Option<u64>,
    /// Time from one look to the next, in milliseconds.
    pub sweep_interval_ms: u64,
    /// Tasks looked at, and about so many events deleted, in one transaction.
    pub sweep_slice: usize,
}

impl Default for RetentionOptions {
    fn default() -> Self {
        Self { keep_tasks_ms: None, keep_events_ms: None, sweep_interval_ms: 60_000, sweep_slice: 500 }
    }
}

/// Sweeps until the manager closes.
pub(super) async fn run(shared: Arc<Shared>) {
    let options = &shared.options.retention;
    if options.keep_tasks_ms.is_none() && options.keep_events_ms.is_none() {
        return;
    }
    let interval = Duration::from_millis(options.sweep_interval_ms);
    let mut after = None;
    loop {
        match sweep(&shared, &mut after).await {
            Ok(()) => {}
            Err(StoreError::Closed | StoreError::Failed(_)) => return,
            Err(error) => tracing::warn!(%error, "old tasks could not be deleted"),
        }
        tokio::select! {
            () = shared.clock.sleep(interval) => {}
            () = shared.closing.cancelled() => return,
        }
    }
}

/// Deletes all that is old enough now, slice by slice: between two of them others write.
async fn sweep(shared: &Shared, after: &mut Option<SweepPlace>) -> Result<(), StoreError> {
    let options = &shared.options.retention;
    let before = |keep_ms: Option<u64>| -> Option<DateTime<Utc>> {
        shared.clock.now().checked_sub_signed(TimeDelta::milliseconds(i64::try_from(keep_ms?).ok()?))
    };
    let (tasks_before, events_before) = (before(options.keep_tasks_ms), before(options.keep_events_ms));
    loop {
        let query = SweepQuery { tasks_before, events_before, after: *after, limit: options.sweep_slice };
        let swept = shared.store.sweep(query).await?;
        *after = swept.after;
        if swept.tasks + swept.events > 0 {
            tracing::debug!(tasks = swept.tasks, events = swept.events, "deleted what was old");
        }
        if !swept.more || shared.closing.is_cancelled() {
            return Ok(());
        }
    }
}
