//! Gives up on a source that takes too long for a row.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::{Stream, future::BoxFuture};

use super::{Row, SourceError, SourceInfo};
use crate::{clock::Clock, error::ErrorCode};

/// Rows, each within a time limit.
///
/// The limit covers the time somebody waits for a row, not the time between rows: a slow reader never
/// causes a timeout. After an error or the end the rows are dropped, so that their source stops at once.
pub(super) struct RowTimeout<S> {
    rows: Option<S>,
    clock: Arc<dyn Clock>,
    source: Arc<str>,
    timeout: Duration,
    /// Runs while a row is waited for.
    alarm: Option<BoxFuture<'static, ()>>,
}

impl<S> RowTimeout<S> {
    pub(super) fn new(rows: S, info: &SourceInfo, clock: Arc<dyn Clock>) -> Self {
        let timeout = Duration::from_millis(info.limits.timeout_ms);
        Self { rows: Some(rows), clock, source: info.name.clone(), timeout, alarm: None }
    }
}

impl<S> fmt::Debug for RowTimeout<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RowTimeout").field("source", &self.source).field("timeout", &self.timeout).finish()
    }
}

impl<S> Stream for RowTimeout<S>
where
    S: Stream<Item = Result<Row, SourceError>> + Unpin,
{
    type Item = S::Item;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<S::Item>> {
        let this = &mut *self;
        let Some(rows) = &mut this.rows else { return Poll::Ready(None) };
        if let Poll::Ready(item) = Pin::new(rows).poll_next(cx) {
            this.alarm = None;
            if !matches!(item, Some(Ok(_))) {
                this.rows = None;
            }
            return Poll::Ready(item);
        }
        let alarm = this.alarm.get_or_insert_with(|| this.clock.sleep(this.timeout));
        std::task::ready!(alarm.as_mut().poll(cx));
        this.alarm = None;
        this.rows = None;
        let message =
            format!("source `{}` gave no row within {} ms (its `timeout_ms`)", this.source, this.timeout.as_millis());
        Poll::Ready(Some(Err(SourceError::new(ErrorCode::Timeout, message))))
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt, SinkExt, StreamExt, channel::mpsc};

    use super::*;
    use crate::{
        clock::ManualClock,
        model::Json,
        source::{Gives, SourceLimits, SourceType},
    };

    type Item = Result<Row, SourceError>;

    fn limited() -> (mpsc::Sender<Item>, RowTimeout<mpsc::Receiver<Item>>, ManualClock) {
        let clock = ManualClock::new(chrono::DateTime::UNIX_EPOCH);
        let info = SourceInfo {
            name: "slow".into(),
            description: None,
            source_type: SourceType::Simulated,
            args: Vec::new(),
            limits: SourceLimits { timeout_ms: 100, ..SourceLimits::default() },
            gives: Gives::Rows,
        };
        let (sender, receiver) = mpsc::channel(1);
        (sender, RowTimeout::new(receiver, &info, Arc::new(clock.clone())), clock)
    }

    fn row() -> Item {
        Ok(Row { value: Json::null(), metadata: None })
    }

    #[test]
    fn a_row_that_does_not_come_is_a_timeout_and_the_source_is_dropped() {
        let (sender, mut rows, clock) = limited();
        assert!(rows.next().now_or_never().is_none());
        clock.advance(Duration::from_millis(100));
        let error = rows.next().now_or_never().unwrap().unwrap().unwrap_err();
        assert_eq!(error.code, ErrorCode::Timeout);
        assert!(error.message.contains("`slow`") && error.message.contains("100 ms"), "{error}");
        assert!(sender.is_closed());
        assert_eq!(rows.next().now_or_never(), Some(None));
    }

    #[test]
    fn every_row_has_the_whole_time() {
        let (mut sender, mut rows, clock) = limited();
        for _ in 0..3 {
            assert!(rows.next().now_or_never().is_none());
            clock.advance(Duration::from_millis(99));
            sender.send(row()).now_or_never().unwrap().unwrap();
            assert_eq!(rows.next().now_or_never(), Some(Some(row())));
        }
    }

    #[test]
    fn a_slow_reader_is_not_a_timeout() {
        let (mut sender, mut rows, clock) = limited();
        sender.send(row()).now_or_never().unwrap().unwrap();
        clock.advance(Duration::from_secs(10));
        assert_eq!(rows.next().now_or_never(), Some(Some(row())));
    }

    #[test]
    fn an_error_is_the_last_item() {
        let (mut sender, mut rows, _clock) = limited();
        let error = SourceError::new(ErrorCode::Unavailable, "gone");
        sender.send(Err(error.clone())).now_or_never().unwrap().unwrap();
        assert_eq!(rows.next().now_or_never(), Some(Some(Err(error))));
        assert_eq!(rows.next().now_or_never(), Some(None));
    }
}
