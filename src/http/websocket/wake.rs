//! Which of a connection's many sources has something, so that only that one is polled.
//!
//! A connection is one task. Each of its operations, its reading, its writing and its deadlines are polled with a
//! waker of their own, which notes who woke and then wakes the task.
//!
//! With thousands of connections, what an event costs is above all the memory that has to be fetched for each of them:
//! so what is looked at each time stands together in one place.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Wake, Waker},
};

use futures::task::AtomicWaker;

/// What wakes a connection beside its operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// A message of the client.
    Reading,
    /// Room for what is to be sent.
    Writing,
    /// Deadlines, admission, the server's end.
    Control,
}

/// Who woke. All clones are one.
#[derive(Debug, Clone, Default)]
pub(super) struct Wakes {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    task: AtomicWaker,
    /// By [`Source`].
    woken: [AtomicBool; 3],
    ready: Mutex<Ready>,
}

/// Operations that have something, first come first served. Each stands here at most once.
#[derive(Debug, Default)]
struct Ready {
    /// Before the others: mostly there is one.
    first: Option<Arc<Slot>>,
    others: VecDeque<Arc<Slot>>,
    /// Nobody polls any more.
    closed: bool,
}

/// An operation's place in the queue.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) index: usize,
    queued: AtomicBool,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct SourceWaker {
    source: Source,
    shared: Arc<Shared>,
}

impl Wakes {
    /// Whom to wake.
    pub(super) fn register(&self, task: &Waker) {
        self.shared.task.register(task);
    }

    /// A waker for a source, which counts as woken: it was never polled.
    pub(super) fn waker(&self, source: Source) -> Waker {
        self.shared.woken[source as usize].store(true, Ordering::Release);
        Waker::from(Arc::new(SourceWaker { source, shared: self.shared.clone() }))
    }

    /// Whether a source woke since this was last asked.
    pub(super) fn take(&self, source: Source) -> bool {
        let woken = &self.shared.woken[source as usize];
        woken.load(Ordering::Acquire) && woken.swap(false, Ordering::AcqRel)
    }

    /// A place for an operation, which counts as ready: it was never polled.
    pub(super) fn add(&self, index: usize) -> Waker {
        let slot = Arc::new(Slot { index, queued: AtomicBool::new(true), shared: self.shared.clone() });
        self.shared.lock().push(slot.clone());
        Waker::from(slot)
    }

    /// The next that is ready. It must be polled, or pushed back.
    pub(super) fn pop(&self) -> Option<Arc<Slot>> {
        let slot = self.shared.lock().pop()?;
        slot.queued.store(false, Ordering::Release);
        Some(slot)
    }

    /// Puts one that may have more behind the others.
    pub(super) fn push(&self, slot: Arc<Slot>) {
        if !slot.queued.swap(true, Ordering::AcqRel) {
            self.shared.lock().push(slot);
        }
    }

    /// Forgets what is ready, and what will be.
    pub(super) fn close(&self) {
        let mut ready = self.shared.lock();
        *ready = Ready { closed: true, ..Ready::default() };
    }

    /// Whether no operation is ready.
    pub(super) fn is_empty(&self) -> bool {
        self.shared.lock().is_empty()
    }
}

impl Ready {
    fn push(&mut self, slot: Arc<Slot>) {
        if self.closed {
            // A slot holds what it would stand in: neither would be freed.
        } else if self.is_empty() {
            self.first = Some(slot);
        } else {
            self.others.push_back(slot);
        }
    }

    fn pop(&mut self) -> Option<Arc<Slot>> {
        self.first.take().or_else(|| self.others.pop_front())
    }

    fn is_empty(&self) -> bool {
        self.first.is_none() && self.others.is_empty()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Ready> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for SourceWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.shared.woken[self.source as usize].swap(true, Ordering::AcqRel) {
            self.shared.task.wake();
        }
    }
}

impl Wake for Slot {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.queued.swap(true, Ordering::AcqRel) {
            self.shared.lock().push(self.clone());
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
        let (queue, count) = (Wakes::default(), Arc::new(Count::default()));
        queue.register(&Waker::from(count.clone()));
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
    fn what_is_closed_is_freed_even_if_it_is_woken_later() {
        let queue = Wakes::default();
        let wakers = [queue.add(0), queue.add(1)];
        queue.close();
        while queue.pop().is_some() {}
        wakers.iter().for_each(Waker::wake_by_ref);
        let shared = Arc::downgrade(&queue.shared);
        drop((queue, wakers));
        assert!(shared.upgrade().is_none());
    }

    #[test]
    fn a_source_wakes_the_task_once() {
        let (queue, count) = (Wakes::default(), Arc::new(Count::default()));
        queue.register(&Waker::from(count.clone()));
        let waker = queue.waker(Source::Reading);
        assert!(queue.take(Source::Reading) && !queue.take(Source::Reading));
        waker.wake_by_ref();
        waker.wake_by_ref();
        assert_eq!(count.0.load(Ordering::SeqCst), 1);
        assert!(!queue.take(Source::Control) && queue.take(Source::Reading) && !queue.take(Source::Reading));
    }
}
