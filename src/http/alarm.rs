use std::{
    task::{Context, Poll},
    time::Duration,
};

use futures::{FutureExt, future::BoxFuture};

use crate::clock::Clock;

/// A moment that may be set, and then comes.
#[derive(Default)]
pub(super) struct Alarm(Option<BoxFuture<'static, ()>>);

impl Alarm {
    pub(super) fn set(&mut self, clock: &dyn Clock, after: Duration) {
        self.0 = Some(clock.sleep(after));
    }

    pub(super) fn clear(&mut self) {
        self.0 = None;
    }

    pub(super) fn is_set(&self) -> bool {
        self.0.is_some()
    }

    /// Whether it has come; wakes `cx` when it does. It comes once.
    pub(super) fn has_come(&mut self, cx: &mut Context<'_>) -> bool {
        match self.0.as_mut().map(|sleep| sleep.poll_unpin(cx)) {
            Some(Poll::Ready(())) => {
                self.0 = None;
                true
            }
            Some(Poll::Pending) | None => false,
        }
    }
}
