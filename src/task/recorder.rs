//! What an attempt reports, on its way to the store.
//!
//! Events wait here while the write before them is under way, and go together in the next one. Progress is
//! kept apart: the newest replaces what waits, and goes out at most once per interval, so that reporting it
//! costs a handler next to nothing. The buffer is bounded: a handler that is faster than the store waits.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::{Mutex as AsyncMutex, Notify};
use tokio_util::sync::CancellationToken;

use super::manager::Shared;
use crate::{
    model::{EventBody, Progress},
    store::{Attempt, AttemptRef, AttemptWrite, NewEvent},
};

#[derive(Debug)]
pub(super) struct Recorder {
    shared: Arc<Shared>,
    by: AttemptRef,
    interval: Duration,
    max_events: usize,
    max_bytes: usize,
    /// How many events the task may have, and how many bytes they may say.
    max_task: Size,
    /// Cancelled when the task would have more.
    limit_reached: CancellationToken,
    /// Cancelled when the store says that this attempt is not the running one any more.
    stale: CancellationToken,
    waiting: Mutex<Waiting>,
    /// Number of the last write; held while a write is under way.
    writing: AsyncMutex<u64>,
    room: Notify,
    news: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    events: Vec<NewEvent>,
    bytes: usize,
    progress: Option<NewEvent>,
    /// When progress last went out.
    progress_sent: Option<Duration>,
    /// What the task has recorded, and what waits, together.
    total: Size,
    /// The limit that was reached.
    over: Option<&'static str>,
    /// A task is there that writes what waits.
    flushing: bool,
    closed: bool,
}

/// How much a task has recorded.
#[derive(Debug, Default, Clone, Copy)]
struct Size {
    events: u64,
    bytes: u64,
}

/// The attempt has ended, has said too much, or is not the running one any more: nothing can be recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Closed;

impl Recorder {
    pub(super) fn new(shared: &Arc<Shared>, attempt: &Attempt, stale: CancellationToken) -> Arc<Self> {
        let options = &shared.options;
        Arc::new(Self {
            shared: shared.clone(),
            by: attempt.by,
            interval: Duration::from_millis(options.progress_interval_ms),
            max_events: options.max_waiting_events.max(1),
            max_bytes: options.max_waiting_bytes,
            max_task: Size { events: options.max_task_events, bytes: options.max_task_bytes },
            limit_reached: CancellationToken::new(),
            stale,
            waiting: Mutex::new(Waiting {
                total: Size { events: attempt.events, bytes: attempt.bytes },
                ..Waiting::default()
            }),
            writing: AsyncMutex::new(0),
            room: Notify::new(),
            news: Notify::new(),
        })
    }

    /// Reports progress. Never waits; what nothing has shown yet is replaced.
    pub(super) fn progress(self: &Arc<Self>, progress: Progress) {
        let event = NewEvent { at: self.shared.clock.now(), body: EventBody::Progress(progress) };
        let mut waiting = self.lock();
        if !waiting.closed {
            waiting.progress = Some(event);
            self.flush(waiting);
        }
    }

    /// Adds an event, after waiting for room.
    pub(super) async fn add(self: &Arc<Self>, body: EventBody) -> Result<(), Closed> {
        let bytes = body.weight_bytes();
        let event = NewEvent { at: self.shared.clock.now(), body };
        loop {
            let room = self.room.notified();
            tokio::pin!(room);
            room.as_mut().enable();
            {
                let mut waiting = self.lock();
                if waiting.closed || !self.allow(&mut waiting, bytes) {
                    return Err(Closed);
                }
                if waiting.events.is_empty()
                    || (waiting.events.len() < self.max_events && waiting.bytes + bytes <= self.max_bytes)
                {
                    waiting.events.push(event);
                    waiting.bytes += bytes;
                    waiting.total.events += 1;
                    waiting.total.bytes += bytes as u64;
                    self.flush(waiting);
                    return Ok(());
                }
            }
            room.await;
        }
    }

