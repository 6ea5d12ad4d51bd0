//! Following the journal: no gap, no duplicate, whatever happens in between.

use std::{pin::pin, sync::Arc, time::Duration};

use futures::{Stream, StreamExt, TryStreamExt};
use meanwhile::{
    clock::{Clock, ManualClock},
    journal::{Changed, FollowError, Followed, Journal, JournalOptions},
    model::{EventBody, Json, LogLevel, Outcome, Progress, Seq, TaskId, TaskStatus},
    store::{
        AttemptRef, NewEvent, Store,
        sqlite::{SqliteOptions, SqliteStore},
    },
};

use crate::{
    store_conformance::clock,
    support::{new_task, write},
};

struct Bench {
    clock: ManualClock,
    store: Arc<dyn Store>,
    journal: Journal,
    _folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        Self::with(&SqliteOptions::default(), JournalOptions::default())
    }

    fn with(store: &SqliteOptions, journal: JournalOptions) -> Self {
        let (clock, folder) = (clock(), tempfile::tempdir().unwrap());
        let store = SqliteStore::open(folder.path(), store, Arc::new(clock.clone())).unwrap();
        let store: Arc<dyn Store> = Arc::new(store);
        Self { clock, journal: Journal::new(store.clone(), journal), store, _folder: folder }
    }

    async fn running(&self) -> AttemptRef {
        self.store.start(vec![new_task("k")]).await.unwrap();
        self.store.claim(&["k".into()], 1.into()).await.unwrap().attempts[0].by
    }

    async fn log(&self, by: AttemptRef, number: u64, lines: usize) {
        let body = EventBody::Log { level: LogLevel::Info, message: "line".repeat(10) };
        let events = vec![NewEvent { at: self.clock.now(), body }; lines];
        self.store.record(write(by, number, events)).await.unwrap();
    }

    async fn complete(&self, by: AttemptRef) {
        self.store.finish(write(by, 1 << 40, vec![]), Outcome::Completed(Json::null())).await.unwrap();
    }
}

async fn seqs(stream: impl Stream<Item = Result<Followed, FollowError>>) -> Vec<Seq> {
    let followed: Vec<Followed> = stream.try_collect().await.unwrap();
    let seq = |followed: &Followed| match followed {
        Followed::Event(event) => event.seq,
        Followed::Gap { .. } => panic!("a gap"),
    };
    followed.iter().map(seq).collect()
}

#[tokio::test]
async fn a_follower_sees_every_event_once_and_ends_with_the_task() {
    let bench = Bench::new();
    let by = bench.running().await;
    bench.log(by, 1, 1000).await;
    let early = tokio::spawn(seqs(bench.journal.follow(by.task, 0)));
    for number in 2..50 {
        bench.log(by, number, 3).await;
    }
    let late = tokio::spawn(seqs(bench.journal.follow(by.task, 1100)));
    bench.complete(by).await;
    let head = bench.store.tasks(vec![by.task]).await.unwrap()[0].as_ref().unwrap().head;
    assert_eq!(early.await.unwrap(), (1..=head).collect::<Vec<_>>());
    assert_eq!(late.await.unwrap(), (1101..=head).collect::<Vec<_>>());
    assert_eq!(seqs(bench.journal.follow(by.task, head)).await, Vec::<Seq>::new(), "nothing is repeated");
}

