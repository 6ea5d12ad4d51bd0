//! The attempts under way, and how many more may begin.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio_util::sync::CancellationToken;

use crate::{
    model::TaskId,
    store::{AttemptRef, Room},
};

/// Attempts begun with one claim: keeps a transaction short.
const CLAIM_BATCH: usize = 256;

/// How to reach an attempt that is under way.
#[derive(Debug, Clone)]
pub(super) struct Running {
    /// Tells the handler to stop, whatever for.
    pub(super) stop: CancellationToken,
    /// Somebody asked for the task to be cancelled; tells the handler, too.
    pub(super) cancel: CancellationToken,
    /// How long the handler may then go on.
    pub(super) cancel_grace_ms: u64,
    /// Others may wait for this attempt's place, though there is room for more.
    limited: bool,
    is_ending: bool,
}

impl Running {
    pub(super) fn new(cancel_grace_ms: u64, limited: bool) -> Self {
        let cancel = CancellationToken::new();
        Self { stop: cancel.child_token(), cancel, cancel_grace_ms, limited, is_ending: false }
    }
}

/// An attempt is under way from its claim until its end is on disk. Its handler gives its place to the next one when it
/// ends: many ends and the next claim then go to the disk together. As many attempts as may run may be ending.
#[derive(Debug)]
pub(super) struct UnderWay {
    /// Handlers that may run at once.
    concurrency: usize,
    room: Room,
    attempts: Mutex<Attempts>,
}

#[derive(Debug, Default)]
struct Attempts {
    by_task: HashMap<TaskId, (AttemptRef, Running)>,
    ending: usize,
}

impl UnderWay {
    pub(super) fn new(concurrency: usize) -> Self {
        let under_way = Self { concurrency: concurrency.max(1), room: Room::default(), attempts: Mutex::default() };
        under_way.make_room(&under_way.lock());
        under_way
    }

    /// How many more may begin, in one claim.
    pub(super) fn room(&self) -> &Room {
        &self.room
    }

    /// An attempt has begun.
    pub(super) fn enter(&self, by: AttemptRef, running: Running) {
        let mut attempts = self.lock();
        // An earlier one of the same task may not have left yet.
        attempts.remove(by.task);
        attempts.by_task.insert(by.task, (by, running));
        self.make_room(&attempts);
    }

    /// An attempt's handler has ended. Whether others may wait for that.
    pub(super) fn ending(&self, by: AttemptRef) -> bool {
        let mut attempts = self.lock();
        let Some(running) = attempts.current(by) else { return false };
        let was_ending = std::mem::replace(&mut running.is_ending, true);
        attempts.ending += usize::from(!was_ending);
        self.make_room(&attempts)
    }

    /// An attempt has ended. Whether others may wait for that. A later one of the same task may have begun already.
    pub(super) fn leave(&self, by: AttemptRef) -> bool {
        let mut attempts = self.lock();
        if attempts.current(by).is_none() {
            return false;
        }
        let limited = attempts.remove(by.task).is_some_and(|left| left.limited);
        self.make_room(&attempts) || limited
    }

    /// Tells a task's handler, if it runs, that it is to stop.
    pub(super) fn cancel(&self, task: TaskId) {
        if let Some((_, running)) = self.lock().by_task.get(&task) {
            running.cancel.cancel();
        }
    }

    /// Whether there was none before.
    fn make_room(&self, attempts: &Attempts) -> bool {
        let had_none = self.room.get() == 0;
        let most = (self.concurrency + attempts.ending).min(2 * self.concurrency);
        self.room.set(most.saturating_sub(attempts.by_task.len()).min(CLAIM_BATCH));
        had_none
    }

    /// A std mutex: held for a look-up, never across an await.
    fn lock(&self) -> MutexGuard<'_, Attempts> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Attempts {
    fn current(&mut self, by: AttemptRef) -> Option<&mut Running> {
        self.by_task.get_mut(&by.task).filter(|(current, _)| *current == by).map(|(_, running)| running)
    }

    fn remove(&mut self, task: TaskId) -> Option<Running> {
        let (_, running) = self.by_task.remove(&task)?;
        self.ending -= usize::from(running.is_ending);
        Some(running)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt(task: i64, attempt: u32) -> AttemptRef {
        AttemptRef { task: TaskId::from_i64(task), attempt, session: 1 }
    }

    fn enter(under_way: &UnderWay, by: AttemptRef) {
        under_way.enter(by, Running::new(0, false));
    }

    #[test]
    fn a_handler_that_ends_makes_room_before_its_end_is_on_disk() {
        let under_way = UnderWay::new(2);
        assert_eq!(under_way.room().get(), 2);
        enter(&under_way, attempt(1, 1));
        enter(&under_way, attempt(2, 1));
        assert_eq!(under_way.room().get(), 0);
        assert!(under_way.ending(attempt(1, 1)), "somebody may wait for this place");
        assert_eq!(under_way.room().get(), 1);
        assert!(!under_way.ending(attempt(2, 1)), "there was a place before");
        assert_eq!(under_way.room().get(), 2);
        assert!(!under_way.leave(attempt(1, 1)));
        assert_eq!(under_way.room().get(), 2);
    }

    #[test]
    fn no_more_are_ending_than_may_run() {
        let under_way = UnderWay::new(2);
        for task in 1..=4 {
            enter(&under_way, attempt(task, 1));
            under_way.ending(attempt(task, 1));
        }
        assert_eq!(under_way.room().get(), 0);
        assert!(under_way.leave(attempt(1, 1)), "others wait until an end is on disk");
        assert_eq!(under_way.room().get(), 1);
    }

    #[test]
    fn a_later_attempt_of_the_same_task_is_left_alone_by_an_earlier_one() {
        let under_way = UnderWay::new(2);
        enter(&under_way, attempt(1, 1));
        under_way.ending(attempt(1, 1));
        enter(&under_way, attempt(1, 2));
        assert!(!under_way.leave(attempt(1, 1)));
        assert_eq!(under_way.room().get(), 1);
        under_way.leave(attempt(1, 2));
        assert_eq!(under_way.room().get(), 2);
    }

    #[test]
    fn whoever_is_limited_in_another_way_lets_others_look() {
        let under_way = UnderWay::new(2);
        under_way.enter(attempt(1, 1), Running::new(0, true));
        assert!(under_way.leave(attempt(1, 1)));
    }
}
