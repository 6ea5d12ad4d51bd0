//! `[retention]`.

use super::{ConfigError, section::Section};
use crate::task::RetentionOptions;

/// Ten years.
const MAX_MS: u64 = 315_360_000_000;

/// How long ended tasks are kept: the fields of [`RetentionOptions`], by their names.
pub(super) fn read(mut section: Section<'_>) -> Result<RetentionOptions, ConfigError> {
    let mut retention = RetentionOptions {
        keep_tasks_ms: section.optional_number("keep_tasks_ms", 0..=MAX_MS)?,
        keep_events_ms: section.optional_number("keep_events_ms", 0..=MAX_MS)?,
        ..RetentionOptions::default()
    };
    section.number("sweep_interval_ms", &mut retention.sweep_interval_ms, 10..=86_400_000)?;
    section.number("sweep_slice", &mut retention.sweep_slice, 1..=10_000)?;
    section.finish()?;
    Ok(retention)
}
