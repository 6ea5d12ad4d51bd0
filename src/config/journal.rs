//! `[journal]`.

use super::{ConfigError, section::Section};

/// What following the journal may hold in memory. `[journal]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalConfig {
    /// Newest events of all followed tasks together, their renderings included, in bytes.
    pub live_memory_bytes: usize,
    /// Pages of stored events that are kept for others who replay, in bytes.
    pub page_cache_bytes: usize,
    /// Events in one page.
    pub page_events: usize,
    /// Bytes in one page, about; a single larger event is a page of its own.
    pub page_bytes: usize,
}

impl Default for JournalConfig {
    fn default() -> Self {
        Self { live_memory_bytes: 64 << 20, page_cache_bytes: 32 << 20, page_events: 256, page_bytes: 1 << 20 }
    }
}

impl JournalConfig {
    pub(super) fn read(mut section: Section<'_>) -> Result<Self, ConfigError> {
        let mut journal = Self::default();
        section.number("live_memory_bytes", &mut journal.live_memory_bytes, 0..=1 << 40)?;
        section.number("page_cache_bytes", &mut journal.page_cache_bytes, 0..=1 << 40)?;
        section.number("page_events", &mut journal.page_events, 1..=100_000)?;
        section.number("page_bytes", &mut journal.page_bytes, 1024..=1 << 30)?;
        section.finish()?;
        Ok(journal)
    }
}
