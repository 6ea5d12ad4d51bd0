//! The store in an SQLite file: the default.
//!
//! `open` finds and prepares the folder; `writer` is the one thread that writes, `readers` the pool that
//! reads; the other files are what they run, one for each group of verbs.

mod attempt;
mod backup;
mod claim;
mod codec;
mod journal;
mod open;
mod readers;
mod selection;
mod start;
mod statistics;
mod sweep;
mod tasks;
mod writer;

use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use rusqlite::OptionalExtension;

pub use self::backup::{Backup, BackupError, backup};
use self::{open::Folder, readers::Readers, writer::Writer};
use super::{
    AttemptWrite, Claimed, CommitFeed, EventPage, EventQuery, KindClaim, KindStatistics, OpenError, Room, Started,
    StatisticsQuery, Store, StoreError, SweepQuery, Swept, TaskFilter, TaskPage, TaskQuery, feed::FeedSender,
};
use crate::{
    as_written::AsWritten,
    clock::Clock,
    model::{IdempotencyKey, NewTask, Outcome, Seq, Task, TaskId, TaskStatus},
};

/// How large the store's parts may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqliteOptions {
    /// Connections that read.
    pub readers: usize,
    /// Reads that may wait for one of them.
    pub reader_queue: usize,
    /// Writes that may wait for the writer.
    pub writer_queue: usize,
    /// Bytes of commits that a feed holds for a reader that is late.
    pub feed_bytes: usize,
    /// Look-ups in indexes that one list or one count may take. Only filters by several things of which each fits very
    /// many tasks, but seldom the same, take many.
    pub max_filter_lookups: u64,
    /// How large the database may become, in pages of 4 KiB; `None`: as large as the disk allows.
    pub max_pages: Option<u32>,
    /// The SQLite VFS to use, by its name: one that encrypts, or a test's. `None`: SQLite's own.
    pub vfs: Option<String>,
    /// Seeds what is drawn at random; `None`: from the system.
    pub seed: Option<u64>,
}

impl Default for SqliteOptions {
    fn default() -> Self {
        Self {
            readers: 4,
            reader_queue: 1024,
            writer_queue: 4096,
            feed_bytes: 32 << 20,
            max_filter_lookups: 1_000_000,
            max_pages: None,
            vfs: None,
            seed: None,
        }
    }
}

/// Tasks and journal in a folder that one process has to itself.
#[derive(Debug)]
pub struct SqliteStore {
    generation: u64,
    feed: Arc<FeedSender>,
    writer: Arc<Writer>,
    readers: Arc<Readers>,
    max_filter_lookups: u64,
    /// Unlocked on `close`, after the threads have ended.
    folder: Arc<Mutex<Option<Folder>>>,
}

impl SqliteStore {
    /// Opens the store in the folder `path`, or makes one there.
    pub fn open(
        folder: impl Into<AsWritten<PathBuf>>,
        options: &SqliteOptions,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, OpenError> {
        let mut random = options.seed.map_or_else(rand::make_rng::<StdRng>, StdRng::seed_from_u64);
        let folder = Folder::open(&folder.into(), options.vfs.clone())?;
        let connection = folder.writer()?;
        let unusable = |error: rusqlite::Error| folder.unusable(&error);
        if let Some(pages) = options.max_pages {
            connection.pragma_update(None, "max_page_count", pages).map_err(unusable)?;
        }
        let generation = generation(&connection, &mut random).map_err(unusable)?;
        let session: i64 = random.random();
        let connections = (0..options.readers.max(1)).map(|_| folder.reader()).collect::<Result<_, _>>()?;
        let feed = Arc::new(FeedSender::new(options.feed_bytes));
        let readers = Readers::spawn(connections, options.reader_queue.max(1))?;
        let writer = Writer::spawn(connection, session, options.writer_queue.max(1), clock, feed.clone(), move || {
            random.random()
        })?;
        Ok(Self {
            generation,
            feed,
            writer: Arc::new(writer),
            readers: Arc::new(readers),
            max_filter_lookups: options.max_filter_lookups,
            folder: Arc::new(Mutex::new(Some(folder))),
        })
    }
}

fn generation(connection: &rusqlite::Connection, random: &mut StdRng) -> rusqlite::Result<u64> {
    let known = connection.query_row("SELECT generation FROM store", [], |row| row.get::<_, i64>(0)).optional()?;
    if let Some(known) = known {
        return Ok(known.cast_unsigned());
    }
    let drawn: u64 = random.random();
    connection.execute("INSERT INTO store (generation) VALUES (?1)", [drawn.cast_signed()])?;
    Ok(drawn)
}

/// About what a request weighs beside its texts.
const REQUEST_BYTES: usize = 256;

#[async_trait]
impl Store for SqliteStore {
    fn generation(&self) -> u64 {
        self.generation
    }

    fn feed(&self) -> CommitFeed {
        self.feed.subscribe()
    }

