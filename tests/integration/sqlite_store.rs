//! The SQLite store: the conformance suite, and what is true of a folder.

use std::{path::Path, sync::Arc};

use meanwhile::{
    clock::{Clock, ManualClock},
    model::{IdempotencyKey, Json, NewTask, Outcome, TaskId, TaskStatus},
    store::{
        OpenError, Store, StoreError, TaskFilter, TaskQuery,
        sqlite::{SqliteOptions, SqliteStore},
    },
};
use rusqlite::Connection;

use crate::{
    store_conformance::{self as conformance, Place},
    support::{new_task, write},
};

/// A data folder that stores are opened in, one after the other.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Place for Folder {
    fn open(&self, clock: &ManualClock) -> Arc<dyn Store> {
        Arc::new(open(self.path(), &SqliteOptions::default(), clock).unwrap())
    }
}

fn open(path: &Path, options: &SqliteOptions, clock: &ManualClock) -> Result<SqliteStore, OpenError> {
    let clock: Arc<dyn Clock> = Arc::new(clock.clone());
    SqliteStore::open(path, options, clock)
}

macro_rules! conforms {
    ($($behaviour:ident)*) => {
        $(#[tokio::test]
        async fn $behaviour() {
            conformance::$behaviour(&Folder::new()).await;
        })*
    };
}

conforms! {
    a_started_task_is_pending_with_its_first_event_and_survives_reopening
    starting_several_is_all_or_nothing
    the_same_idempotency_key_starts_one_task
    claims_go_by_priority_then_run_at_then_age
    a_task_is_not_claimed_before_its_time_nor_by_who_does_not_know_its_kind
    an_attempt_writes_dense_events_and_ends_once
    a_stale_attempt_writes_nothing
    a_repeated_write_is_acknowledged_and_changes_nothing
    a_failure_waits_for_its_retry_and_then_ends
    an_attempt_of_a_process_that_is_gone_is_lost_and_runs_again
    no_attempt_begins_after_the_deadline_however_many_tasks_are_overdue
    cancelling_is_immediate_when_pending_and_a_request_when_running
    an_ended_task_can_be_retried_as_a_new_one
    no_id_is_given_again_after_its_task_was_deleted
    lists_page_both_ways_and_filter
    tasks_by_id_come_in_the_order_asked_for_and_large_ones_a_few_at_a_time
    counting_stops_at_the_cap
    statistics_count_by_kind_and_status_and_measure_what_completed_last
    events_come_in_pages_and_by_type
    pruned_events_are_gone_but_never_the_newest
    the_feed_tells_every_commit_in_order
    a_closed_store_says_so
}

#[tokio::test]
async fn a_folder_is_used_by_one_process_at_a_time() {
    let (folder, clock) = (Folder::new(), conformance::clock());
    let first = folder.open(&clock);
    let second = open(folder.path(), &SqliteOptions::default(), &clock);
    assert!(matches!(&second, Err(OpenError::Locked(message)) if message.contains("--data")), "{second:?}");
    first.close().await;
    folder.open(&clock).close().await;
}

#[tokio::test]
async fn a_database_of_a_newer_program_is_left_alone() {
    let (folder, clock) = (Folder::new(), conformance::clock());
    folder.open(&clock).close().await;
    let database = Connection::open(folder.path().join("meanwhile.db")).unwrap();
    database.pragma_update(None, "user_version", 9_999).unwrap();
    drop(database);
    let opened = open(folder.path(), &SqliteOptions::default(), &clock);
    assert!(matches!(&opened, Err(OpenError::TooNew(message)) if message.contains("9999")), "{opened:?}");
}

