//! The feed of commits: how a store tells what it has made durable.

use std::{
    collections::VecDeque,
    sync::{Arc, PoisonError, Weak},
};

use tokio::sync::Notify;

use crate::{
    model::{Event, Seq, TaskId, TaskStatus},
    sync::{Mutex, MutexGuard},
};

/// What one transaction did to one task.
#[derive(Debug, Clone)]
pub struct Commit {
    /// The task.
    pub task: TaskId,
    /// `seq` of its newest event.
    pub head: Seq,
    /// The events written, oldest first, ending at `head`. A store that hears of other nodes' writes
    /// only by a hint leaves them out: readers then go to the store.
    pub events: Vec<Arc<Event>>,
    /// What changed that a list of tasks could show.
    pub change: StatusMove,
}

/// How a task moved, for those who watch lists. Everything else a filter looks at never changes.
#[derive(Debug, Clone)]
pub struct StatusMove {
    /// What sort of work.
    pub kind: Arc<str>,
    /// Its tags.
    pub tags: Arc<[String]>,
    /// The status before; `None`: the task is new.
    pub from: Option<TaskStatus>,
    /// The status now; `None`: the task was deleted.
    pub to: Option<TaskStatus>,
}

/// What came in since the last look.
#[derive(Debug, Default)]
pub struct CommitBatch {
    /// In the order of their commits.
    pub commits: Vec<Commit>,
    /// Commits before these were dropped because nobody took them in time: assume that anything moved.
    pub lagged: bool,
}

/// Commits of a store from the moment the feed was made. Bounded: who does not read in time is told so.
#[derive(Debug)]
pub struct CommitFeed {
    shared: Arc<Shared>,
}

impl CommitFeed {
    /// Waits for commits and takes all there are; `None` when the store has closed and all were taken.
    pub async fn next(&mut self) -> Option<CommitBatch> {
        loop {
            let notified = self.shared.arrived.notified();
            {
                let mut queue = self.shared.lock();
                if queue.lagged || !queue.commits.is_empty() {
                    queue.weight_bytes = 0;
                    let commits = std::mem::take(&mut queue.commits).into();
                    return Some(CommitBatch { commits, lagged: std::mem::take(&mut queue.lagged) });
                }
                if queue.closed {
                    return None;
                }
            }
            notified.await;
        }
    }
}

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    arrived: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    commits: VecDeque<Commit>,
    weight_bytes: usize,
    lagged: bool,
    closed: bool,
}

impl Shared {
    /// A std mutex: held for a push or a swap, never across an await.
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The store's end of its feeds.
#[derive(Debug)]
pub struct FeedSender {
    feeds: Mutex<Vec<Weak<Shared>>>,
    limit_bytes: usize,
}

impl FeedSender {
    /// `limit_bytes`: how much a feed may hold before it drops what it has and reports a lag.
    pub fn new(limit_bytes: usize) -> Self {
        Self { feeds: Mutex::new(Vec::new()), limit_bytes }
    }

    /// A feed of what is sent from now on.
    pub fn subscribe(&self) -> CommitFeed {
        let shared = Arc::new(Shared { queue: Mutex::default(), arrived: Notify::new() });
        let mut feeds = self.lock();
        feeds.retain(|feed| feed.strong_count() > 0);
        feeds.push(Arc::downgrade(&shared));
        CommitFeed { shared }
    }

    /// Gives commits, in order, to every feed. Call only after they are durable.
    pub fn send(&self, commits: &[Commit]) {
        if commits.is_empty() {
            return;
        }
        let weight: usize = commits.iter().map(weight_bytes).sum();
        for feed in self.live() {
            let mut queue = feed.lock();
            if queue.weight_bytes + weight > self.limit_bytes {
                queue.commits.clear();
                queue.weight_bytes = 0;
                queue.lagged = true;
            } else {
                queue.commits.extend(commits.iter().cloned());
                queue.weight_bytes += weight;
            }
            drop(queue);
            feed.arrived.notify_one();
        }
    }

    /// Says that nothing more will come.
    pub fn close(&self) {
        for feed in self.live() {
            feed.lock().closed = true;
            feed.arrived.notify_one();
        }
    }

    fn live(&self) -> Vec<Arc<Shared>> {
        self.lock().iter().filter_map(Weak::upgrade).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Weak<Shared>>> {
        self.feeds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn weight_bytes(commit: &Commit) -> usize {
    size_of::<Commit>() + commit.events.iter().map(|event| event.weight_bytes()).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commit(head: Seq) -> Commit {
        let change = StatusMove { kind: "k".into(), tags: Arc::from([]), from: None, to: Some(TaskStatus::Pending) };
        Commit { task: TaskId::from_i64(1), head, events: Vec::new(), change }
    }

    #[tokio::test]
    async fn gives_commits_in_order_and_ends_when_the_store_closes() {
        let sender = FeedSender::new(1 << 20);
        let mut feed = sender.subscribe();
        sender.send(&[commit(1), commit(2)]);
        sender.send(&[commit(3)]);
        sender.close();
        let batch = feed.next().await.unwrap();
        assert_eq!(batch.commits.iter().map(|c| c.head).collect::<Vec<_>>(), [1, 2, 3]);
        assert!(!batch.lagged);
        assert!(feed.next().await.is_none());
    }

    #[tokio::test]
    async fn a_reader_that_is_late_is_told_so_and_memory_stays_bounded() {
        let sender = FeedSender::new(10 * size_of::<Commit>());
        let mut feed = sender.subscribe();
        for head in 1..=100 {
            sender.send(&[commit(head)]);
        }
        let batch = feed.next().await.unwrap();
        assert!(batch.lagged);
        assert!(batch.commits.len() <= 10);
        sender.send(&[commit(101)]);
        assert!(!feed.next().await.unwrap().lagged);
    }
}
