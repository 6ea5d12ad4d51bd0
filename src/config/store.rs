//! `[store]`.

use std::path::PathBuf;

use super::{ConfigError, section::Section};
use crate::{as_written::AsWritten, store::sqlite::SqliteOptions};

/// SQLite's unit of space.
const PAGE_BYTES: u64 = 4096;

/// Where tasks and their journal live. `[store]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreConfig {
    /// The data folder; made when it is not there.
    pub data: AsWritten<PathBuf>,
    /// Connections that read, each on a thread of its own.
    pub readers: usize,
    /// Reads that may wait for one of them; others wait for room.
    pub max_queued_reads: usize,
    /// Writes that may wait for the writer; others wait for room.
    pub max_queued_writes: usize,
    /// Bytes of commits held for whoever follows them and is late.
    pub max_feed_bytes: usize,
    /// Look-ups in indexes that one list or one count of tasks may take.
    pub max_filter_lookups: u64,
    /// How large the database may become, in bytes; `None`: as large as the disk allows.
    pub max_database_bytes: Option<u64>,
}

impl Default for StoreConfig {
    fn default() -> Self {
        let sqlite = SqliteOptions::default();
        Self {
            data: "./meanwhile-data".into(),
            readers: sqlite.readers,
            max_queued_reads: sqlite.reader_queue,
            max_queued_writes: sqlite.writer_queue,
            max_feed_bytes: sqlite.feed_bytes,
            max_filter_lookups: sqlite.max_filter_lookups,
            max_database_bytes: None,
        }
    }
}

impl StoreConfig {
    pub(super) fn read(mut section: Section<'_>) -> Result<Self, ConfigError> {
        let mut store = Self::default();
        if let Some(data) = section.path("data")? {
            store.data = data;
        }
        section.number("readers", &mut store.readers, 1..=64)?;
        section.number("max_queued_reads", &mut store.max_queued_reads, 1..=1_000_000)?;
        section.number("max_queued_writes", &mut store.max_queued_writes, 1..=1_000_000)?;
        section.number("max_feed_bytes", &mut store.max_feed_bytes, 1024..=1 << 40)?;
        section.number("max_filter_lookups", &mut store.max_filter_lookups, 1000..=1_000_000_000)?;
        let mut database_bytes = 0;
        section.number("max_database_bytes", &mut database_bytes, 1 << 20..=1 << 43)?;
        store.max_database_bytes = (database_bytes > 0).then_some(database_bytes);
        section.finish()?;
        Ok(store)
    }

    /// As the SQLite store takes it.
    pub fn sqlite_options(&self) -> SqliteOptions {
        SqliteOptions {
            readers: self.readers,
            reader_queue: self.max_queued_reads,
            writer_queue: self.max_queued_writes,
            feed_bytes: self.max_feed_bytes,
            max_filter_lookups: self.max_filter_lookups,
            max_pages: self.max_database_bytes.map(|bytes| u32::try_from(bytes / PAGE_BYTES).unwrap_or(u32::MAX)),
            ..SqliteOptions::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_those_of_the_store() {
        assert_eq!(StoreConfig::default().sqlite_options(), SqliteOptions::default());
    }

    #[test]
    fn the_largest_database_is_counted_in_pages() {
        let store = StoreConfig { max_database_bytes: Some(1 << 20), ..StoreConfig::default() };
        assert_eq!(store.sqlite_options().max_pages, Some(256));
    }
}
