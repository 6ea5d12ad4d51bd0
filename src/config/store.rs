//! `[store]`.

use std::path::PathBuf;

use super::{ConfigError, section::Section};

/// Where tasks and their journal live. `[store]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreConfig {
    /// The data folder; made when it is not there.
    pub data: PathBuf,
    /// Writes that may wait for the writer; others wait for room.
    pub max_queued_writes: usize,
    /// Writes in one transaction.
    pub max_batch_writes: usize,
    /// Bytes written in one transaction, about.
    pub max_batch_bytes: usize,
    /// How long a transaction takes in more writes before it is committed, in milliseconds.
    pub max_batch_ms: u64,
    /// The write-ahead log is cut back to this size, in bytes.
    pub max_wal_bytes: u64,
    /// Connections that read, each on a thread of its own.
    pub readers: usize,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            data: PathBuf::from("./meanwhile-data"),
            max_queued_writes: 4096,
            max_batch_writes: 1024,
            max_batch_bytes: 4 << 20,
            max_batch_ms: 50,
            max_wal_bytes: 64 << 20,
            readers: 4,
        }
    }
}

impl StoreConfig {
    pub(super) fn read(mut section: Section<'_>) -> Result<Self, ConfigError> {
        let mut store = Self::default();
        if let Some(data) = section.path("data")? {
            store.data = data;
        }
        section.number("max_queued_writes", &mut store.max_queued_writes, 1..=1_000_000)?;
        section.number("max_batch_writes", &mut store.max_batch_writes, 1..=100_000)?;
        section.number("max_batch_bytes", &mut store.max_batch_bytes, 1024..=1 << 30)?;
        section.number("max_batch_ms", &mut store.max_batch_ms, 1..=10_000)?;
        section.number("max_wal_bytes", &mut store.max_wal_bytes, 1 << 20..=1 << 40)?;
        section.number("readers", &mut store.readers, 1..=64)?;
        section.finish()?;
        Ok(store)
    }
}
