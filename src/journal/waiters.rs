//! Whom to wake when a task moves.
//!
//! A waiter keeps its place from one wait to the next, so that what an event costs a waiter is being woken and nothing
//! else: no queue to join again, no lock, no memory of others that has to be fetched. Who is woken without reason
//! looks, and waits on.

use std::{fmt, sync::PoisonError, task::Waker};

use slab::Slab;

use crate::sync::{Mutex, MutexGuard};

/// How many are woken before the lock is taken again.
const WOKEN_AT_ONCE: usize = 64;

/// Those who want to be woken.
#[derive(Default)]
pub(super) struct Waiters {
    wakers: Mutex<Slab<Waker>>,
}

/// A waiter's place; to be given back with [`Waiters::leave`].
#[derive(Debug, Default)]
pub(super) struct Place {
    /// Its key, and who is woken.
    taken: Option<(usize, Waker)>,
}

impl fmt::Debug for Waiters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waiters").finish_non_exhaustive()
    }
}

impl Waiters {
    /// From here on every [`wake_all`](Self::wake_all) wakes `waker`. To be called before looking at what is waited for.
    pub(super) fn wait(&self, place: &mut Place, waker: &Waker) {
        match &mut place.taken {
            Some((_, known)) if known.will_wake(waker) => {}
            Some((key, known)) => {
                known.clone_from(waker);
                if let Some(kept) = self.lock().get_mut(*key) {
                    kept.clone_from(waker);
                }
            }
            none => *none = Some((self.lock().insert(waker.clone()), waker.clone())),
        }
    }

    /// Gives a place back.
    pub(super) fn leave(&self, place: &mut Place) {
        if let Some((key, _)) = place.taken.take() {
            // Dropped without the lock: that may be the last of what it wakes.
            let waker = self.lock().try_remove(key);
            drop(waker);
        }
    }

    /// Wakes everybody who waits now.
    pub(super) fn wake_all(&self) {
        let (mut first, mut woken) = (0, Vec::new());
        loop {
            {
                let wakers = self.lock();
                if first >= wakers.capacity() || wakers.is_empty() {
                    return;
                }
                woken.extend((first..first + WOKEN_AT_ONCE).filter_map(|key| wakers.get(key)).cloned());
            }
            // Without the lock: who is woken may look, come or leave at once.
            woken.drain(..).for_each(Waker::wake);
            first += WOKEN_AT_ONCE;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Slab<Waker>> {
        self.wakers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(all(test, not(feature = "shuttle")))]
mod tests {
    use futures_test::task::new_count_waker;

    use super::*;

    #[test]
    fn all_who_wait_are_woken_each_time_until_they_leave() {
        let waiters = Waiters::default();
        let (waker, count) = new_count_waker();
        let mut places: Vec<Place> = (0..3 * WOKEN_AT_ONCE + 1).map(|_| Place::default()).collect();
        for place in &mut places {
            waiters.wait(place, &waker);
            waiters.wait(place, &waker);
        }
        waiters.wake_all();
        waiters.wake_all();
        assert_eq!(count.get(), 2 * places.len());
        for place in &mut places[1..] {
            waiters.leave(place);
            waiters.leave(place);
        }
        waiters.wake_all();
        assert_eq!(count.get(), 2 * places.len() + 1);
        waiters.leave(&mut places[0]);
        assert!(waiters.lock().is_empty());
    }

    #[test]
    fn who_waits_elsewhere_is_woken_there() {
        let (waiters, mut place) = (Waiters::default(), Place::default());
        let ((before, woken_before), (after, woken_after)) = (new_count_waker(), new_count_waker());
        waiters.wait(&mut place, &before);
        waiters.wait(&mut place, &after);
        waiters.wake_all();
        assert_eq!((woken_before.get(), woken_after.get()), (0, 1));
    }
}
