//! `[tasks]`.

use super::{ConfigError, section::Section};
use crate::task::TaskOptions;

/// How tasks run, and how large they may be: the fields of [`TaskOptions`], by their names.
pub(super) fn read(mut section: Section<'_>) -> Result<TaskOptions, ConfigError> {
    let mut tasks = TaskOptions::default();
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
    section.number("max_waiting_events", &mut tasks.max_waiting_events, 1..=1_000_000)?;
    section.number("max_waiting_bytes", &mut tasks.max_waiting_bytes, 1024..=1 << 30)?;
    section.number("max_task_events", &mut tasks.max_task_events, 1..=1_000_000_000)?;
    section.number("max_task_bytes", &mut tasks.max_task_bytes, 1024..=1 << 40)?;
    section.number("concurrency_per_key", &mut tasks.concurrency_per_key, 1..=100_000)?;
    section.number("cancel_grace_ms", &mut tasks.cancel_grace_ms, 0..=86_400_000)?;
    section.number("release_grace_ms", &mut tasks.release_grace_ms, 0..=3_600_000)?;
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
