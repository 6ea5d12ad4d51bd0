//! Signal, live memory and following under every order in which their steps can take turns, drawn at random by Shuttle.
//!
//! `cargo test --features shuttle --lib journal::interleavings`. Each run draws thousands of orders; one that fails is
//! printed as a schedule that `shuttle::replay` repeats. Everything is as in the server, except the store, which is a
//! vector here, and the runtime, which is Shuttle's. A lost signal would be a deadlock, which Shuttle reports.

use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use chrono::DateTime;
use futures::TryStreamExt;
use shuttle::{
    Config, Runner,
    future::{block_on, spawn},
    scheduler::{PctScheduler, RandomScheduler, Scheduler},
    sync::Mutex,
};

use super::{FollowError, Followed, Journal, JournalOptions};
use crate::{
    model::{
        Event, EventBody, IdempotencyKey, Json, LogLevel, NewTask, Outcome, Progress, Seq, StatusChange, Task, TaskId,
        TaskStatus,
    },
    store::{
        AttemptWrite, Claimed, Commit, CommitFeed, EventPage, EventQuery, KindClaim, KindStatistics, Room, Started,
        StatisticsQuery, StatusMove, Store, StoreError, SweepQuery, Swept, TaskFilter, TaskPage, TaskQuery,
        feed::FeedSender,
    },
};

/// Orders drawn for each test, and how long on a slow machine: then they are fewer.
const ORDERS: usize = 3000;
const LONGEST: Duration = Duration::from_secs(60);
/// Events of the task; the last one ends it.
const EVENTS: Seq = 12;

/// One task's events, in memory: committed first, told of afterwards, as every store does.
#[derive(Debug)]
struct Written {
    events: Mutex<Vec<Arc<Event>>>,
    feed: FeedSender,
}

fn id() -> TaskId {
    TaskId::from_i64(1)
}

fn status(head: Seq) -> TaskStatus {
    if head == EVENTS { TaskStatus::Completed } else { TaskStatus::Running }
}

impl Written {
    fn new(feed_bytes: usize) -> Arc<Self> {
        let written = Arc::new(Self { events: Mutex::new(Vec::new()), feed: FeedSender::new(feed_bytes) });
        written.commit(1);
        written
    }

    fn commit(&self, count: usize) {
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        let from = (!events.is_empty()).then_some(TaskStatus::Running);
        let mut new = Vec::new();
        for _ in 0..count {
            let seq = (events.len() + new.len()) as Seq + 1;
            let body = if seq == EVENTS {
                let progress = Progress::default();
                let status = TaskStatus::Completed;
                EventBody::Status(StatusChange { status, progress, result: None, error: None, run_at: None })
            } else {
                EventBody::Log { level: LogLevel::Info, message: "line".into() }
            };
            new.push(Arc::new(Event { task: id(), seq, attempt: 1, at: DateTime::UNIX_EPOCH, body }));
        }
        events.extend(new.iter().cloned());
        let head = events.len() as Seq;
        drop(events);
        let change = StatusMove { kind: "k".into(), tags: Arc::from([]), from, to: Some(status(head)) };
        self.feed.send(&[Commit { task: id(), head, events: new, change }]);
    }

    /// All that is to come, a few at a time.
    fn write_all(&self) {
        let mut left = EVENTS - 1;
        while left > 0 {
            let count = (left % 3 + 1).min(left);
            self.commit(usize::try_from(count).unwrap());
            left -= count;
        }
    }
}

fn not_here<T>() -> Result<T, StoreError> {
    Err(StoreError::Internal("not in this test".into()))
}

#[async_trait]
impl Store for Written {
    fn generation(&self) -> u64 {
        1
    }

    fn feed(&self) -> CommitFeed {
        self.feed.subscribe()
    }

    async fn tasks(&self, ids: Vec<TaskId>) -> Result<Vec<Option<Task>>, StoreError> {
        let head = self.events.lock().unwrap_or_else(PoisonError::into_inner).len() as Seq;
        let task = |id: TaskId| Task {
            id,
            kind: "k".into(),
            status: status(head),
            input: Json::null(),
            result: None,
            error: None,
            progress: Progress::default(),
            progress_at: None,
            attempt: 1,
            max_attempts: 1,
            timeout_ms: None,
            tags: Vec::new(),
            priority: 0,
            run_at: DateTime::UNIX_EPOCH,
            started_at: None,
            completed_at: None,
            retry_of: None,
            cancel_requested: false,
            deadline: None,
            concurrency_key: None,
            head,
        };
        Ok(ids.into_iter().map(|id| Some(task(id))).collect())
    }

