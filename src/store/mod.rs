//! Where tasks and their journal live.
//!
//! [`Store`] has one verb per use case. Each that writes does so in one transaction: the change of the
//! task and the event that tells it, or neither. A verb returns when that is durable. What was committed
//! then appears, in order, in the [`CommitFeed`]; the store calls nobody.

pub mod feed;
pub mod sqlite;
mod statistics;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use chrono::{DateTime, Utc};

pub use feed::{Commit, CommitBatch, CommitFeed, StatusMove};
pub use statistics::{KindStatistics, StatisticsQuery, TaskTimes};

use crate::model::{
    Backoff, Event, EventBody, EventType, IdempotencyKey, NewTask, Outcome, Seq, Task, TaskId, TaskStatus,
};

/// Durable tasks and events. Implementations: one module each, below.
///
/// Every implementation must pass the conformance suite in `tests/`.
#[async_trait]
pub trait Store: fmt::Debug + Send + Sync + 'static {
    /// Names this very store: drawn at random when it was created. Event cursors carry it, so that a
    /// cursor of a deleted or restored store is recognised.
    fn generation(&self) -> u64;

    /// Commits from now on. Each call gives a feed of its own.
    fn feed(&self) -> CommitFeed;

    /// Stores tasks, all or none, each `PENDING` with its first event.
    ///
    /// A task whose idempotency key is known is not stored again: the earlier one is returned with
    /// `existed`. The same key with another fingerprint is a [`StoreError::Conflict`].
    async fn start(&self, tasks: Vec<NewTask>) -> Result<Vec<Started>, StoreError>;

    /// The task that was started with each of these keys, if there is one. [`StoreError::Conflict`] when one of them has
    /// another fingerprint.
    async fn started(&self, keys: Vec<IdempotencyKey>) -> Result<Vec<Option<Task>>, StoreError>;

    /// Stores a new task that repeats an ended one, with `retry_of`; once with a key, as [`start`](Self::start).
    /// [`StoreError::Conflict`] while that one has not ended.
    async fn retry(&self, id: TaskId, key: Option<IdempotencyKey>) -> Result<Started, StoreError>;

    /// Begins attempts at pending tasks of these kinds that are due, as many as there is room for when it does so:
    /// highest priority first, then earliest `run_at`, then oldest. Each becomes `RUNNING` with its event. Tasks of a kind that is
    /// paused stay where they are, and so do those that a limit of [`KindClaim`] does not let run now. Pending tasks of
    /// any kind whose deadline has passed fail.
    async fn claim(&self, kinds: &[KindClaim], room: Room) -> Result<Claimed, StoreError>;

    /// Adds events to a running attempt's task. [`StoreError::Stale`] when that attempt is not the
    /// running one: then nothing is written.
    async fn record(&self, write: AttemptWrite) -> Result<(), StoreError>;

    /// Adds the last events of an attempt and ends it; says what became of the task.
    /// [`StoreError::Stale`] as for `record`.
    async fn finish(&self, write: AttemptWrite, outcome: Outcome) -> Result<TaskStatus, StoreError>;

    /// Cancels a pending task at once; notes the request on a running one (with a log event, once).
    /// Returns the task as it then is. [`StoreError::Conflict`] when the task has ended otherwise; an
    /// already cancelled task is returned as it is.
    async fn cancel(&self, id: TaskId, reason: Option<String>) -> Result<Task, StoreError>;

    /// Deletes an ended task with its events, its tags and its idempotency key. [`StoreError::Conflict`] while it has
    /// not ended. A task with many events is deleted in slices: `false` says that there is more, to be called again;
    /// until then the task is there, without its oldest events.
    async fn delete(&self, id: TaskId) -> Result<bool, StoreError>;

    /// Deletes what is older than was said, in one slice.
    async fn sweep(&self, query: SweepQuery) -> Result<Swept, StoreError>;

    /// Has tasks of a kind wait, or go on: what runs is left alone. Survives restarts.
    async fn pause(&self, kind: Arc<str>, paused: bool) -> Result<(), StoreError>;

    /// The kinds that are paused, and since when.
    async fn paused(&self) -> Result<Vec<(Arc<str>, DateTime<Utc>)>, StoreError>;

    /// Ends the attempts of processes that are gone as lost, and says how many there were. Called when
    /// a node starts.
    async fn recover(&self) -> Result<usize, StoreError>;

    /// Tasks by id, in the order asked for; `None` for those not there. As many as weigh about [`MAX_TASKS_BYTES`], and at
    /// least one: of the rest nothing is said.
    async fn tasks(&self, ids: Vec<TaskId>) -> Result<Vec<Option<Task>>, StoreError>;

    /// A page of tasks, by id. Where few tasks fit among very many it can end before it is full, with
    /// [`TaskPage::searched_until`].
    async fn list(&self, query: TaskQuery) -> Result<TaskPage, StoreError>;

    /// How many tasks fit the filter; counting stops at `cap`. [`StoreError::TooBroad`] where few tasks fit among very
    /// many.
    async fn count(&self, filter: TaskFilter, cap: u64) -> Result<u64, StoreError>;

    /// How many tasks of each kind are in each status, and how long those took that completed last; by kind.
    async fn statistics(&self, query: StatisticsQuery) -> Result<Vec<KindStatistics>, StoreError>;

    /// Stored events of a task with `seq > after`, oldest first, up to the limits of `query`.
    /// [`StoreError::NotFound`] when there is no such task.
    async fn events(&self, query: EventQuery) -> Result<EventPage, StoreError>;

    /// Removes stored events with `seq <= through` of a task, never its newest. Those who read there
    /// see a gap.
    async fn prune_events(&self, id: TaskId, through: Seq) -> Result<(), StoreError>;

    /// Whether the store works: reads and writes something.
    async fn check(&self) -> Result<(), StoreError>;

    /// Writes what was accepted, then closes. Later calls give [`StoreError::Closed`].
    async fn close(&self);
}

