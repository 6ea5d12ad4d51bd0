use std::{future::Future, time::Duration};

use chrono::DateTime;
use futures::{FutureExt, StreamExt, TryStreamExt};
use rusqlite::Connection;
use tempfile::TempDir;

use super::*;
use crate::{clock::ManualClock, model::Json, source::Limited};

/// Counts for ever: a statement that never ends by itself.
const ENDLESS: &str = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n";

struct Shop {
    folder: TempDir,
    clock: ManualClock,
}

impl Shop {
    /// A file with 1000 items.
    fn new() -> Self {
        let shop = Self { folder: tempfile::tempdir().unwrap(), clock: ManualClock::new(DateTime::UNIX_EPOCH) };
        let connection = Connection::open(shop.folder.path().join("shop.db")).unwrap();
        let insert = "CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT);
            WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 1000)
            INSERT INTO item SELECT i, 'item ' || i FROM n;";
        connection.execute_batch(insert).unwrap();
        shop
    }

    fn source(&self, query: &str) -> Limited<SqlSource> {
        self.source_with(query, |_| {})
    }

    fn source_with(&self, query: &str, change: impl FnOnce(&mut SqlOptions)) -> Limited<SqlSource> {
        let mut options = SqlOptions::new(self.folder.path().join("shop.db"), query);
        change(&mut options);
        Limited::new(SqlSource::new("shop", options).unwrap(), Arc::new(self.clock.clone()))
    }
}

fn args(json: &str) -> Args {
    Args::from_json(&Json::parse(json).unwrap()).unwrap()
}

async fn rows(source: &Limited<SqlSource>, given: &str) -> Result<Vec<String>, SourceError> {
    source.read(args(given))?.map_ok(|row| row.value.to_string()).try_collect().await
}

/// Runs a test that must not hang for ever when a statement is not stopped.
fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(60), test).await }).unwrap();
}

