//! The power fails: what was written and not synced is lost, or comes torn. What was acknowledged is there all the same.
//!
//! SIGKILL does not show this, because the kernel still has what a killed process wrote. Here the store works on a disk
//! that records what was synced (`tests/power-loss`), and is looked at as it would be found after the power had failed, at
//! many moments while tasks run. `MEANWHILE_POWER_LOSS_SEED` repeats what was drawn.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use futures::TryStreamExt;
use meanwhile::{
    clock::{Clock, SystemClock},
    journal::{Followed, JournalOptions},
    model::{EventBody, IdempotencyKey, Json, LogLevel, NewTask, Outcome, Seq, TaskError, TaskId, TaskStatus, code},
    store::{
        EventQuery, NewEvent, Store, SweepQuery,
        sqlite::{SqliteOptions, SqliteStore},
    },
    task::{JobContext, JobError, StartTask, TaskManager, TaskOptions},
};
use meanwhile_power_loss as disk;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use rusqlite::{Connection, OpenFlags};

use crate::support::{new_task, write};

/// How often the power fails.
const LOSSES: usize = 20;
/// Tasks in one start and in one claim.
const BATCH: usize = 8;

/// How long an ended task is kept.
const KEEP: Duration = Duration::from_millis(300);
/// More than passes between the end of a task, in its store, and its acknowledgement.
const SLOWEST_ACKNOWLEDGEMENT: Duration = Duration::from_millis(100);

/// What the store has acknowledged.
#[derive(Debug, Clone, Default)]
struct Acknowledged {
    /// Of each task how many events it has at least, and its status since when.
    tasks: HashMap<TaskId, (Seq, TaskStatus, Instant)>,
    /// By idempotency key.
    keys: HashMap<String, TaskId>,
    /// Tasks that were deleted.
    deleted: HashSet<TaskId>,
    /// Kinds that are paused.
    paused: BTreeSet<Arc<str>>,
}

impl Acknowledged {
    fn note(&mut self, id: TaskId, head: Seq, status: TaskStatus) {
        self.tasks.insert(id, (head, status, Instant::now()));
    }

    /// Whether retention may have deleted a task, that ended so long ago.
    fn may_be_gone(&self, id: TaskId) -> bool {
        self.tasks
            .get(&id)
            .is_none_or(|(_, status, since)| status.is_terminal() && since.elapsed() > KEEP - SLOWEST_ACKNOWLEDGEMENT)
    }
}

fn open(folder: &Path, vfs: Option<&str>) -> Arc<dyn Store> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let options = SqliteOptions { vfs: vfs.map(str::to_owned), ..SqliteOptions::default() };
    Arc::new(SqliteStore::open(folder, &options, clock).unwrap())
}

/// The same request each time it is made with this key.
fn request(key: &str) -> NewTask {
    let idempotency = IdempotencyKey { key: key.to_owned(), fingerprint: [7; 32] };
    // Some have to wait for each other.
    let concurrency_key = key.len().is_multiple_of(2).then(|| "one at a time".to_owned());
    NewTask {
        max_attempts: 2,
        idempotency: Some(idempotency),
        concurrency_key,
        tags: vec!["t".into()],
        ..new_task("k")
    }
}