/// How much [`Store::tasks`] gives at once, in bytes; a single larger task comes alone.
pub const MAX_TASKS_BYTES: usize = 256 << 10;

/// Names one attempt: the fencing token that every write carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AttemptRef {
    /// The task.
    pub task: TaskId,
    /// The attempt's number.
    pub attempt: u32,
    /// The session of the node that claimed it: drawn at random each time a store is opened.
    pub session: i64,
}

/// Events that a running attempt wants recorded.
#[derive(Debug, Clone)]
pub struct AttemptWrite {
    /// Who writes.
    pub by: AttemptRef,
    /// Grows with each write of the attempt, from 1. A write whose number is not above the last one
    /// recorded was already done: it is acknowledged and changes nothing, so that a write of unknown
    /// outcome can be repeated.
    pub number: u64,
    /// In order. No status changes: those are `claim`'s, `finish`'s and `cancel`'s.
    pub events: Vec<NewEvent>,
}

/// An event to be recorded; the store gives it its `seq`, and a chunk its index.
#[derive(Debug, Clone, PartialEq)]
pub struct NewEvent {
    /// When it happened.
    pub at: DateTime<Utc>,
    /// What happened. A chunk's `index` is ignored.
    pub body: EventBody,
}

/// What [`Store::start`] made of one of the tasks.
#[derive(Debug, Clone, PartialEq)]
pub struct Started {
    /// The task.
    pub task: Task,
    /// It was there before, under the same idempotency key.
    pub existed: bool,
}

/// A kind whose tasks can be claimed, and how many of them may run at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KindClaim {
    /// The kind.
    pub name: Arc<str>,
    /// Of all its tasks; `None`: as many as there is room for.
    pub concurrency: Option<usize>,
    /// Of those with the same concurrency key.
    pub concurrency_per_key: usize,
}

impl From<&str> for KindClaim {
    /// Without a limit of its own; one at a time of each key.
    fn from(name: &str) -> Self {
        Self { name: name.into(), concurrency: None, concurrency_per_key: 1 }
    }
}

/// What [`Store::sweep`] is to delete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SweepQuery {
    /// Tasks that ended before this moment, with all that belongs to them.
    pub tasks_before: Option<DateTime<Utc>>,
    /// Events of tasks that ended before this moment, but never the newest of a task.
    pub events_before: Option<DateTime<Utc>>,
    /// Where to go on with `events_before`: what an earlier sweep gave.
    pub after: Option<SweepPlace>,
    /// At most so many tasks looked at, and about so many events deleted.
    pub limit: usize,
}

/// A place among the ended tasks, in the order in which they ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SweepPlace {
    /// When the task ended.
    pub completed_at: DateTime<Utc>,
    /// The task.
    pub task: TaskId,
}

/// What [`Store::sweep`] has deleted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Swept {
    /// Tasks.
    pub tasks: usize,
    /// Events, those of deleted tasks included.
    pub events: usize,
    /// Where to go on.
    pub after: Option<SweepPlace>,
    /// There is more to delete now.
    pub more: bool,
}

/// What [`Store::claim`] began.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Claimed {
    /// The attempts begun, in the order of the claim.
    pub attempts: Vec<Attempt>,
    /// When the earliest pending task of those kinds becomes due that is not due yet.
    pub next_due: Option<DateTime<Utc>>,
    /// The earliest deadline of a pending task.
    pub next_deadline: Option<DateTime<Utc>>,
    /// Tasks that failed because their deadline had passed.
    pub expired: usize,
    /// There may be more to claim now: the room was used up, or the work was cut short to keep the transaction short.
    pub more: bool,
}

/// How many attempts may begin. It can change until the claim is done, which may wait for other writes: what has ended
/// meanwhile makes room. All clones are the same room.
#[derive(Debug, Clone, Default)]
pub struct Room(Arc<AtomicUsize>);

impl Room {
    /// How many may begin now.
    pub fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Says how many may begin from now on.
    pub fn set(&self, attempts: usize) {
        self.0.store(attempts, Ordering::Relaxed);
    }
}

impl From<usize> for Room {
    fn from(attempts: usize) -> Self {
        Self(Arc::new(attempts.into()))
    }
}