#[test]
fn all_rows_come_in_order() {
    run(async {
        let shop = Shop::new();
        let source = shop.source("SELECT id, name FROM item ORDER BY id");
        let all = rows(&source, "null").await.unwrap();
        assert_eq!(all.len(), 1000);
        assert_eq!(all[0], r#"{"id":1,"name":"item 1"}"#);
        assert_eq!(all[999], r#"{"id":1000,"name":"item 1000"}"#);
    });
}

#[test]
fn args_are_bound_and_never_spliced() {
    run(async {
        let shop = Shop::new();
        let source = shop.source("SELECT id FROM item WHERE name = :name OR id = :id");
        let names: Vec<_> = source.info().args.iter().map(|arg| arg.name.as_str()).collect();
        assert_eq!(names, ["name", "id"]);
        assert_eq!(rows(&source, r#"{"name":"item 7","id":9}"#).await.unwrap(), [r#"{"id":7}"#, r#"{"id":9}"#]);
        let spliced = r#"{"name":"' OR 1=1 --","id":null}"#;
        assert_eq!(rows(&source, spliced).await.unwrap(), Vec::<String>::new());
    });
}

#[test]
fn args_that_do_not_fit_are_reported_before_anything_runs() {
    let shop = Shop::new();
    let source = shop.source("SELECT id FROM item WHERE id = :id");
    for given in ["{}", r#"{"id":1,"nam":2}"#, r#"{"id":[1]}"#] {
        let Err(error) = source.read(args(given)) else { panic!("{given} was accepted") };
        assert_eq!(error.code, ErrorCode::InvalidInput);
        assert!(error.message.contains("`shop`"), "{error}");
    }
}

#[test]
fn a_missing_file_names_the_source_and_the_file() {
    run(async {
        let shop = Shop::new();
        let source = shop.source_with("SELECT 1 AS one", |options| {
            options.file = options.file.expose().with_file_name("other.db").into();
        });
        let error = rows(&source, "{}").await.unwrap_err();
        assert_eq!(error.code, ErrorCode::Unavailable);
        assert!(error.message.contains("`shop`") && error.message.contains("other.db"), "{error}");
        assert_eq!(source.inner().check().unwrap_err(), error);
    });
}

#[test]
fn a_query_at_fault_is_told_apart_from_a_file_at_fault() {
    let shop = Shop::new();
    assert_eq!(shop.source("SELECT id FROM item").inner().check(), Ok(()));
    let error = shop.source("DELETE FROM item").inner().check().unwrap_err();
    assert_eq!(error.code, ErrorCode::InvalidInput);
    assert!(error.message.contains("`shop`"), "{error}");
}

#[test]
fn the_first_row_of_a_slow_statement_shows_at_once() {
    run(async {
        let shop = Shop::new();
        let source = shop.source(&format!("SELECT 0 AS i UNION ALL SELECT * FROM ({ENDLESS}) WHERE i < 0"));
        let mut rows = source.read(Args::none()).unwrap();
        assert_eq!(rows.next().await.unwrap().unwrap().value.as_str(), r#"{"i":0}"#);
    });
}

#[test]
fn dropping_the_stream_stops_a_statement_in_its_middle() {
    run(async {
        let shop = Shop::new();
        let source = shop.source_with(&format!("{ENDLESS} WHERE i < 0"), |options| options.limits.concurrency = 1);
        let mut rows = source.read(Args::none()).unwrap();
        assert!(rows.next().now_or_never().is_none());
        assert_eq!(source.inner().threads.available_permits(), 0);
        drop(rows);
        // Comes back when the thread is done.
        drop(source.inner().threads.acquire().await.unwrap());
    });
}

#[test]
fn a_reader_that_leaves_stops_a_statement_that_gives_rows() {
    run(async {
        let shop = Shop::new();
        let source = shop.source_with(ENDLESS, |options| options.limits.concurrency = 1);
        for _ in 0..3 {
            let first: Vec<Row> = source.read(Args::none()).unwrap().take(100).try_collect().await.unwrap();
            assert_eq!(first[99].value.as_str(), r#"{"i":100}"#);
        }
    });
}

#[test]
fn a_row_that_does_not_come_is_a_timeout_and_stops_the_statement() {
    run(async {
        let shop = Shop::new();
        let source = shop.source_with(&format!("{ENDLESS} WHERE i < 0"), |options| options.limits.concurrency = 1);
        let mut rows = source.read(Args::none()).unwrap();
        assert!(rows.next().now_or_never().is_none());
        shop.clock.advance(Duration::from_secs(10));
        let error = rows.next().await.unwrap().unwrap_err();
        assert_eq!(error.code, ErrorCode::Timeout);
        drop(source.inner().threads.acquire().await.unwrap());
    });
}

#[test]
fn reads_over_the_limit_wait_for_their_turn() {
    run(async {
        let shop = Shop::new();
        let source = shop.source_with(ENDLESS, |options| options.limits.concurrency = 1);
        let mut first = source.read(Args::none()).unwrap();
        first.next().await.unwrap().unwrap();
        let mut second = source.read(Args::none()).unwrap();
        assert!(second.next().now_or_never().is_none());
        drop(first);
        assert_eq!(second.next().await.unwrap().unwrap().value.as_str(), r#"{"i":1}"#);
    });
}

#[test]
fn nothing_is_opened_before_the_first_row_is_asked_for() {
    let shop = Shop::new();
    let source = shop.source("SELECT id FROM item");
    let rows = source.read(Args::none()).unwrap();
    assert_eq!(source.inner().threads.available_permits(), SqlOptions::new("", "").limits.concurrency);
    drop(rows);
}

#[test]
fn a_row_over_the_limit_ends_the_stream_with_the_limits_name() {
    run(async {
        let shop = Shop::new();
        let source = shop.source_with("SELECT 'a' AS a UNION ALL SELECT printf('%.*c', 200, 'b')", |options| {
            options.max_row_bytes = 100;
        });
        let mut rows = source.read(Args::none()).unwrap();
        rows.next().await.unwrap().unwrap();
        let error = rows.next().await.unwrap().unwrap_err();
        assert_eq!(error.code, ErrorCode::LimitExceeded);
        assert!(error.message.contains("`max_row_bytes`") && error.message.contains("100 bytes"), "{error}");
        assert!(rows.next().await.is_none());

        let huge = shop.source("SELECT zeroblob(100000000) AS a");
        let mut rows = huge.read(Args::none()).unwrap();
        assert_eq!(rows.next().await.unwrap().unwrap_err().code, ErrorCode::LimitExceeded);
    });
}

#[test]
fn a_fault_in_the_middle_comes_after_the_rows_before_it() {
    run(async {
        let shop = Shop::new();
        let source =
            shop.source("SELECT json_extract(j, '$.a') AS a FROM (SELECT '{\"a\":1}' AS j UNION ALL SELECT '{')");
        let mut rows = source.read(Args::none()).unwrap();
        assert_eq!(rows.next().await.unwrap().unwrap().value.as_str(), r#"{"a":1}"#);
        let error = rows.next().await.unwrap().unwrap_err();
        assert_eq!(error.code, ErrorCode::Unavailable);
        assert!(error.message.contains("malformed JSON"), "{error}");
    });
}

#[test]
fn a_file_that_was_replaced_is_noticed() {
    run(async {
        let shop = Shop::new();
        let source = shop.source("SELECT count(*) AS n FROM item");
        assert_eq!(rows(&source, "{}").await.unwrap(), [r#"{"n":1000}"#]);
        let new = shop.folder.path().join("new.db");
        Connection::open(&new).unwrap().execute_batch("CREATE TABLE item (id)").unwrap();
        std::fs::rename(new, shop.folder.path().join("shop.db")).unwrap();
        assert_eq!(rows(&source, "{}").await.unwrap(), [r#"{"n":0}"#]);
    });
}

#[test]
fn a_file_that_is_being_written_to_can_be_read() {
    run(async {
        let shop = Shop::new();
        let writer = Connection::open(shop.folder.path().join("shop.db")).unwrap();
        writer.pragma_update(None, "journal_mode", "WAL").unwrap();
        writer.execute_batch("BEGIN; DELETE FROM item WHERE id > 1").unwrap();
        let source = shop.source("SELECT count(*) AS n FROM item");
        assert_eq!(rows(&source, "{}").await.unwrap(), [r#"{"n":1000}"#]);
        writer.execute_batch("COMMIT").unwrap();
        assert_eq!(rows(&source, "{}").await.unwrap(), [r#"{"n":1}"#]);
    });
}

#[test]
fn an_arg_that_the_query_cannot_use_is_invalid_input() {
    run(async {
        let shop = Shop::new();
        let source = shop.source("SELECT id FROM item LIMIT :limit");
        assert_eq!(rows(&source, r#"{"limit":1}"#).await.unwrap(), [r#"{"id":1}"#]);
        let error = rows(&source, r#"{"limit":1.5}"#).await.unwrap_err();
        assert_eq!(error.code, ErrorCode::InvalidInput, "{error}");
        assert!(error.message.contains("datatype mismatch") && error.message.contains("whole number"), "{error}");
    });
}

#[test]
fn a_file_that_stays_locked_is_unavailable() {
    run(async {
        let shop = Shop::new();
        let writer = Connection::open(shop.folder.path().join("shop.db")).unwrap();
        writer.execute_batch("BEGIN EXCLUSIVE").unwrap();
        let source = shop.source_with("SELECT count(*) AS n FROM item", |options| options.limits.timeout_ms = 1);
        let error = rows(&source, "{}").await.unwrap_err();
        assert_eq!(error.code, ErrorCode::Unavailable);
        assert!(error.message.contains("locked"), "{error}");
    });
}

#[test]
fn a_lock_is_given_up_before_the_row_is_late() {
    for timeout_ms in [4, 100, 5000, 5001, 86_400_000] {
        assert!(lock_wait_ms(timeout_ms) < timeout_ms, "{timeout_ms}");
    }
    assert_eq!(lock_wait_ms(10_000), MAX_LOCK_WAIT_MS);
}

#[test]
fn a_lock_that_goes_away_is_waited_for() {
    run(async {
        let shop = Shop::new();
        let writer = Connection::open(shop.folder.path().join("shop.db")).unwrap();
        writer.execute_batch("BEGIN EXCLUSIVE").unwrap();
        let source = shop.source("SELECT count(*) AS n FROM item");
        let mut reading = Box::pin(rows(&source, "{}"));
        assert!((&mut reading).now_or_never().is_none());
        writer.execute_batch("DELETE FROM item WHERE id > 7; COMMIT").unwrap();
        assert_eq!(reading.await.unwrap(), [r#"{"n":7}"#]);
    });
}

#[test]
fn dropping_the_stream_ends_the_wait_for_a_lock() {
    run(async {
        let shop = Shop::new();
        let writer = Connection::open(shop.folder.path().join("shop.db")).unwrap();
        writer.execute_batch("BEGIN EXCLUSIVE").unwrap();
        let hour = Duration::from_secs(3600);
        let database =
            Database::new(shop.folder.path().join("shop.db").into(), "SELECT 1 FROM item".to_owned(), 100, hour);
        let values = Values::new("shop", &[], &Args::none()).unwrap();
        let read = Read { source: "shop".into(), database: Arc::new(database), values };
        let (sender, mut receiver) = buffer();
        let reading = tokio::task::spawn_blocking(move || read.run(&sender));
        let waits = |cx: &mut Context<'_>| Poll::Ready(receiver.poll_row(cx).is_pending());
        assert!(std::future::poll_fn(waits).await);
        drop(receiver);
        assert_eq!(reading.await.unwrap(), Ok(()));
    });
}

#[cfg(unix)]
#[tokio::test]
async fn a_pipe_is_no_database_and_nobody_waits_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let source = SqlSource::new("s", SqlOptions::new(pipe, "SELECT 1")).unwrap();
    assert!(source.check().unwrap_err().message.contains("is a pipe or a device"));
}
