//! Stopping: first softly, then hard.
//!
//! ```text
//! running --first signal--> soft: accept nothing new, let work finish
//!                             |-- deadline passed, or second signal --> hard: cancel what still runs
//!                             `-- everything finished --> gone
//! ```

use std::{io, sync::Arc, time::Duration};

use futures::{Stream, StreamExt, future::BoxFuture, stream::BoxStream};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;

/// Tells everyone to stop, and lets everyone know. Cloning is cheap; all clones are one.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    soft: CancellationToken,
    hard: CancellationToken,
}

impl Shutdown {
    /// Of something that runs.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks to stop: nothing new is accepted, and what runs may finish.
    pub fn request(&self) {
        self.soft.cancel();
    }

    /// Asks to stop now: what runs is cancelled.
    pub fn hurry(&self) {
        self.soft.cancel();
        self.hard.cancel();
    }

    /// Cancelled as soon as nothing new should be accepted.
    pub fn soft(&self) -> &CancellationToken {
        &self.soft
    }

    /// Cancelled as soon as what still runs should end. The soft token is then cancelled too.
    pub fn hard(&self) -> &CancellationToken {
        &self.hard
    }

    /// Turns signals into requests: the first asks to stop, the second hurries. `deadline` after the first
    /// request, whoever made it, it hurries by itself. Ends when there is nothing left to ask for.
    pub async fn watch(self, signals: impl Stream<Item = ()>, deadline: Duration, clock: Arc<dyn Clock>) {
        // A stream of signals that ends is no signal.
        let mut signals = std::pin::pin!(signals.chain(futures::stream::pending()));
        tokio::select! {
            _ = signals.next() => self.request(),
            () = self.soft.cancelled() => {}
        }
        tracing::info!("stopping: running work may finish within {} ms; a second signal hurries", deadline.as_millis());
        let over: BoxFuture<'_, ()> = clock.sleep(deadline);
        tokio::select! {
            _ = signals.next() => tracing::info!("stopping now: a second signal came"),
            () = over => tracing::info!("stopping now: the deadline has passed"),
            () = self.hard.cancelled() => {}
        }
        self.hurry();
    }
}

/// SIGTERM and Ctrl-C, each time one comes. From the first call on they no longer end the process by
/// themselves.
#[cfg(unix)]
pub fn signals() -> io::Result<BoxStream<'static, ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut kinds = [signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?];
    let any = move |cx: &mut std::task::Context<'_>| {
        let came = kinds.iter_mut().any(|kind| kind.poll_recv(cx).is_ready());
        if came { std::task::Poll::Ready(Some(())) } else { std::task::Poll::Pending }
    };
    Ok(futures::stream::poll_fn(any).boxed())
}

/// Ctrl-C, each time it comes.
#[cfg(not(unix))]
pub fn signals() -> io::Result<BoxStream<'static, ()>> {
    let ctrl_c = futures::stream::repeat(()).then(|()| async {
        // Without a handler there is no signal.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    });
    Ok(ctrl_c.boxed())
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt, channel::mpsc};

    use super::*;
    use crate::clock::ManualClock;

    const DEADLINE: Duration = Duration::from_secs(10);

    struct Watched {
        shutdown: Shutdown,
        signals: mpsc::UnboundedSender<()>,
        clock: ManualClock,
        watch: BoxFuture<'static, ()>,
    }

    impl Watched {
        fn new() -> Self {
            let clock = ManualClock::new(chrono::DateTime::UNIX_EPOCH);
            let (sender, receiver) = mpsc::unbounded();
            let shutdown = Shutdown::new();
            let watch = shutdown.clone().watch(receiver, DEADLINE, Arc::new(clock.clone())).boxed();
            Self { shutdown, signals: sender, clock, watch }
        }

        /// Lets it notice what happened; whether soft and hard are asked for, and whether it has ended.
        fn state(&mut self) -> (bool, bool, bool) {
            let ended = (&mut self.watch).now_or_never().is_some();
            (self.shutdown.soft().is_cancelled(), self.shutdown.hard().is_cancelled(), ended)
        }
    }

    #[test]
    fn the_first_signal_asks_and_the_second_hurries() {
        let mut watched = Watched::new();
        assert_eq!(watched.state(), (false, false, false));
        watched.signals.unbounded_send(()).unwrap();
        assert_eq!(watched.state(), (true, false, false));
        watched.signals.unbounded_send(()).unwrap();
        assert_eq!(watched.state(), (true, true, true));
    }

    #[test]
    fn the_deadline_hurries() {
        let mut watched = Watched::new();
        watched.clock.advance(DEADLINE * 2);
        assert_eq!(watched.state(), (false, false, false));
        watched.signals.unbounded_send(()).unwrap();
        assert_eq!(watched.state(), (true, false, false));
        watched.clock.advance(DEADLINE - Duration::from_millis(1));
        assert_eq!(watched.state(), (true, false, false));
        watched.clock.advance(Duration::from_millis(1));
        assert_eq!(watched.state(), (true, true, true));
    }

    #[test]
    fn a_request_without_a_signal_has_the_same_deadline() {
        let mut watched = Watched::new();
        watched.shutdown.request();
        assert_eq!(watched.state(), (true, false, false));
        watched.clock.advance(DEADLINE);
        assert_eq!(watched.state(), (true, true, true));
    }

    #[test]
    fn signals_that_end_are_no_signal() {
        let mut watched = Watched::new();
        watched.signals.close_channel();
        assert_eq!(watched.state(), (false, false, false));
    }
}
