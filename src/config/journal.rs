//! `[journal]`.

use super::{ConfigError, section::Section};
use crate::journal::JournalOptions;

/// What following the journal may hold in memory: the fields of [`JournalOptions`], by their names.
pub(super) fn read(mut section: Section<'_>) -> Result<JournalOptions, ConfigError> {
    let mut journal = JournalOptions::default();
    section.number("live_memory_bytes", &mut journal.live_memory_bytes, 0..=1 << 40)?;
    section.number("page_cache_bytes", &mut journal.page_cache_bytes, 0..=1 << 40)?;
    section.number("page_events", &mut journal.page_events, 1..=100_000)?;
    section.number("page_bytes", &mut journal.page_bytes, 1024..=1 << 30)?;
    section.number("max_list_changes", &mut journal.max_list_changes, 1..=10_000_000)?;
    section.finish()?;
    Ok(journal)
}
