//! `[journal]`.

use super::{ConfigError, section::Section};
use crate::journal::JournalOptions;

/// What following the journal may hold in memory. `[journal]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalConfig {
    /// Newest events of all followed tasks together, in bytes.
    pub live_memory_bytes: usize,
    /// Pages of stored events that are kept for others who replay, in bytes.
    pub page_cache_bytes: u64,
    /// Events in one page.
    pub page_events: usize,
    /// Bytes in one page, about; a single larger event is a page of its own.
    pub page_bytes: usize,
    /// Changes of tasks remembered for those who watch lists; who falls further behind reads the list again.
    pub max_list_changes: usize,
}

impl Default for JournalConfig {
    fn default() -> Self {
        let journal = JournalOptions::default();
        Self {
            live_memory_bytes: journal.live_bytes,
            page_cache_bytes: journal.cache_bytes,
            page_events: journal.page_events,
            page_bytes: journal.page_bytes,
            max_list_changes: journal.change_log,
        }
    }
}

impl JournalConfig {
    pub(super) fn read(mut section: Section<'_>) -> Result<Self, ConfigError> {
        let mut journal = Self::default();
        section.number("live_memory_bytes", &mut journal.live_memory_bytes, 0..=1 << 40)?;
        section.number("page_cache_bytes", &mut journal.page_cache_bytes, 0..=1 << 40)?;
        section.number("page_events", &mut journal.page_events, 1..=100_000)?;
        section.number("page_bytes", &mut journal.page_bytes, 1024..=1 << 30)?;
        section.number("max_list_changes", &mut journal.max_list_changes, 1..=10_000_000)?;
        section.finish()?;
        Ok(journal)
    }

    /// As the journal takes it.
    pub fn options(&self) -> JournalOptions {
        JournalOptions {
            live_bytes: self.live_memory_bytes,
            page_events: self.page_events,
            page_bytes: self.page_bytes,
            cache_bytes: self.page_cache_bytes,
            change_log: self.max_list_changes,
        }
    }
}