#[tokio::test]
async fn a_database_of_an_older_program_is_brought_up_to_date_with_its_tasks() {
    let (folder, clock) = (Folder::new(), conformance::clock());
    let old = Connection::open(folder.path().join("meanwhile.db")).unwrap();
    old.execute_batch(include_str!("../../src/store/sqlite/migrations/0001_tasks_and_events.sql")).unwrap();
    old.execute_batch(
        "PRAGMA application_id = 1297565772;
         PRAGMA user_version = 1;
         INSERT INTO store (generation) VALUES (42);
         INSERT INTO kind (id, name) VALUES (1, 'k');
         INSERT INTO task (id, kind, status, priority, run_at, head, max_attempts, max_lost, tags, input)
         VALUES (77, 1, 0, 3, 5, 1, 2, 3, '[\"t\"]', '[1]');
         INSERT INTO task_tag (tag, task) VALUES ('t', 77);
         INSERT INTO idempotency (key, task, fingerprint) VALUES ('once', 77, zeroblob(32));
         INSERT INTO event (task, seq, attempt, at, type, body) VALUES (77, 1, 0, 5, 0, '{\"status\":\"PENDING\"}');",
    )
    .unwrap();
    drop(old);
    let store = folder.open(&clock);
    assert_eq!(store.generation(), 42);
    let claimed = store.claim(&["k".into()], 9.into()).await.unwrap();
    let attempt = &claimed.attempts[0];
    assert_eq!((attempt.by.task, attempt.input.as_str()), (TaskId::from_i64(77), "[1]"));
    store.finish(write(attempt.by, 1, Vec::new()), Outcome::Completed(Json::null())).await.unwrap();
    let query = TaskQuery {
        filter: TaskFilter { tags: vec!["t".into()], ..TaskFilter::default() },
        limit: 9,
        ..TaskQuery::default()
    };
    let task = store.list(query).await.unwrap().tasks.remove(0);
    assert_eq!((task.status, task.priority, task.max_attempts, task.head), (TaskStatus::Completed, 3, 2, 3));
    // With the task goes the key that an older program stored.
    assert!(store.delete(task.id).await.unwrap());
    let key = IdempotencyKey { key: "once".into(), fingerprint: [1; 32] };
    let again = store.start(vec![NewTask { idempotency: Some(key), ..new_task("k") }]).await.unwrap();
    assert!(!again[0].existed);
}

#[tokio::test]
async fn a_file_that_is_no_database_is_reported() {
    let (folder, clock) = (Folder::new(), conformance::clock());
    std::fs::write(folder.path().join("meanwhile.db"), "this is a text, and not a short one either, but no database")
        .unwrap();
    let opened = open(folder.path(), &SqliteOptions::default(), &clock);
    assert!(matches!(opened, Err(OpenError::Unusable(_))), "{opened:?}");
}

#[tokio::test]
async fn a_database_of_another_program_is_left_alone() {
    let (folder, clock) = (Folder::new(), conformance::clock());
    let database = Connection::open(folder.path().join("meanwhile.db")).unwrap();
    database.execute_batch("CREATE TABLE store (x); PRAGMA user_version = 1").unwrap();
    drop(database);
    let opened = open(folder.path(), &SqliteOptions::default(), &clock);
    let Err(OpenError::Unusable(message)) = opened else { panic!("{opened:?}") };
    assert!(message.contains("not one of meanwhile") && message.lines().count() == 1, "{message}");
}

#[tokio::test]
async fn the_generation_stays_with_the_folder() {
    let (one, other, clock) = (Folder::new(), Folder::new(), conformance::clock());
    let store = one.open(&clock);
    let generation = store.generation();
    store.close().await;
    assert_eq!(one.open(&clock).generation(), generation);
    assert_ne!(other.open(&clock).generation(), generation);
}

#[tokio::test]
async fn a_full_store_says_so_keeps_what_it_acknowledged_and_goes_on_when_there_is_room() {
    let (folder, clock) = (Folder::new(), conformance::clock());
    let options = SqliteOptions { max_pages: Some(60), ..SqliteOptions::default() };
    let store = open(folder.path(), &options, &clock).unwrap();
    let mut acknowledged = Vec::new();
    let error = loop {
        let calls = (0..8).map(|_| store.start(vec![new_task("k")]));
        let (ok, refused): (Vec<_>, Vec<_>) =
            futures::future::join_all(calls).await.into_iter().partition(Result::is_ok);
        acknowledged.extend(ok.into_iter().map(|started| started.unwrap()[0].task.id));
        if let Some(refused) = refused.into_iter().next() {
            break refused.unwrap_err();
        }
    };
    assert_eq!(error, StoreError::Full);
    assert!(store.tasks(acknowledged.clone()).await.unwrap().iter().all(Option::is_some));
    store.close().await;
    let store = folder.open(&clock);
    assert!(store.tasks(acknowledged).await.unwrap().iter().all(Option::is_some));
    store.start(vec![new_task("k")]).await.unwrap();
}
