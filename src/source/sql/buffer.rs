//! Hands rows from the thread that runs a statement to the stream that gives them out.
//!
//! Every row can be taken as soon as it is there, and a reader takes all that are there in one go: batches
//! form by themselves while the reader is busy, and a slow statement's rows never wait for a batch to fill.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use super::database::Abandoned;
use crate::{error::ErrorCode, model::Json, source::SourceError};

/// Rows that may wait to be taken.
const MAX_ROWS: usize = 64;
/// Bytes of rows that may wait to be taken; a single larger row may wait alone.
const MAX_BYTES: usize = 64 << 10;

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// Told when rows were taken, or nobody wants them any more.
    room: Condvar,
    /// Beside the state, so that a running statement can ask often.
    abandoned: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    rows: VecDeque<Json>,
    bytes: usize,
    end: Option<Result<(), SourceError>>,
    reader: Option<Waker>,
}

impl Shared {
    /// No code here panics while it holds the lock, so a poisoned state is whole.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A buffer with room for a few rows.
pub(super) fn buffer() -> (RowSender, RowReceiver) {
    let shared = Arc::new(Shared::default());
    (RowSender { shared: shared.clone() }, RowReceiver { shared, batch: VecDeque::new() })
}

/// The blocking end: puts rows in.
#[derive(Debug)]
pub(super) struct RowSender {
    shared: Arc<Shared>,
}

impl RowSender {
    /// Puts a row in, waiting for room.
    pub(super) fn send(&self, row: Json) -> Result<(), Abandoned> {
        let mut state = self.shared.lock();
        while !state.rows.is_empty() && (state.rows.len() >= MAX_ROWS || state.bytes + row.len() > MAX_BYTES) {
            if self.is_abandoned() {
                break;
            }
            state = self.shared.room.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if self.is_abandoned() {
            return Err(Abandoned);
        }
        state.bytes += row.len();
        state.rows.push_back(row);
        let reader = state.reader.take();
        drop(state);
        if let Some(reader) = reader {
            reader.wake();
        }
        Ok(())
    }

    /// Lets so much time pass, or less when nobody wants rows any more.
    pub(super) fn pause(&self, time: Duration) -> Result<(), Abandoned> {
        let wanted = |_: &mut State| !self.is_abandoned();
        let waited = self.shared.room.wait_timeout_while(self.shared.lock(), time, wanted);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
        if self.is_abandoned() { Err(Abandoned) } else { Ok(()) }
    }

    /// Says how the statement ended. Dropping the sender without it is reported as a fault.
    pub(super) fn finish(&self, end: Result<(), SourceError>) {
        let mut state = self.shared.lock();
        state.end.get_or_insert(end);
        let reader = state.reader.take();
        drop(state);
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    /// Asks, at any time and cheaply, whether the rows are still wanted.
    pub(super) fn abandoned(&self) -> impl Fn() -> bool + Send + Sync + 'static {
        let shared = self.shared.clone();
        move || shared.abandoned.load(Ordering::Relaxed)
    }

    fn is_abandoned(&self) -> bool {
        self.shared.abandoned.load(Ordering::Relaxed)
    }
}

impl Drop for RowSender {
    fn drop(&mut self) {
        self.finish(Err(SourceError::new(ErrorCode::Internal, "the thread that reads the source has failed")));
    }
}

/// The asynchronous end: takes rows out. Dropping it stops the sender.
#[derive(Debug)]
pub(super) struct RowReceiver {
    shared: Arc<Shared>,
    /// Taken, and not yet given out.
    batch: VecDeque<Json>,
}

impl RowReceiver {
    /// The next row; after the last one how it ended, as an error or `None`.
    pub(super) fn poll_row(&mut self, cx: &Context<'_>) -> Poll<Option<Result<Json, SourceError>>> {
        if let Some(row) = self.batch.pop_front() {
            return Poll::Ready(Some(Ok(row)));
        }
        let mut state = self.shared.lock();
        std::mem::swap(&mut self.batch, &mut state.rows);
        state.bytes = 0;
        if let Some(row) = self.batch.pop_front() {
            drop(state);
            self.shared.room.notify_one();
            return Poll::Ready(Some(Ok(row)));
        }
        match &state.end {
            Some(Ok(())) => Poll::Ready(None),
            Some(Err(error)) => Poll::Ready(Some(Err(error.clone()))),
            None => {
                state.reader = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for RowReceiver {
    fn drop(&mut self) {
        // Under the lock: a sender that has just found the buffer full must not miss the call.
        let state = self.shared.lock();
        self.shared.abandoned.store(true, Ordering::Relaxed);
        drop(state);
        self.shared.room.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, thread};

    use futures::{FutureExt, executor::block_on};

    use super::*;

    fn row(text: &str) -> Json {
        Json::trusted(text)
    }

    fn next(receiver: &mut RowReceiver) -> Option<Option<Result<Json, SourceError>>> {
        poll_fn(|cx| receiver.poll_row(cx)).now_or_never()
    }

    #[test]
    fn a_row_can_be_taken_as_soon_as_it_is_there() {
        let (sender, mut receiver) = buffer();
        assert_eq!(next(&mut receiver), None);
        sender.send(row("1")).unwrap();
        assert_eq!(next(&mut receiver), Some(Some(Ok(row("1")))));
        assert_eq!(next(&mut receiver), None);
        sender.finish(Ok(()));
        assert_eq!(next(&mut receiver), Some(None));
    }

    #[test]
    fn rows_that_were_sent_come_before_the_error() {
        let (sender, mut receiver) = buffer();
        sender.send(row("1")).unwrap();
        sender.finish(Err(SourceError::new(ErrorCode::Unavailable, "gone")));
        assert_eq!(next(&mut receiver), Some(Some(Ok(row("1")))));
        assert_eq!(next(&mut receiver).unwrap().unwrap().unwrap_err().message, "gone");
    }

    #[test]
    fn a_sender_that_fails_does_not_leave_the_reader_waiting() {
        let (sender, mut receiver) = buffer();
        assert!(
            thread::spawn(move || {
                let _sender = sender;
                panic!("as the test wants")
            })
            .join()
            .is_err()
        );
        assert_eq!(next(&mut receiver).unwrap().unwrap().unwrap_err().code, ErrorCode::Internal);
    }

    #[test]
    fn the_sender_waits_while_the_buffer_is_full_and_order_is_kept() {
        let (sender, mut receiver) = buffer();
        let numbers = 0..10_000;
        let feeder = thread::spawn(move || {
            for number in numbers {
                sender.send(row(&number.to_string())).unwrap();
                assert!(sender.shared.lock().rows.len() <= MAX_ROWS);
            }
            sender.finish(Ok(()));
        });
        let mut expected = 0;
        while let Some(item) = block_on(poll_fn(|cx| receiver.poll_row(cx))) {
            assert_eq!(item.unwrap().as_str(), expected.to_string());
            expected += 1;
        }
        assert_eq!(expected, 10_000);
        feeder.join().unwrap();
    }

    #[test]
    fn bytes_are_bounded_and_one_large_row_passes_alone() {
        let (sender, mut receiver) = buffer();
        let large = row(&"9".repeat(MAX_BYTES * 2));
        let sent = large.clone();
        let feeder = thread::spawn(move || {
            for _ in 0..3 {
                sender.send(sent.clone()).unwrap();
                assert!(sender.shared.lock().rows.len() <= 1);
            }
            sender.finish(Ok(()));
        });
        for _ in 0..3 {
            assert_eq!(block_on(poll_fn(|cx| receiver.poll_row(cx))), Some(Ok(large.clone())));
        }
        feeder.join().unwrap();
    }

    #[test]
    fn a_sender_that_pauses_hears_that_nobody_reads() {
        let (sender, receiver) = buffer();
        assert_eq!(sender.pause(Duration::from_millis(1)), Ok(()));
        let pausing = thread::spawn(move || sender.pause(Duration::from_secs(3600)));
        drop(receiver);
        assert_eq!(pausing.join().unwrap(), Err(Abandoned));
    }

    #[test]
    fn a_sender_that_waits_for_room_hears_that_nobody_reads() {
        let (sender, receiver) = buffer();
        let abandoned = sender.abandoned();
        let feeder = thread::spawn(move || while sender.send(row("1")).is_ok() {});
        assert!(!abandoned());
        drop(receiver);
        feeder.join().unwrap();
        assert!(abandoned());
    }
}