#[tokio::test]
async fn followers_stay_whole_when_memory_is_short_and_the_feed_drops_commits() {
    let store = SqliteOptions { feed_bytes: 2000, ..SqliteOptions::default() };
    let journal = JournalOptions {
        live_memory_bytes: 500,
        page_events: 7,
        page_bytes: 900,
        page_cache_bytes: 10_000,
        ..Default::default()
    };
    let bench = Bench::with(&store, journal);
    let by = bench.running().await;
    let followers: Vec<_> = (0..20).map(|after| tokio::spawn(seqs(bench.journal.follow(by.task, after % 3)))).collect();
    for number in 1..200 {
        bench.log(by, number, 1 + usize::try_from(number % 13).unwrap()).await;
    }
    bench.complete(by).await;
    let head = bench.store.tasks(vec![by.task]).await.unwrap()[0].as_ref().unwrap().head;
    for (after, follower) in (0..20).zip(followers) {
        assert_eq!(follower.await.unwrap(), (after % 3 + 1..=head).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn pruned_events_are_one_gap_and_then_it_goes_on() {
    let bench = Bench::new();
    let by = bench.running().await;
    bench.log(by, 1, 10).await;
    bench.store.prune_events(by.task, 8).await.unwrap();
    bench.complete(by).await;
    let all: Vec<Followed> = bench.journal.follow(by.task, 2).try_collect().await.unwrap();
    assert!(matches!(all[0], Followed::Gap { from: 3, through: 8, .. }), "{:?}", all[0]);
    assert!(matches!(&all[1], Followed::Event(event) if event.seq == 9), "{:?}", all[1]);
    assert_eq!(all.len(), 6);
}

#[tokio::test]
async fn a_cursor_beyond_the_newest_event_and_an_unknown_task_are_refused() {
    let bench = Bench::new();
    let by = bench.running().await;
    let ahead = pin!(bench.journal.follow(by.task, 3)).next().await.unwrap();
    assert_eq!(ahead, Err(FollowError::Ahead { task: by.task, after: 3, head: 2 }));
    let nobody = TaskId::from_i64(5);
    let unknown = pin!(bench.journal.follow(nobody, 0)).next().await.unwrap();
    assert_eq!(unknown, Err(FollowError::NotFound(nobody)));
}

#[tokio::test]
async fn a_watcher_begins_with_the_present_state_and_misses_no_status() {
    let bench = Bench::new();
    let by = bench.running().await;
    let mut watch = pin!(bench.journal.watch(by.task, None));
    let present = watch.next().await.unwrap().unwrap();
    assert_eq!((present.status(), present.seq()), (TaskStatus::Running, 2));
    for number in 1..=20 {
        let body = EventBody::Progress(Progress::of(f64::from(u32::try_from(number).unwrap()), 20.0));
        let events = vec![NewEvent { at: bench.clock.now(), body }];
        bench.store.record(write(by, number, events)).await.unwrap();
    }
    bench.complete(by).await;
    let rest: Vec<_> = watch.try_collect().await.unwrap();
    assert_eq!(rest.last().unwrap().status(), TaskStatus::Completed);
    assert!(rest.is_sorted_by(|a, b| a.seq() < b.seq()), "{rest:?}");
    let resumed: Vec<_> = bench.journal.watch(by.task, Some(1)).try_collect().await.unwrap();
    let statuses: Vec<_> = resumed.iter().map(|watched| watched.status()).collect();
    assert_eq!(statuses, [TaskStatus::Running, TaskStatus::Completed]);
}

#[tokio::test]
async fn changes_of_any_task_reach_those_who_watch_lists_and_a_lag_is_told() {
    let bench = Bench::with(&SqliteOptions::default(), JournalOptions { max_list_changes: 4, ..Default::default() });
    let mut changes = bench.journal.changes();
    let by = bench.running().await;
    let mut seen = Vec::new();
    while seen.len() < 2 {
        match changes.next().await.unwrap() {
            Changed::Tasks(tasks) => seen.extend(tasks.iter().map(|change| (change.task, change.change.to))),
            Changed::Missed => panic!("missed"),
        }
    }
    assert_eq!(seen, [(by.task, Some(TaskStatus::Pending)), (by.task, Some(TaskStatus::Running))]);
    let mut other = bench.journal.changes();
    for number in 1..=10 {
        bench.log(by, number, 1).await;
    }
    bench.store.close().await;
    while other.next().await.is_some() {}
    // All ten were logged meanwhile, in a log of four.
    assert!(matches!(changes.next().await, Some(Changed::Missed)));
    assert!(changes.next().await.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_while_memory_is_behind_the_store_is_not_refused() {
    let bench = Arc::new(Bench::new());
    let by = bench.running().await;
    // Somebody follows, so that memory knows a head of its own.
    let first = tokio::spawn(seqs(bench.journal.follow(by.task, 0)));
    let writer = tokio::spawn({
        let bench = bench.clone();
        async move {
            for number in 1..=1000 {
                bench.log(by, number, 3).await;
            }
            bench.complete(by).await;
        }
    });
    while !writer.is_finished() {
        // Begins after an event that the store knows of, and memory perhaps not yet.
        let mut watch = pin!(bench.journal.watch(by.task, None));
        watch.next().await.unwrap().unwrap();
        let soon = tokio::time::timeout(Duration::from_millis(1), watch.next()).await;
        assert!(!matches!(soon, Ok(Some(Err(_)))), "{soon:?}");
    }
    let last = first.await.unwrap().len() as u64;
    let after = |seq| bench.journal.follow(by.task, seq).try_collect::<Vec<_>>();
    assert_eq!(after(last).await.unwrap(), Vec::<Followed>::new());
    assert_eq!(after(last + 1).await.unwrap_err(), FollowError::Ahead { task: by.task, after: last + 1, head: last });
}
