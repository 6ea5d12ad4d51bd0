//! Time, passed in, so that tests decide what time it is.

use std::{
    collections::BinaryHeap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use futures::future::BoxFuture;
use tokio::sync::oneshot;

/// Where the program gets time from. [`SystemClock`] outside tests.
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// The time of day, to the millisecond: what is stored and shown.
    fn now(&self) -> DateTime<Utc>;

    /// Time since some fixed moment; never goes back. For measuring how long something took.
    fn elapsed(&self) -> Duration;

    /// Ends when this much time has passed on this clock.
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()>;
}

/// The machine's clock.
#[derive(Debug)]
pub struct SystemClock {
    origin: Instant,
}

impl Default for SystemClock {
    fn default() -> Self {
        Self { origin: Instant::now() }
    }
}

#[allow(clippy::disallowed_methods, reason = "the one place where time comes in")]
impl Clock for SystemClock {
    fn now(&self) -> DateTime<Utc> {
        to_ms(Utc::now())
    }

    fn elapsed(&self) -> Duration {
        self.origin.elapsed()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(duration))
    }
}

/// Cuts a time to whole milliseconds, the precision in which times are stored.
fn to_ms(time: DateTime<Utc>) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(time.timestamp_millis()).unwrap_or_default()
}

/// A clock that stands still until it is told to go on: for tests.
#[derive(Debug, Clone)]
pub struct ManualClock {
    state: Arc<Mutex<ManualState>>,
}

#[derive(Debug)]
struct ManualState {
    start: DateTime<Utc>,
    elapsed: Duration,
    sleepers: BinaryHeap<Sleeper>,
}

#[derive(Debug)]
struct Sleeper {
    until: Duration,
    wake: oneshot::Sender<()>,
}

impl PartialEq for Sleeper {
    fn eq(&self, other: &Self) -> bool {
        self.until == other.until
    }
}
impl Eq for Sleeper {}
impl PartialOrd for Sleeper {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Sleeper {
    /// Reversed: the heap gives the earliest first.
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        other.until.cmp(&self.until)
    }
}

impl ManualClock {
    /// A clock that shows `start` until it is advanced.
    pub fn new(start: DateTime<Utc>) -> Self {
        let state = ManualState { start: to_ms(start), elapsed: Duration::ZERO, sleepers: BinaryHeap::new() };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// Lets time pass, and wakes those whose sleep is over, earliest first.
    pub fn advance(&self, by: Duration) {
        let mut state = self.lock();
        state.elapsed += by;
        while state.sleepers.peek().is_some_and(|sleeper| sleeper.until <= state.elapsed) {
            if let Some(sleeper) = state.sleepers.pop() {
                // A sleeper that was dropped meanwhile does not care.
                let _ = sleeper.wake.send(());
            }
        }
    }

    /// How long until the next sleeper wakes; `None` when nobody sleeps.
    pub fn next_wake(&self) -> Option<Duration> {
        let mut state = self.lock();
        while state.sleepers.peek().is_some_and(|sleeper| sleeper.wake.is_closed()) {
            state.sleepers.pop();
        }
        state.sleepers.peek().map(|sleeper| sleeper.until - state.elapsed)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, ManualState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock for ManualClock {
    fn now(&self) -> DateTime<Utc> {
        let state = self.lock();
        to_ms(state.start + state.elapsed)
    }

    fn elapsed(&self) -> Duration {
        self.lock().elapsed
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        let (wake, woken) = oneshot::channel();
        let mut state = self.lock();
        let until = state.elapsed + duration;
        if duration.is_zero() {
            return Box::pin(std::future::ready(()));
        }
        state.sleepers.push(Sleeper { until, wake });
        Box::pin(async move {
            let _ = woken.await;
        })
    }
}
