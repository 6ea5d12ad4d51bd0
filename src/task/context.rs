use std::sync::Arc;

use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::{JobError, TaskOptions, job::Retry, recorder::Recorder};
use crate::{
    clock::Clock,
    model::{CancelStep, Cancellation, EventBody, Json, LogLevel, Progress, TaskId, code},
    store::AttemptRef,
};

/// A handler's way to say how it goes, and to hear that it should stop. Cloning it is cheap.
#[derive(Debug, Clone)]
pub struct JobContext {
    pub(super) by: AttemptRef,
    pub(super) recorder: Arc<Recorder>,
    pub(super) stop: CancellationToken,
    pub(super) cancel: CancellationToken,
    pub(super) hurry: CancellationToken,
    /// Of the store.
    pub(super) generation: u64,
    pub(super) options: Arc<TaskOptions>,
    pub(super) clock: Arc<dyn Clock>,
}

/// The attempt was stopped, or has ended: nothing more can be recorded. Return it with `?`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the attempt was stopped")]
pub struct Stopped;

impl JobContext {
    /// The task.
    pub fn task(&self) -> TaskId {
        self.by.task
    }

    /// The number of this attempt, from 1.
    pub fn attempt(&self) -> u32 {
        self.by.attempt
    }

    /// Time, as the server sees it.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// Says how far it has come: a percentage, or a [`Progress`]. As cheap as you like: what comes faster
    /// than once per 20 ms is coalesced, the newest always shows, and the last before the end is kept.
    pub fn progress(&self, progress: impl Into<Progress>) {
        let mut progress = Progress::sound(progress.into());
        if let Some(message) = &mut progress.message {
            cut(message, self.options.max_message_bytes);
        }
        self.recorder.progress(progress);
    }

    /// Gives a piece of data. Waits while the store is behind.
    pub async fn chunk<T: Serialize + ?Sized + Sync>(&self, value: &T) -> Result<(), JobError> {
        self.chunk_json(Json::from_value(value)?).await
    }

    /// Gives a piece of data that is JSON already. Waits while the store is behind.
    pub async fn chunk_json(&self, value: Json) -> Result<(), JobError> {
        if value.len() > self.options.max_chunk_bytes {
            let message = format!(
                "a chunk has {} bytes; the limit `max_chunk_bytes` allows {}",
                value.len(),
                self.options.max_chunk_bytes
            );
            return Err(JobError::new(message).code(code::LIMIT_EXCEEDED).retry(Retry::Never));
        }
        self.recorder.add(EventBody::Chunk { index: 0, value }).await.map_err(|_| Stopped)?;
        Ok(())
    }

    /// Says something, for those who follow the task. Waits while the store is behind.
    pub async fn log(&self, level: LogLevel, message: impl Into<String>) -> Result<(), Stopped> {
        let mut message = message.into();
        cut(&mut message, self.options.max_message_bytes);
        self.recorder.add(EventBody::Log { level, message }).await.map_err(|_| Stopped)
    }

    /// Says how far a request to cancel has come: for a job that stops something of its own, such as a program.
    pub async fn cancel_step(&self, step: CancelStep, message: Option<String>) -> Result<(), Stopped> {
        let message = message.map(|mut message| {
            cut(&mut message, self.options.max_message_bytes);
            message
        });
        self.recorder.add(EventBody::Cancellation(Cancellation { step, message })).await.map_err(|_| Stopped)
    }

    /// Ends when the attempt should stop: the task was cancelled, or the server is shutting down.
    pub async fn cancelled(&self) {
        self.stop.cancelled().await;
    }

    /// Ends when the attempt's time is over: it was too slow, or went on for too long after it should have stopped. It is
    /// dropped after [`Job::wind_up_ms`](super::Job::wind_up_ms).
    pub async fn hurried(&self) {
        self.hurry.cancelled().await;
    }

    /// Whether the attempt's time is over. That is so before it is told to stop for that.
    pub fn is_hurried(&self) -> bool {
        self.hurry.is_cancelled()
    }

    /// Whether the attempt should stop because somebody asked for the task to be cancelled, not for a shutdown.
    pub fn is_cancel_requested(&self) -> bool {
        self.cancel.is_cancelled()
    }

    /// Whether the attempt should stop. A handler that goes on is dropped after the kind's `cancel_grace_ms`.
    pub fn is_cancelled(&self) -> bool {
        self.stop.is_cancelled()
    }
}

/// Cuts a text to at most `limit` bytes, between characters, and says so in the text.
pub(super) fn cut(text: &mut String, limit: usize) {
    const MARK: &str = " … (cut)";
    if text.len() > limit {
        text.truncate(text.floor_char_boundary(limit.saturating_sub(MARK.len())));
        text.push_str(MARK);
    }
}
