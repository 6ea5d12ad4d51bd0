//! The newest events of followed tasks, in memory.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, PoisonError, Weak},
    task::Waker,
};

use tokio::sync::Mutex as AsyncMutex;

use super::waiters::{Place, Waiters};
use crate::{
    model::{Event, Seq, TaskId},
    store::Commit,
    sync::{Mutex, MutexGuard},
};

/// The tasks that somebody follows.
#[derive(Debug)]
pub(super) struct Live {
    registry: Arc<Mutex<Registry>>,
}

#[derive(Debug, Default)]
struct Registry {
    /// With how many follow each.
    tasks: HashMap<TaskId, (Arc<LiveTask>, usize)>,
    closed: bool,
}

/// A followed task: what is known of it, and whom to wake when it moves.
#[derive(Debug)]
pub(super) struct LiveTask {
    tail: Mutex<Tail>,
    waiters: Waiters,
    /// Held by the one who asks the store where the task stands, for all who want to know.
    pub(super) asking: AsyncMutex<()>,
}

#[derive(Debug, Default)]
struct Tail {
    /// Without holes; the last one is the task's newest, when there are any.
    events: VecDeque<Arc<Event>>,
    /// `seq` of the newest event; `None`: not known, ask the store.
    head: Option<Seq>,
    /// The newest event ended the task.
    ended: bool,
    /// How often commits were missed: what was asked of the store before is no longer enough.
    missed: u64,
    deleted: bool,
    closed: bool,
}

/// What a reader who expects a certain event finds.
pub(super) enum Look {
    /// That event, and perhaps some after it.
    Events,
    /// It happened, but is not in memory. The newest is `head`.
    Stored { head: Seq },
    /// It has not happened yet. The newest is `head`.
    Ahead { head: Seq, ended: bool },
    /// Nobody has asked the store yet where the task stands.
    Unknown,
    /// The task was deleted.
    Deleted,
    /// The store was closed.
    Closed,
}

/// Keeps a task followed while it lives.
#[derive(Debug)]
pub(super) struct Registration {
    pub(super) task: Arc<LiveTask>,
    place: Place,
    id: TaskId,
    registry: Arc<Mutex<Registry>>,
}

impl Registration {
    /// From here on whatever moves the task wakes `waker`. To be called before a look.
    pub(super) fn wait(&mut self, waker: &Waker) {
        self.task.waiters.wait(&mut self.place, waker);
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.task.waiters.leave(&mut self.place);
        let mut registry = lock(&self.registry);
        if let Some((_, followers)) = registry.tasks.get_mut(&self.id) {
            *followers -= 1;
            if *followers == 0 {
                registry.tasks.remove(&self.id);
            }
        }
    }
}

impl Live {
    pub(super) fn new() -> Self {
        Self { registry: Arc::default() }
    }

    /// Registers interest. From here on no event of the task is missed.
    pub(super) fn register(&self, id: TaskId) -> Registration {
        let mut registry = lock(&self.registry);
        let closed = registry.closed;
        let (task, followers) = registry.tasks.entry(id).or_insert_with(|| {
            let tail = Tail { closed, ..Tail::default() };
            let task = LiveTask { tail: Mutex::new(tail), waiters: Waiters::default(), asking: AsyncMutex::new(()) };
            (Arc::new(task), 0)
        });
        *followers += 1;
        let task = task.clone();
        Registration { task, place: Place::default(), id, registry: self.registry.clone() }
    }

    /// Takes in a commit; wakes the task's followers, if it has any.
    pub(super) fn push(&self, commit: Commit, budget: &mut Budget) {
        let Some(task) = lock(&self.registry).tasks.get(&commit.task).map(|(task, _)| task.clone()) else { return };
        {
            let mut tail = task.lock();
            if commit.change.to.is_none() {
                tail.deleted = true;
            }
            let known = tail.head;
            // A commit that was still on its way when the store was asked says nothing new.
            if !tail.deleted && known.is_some_and(|known| commit.head <= known) {
                return;
            }
            tail.ended = commit.change.to.is_some_and(|status| status.is_terminal());
            if commit.events.first().is_none_or(|event| known != Some(event.seq - 1)) {
                tail.events.clear();
            }
            tail.head = Some(commit.head);
            for event in commit.events {
                budget.add(&task, &event);
                tail.events.push_back(event);
            }
        }
        task.waiters.wake_all();
        budget.keep();
    }

    /// Commits were missed: nothing that memory says about any task holds any more.
    pub(super) fn forget(&self) {
        self.each(|tail| {
            tail.events.clear();
            tail.head = None;
            tail.missed += 1;
        });
    }

    /// The store was closed: no more commits will come.
    pub(super) fn close(&self) {
        lock(&self.registry).closed = true;
        self.each(|tail| tail.closed = true);
    }

    fn each(&self, change: impl Fn(&mut Tail)) {
        let tasks: Vec<_> = lock(&self.registry).tasks.values().map(|(task, _)| task.clone()).collect();
        for task in tasks {
            change(&mut task.lock());
            task.waiters.wake_all();
        }
    }
}

