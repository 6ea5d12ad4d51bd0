use std::collections::BTreeMap;

use super::{KindPolicy, RetentionOptions};

/// How much tasks may have and use. Every limit's name carries its unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskOptions {
    /// Attempts that run at once. As many again may have ended without that being on disk yet.
    pub concurrency: usize,
    /// Length of a task's input as JSON, in bytes.
    pub max_input_bytes: usize,
    /// Length of a task's result as JSON, in bytes.
    pub max_result_bytes: usize,
    /// Length of one chunk as JSON, in bytes.
    pub max_chunk_bytes: usize,
    /// Length of a log line or progress message, in bytes; the rest is cut off.
    pub max_message_bytes: usize,
    /// Tags of a task.
    pub max_tags: usize,
    /// Length of a tag, and of an idempotency key, in bytes.
    pub max_tag_bytes: usize,
    /// Tasks started in one request.
    pub max_batch_tasks: usize,
    /// Attempts that may fail, where neither the task nor its kind says.
    pub max_attempts: u32,
    /// Attempts that may be lost to crashes before the task fails.
    pub max_lost: u32,
    /// Wait before the first automatic retry, in milliseconds; doubles with each failure.
    pub retry_backoff_ms: u64,
    /// The longest wait before an automatic retry, in milliseconds.
    pub max_retry_backoff_ms: u64,
    /// Progress reported at shorter intervals is coalesced, in milliseconds.
    pub progress_interval_ms: u64,
    /// Events that an attempt may have waiting to be recorded; then its handler waits.
    pub max_waiting_events: usize,
    /// Bytes of events that an attempt may have waiting to be recorded; then its handler waits.
    pub max_waiting_bytes: usize,
    /// Events of a task, over all its attempts; with more it fails.
    pub max_task_events: u64,
    /// Bytes of what a task's events say, over all its attempts; with more it fails.
    pub max_task_bytes: u64,
    /// Attempts with the same concurrency key under way at once, where the kind does not say.
    pub concurrency_per_key: usize,
    /// How long a handler may go on after a request to cancel, in milliseconds; then it is dropped.
    pub cancel_grace_ms: u64,
    /// What is said of kinds before they are registered: it wins over what is said at registration.
    pub kinds: BTreeMap<String, KindPolicy>,
    /// How long ended tasks are kept.
    pub retention: RetentionOptions,
    /// How long a handler may go on after it was told to stop for a shutdown, in milliseconds.
    pub release_grace_ms: u64,
}

impl Default for TaskOptions {
    fn default() -> Self {
        Self {
            concurrency: 64,
            max_input_bytes: 1 << 20,
            max_result_bytes: 4 << 20,
            max_chunk_bytes: 1 << 20,
            max_message_bytes: 8 << 10,
            max_tags: 20,
            max_tag_bytes: 100,
            max_batch_tasks: 1000,
            max_attempts: 1,
            max_lost: 3,
            retry_backoff_ms: 1000,
            max_retry_backoff_ms: 600_000,
            progress_interval_ms: 20,
            max_waiting_events: 512,
            max_waiting_bytes: 1 << 20,
            max_task_events: 10_000_000,
            max_task_bytes: 4 << 30,
            concurrency_per_key: 1,
            cancel_grace_ms: 10_000,
            kinds: BTreeMap::new(),
            retention: RetentionOptions::default(),
            release_grace_ms: 2000,
        }
    }
}