    async fn events(&self, query: EventQuery) -> Result<EventPage, StoreError> {
        let stored = self.events.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let fits = stored.iter().filter(|event| event.seq > query.after);
        let events: Vec<_> = fits.take(query.limit).cloned().collect();
        let head = stored.len() as Seq;
        let has_more = events.last().is_some_and(|last| last.seq < head);
        Ok(EventPage { events, head, pruned_through: 0, has_more })
    }

    async fn start(&self, _: Vec<NewTask>) -> Result<Vec<Started>, StoreError> {
        not_here()
    }
    async fn started(&self, _: Vec<IdempotencyKey>) -> Result<Vec<Option<Task>>, StoreError> {
        not_here()
    }
    async fn retry(&self, _: TaskId, _: Option<IdempotencyKey>) -> Result<Started, StoreError> {
        not_here()
    }
    async fn claim(&self, _: &[KindClaim], _: Room) -> Result<Claimed, StoreError> {
        not_here()
    }
    async fn record(&self, _: AttemptWrite) -> Result<(), StoreError> {
        not_here()
    }
    async fn finish(&self, _: AttemptWrite, _: Outcome) -> Result<TaskStatus, StoreError> {
        not_here()
    }
    async fn cancel(&self, _: TaskId, _: Option<String>) -> Result<Task, StoreError> {
        not_here()
    }
    async fn delete(&self, _: TaskId) -> Result<bool, StoreError> {
        not_here()
    }
    async fn sweep(&self, _: SweepQuery) -> Result<Swept, StoreError> {
        not_here()
    }
    async fn pause(&self, _: Arc<str>, _: bool) -> Result<(), StoreError> {
        not_here()
    }
    async fn paused(&self) -> Result<Vec<(Arc<str>, DateTime<chrono::Utc>)>, StoreError> {
        not_here()
    }
    async fn recover(&self) -> Result<usize, StoreError> {
        not_here()
    }
    async fn list(&self, _: TaskQuery) -> Result<TaskPage, StoreError> {
        not_here()
    }
    async fn count(&self, _: TaskFilter, _: u64) -> Result<u64, StoreError> {
        not_here()
    }
    async fn statistics(&self, _: StatisticsQuery) -> Result<Vec<KindStatistics>, StoreError> {
        not_here()
    }
    async fn prune_events(&self, _: TaskId, _: Seq) -> Result<(), StoreError> {
        not_here()
    }
    async fn check(&self) -> Result<(), StoreError> {
        Ok(())
    }
    async fn close(&self) {
        self.feed.close();
    }
}

/// Two who follow, one from the first event and one from further on, while the task is written to.
fn follow_while_it_is_written(feed_bytes: usize, live_memory_bytes: usize) {
    let written = Written::new(feed_bytes);
    let options = JournalOptions { live_memory_bytes, page_events: 4, ..JournalOptions::default() };
    let (journal, reading) = Journal::parts(written.clone(), options);
    let reading = spawn(reading);
    let followers = [0, 1].map(|after| {
        let journal = journal.clone();
        spawn(async move {
            let followed: Result<Vec<Followed>, FollowError> = journal.follow(id(), after).try_collect().await;
            let seqs: Vec<Seq> = followed
                .unwrap()
                .iter()
                .map(|followed| match followed {
                    Followed::Event(event) => event.seq,
                    Followed::Gap { .. } => panic!("a gap"),
                })
                .collect();
            assert_eq!(seqs, (after + 1..=EVENTS).collect::<Vec<_>>());
        })
    });
    let writer = shuttle::thread::spawn(move || {
        written.write_all();
        written
    });
    block_on(async {
        for follower in followers {
            follower.await.unwrap();
        }
    });
    // What nobody holds open any more ends.
    writer.join().unwrap().feed.close();
    block_on(reading).unwrap();
}

fn in_drawn_orders(scheduler: impl Scheduler + 'static, run: impl Fn() + Send + Sync + 'static) {
    let mut config = Config::new();
    // What a thread of the server has, about: the default is for tests that call less.
    config.stack_size = 1 << 20;
    config.max_time = Some(LONGEST);
    Runner::new(scheduler, config).run(run);
}

#[test]
fn every_event_comes_once_and_in_order() {
    in_drawn_orders(RandomScheduler::new(ORDERS), || follow_while_it_is_written(1 << 20, 1 << 20));
    in_drawn_orders(PctScheduler::new(3, ORDERS), || follow_while_it_is_written(1 << 20, 1 << 20));
}

#[test]
fn also_when_live_memory_holds_next_to_nothing() {
    in_drawn_orders(RandomScheduler::new(ORDERS), || follow_while_it_is_written(1 << 20, 300));
}

#[test]
fn also_when_the_feed_is_late() {
    in_drawn_orders(RandomScheduler::new(ORDERS), || follow_while_it_is_written(1500, 1 << 20));
}
