//! Which of a connection's many sources has something, so that only that one is polled.
//!
//! A connection is one task. Each of its operations, its reading, its writing and its deadlines are polled with a
//! waker of their own, which notes who woke and then wakes the task.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Wake, Waker},
};

use futures::task::AtomicWaker;

/// One source that woke, or not.
#[derive(Debug)]
pub(super) struct Source {
    flag: Arc<Flag>,
    waker: Waker,
}

#[derive(Debug)]
struct Flag {
    woken: AtomicBool,
    task: Arc<AtomicWaker>,
}

impl Source {
    /// One that counts as woken: it was never polled.
    pub(super) fn new(task: &Arc<AtomicWaker>) -> Self {
        let flag = Arc::new(Flag { woken: AtomicBool::new(true), task: task.clone() });
        Self { waker: Waker::from(flag.clone()), flag }
    }

    /// Whether it woke since this was last asked.
    pub(super) fn take(&self) -> bool {
        self.flag.woken.swap(false, Ordering::AcqRel)
    }

    /// To poll it with.
    pub(super) fn waker(&self) -> &Waker {
        &self.waker
    }
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.woken.swap(true, Ordering::AcqRel) {
            self.task.wake();
        }
    }
}

/// Operations that have something, first come first served.
#[derive(Debug, Default)]
pub(super) struct ReadyQueue {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Each slot stands here at most once.
    queue: Mutex<VecDeque<Arc<Slot>>>,
    task: Arc<AtomicWaker>,
}

/// An operation's place in the queue.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) index: usize,
    queued: AtomicBool,
    shared: Arc<Shared>,
}

impl ReadyQueue {
    /// The task that is woken.
    pub(super) fn task(&self) -> &Arc<AtomicWaker> {
        &self.shared.task
    }

    /// A place for an operation, which counts as ready: it was never polled.
    pub(super) fn add(&self, index: usize) -> Waker {
        let slot = Arc::new(Slot { index, queued: AtomicBool::new(true), shared: self.shared.clone() });
        self.shared.lock().push_back(slot.clone());
        Waker::from(slot)
    }

    /// The next that is ready. It must be polled, or pushed back.
    pub(super) fn pop(&self) -> Option<Arc<Slot>> {
        let slot = self.shared.lock().pop_front()?;
        slot.queued.store(false, Ordering::Release);
        Some(slot)
    }

    /// Puts one that may have more behind the others.
    pub(super) fn push(&self, slot: Arc<Slot>) {
        if !slot.queued.swap(true, Ordering::AcqRel) {
            self.shared.lock().push_back(slot);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.shared.lock().is_empty()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Arc<Slot>>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for Slot {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.queued.swap(true, Ordering::AcqRel) {
            self.shared.lock().push_back(self.clone());
            self.shared.task.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn a_slot_stands_in_the_queue_once_and_in_turn() {
        let (queue, count) = (ReadyQueue::default(), Arc::new(Count::default()));
        queue.task().register(&Waker::from(count.clone()));
        let wakers = [queue.add(0), queue.add(1)];
        let popped = || queue.pop().map(|slot| slot.index);
        assert_eq!((popped(), popped(), popped()), (Some(0), Some(1), None));
        wakers[1].wake_by_ref();
        wakers[1].wake_by_ref();
        wakers[0].wake_by_ref();
        assert_eq!(count.0.load(Ordering::SeqCst), 1);
        let slot = queue.pop().unwrap();
        assert_eq!(slot.index, 1);
        queue.push(slot);
        assert_eq!((popped(), popped(), popped()), (Some(0), Some(1), None));
    }

    #[test]
    fn a_source_wakes_the_task_once() {
        let (queue, count) = (ReadyQueue::default(), Arc::new(Count::default()));
        queue.task().register(&Waker::from(count.clone()));
        let source = Source::new(queue.task());
        assert!(source.take() && !source.take());
        source.waker().wake_by_ref();
        source.waker().wake_by_ref();
        assert_eq!(count.0.load(Ordering::SeqCst), 1);
        assert!(source.take() && !source.take());
    }
}