    /// Whether the task may say `bytes` more. If not, that ends the attempt.
    fn allow(&self, waiting: &mut Waiting, bytes: usize) -> bool {
        if waiting.total.events >= self.max_task.events {
            waiting.over = Some("max_task_events");
        } else if waiting.total.bytes + bytes as u64 > self.max_task.bytes {
            waiting.over = Some("max_task_bytes");
        }
        if waiting.over.is_some() {
            self.limit_reached.cancel();
        }
        waiting.over.is_none()
    }

    /// The limit that was reached.
    pub(super) fn over(&self) -> Option<&'static str> {
        self.lock().over
    }

    /// Ends when a limit was reached.
    pub(super) async fn limit_reached(&self) {
        self.limit_reached.cancelled().await;
    }

    /// Ends recording: waits for the write under way, and gives back what is still to be written, as the
    /// attempt's last write.
    pub(super) async fn close(&self) -> AttemptWrite {
        self.lock().closed = true;
        self.news.notify_one();
        self.room.notify_waiters();
        let mut number = self.writing.lock().await;
        *number += 1;
        let mut waiting = self.lock();
        let mut events = std::mem::take(&mut waiting.events);
        events.extend(waiting.progress.take());
        AttemptWrite { by: self.by, number: *number, events }
    }

    /// Sees to it that somebody writes what waits.
    fn flush(self: &Arc<Self>, mut waiting: MutexGuard<'_, Waiting>) {
        if waiting.flushing {
            drop(waiting);
            self.news.notify_one();
        } else {
            waiting.flushing = true;
            drop(waiting);
            let recorder = self.clone();
            tokio::spawn(async move { recorder.write_all().await });
        }
    }

    /// Writes until nothing waits.
    async fn write_all(self: Arc<Self>) {
        loop {
            let mut number = self.writing.lock().await;
            let next = {
                let mut waiting = self.lock();
                if waiting.closed {
                    return;
                }
                let next = self.take(&mut waiting);
                waiting.flushing = !matches!(next, Next::Nothing);
                next
            };
            let pause = match next {
                Next::Write(events) => {
                    self.room.notify_waiters();
                    *number += 1;
                    self.write(AttemptWrite { by: self.by, number: *number, events }).await;
                    continue;
                }
                Next::Wait(pause) => pause,
                Next::Nothing => return,
            };
            drop(number);
            tokio::select! {
                () = self.shared.clock.sleep(pause) => {}
                () = self.news.notified() => {}
            }
        }
    }

    fn take(&self, waiting: &mut Waiting) -> Next {
        let now = self.shared.clock.elapsed();
        let due = waiting.progress_sent.map_or(Duration::ZERO, |sent| (sent + self.interval).saturating_sub(now));
        if waiting.progress.is_some() && due.is_zero() {
            let progress = waiting.progress.take();
            let bytes = progress.as_ref().map_or(0, |event| event.body.weight_bytes());
            if self.allow(waiting, bytes) {
                waiting.total.events += 1;
                waiting.total.bytes += bytes as u64;
                waiting.events.extend(progress);
            }
            waiting.progress_sent = Some(now);
        }
        if !waiting.events.is_empty() {
            waiting.bytes = 0;
            Next::Write(std::mem::take(&mut waiting.events))
        } else if waiting.progress.is_some() {
            Next::Wait(due)
        } else {
            Next::Nothing
        }
    }

    async fn write(&self, write: AttemptWrite) {
        loop {
            match self.shared.store.record(write.clone()).await {
                Ok(()) => return,
                // Nothing is lost: the handler waits in `add` until there is room again.
                Err(error) if error.passes() && !self.shared.release.is_cancelled() => {
                    self.shared.wait_for_space().await;
                }
                Err(error) => {
                    tracing::warn!(task = %self.by.task, attempt = self.by.attempt, %error, "an attempt cannot record");
                    self.lock().closed = true;
                    self.room.notify_waiters();
                    self.stale.cancel();
                    return;
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Next {
    Write(Vec<NewEvent>),
    Wait(Duration),
    Nothing,
}