/// An attempt that was just begun.
#[derive(Debug, Clone, PartialEq)]
pub struct Attempt {
    /// Its fencing token.
    pub by: AttemptRef,
    /// What sort of work.
    pub kind: Arc<str>,
    /// What the handler is given.
    pub input: crate::model::Json,
    /// Its time limit, in milliseconds.
    pub timeout_ms: Option<u64>,
    /// Attempts of this task that failed before.
    pub failures: u32,
    /// How long to wait before a retry.
    pub backoff: Backoff,
    /// When it has to have ended.
    pub deadline: Option<DateTime<Utc>>,
    /// Whether others with its concurrency key may wait for it.
    pub has_key: bool,
    /// How many events the task has.
    pub events: Seq,
    /// What they say, in bytes.
    pub bytes: u64,
}

/// Which tasks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TaskFilter {
    /// Of one of these kinds; empty: of any.
    pub kinds: Vec<String>,
    /// In one of these statuses; empty: in any.
    pub statuses: Vec<TaskStatus>,
    /// With all of these tags.
    pub tags: Vec<String>,
    /// Created after this moment (not at it), to the millisecond.
    pub created_after: Option<DateTime<Utc>>,
    /// Created before this moment (not at it), to the millisecond.
    pub created_before: Option<DateTime<Utc>>,
}

/// In which order a page runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// Newest first: the order of lists.
    #[default]
    NewestFirst,
    /// Oldest first: lists read from their end.
    OldestFirst,
}

/// A page of tasks to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskQuery {
    /// Which tasks.
    pub filter: TaskFilter,
    /// Only ids below this one.
    pub below: Option<TaskId>,
    /// Only ids above this one.
    pub above: Option<TaskId>,
    /// In which order.
    pub order: Order,
    /// At most so many.
    pub limit: usize,
    /// At most about so many bytes of inputs, results and errors, but at least one task.
    pub limit_bytes: usize,
}

impl Default for TaskQuery {
    /// The newest 100, of any sort.
    fn default() -> Self {
        Self {
            filter: TaskFilter::default(),
            below: None,
            above: None,
            order: Order::default(),
            limit: 100,
            limit_bytes: 4 << 20,
        }
    }
}

/// A page of tasks.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TaskPage {
    /// In the query's order.
    pub tasks: Vec<Task>,
    /// Whether more tasks fit, or can fit, beyond the last of this page.
    pub has_more: bool,
    /// The page is not full, because it took as many look-ups as it may: go on from here, as from its last task.
    pub searched_until: Option<TaskId>,
}

/// A page of events to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventQuery {
    /// Of which task.
    pub task: TaskId,
    /// Only with `seq` above this.
    pub after: Seq,
    /// At most so many.
    pub limit: usize,
    /// At most about so many bytes (see [`Event::weight_bytes`]), but at least one event.
    pub limit_bytes: usize,
    /// Only of these types; empty: of any.
    pub types: Vec<EventType>,
}

/// A page of events.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct EventPage {
    /// Oldest first.
    pub events: Vec<Arc<Event>>,
    /// `seq` of the task's newest event.
    pub head: Seq,
    /// Events up to this one are no longer stored; 0 when all are.
    pub pruned_through: Seq,
    /// Whether more events fit, beyond the last of this page.
    pub has_more: bool,
}

/// Why a store did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// There is no such task.
    #[error("there is no task {0}")]
    NotFound(TaskId),
    /// It cannot be done as things stand.
    #[error("{0}")]
    Conflict(String),
    /// The attempt is not the one that runs: it was lost, ended or superseded.
    #[error("attempt {} of {} is no longer the running one", .0.attempt, .0.task)]
    Stale(AttemptRef),
    /// The disk, or the database's own limit, is full. Nothing was written; it may work later.
    #[error("the store is full: free disk space (or raise `max_database_bytes`, if it is set), then try again")]
    Full,
    /// The filter asks for several things of which each fits very many tasks, but seldom the same.
    #[error(
        "too many tasks fit each part of this filter, and too few of them all of it, to be counted within the limit \
         `max_filter_lookups`, which allows {0} look-ups: narrow it, by `createdAfter` for example"
    )]
    TooBroad(u64),
    /// Another program has locked the database. Nothing was written; it works again when the lock is gone.
    #[error("another program has locked the store's database: try again when it has ended")]
    Locked,
    /// The store does not work any more; the process has to be started again.
    #[error("the store has failed: {0}")]
    Failed(String),
    /// A fault of the program. Nothing was written; the store goes on.
    #[error("a fault in the store: {0}")]
    Internal(String),
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
}

impl StoreError {
    /// Whether nothing was written, and the same write can succeed later.
    pub fn passes(&self) -> bool {
        matches!(self, Self::Full | Self::Locked)
    }
}

/// Why a store could not be opened. The text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error("{0}")]
    Locked(String),
    /// The folder or file cannot be made, read or written.
    #[error("{0}")]
    Unusable(String),
    /// It was written by a newer program.
    #[error("{0}")]
    TooNew(String),
}
