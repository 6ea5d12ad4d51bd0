//! The journal: following what happens to tasks.
//!
//! A [`Journal`] takes a store's feed of commits, keeps the newest events of followed tasks in memory, and
//! gives streams: [`follow`](Journal::follow) for every event of a task, [`watch`](Journal::watch) for its
//! progress, [`changes`](Journal::changes) for lists. Starting, lagging, reconnecting and hearing of
//! another node's writes are one path: a reader knows which `seq` it expects, takes it from memory if it is
//! there, and otherwise from the store.

mod changes;
mod cursor;
mod follow;
#[cfg(all(test, feature = "shuttle"))]
mod interleavings;
mod live;
mod waiters;
mod watch;

use std::sync::Arc;

use moka::future::Cache;
use tokio_util::sync::CancellationToken;

use self::{changes::ChangeLog, live::Live};
pub use self::{
    changes::{Change, Changed, Changes},
    cursor::{EventCursor, InvalidCursor},
    follow::{Follow, FollowError, Followed},
    watch::{Watch, Watched},
};
use crate::{
    model::{Seq, TaskId},
    store::{EventPage, Store},
};

/// About what a page weighs beside its events.
const PAGE_BYTES: usize = 128;

/// How much the journal may hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalOptions {
    /// Bytes of live events in memory, of all followed tasks together.
    pub live_memory_bytes: usize,
    /// Events in a page read from the store.
    pub page_events: usize,
    /// Bytes of events in a page, about.
    pub page_bytes: usize,
    /// Bytes of pages kept for those who replay the same events.
    pub page_cache_bytes: u64,
    /// Changes remembered for those who watch lists; who falls further behind must read the list again.
    pub max_list_changes: usize,
}

impl Default for JournalOptions {
    fn default() -> Self {
        Self {
            live_memory_bytes: 64 << 20,
            page_events: 256,
            page_bytes: 1 << 20,
            page_cache_bytes: 32 << 20,
            max_list_changes: 8192,
        }
    }
}

/// A handle on the journal of a store; cloning it is cheap.
#[derive(Debug, Clone)]
pub struct Journal {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    store: Arc<dyn Store>,
    options: JournalOptions,
    live: Live,
    changes: ChangeLog,
    /// The store's feed has ended.
    closed: CancellationToken,
    /// Full pages, and the newest page as of a known head: what is in one never changes.
    pages: Cache<(TaskId, u64, Seq), Arc<EventPage>>,
}

impl Journal {
    /// The journal of `store`. Starts a task that takes the store's commits until the store is closed;
    /// must be called within a Tokio runtime.
    pub fn new(store: Arc<dyn Store>, options: JournalOptions) -> Self {
        let (journal, reading) = Self::parts(store, options);
        tokio::spawn(reading);
        journal
    }

    /// The journal, and what takes the store's commits: ends when the store is closed.
    fn parts(store: Arc<dyn Store>, options: JournalOptions) -> (Self, impl Future<Output = ()> + Send + use<>) {
        let mut feed = store.feed();
        let weigh = |_: &(TaskId, u64, Seq), page: &Arc<EventPage>| {
            let bytes: usize = PAGE_BYTES + page.events.iter().map(|event| event.weight_bytes()).sum::<usize>();
            u32::try_from(bytes).unwrap_or(u32::MAX)
        };
        let pages = Cache::builder().max_capacity(options.page_cache_bytes).weigher(weigh).build();
        let live = Live::new();
        let changes = ChangeLog::new(options.max_list_changes);
        let budget = options.live_memory_bytes;
        let shared = Arc::new(Shared { store, options, live, changes, pages, closed: CancellationToken::new() });
        let reader = shared.clone();
        let reading = async move {
            let mut memory = live::Budget::new(budget);
            while let Some(batch) = feed.next().await {
                if batch.lagged {
                    reader.live.forget();
                    reader.changes.forget();
                }
                for commit in batch.commits {
                    reader.changes.push(&commit);
                    reader.live.push(commit, &mut memory);
                }
            }
            reader.live.close();
            reader.changes.close();
            reader.closed.cancel();
        };
        (Self { shared }, reading)
    }

    /// Ends when the store was closed, or has failed: nothing new will be told.
    pub async fn closed(&self) {
        self.shared.closed.cancelled().await;
    }

    /// The generation of the store: cursors carry it.
    pub fn generation(&self) -> u64 {
        self.shared.store.generation()
    }
}