/// Tasks start, run, speak, are tried again, are cancelled, end, lose their events and are deleted, and kinds are paused,
/// until told to stop.
async fn work(worker: usize, store: Arc<dyn Store>, acknowledged: Arc<Mutex<Acknowledged>>, stop: Arc<AtomicBool>) {
    let at = SystemClock::default().now();
    let mut swept = None;
    for round in 0.. {
        if stop.load(Ordering::Acquire) {
            return;
        }
        let keys: Vec<String> = (0..BATCH).map(|number| format!("{worker} {round} {number}")).collect();
        let started = store.start(keys.iter().map(|key| request(key)).collect()).await.unwrap();
        for (key, started) in keys.into_iter().zip(started) {
            assert!(!started.existed);
            let mut acknowledged = acknowledged.lock().unwrap();
            acknowledged.note(started.task.id, 1, TaskStatus::Pending);
            acknowledged.keys.insert(key, started.task.id);
        }
        let kind: Arc<str> = format!("paused {worker} {}", round % 10).into();
        store.pause(kind.clone(), true).await.unwrap();
        acknowledged.lock().unwrap().paused.insert(kind);
        let claimed = store.claim(&["k".into()], BATCH.into()).await.unwrap();
        let note = |id, head, status| acknowledged.lock().unwrap().note(id, head, status);
        for attempt in claimed.attempts {
            let (id, begun) = (attempt.by.task, attempt.events);
            note(id, begun, TaskStatus::Running);
            let body = EventBody::Log { level: LogLevel::Info, message: "x".repeat(300) };
            store.record(write(attempt.by, 1, vec![NewEvent { at, body }; 3])).await.unwrap();
            note(id, begun + 3, TaskStatus::Running);
            let error = TaskError {
                code: code::HANDLER_FAILED.into(),
                message: "no".into(),
                details: None,
                attempt: attempt.by.attempt,
                retryable: true,
            };
            // The second time it is out of attempts.
            let (head, outcome) = match id.as_i64() % 4 {
                0 => (begun + 4, Outcome::Failed { error, retry_at: Some(at) }),
                1 => {
                    store.cancel(id, None).await.unwrap();
                    // Asked for, confirmed, and the status.
                    (begun + 6, Outcome::Cancelled(error))
                }
                _ => (begun + 4, Outcome::Completed(Json::from_value(&"y".repeat(500)).unwrap())),
            };
            let status = store.finish(write(attempt.by, 2, Vec::new()), outcome).await.unwrap();
            note(id, head, status);
            if id.as_i64() % 4 == 3 {
                // From now on it may be gone.
                acknowledged.lock().unwrap().tasks.remove(&id);
                store.delete(id).await.unwrap();
                acknowledged.lock().unwrap().deleted.insert(id);
            }
        }
        let now = SystemClock::default().now();
        let (tasks_before, events_before) = (Some(now - KEEP), Some(now));
        let query = SweepQuery { tasks_before, events_before, after: swept, limit: BATCH };
        swept = store.sweep(query).await.unwrap().after;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_is_there_after_the_power_has_failed() {
    disk::register();
    let seed = std::env::var("MEANWHILE_POWER_LOSS_SEED").map_or_else(|_| rand::random(), |text| text.parse().unwrap());
    println!("MEANWHILE_POWER_LOSS_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let folder = tempfile::tempdir().unwrap();
    // As SQLite calls it.
    let path = folder.path().canonicalize().unwrap();
    let store = open(&path, Some(disk::NAME));
    let (acknowledged, stop) = (Arc::new(Mutex::<Acknowledged>::default()), Arc::new(AtomicBool::new(false)));
    let workers: Vec<_> =
        (0..4).map(|worker| tokio::spawn(work(worker, store.clone(), acknowledged.clone(), stop.clone()))).collect();
    let mut feed = store.feed();
    for loss in 0..LOSSES {
        for _ in 0..random.random_range(1..20) {
            feed.next().await.unwrap();
        }
        // First what was promised, then the failure: between the two there can only be more.
        let promised = acknowledged.lock().unwrap().clone();
        let copy = tempfile::tempdir().unwrap();
        let kept = [0.0, 0.5, 0.9][loss % 3];
        disk::power_loss(&path, copy.path(), kept, &mut random).unwrap();
        check(copy.path(), &promised, &acknowledged).await;
    }
    stop.store(true, Ordering::Release);
    for worker in workers {
        worker.await.unwrap();
    }
    store.close().await;
    assert!(acknowledged.lock().unwrap().keys.len() > LOSSES, "something was done meanwhile");
}

async fn check(folder: &Path, promised: &Acknowledged, later: &Mutex<Acknowledged>) {
    let store = open(folder, None);
    store.recover().await.unwrap();
    for (id, (head, status, _)) in &promised.tasks {
        let Some(task) = store.tasks(vec![*id]).await.unwrap().remove(0) else {
            assert!(later.lock().unwrap().may_be_gone(*id), "{id} was acknowledged and is not there");
            continue;
        };
        assert!(task.head >= *head, "{id} had {head} events, and has {}", task.head);
        assert!(!status.is_terminal() || task.status == *status, "{id} had ended, and is {:?}", task.status);
        let query = EventQuery { task: *id, after: 0, limit: 100, limit_bytes: usize::MAX, types: Vec::new() };
        let page = store.events(query).await.unwrap();
        let seqs: Vec<Seq> = page.events.iter().map(|event| event.seq).collect();
        assert_eq!(seqs, (page.pruned_through + 1..=task.head).collect::<Vec<_>>(), "the events of {id}");
    }
    for id in &promised.deleted {
        assert!(store.tasks(vec![*id]).await.unwrap()[0].is_none(), "{id} was deleted, and is there");
    }
    for (key, id) in &promised.keys {
        if store.tasks(vec![*id]).await.unwrap()[0].is_some() {
            let again = store.start(vec![request(key)]).await.unwrap().remove(0);
            assert!(again.existed && again.task.id == *id, "{key} is another task than {id}: {again:?}");
        }
    }
    let paused: BTreeSet<Arc<str>> = store.paused().await.unwrap().into_iter().map(|(kind, _)| kind).collect();
    assert!(promised.paused.is_subset(&paused), "{:?} and not {paused:?} were paused", promised.paused);
    store.close().await;
    let database = Connection::open(folder.join("meanwhile.db")).unwrap();
    let sound: String = database.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(sound, "ok");
}

/// Handlers that speak, fail once, or wait to be cancelled, as their input says.
async fn manager(folder: &Path, vfs: Option<&str>) -> TaskManager {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let options = TaskOptions { retry_backoff_ms: 1, max_attempts: 2, max_lost: 1000, ..TaskOptions::default() };
    let manager = TaskManager::open(open(folder, vfs), clock, options, JournalOptions::default(), 1).await.unwrap();
    let work = |ctx: JobContext, number: u64| async move {
        ctx.chunk(&"x".repeat(300)).await?;
        ctx.progress(50.0);
        match number % 3 {
            0 if ctx.attempt() == 1 => return Err(JobError::new("once more")),
            1 => ctx.cancelled().await,
            _ => {}
        }
        Ok(number)
    };
    manager.register("work", work).unwrap();
    manager
}

/// Tasks are started and cancelled until told to stop.
async fn ask(manager: TaskManager, promised: Arc<Mutex<HashMap<TaskId, bool>>>, stop: Arc<AtomicBool>) {
    for number in 0_u64.. {
        if stop.load(Ordering::Acquire) {
            return;
        }
        let id = manager.start(StartTask::new("work").input(&number).unwrap()).await.unwrap().id;
        promised.lock().unwrap().insert(id, false);
        if number % 3 == 1 {
            manager.cancel(id, None).await.unwrap();
            promised.lock().unwrap().insert(id, true);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_work_goes_on_after_the_power_has_failed() {
    disk::register();
    let mut random = StdRng::seed_from_u64(rand::random());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().canonicalize().unwrap();
    let before = manager(&path, Some(disk::NAME)).await;
    let (promised, stop) = (Arc::new(Mutex::new(HashMap::new())), Arc::new(AtomicBool::new(false)));
    let asking: Vec<_> = (0..4).map(|_| tokio::spawn(ask(before.clone(), promised.clone(), stop.clone()))).collect();
    let mut changes = before.journal().changes();
    for kept in [0.0, 0.5, 0.9, 0.0, 0.5] {
        for _ in 0..random.random_range(1..40) {
            changes.next().await.unwrap();
        }
        let promised = promised.lock().unwrap().clone();
        let copy = tempfile::tempdir().unwrap();
        disk::power_loss(&path, copy.path(), kept, &mut random).unwrap();
        let after = manager(copy.path(), None).await;
        for (id, cancelled) in promised {
            let task = after.get(id).await.unwrap().unwrap_or_else(|| panic!("{id} was acknowledged and is not there"));
            assert!(!cancelled || task.cancel_requested || task.status == TaskStatus::Cancelled, "{task:?}");
            if !task.cancel_requested && task.input.decode::<u64>().unwrap() % 3 == 1 {
                // The request was not acknowledged. One that ended meanwhile cannot be asked.
                let _ = after.cancel(id, None).await;
            }
            // To its end, without a gap.
            let events: Vec<_> = after.journal().follow(id, 0).try_collect().await.unwrap();
            let seq = |event: &Followed| match event {
                Followed::Event(event) => event.seq,
                Followed::Gap { .. } => panic!("a gap in {id}"),
            };
            assert_eq!(
                events.iter().map(seq).collect::<Vec<_>>(),
                (1..=events.len() as Seq).collect::<Vec<_>>(),
                "{id}"
            );
            let ended = after.get(id).await.unwrap().unwrap();
            assert!(ended.status.is_terminal() && ended.status != TaskStatus::Failed, "{ended:?}");
            assert!(!task.status.is_terminal() || task == ended, "{task:?} had ended, and became {ended:?}");
        }
        after.close(std::future::ready(())).await;
    }
    stop.store(true, Ordering::Release);
    for asking in asking {
        asking.await.unwrap();
    }
    before.close(std::future::ready(())).await;
    assert!(promised.lock().unwrap().len() > LOSSES, "something was done meanwhile");
}

/// Otherwise the tests above could not fail.
#[test]
fn the_disk_forgets_what_was_not_synced() {
    disk::register();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().canonicalize().unwrap();
    let database = Connection::open_with_flags_and_vfs(path.join("a.db"), OpenFlags::default(), disk::NAME).unwrap();
    database.pragma_update(None, "journal_mode", "WAL").unwrap();
    let rows_after_loss = || {
        let copy = tempfile::tempdir().unwrap();
        disk::power_loss(&path, copy.path(), 0.0, &mut StdRng::seed_from_u64(1)).unwrap();
        let copy = Connection::open(copy.path().join("a.db")).unwrap();
        copy.query_row("SELECT count(*) FROM t", [], |row| row.get::<_, u32>(0)).unwrap()
    };
    database.pragma_update(None, "synchronous", "FULL").unwrap();
    database.execute_batch("CREATE TABLE t (a); INSERT INTO t VALUES (1)").unwrap();
    assert_eq!(rows_after_loss(), 1);
    database.pragma_update(None, "synchronous", "OFF").unwrap();
    database.execute_batch("INSERT INTO t VALUES (2)").unwrap();
    assert_eq!(rows_after_loss(), 1);
}
