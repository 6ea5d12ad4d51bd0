//! `[tasks]`.

use super::{ConfigError, section::Section};

/// How tasks run, and how large they may be. `[tasks]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TasksConfig {
    /// Attempts that may run at the same time on this node.
    pub concurrency: usize,
    /// The largest input of a task, in bytes of JSON text.
    pub max_input_bytes: usize,
    /// The largest result of a task, in bytes of JSON text.
    pub max_result_bytes: usize,
    /// The largest chunk of a task, in bytes of JSON text.
    pub max_chunk_bytes: usize,
    /// The longest message of a log line, progress, error or cancellation, in bytes.
    pub max_message_bytes: usize,
    /// Tags of one task.
    pub max_tags: usize,
    /// The longest tag, in bytes.
    pub max_tag_bytes: usize,
    /// Tasks that `startTasks` starts at once.
    pub max_batch_tasks: usize,
    /// Attempts of a task that says nothing else: 1 means it is not retried.
    pub max_attempts: u32,
    /// Attempts that may be lost to crashes before a task is given up.
    pub max_lost: u32,
    /// Progress closer together than this is recorded once, in milliseconds.
    pub progress_interval_ms: u64,
    /// How long a task waits before its first retry, in milliseconds; each later wait is twice as long.
    pub retry_backoff_ms: u64,
    /// The longest wait before a retry, in milliseconds.
    pub max_retry_backoff_ms: u64,
}

impl Default for TasksConfig {
    fn default() -> Self {
        Self {
            concurrency: 64,
            max_input_bytes: 1 << 20,
            max_result_bytes: 4 << 20,
            max_chunk_bytes: 1 << 20,
            max_message_bytes: 16 << 10,
            max_tags: 20,
            max_tag_bytes: 100,
            max_batch_tasks: 1000,
            max_attempts: 1,
            max_lost: 3,
            progress_interval_ms: 20,
            retry_backoff_ms: 1_000,
            max_retry_backoff_ms: 300_000,
        }
    }
}

impl TasksConfig {
    pub(super) fn read(mut section: Section<'_>) -> Result<Self, ConfigError> {
        let mut tasks = Self::default();
        section.number("concurrency", &mut tasks.concurrency, 1..=100_000)?;
        section.number("max_input_bytes", &mut tasks.max_input_bytes, 2..=1 << 28)?;
        section.number("max_result_bytes", &mut tasks.max_result_bytes, 2..=1 << 28)?;
        section.number("max_chunk_bytes", &mut tasks.max_chunk_bytes, 2..=1 << 28)?;
        section.number("max_message_bytes", &mut tasks.max_message_bytes, 64..=1 << 20)?;
        section.number("max_tags", &mut tasks.max_tags, 0..=1000)?;
        section.number("max_tag_bytes", &mut tasks.max_tag_bytes, 1..=10_000)?;
        section.number("max_batch_tasks", &mut tasks.max_batch_tasks, 1..=100_000)?;
        section.number("max_attempts", &mut tasks.max_attempts, 1..=1000)?;
        section.number("max_lost", &mut tasks.max_lost, 1..=1000)?;
        section.number("progress_interval_ms", &mut tasks.progress_interval_ms, 0..=60_000)?;
        section.number("retry_backoff_ms", &mut tasks.retry_backoff_ms, 1..=86_400_000)?;
        section.number("max_retry_backoff_ms", &mut tasks.max_retry_backoff_ms, 1..=86_400_000)?;
        if tasks.max_retry_backoff_ms < tasks.retry_backoff_ms {
            let message = format!(
                "must be at least `retry_backoff_ms`, which is {}: raise this one or lower that one",
                tasks.retry_backoff_ms
            );
            return Err(section.error("max_retry_backoff_ms", message));
        }
        section.finish()?;
        Ok(tasks)
    }
}