    async fn start(&self, tasks: Vec<NewTask>) -> Result<Vec<Started>, StoreError> {
        let weight = tasks.iter().map(|task| REQUEST_BYTES + task.input.len()).sum();
        self.writer.call(weight, move |transaction| start::start(transaction, &tasks)).await
    }

    async fn started(&self, keys: Vec<IdempotencyKey>) -> Result<Vec<Option<Task>>, StoreError> {
        self.writer.call(REQUEST_BYTES, move |transaction| start::started(transaction, &keys)).await
    }

    async fn retry(&self, id: TaskId, key: Option<IdempotencyKey>) -> Result<Started, StoreError> {
        self.writer.call(REQUEST_BYTES, move |transaction| start::retry(transaction, id, key.as_ref())).await
    }

    async fn claim(&self, kinds: &[KindClaim], room: Room) -> Result<Claimed, StoreError> {
        let kinds = kinds.to_vec();
        let weight = room.get() * REQUEST_BYTES;
        self.writer.call(weight, move |transaction| claim::claim(transaction, &kinds, room.get())).await
    }

    async fn record(&self, write: AttemptWrite) -> Result<(), StoreError> {
        self.writer.call(weight_bytes(&write), move |transaction| attempt::record(transaction, &write)).await
    }

    async fn finish(&self, write: AttemptWrite, outcome: Outcome) -> Result<TaskStatus, StoreError> {
        let weight = weight_bytes(&write);
        self.writer.call(weight, move |transaction| attempt::finish(transaction, &write, &outcome)).await
    }

    async fn cancel(&self, id: TaskId, reason: Option<String>) -> Result<Task, StoreError> {
        self.writer.call(REQUEST_BYTES, move |transaction| attempt::cancel(transaction, id, reason.as_deref())).await
    }

    async fn delete(&self, id: TaskId) -> Result<bool, StoreError> {
        self.writer.call(REQUEST_BYTES, move |transaction| sweep::delete(transaction, id)).await
    }

    async fn sweep(&self, query: SweepQuery) -> Result<Swept, StoreError> {
        self.writer.call(REQUEST_BYTES, move |transaction| sweep::sweep(transaction, &query)).await
    }

    async fn pause(&self, kind: Arc<str>, paused: bool) -> Result<(), StoreError> {
        self.writer.call(REQUEST_BYTES, move |transaction| claim::pause(transaction, &kind, paused)).await
    }

    async fn paused(&self) -> Result<Vec<(Arc<str>, DateTime<Utc>)>, StoreError> {
        self.readers.call(|connection| Ok(claim::paused(connection)?)).await
    }

    async fn recover(&self) -> Result<usize, StoreError> {
        self.writer.call(REQUEST_BYTES, attempt::recover).await
    }

    async fn tasks(&self, ids: Vec<TaskId>) -> Result<Vec<Option<Task>>, StoreError> {
        self.readers.call(move |connection| tasks::some(connection, &ids)).await
    }

    async fn list(&self, query: TaskQuery) -> Result<TaskPage, StoreError> {
        let max_lookups = self.max_filter_lookups;
        self.readers.call(move |connection| tasks::page(connection, &query, max_lookups)).await
    }

    async fn count(&self, filter: TaskFilter, cap: u64) -> Result<u64, StoreError> {
        let max_lookups = self.max_filter_lookups;
        self.readers.call(move |connection| tasks::count(connection, &filter, cap, max_lookups)).await
    }

    async fn statistics(&self, query: StatisticsQuery) -> Result<Vec<KindStatistics>, StoreError> {
        self.readers.call(move |connection| statistics::read(connection, &query)).await
    }

    async fn events(&self, query: EventQuery) -> Result<EventPage, StoreError> {
        self.readers.call(move |connection| journal::page(connection, &query)).await
    }

    async fn prune_events(&self, id: TaskId, through: Seq) -> Result<(), StoreError> {
        self.writer.call(REQUEST_BYTES, move |transaction| journal::prune(transaction, id, through)).await
    }

    async fn check(&self) -> Result<(), StoreError> {
        self.writer.check()?;
        // Takes the write lock and waits for its turn, but writes nothing: a full disk is no reason to restart.
        self.writer.call(REQUEST_BYTES, |_| Ok(())).await?;
        self.readers.call(|connection| Ok(connection.query_row("SELECT 1", [], |_| Ok(()))?)).await
    }

    async fn close(&self) {
        let (writer, readers, folder) = (self.writer.clone(), self.readers.clone(), self.folder.clone());
        let closing = tokio::task::spawn_blocking(move || {
            writer.close();
            readers.close();
            drop(folder.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take());
        });
        if let Err(error) = closing.await {
            tracing::error!(%error, "closing the store failed");
        }
    }
}

fn weight_bytes(write: &AttemptWrite) -> usize {
    REQUEST_BYTES + write.events.iter().map(|event| REQUEST_BYTES + event.body.weight_bytes()).sum::<usize>()
}
