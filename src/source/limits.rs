//! Keeps sources within their limits, whatever they are.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures::{Stream, StreamExt, future::BoxFuture, stream::BoxStream};
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

use super::{Args, Row, Source, SourceError, SourceInfo, timeout::RowTimeout};
use crate::clock::Clock;

/// What one source may take and give.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceLimits {
    /// How long the first row, and each row after it, may take, in milliseconds.
    pub timeout_ms: u64,
    /// Rows of one read.
    pub max_rows: u64,
    /// JSON text of all rows of one read, in bytes.
    pub max_bytes: u64,
    /// Reads at the same time; others wait, within `timeout_ms`.
    pub concurrency: usize,
}

impl Default for SourceLimits {
    fn default() -> Self {
        Self { timeout_ms: 10_000, max_rows: 10_000_000, max_bytes: 1 << 30, concurrency: 64 }
    }
}

/// A source that is kept within its limits: args are checked, reads wait for their turn, and a row that is late or
/// one too many ends the read with an error.
pub struct Limited<S: ?Sized = dyn Source> {
    clock: Arc<dyn Clock>,
    turns: Arc<Semaphore>,
    source: S,
}

impl<S: Source> Limited<S> {
    /// Within the limits that the source's own [`SourceInfo`] names.
    pub fn new(source: S, clock: Arc<dyn Clock>) -> Self {
        let turns = Arc::new(Semaphore::new(source.info().limits.concurrency.clamp(1, Semaphore::MAX_PERMITS)));
        Self { clock, turns, source }
    }
}

impl<S: Source + ?Sized> Limited<S> {
    /// What it is, for the API.
    pub fn info(&self) -> &SourceInfo {
        self.source.info()
    }

    /// Args as the source takes them: checked, and with its defaults.
    pub fn resolve(&self, args: Args) -> Result<Args, SourceError> {
        let info = self.info();
        args.resolve(&format!("source `{}`", info.name), &info.args)
    }

    /// Begins to read. Rows come one at a time, when asked for; an error is the stream's last item. Args that do not
    /// fit are reported at once.
    pub fn read(&self, args: Args) -> Result<BoxStream<'static, Result<Row, SourceError>>, SourceError> {
        let args = self.resolve(args)?;
        let info = self.info();
        let rows = LimitedRows {
            turn: Turn::Waiting(Box::pin(self.turns.clone().acquire_owned())),
            rows: self.source.read(args)?,
            source: info.name.clone(),
            limits: info.limits.clone(),
            count: 0,
            bytes: 0,
        };
        Ok(RowTimeout::new(rows, info, self.clock.clone()).boxed())
    }

    /// The source itself.
    pub fn inner(&self) -> &S {
        &self.source
    }
}

impl<S: Source + ?Sized> fmt::Debug for Limited<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&&self.source, f)
    }
}

enum Turn {
    Waiting(BoxFuture<'static, Result<OwnedSemaphorePermit, AcquireError>>),
    /// Given back when the rows are dropped.
    Taken(#[allow(dead_code, reason = "held")] OwnedSemaphorePermit),
}

/// The rows of one read, counted.
struct LimitedRows {
    // Dropped before the turn is given back.
    rows: BoxStream<'static, Result<Row, SourceError>>,
    turn: Turn,
    source: Arc<str>,
    limits: SourceLimits,
    count: u64,
    bytes: u64,
}

impl LimitedRows {
    fn count(&mut self, row: &Row) -> Result<(), SourceError> {
        let SourceLimits { max_rows, max_bytes, .. } = self.limits;
        self.count += 1;
        self.bytes += (row.value.len() + row.metadata.as_ref().map_or(0, |metadata| metadata.len())) as u64;
        if self.count > max_rows {
            return Err(SourceError::limit(&self.source, "max_rows", format!("{max_rows} rows")));
        }
        if self.bytes > max_bytes {
            return Err(SourceError::limit(&self.source, "max_bytes", format!("{max_bytes} bytes")));
        }
        Ok(())
    }
}

impl Stream for LimitedRows {
    type Item = Result<Row, SourceError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if let Turn::Waiting(turn) = &mut this.turn {
            // It is never closed.
            let Ok(turn) = ready!(turn.as_mut().poll(cx)) else { return Poll::Ready(None) };
            this.turn = Turn::Taken(turn);
        }
        let row = ready!(this.rows.poll_next_unpin(cx));
        Poll::Ready(row.map(|row| row.and_then(|row| this.count(&row).map(|()| row))))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::FutureExt;

    use super::*;
    use crate::{
        clock::ManualClock,
        error::ErrorCode,
        model::Json,
        source::simulated::{SimulatedOptions, SimulatedSource, SimulatedValue},
    };

    fn limited(change: impl FnOnce(&mut SimulatedOptions)) -> (Limited<SimulatedSource>, ManualClock) {
        let clock = ManualClock::new(chrono::DateTime::UNIX_EPOCH);
        let shared: Arc<dyn Clock> = Arc::new(clock.clone());
        let value = SimulatedValue::Fixed(Json::parse("\"12345678\"").unwrap());
        let mut options = SimulatedOptions { rows: 100, value, ..SimulatedOptions::default() };
        change(&mut options);
        let random = rand::SeedableRng::seed_from_u64(1);
        (Limited::new(SimulatedSource::new("many", options, shared.clone(), random).unwrap(), shared), clock)
    }

    fn read_all(source: &Limited<SimulatedSource>) -> (usize, Option<SourceError>) {
        let rows: Vec<_> = source.read(Args::none()).unwrap().collect().now_or_never().unwrap();
        let read = rows.iter().filter(|row| row.is_ok()).count();
        (read, rows.into_iter().find_map(Result::err))
    }

    #[test]
    fn one_row_too_many_is_an_error_that_names_the_limit_and_nothing_more_is_read() {
        let (source, _clock) = limited(|options| options.limits.max_rows = 7);
        let (read, error) = read_all(&source);
        let error = error.unwrap();
        assert_eq!((read, error.code, error.limit), (7, ErrorCode::LimitExceeded, Some("max_rows")));
        assert_eq!(error.message, "source `many` is over its limit `max_rows`, which allows 7 rows");
        assert_eq!(source.inner().produced().load(std::sync::atomic::Ordering::Relaxed), 8);
        let (source, _clock) = limited(|options| options.limits.max_rows = 100);
        assert_eq!(read_all(&source), (100, None));
    }

    #[test]
    fn one_byte_too_many_is_an_error_that_names_the_limit() {
        let (source, _clock) = limited(|options| options.limits.max_bytes = 30);
        let (read, error) = read_all(&source);
        assert_eq!((read, error.unwrap().limit), (3, Some("max_bytes")));
    }

    #[test]
    fn reads_wait_for_their_turn_within_their_time() {
        let (source, clock) = limited(|options| (options.limits.concurrency, options.limits.timeout_ms) = (1, 100));
        let mut first = source.read(Args::none()).unwrap();
        assert!(first.next().now_or_never().is_some());
        let mut second = source.read(Args::none()).unwrap();
        let mut third = source.read(Args::none()).unwrap();
        assert!(second.next().now_or_never().is_none());
        clock.advance(Duration::from_millis(60));
        assert!(third.next().now_or_never().is_none());
        clock.advance(Duration::from_millis(40));
        assert_eq!(second.next().now_or_never().unwrap().unwrap().unwrap_err().code, ErrorCode::Timeout);
        drop(first);
        assert!(third.next().now_or_never().unwrap().unwrap().is_ok());
    }
}
