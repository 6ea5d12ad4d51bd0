//! How tasks of a kind are run: keys of `[kinds.NAME]`.

use super::{ConfigError, section::Section};
use crate::task::KindPolicy;

/// Almost 25 days: as far as GraphQL's `Int` goes, by which `kinds` and tasks show it.
const MAX_MS: u64 = i32::MAX as u64;

/// The fields of [`KindPolicy`], by their names.
pub(super) fn read(section: &mut Section<'_>) -> Result<KindPolicy, ConfigError> {
    let policy = KindPolicy {
        max_attempts: section.optional_number("max_attempts", 1..=1000)?,
        max_lost: section.optional_number("max_lost", 1..=1000)?,
        retry_backoff_ms: section.optional_number("retry_backoff_ms", 1..=86_400_000)?,
        max_retry_backoff_ms: section.optional_number("max_retry_backoff_ms", 1..=86_400_000)?,
        timeout_ms: section.optional_number("timeout_ms", 1..=MAX_MS)?,
        deadline_ms: section.optional_number("deadline_ms", 1..=MAX_MS)?,
        cancel_grace_ms: section.optional_number("cancel_grace_ms", 0..=86_400_000)?,
        concurrency: section.optional_number("concurrency", 1..=100_000)?,
        concurrency_per_key: section.optional_number("concurrency_per_key", 1..=100_000)?,
    };
    if let (Some(first_ms), Some(max_ms)) = (policy.retry_backoff_ms, policy.max_retry_backoff_ms)
        && max_ms < first_ms
    {
        let message =
            format!("must be at least `retry_backoff_ms`, which is {first_ms}: raise this one or lower that one");
        return Err(section.error("max_retry_backoff_ms", message));
    }
    Ok(policy)
}
