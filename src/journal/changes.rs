//! Watching lists: which tasks moved, for all who want to know.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::sync::Notify;

use super::{Journal, Shared};
use crate::{
    model::TaskId,
    store::{Commit, StatusMove},
};

/// A task moved.
#[derive(Debug, Clone)]
pub struct Change {
    /// The task.
    pub task: TaskId,
    /// How.
    pub change: StatusMove,
}

/// One log that all watchers read, each from its own place; who falls off its end is told so.
#[derive(Debug)]
pub(super) struct ChangeLog {
    log: Mutex<Log>,
    moved: Notify,
    watchers: AtomicUsize,
    limit: usize,
}

#[derive(Debug, Default)]
struct Log {
    changes: VecDeque<Arc<Change>>,
    /// Number of the oldest change in the log.
    first: u64,
    closed: bool,
}

impl ChangeLog {
    pub(super) fn new(limit: usize) -> Self {
        Self { log: Mutex::default(), moved: Notify::new(), watchers: AtomicUsize::new(0), limit }
    }

    pub(super) fn push(&self, commit: &Commit) {
        if self.watchers.load(Ordering::Acquire) == 0 {
            return;
        }
        {
            let mut log = self.lock();
            log.changes.push_back(Arc::new(Change { task: commit.task, change: commit.change.clone() }));
            while log.changes.len() > self.limit {
                log.changes.pop_front();
                log.first += 1;
            }
        }
        self.moved.notify_waiters();
    }

    /// Commits were missed: every watcher has to begin anew.
    pub(super) fn forget(&self) {
        {
            let mut log = self.lock();
            // One more than there were: also who has read everything has missed something.
            log.first += log.changes.len() as u64 + 1;
            log.changes.clear();
        }
        self.moved.notify_waiters();
    }

    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.moved.notify_waiters();
    }

    fn lock(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Changes of tasks, from the moment this was made.
#[derive(Debug)]
pub struct Changes {
    shared: Arc<Shared>,
    next: u64,
}

/// What a watcher is given.
#[derive(Debug, Clone)]
pub enum Changed {
    /// These tasks moved, in this order.
    Tasks(Vec<Arc<Change>>),
    /// Changes were missed: read the list again; later changes follow.
    Missed,
}

/// Changes handed out at once.
const BATCH: usize = 256;

impl Changes {
    /// Waits for changes; `None` when the store was closed.
    pub async fn next(&mut self) -> Option<Changed> {
        let shared = self.shared.clone();
        loop {
            let moved = shared.changes.moved.notified();
            tokio::pin!(moved);
            moved.as_mut().enable();
            {
                let log = shared.changes.lock();
                if self.next < log.first {
                    self.next = log.first + log.changes.len() as u64;
                    return Some(Changed::Missed);
                }
                let skip = usize::try_from(self.next - log.first).unwrap_or(usize::MAX);
                let changes: Vec<_> = log.changes.iter().skip(skip).take(BATCH).cloned().collect();
                if !changes.is_empty() {
                    self.next += changes.len() as u64;
                    return Some(Changed::Tasks(changes));
                }
                if log.closed {
                    return None;
                }
            }
            moved.await;
        }
    }
}

impl Drop for Changes {
    fn drop(&mut self) {
        if self.shared.changes.watchers.fetch_sub(1, Ordering::AcqRel) == 1 {
            let mut log = self.shared.changes.lock();
            log.first += log.changes.len() as u64;
            log.changes.clear();
        }
    }
}

impl Journal {
    /// Every change of any task from now on.
    pub fn changes(&self) -> Changes {
        // Counted before the place is taken: from here on every change is logged.
        self.shared.changes.watchers.fetch_add(1, Ordering::AcqRel);
        let log = self.shared.changes.lock();
        let next = log.first + log.changes.len() as u64;
        drop(log);
        Changes { shared: self.shared.clone(), next }
    }
}