impl LiveTask {
    /// What there is for a reader whose next event is `expected`; at most `limit` events are put into `found`.
    pub(super) fn look(&self, expected: Seq, limit: usize, found: &mut VecDeque<Arc<Event>>) -> Look {
        let tail = self.lock();
        if tail.deleted {
            return Look::Deleted;
        }
        let Some(head) = tail.head else {
            return if tail.closed { Look::Closed } else { Look::Unknown };
        };
        if expected > head {
            return if tail.closed && !tail.ended { Look::Closed } else { Look::Ahead { head, ended: tail.ended } };
        }
        let first = tail.events.front().map(|event| event.seq);
        match first.and_then(|first| expected.checked_sub(first)) {
            Some(skip) => {
                let skip = usize::try_from(skip).unwrap_or(usize::MAX);
                found.extend(tail.events.range(skip.min(tail.events.len())..).take(limit).cloned());
                Look::Events
            }
            None => Look::Stored { head },
        }
    }

    /// How often commits were missed: to be taken before the store is asked.
    pub(super) fn missed(&self) -> u64 {
        self.lock().missed
    }

    /// Takes in what the store said; later commits may have come in meanwhile. If some were missed since `missed` was
    /// taken, the store may have been asked before them, and has to be asked again.
    pub(super) fn learn(&self, missed: u64, head: Seq, ended: bool) {
        {
            let mut tail = self.lock();
            if tail.missed != missed {
                return;
            }
            if tail.head.is_none_or(|known| known < head) {
                tail.events.clear();
                tail.head = Some(head);
            }
            tail.ended |= ended;
        }
        // Others may wait for what this tells: the commits that are still to come say nothing new then, and wake nobody.
        self.waiters.wake_all();
    }

    /// A std mutex: held to copy a few pointers, never across an await.
    fn lock(&self) -> MutexGuard<'_, Tail> {
        lock(&self.tail)
    }
}

/// The bytes of live memory, of all tasks together. Owned by the one task that adds to it.
#[derive(Debug)]
pub(super) struct Budget {
    limit_bytes: usize,
    used_bytes: usize,
    /// Every event added, oldest first.
    added: VecDeque<(Weak<LiveTask>, Seq, usize)>,
}

impl Budget {
    pub(super) fn new(limit_bytes: usize) -> Self {
        Self { limit_bytes, used_bytes: 0, added: VecDeque::new() }
    }

    fn add(&mut self, task: &Arc<LiveTask>, event: &Event) {
        let bytes = event.weight_bytes();
        self.used_bytes += bytes;
        self.added.push_back((Arc::downgrade(task), event.seq, bytes));
    }

    /// Drops the oldest events until the rest fits; readers that are behind find them in the store.
    fn keep(&mut self) {
        while self.used_bytes > self.limit_bytes {
            let Some((task, seq, bytes)) = self.added.pop_front() else { break };
            self.used_bytes -= bytes;
            if let Some(task) = task.upgrade() {
                let mut tail = task.lock();
                if tail.events.front().is_some_and(|event| event.seq == seq) {
                    tail.events.pop_front();
                }
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(all(test, not(feature = "shuttle")))]
mod tests {
    use futures_test::task::new_count_waker;

    use super::*;
    use crate::{model::TaskStatus, store::StatusMove};

    fn commit(head: Seq) -> Commit {
        let (from, to) = (Some(TaskStatus::Running), Some(TaskStatus::Running));
        let change = StatusMove { kind: "k".into(), tags: Arc::from([]), from, to };
        Commit { task: TaskId::from_i64(1), head, events: Vec::new(), change }
    }

    #[test]
    fn what_one_learns_from_the_store_wakes_those_who_wait() {
        let live = Live::new();
        let mut waiting = live.register(TaskId::from_i64(1));
        let asking = live.register(TaskId::from_i64(1));
        live.push(commit(4), &mut Budget::new(1 << 20));
        let (waker, woken) = new_count_waker();
        waiting.wait(&waker);
        // It asked before that commit, and heard of later ones, whose signals are still to come and say nothing new.
        asking.task.learn(asking.task.missed(), 12, true);
        assert_eq!(woken.get(), 1);
        live.push(commit(12), &mut Budget::new(1 << 20));
        assert!(matches!(waiting.task.look(13, 9, &mut VecDeque::new()), Look::Ahead { head: 12, ended: true }));
    }

    #[test]
    fn what_the_store_said_before_commits_were_missed_is_not_believed() {
        let live = Live::new();
        let asking = live.register(TaskId::from_i64(1));
        let before = asking.task.missed();
        live.forget();
        asking.task.learn(before, 5, false);
        assert!(
            matches!(asking.task.look(6, 9, &mut VecDeque::new()), Look::Unknown),
            "later events would never be told"
        );
    }

    #[test]
    fn a_task_that_nobody_follows_any_more_is_forgotten() {
        let live = Live::new();
        let (one, other) = (live.register(TaskId::from_i64(1)), live.register(TaskId::from_i64(1)));
        drop(one);
        assert_eq!(lock(&live.registry).tasks.len(), 1);
        drop(other);
        assert_eq!(lock(&live.registry).tasks.len(), 0);
    }
}
