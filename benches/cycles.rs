//! Whole task cycles per second (started → running → completed, each on disk) through `TaskManager`, beside a plain
//! SQLite loop that writes the same rows in batches of 256. Both in turn, several rounds, in the same folder.
//!
//! `cargo bench --bench cycles [-- TASKS]`; 50,000 tasks in each round when nothing is said.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use meanwhile::{
    clock::SystemClock,
    journal::{Changed, JournalOptions},
    model::TaskStatus,
    store::sqlite::{SqliteOptions, SqliteStore},
    task::{StartTask, TaskManager, TaskOptions},
};
use rusqlite::{Connection, params};

type Failure = Box<dyn std::error::Error>;

/// Tasks in one transaction of the plain loop, and in one start of the manager's callers.
const BATCH: usize = 256;
/// Callers that start tasks at the same time.
const CALLERS: usize = 4;
const ROUNDS: usize = 7;
const SCHEMA: &str = concat!(
    include_str!("../src/store/sqlite/migrations/0001_tasks_and_events.sql"),
    include_str!("../src/store/sqlite/migrations/0002_limits.sql")
);

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let tasks: usize = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(50_000);
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let (mut plain, mut ours) = (Vec::new(), Vec::new());
    println!("{tasks} tasks in each round; cycles per second");
    for round in 0..ROUNDS {
        let data = folder.path().join(round.to_string());
        std::fs::create_dir(&data)?;
        plain.push(tasks as f64 / plain_loop(&data.join("plain.sqlite"), tasks)?.as_secs_f64());
        ours.push(tasks as f64 / manager(&data.join("ours"), tasks).await?.as_secs_f64());
        println!(
            "round {round}: plain loop {:>8.0}, TaskManager {:>8.0}, ratio {:.2}",
            plain[round],
            ours[round],
            ours[round] / plain[round]
        );
        std::fs::remove_dir_all(&data)?;
    }
    let mut ratios: Vec<f64> = plain.iter().zip(&ours).map(|(plain, ours)| ours / plain).collect();
    for (name, values) in [("plain loop", &mut plain), ("TaskManager", &mut ours), ("ratio", &mut ratios)] {
        values.sort_unstable_by(f64::total_cmp);
        let [low, middle, high] = [values[0], values[values.len() / 2], values[values.len() - 1]];
        println!("{name:<12} min {low:>10.2}  median {middle:>10.2}  max {high:>10.2}");
    }
    Ok(())
}

/// From the first start to the last completion.
async fn manager(data: &Path, tasks: usize) -> Result<Duration, Failure> {
    let clock = Arc::new(SystemClock::default());
    let store = Arc::new(SqliteStore::open(data, &SqliteOptions::default(), clock.clone())?);
    let options = TaskOptions { concurrency: 2048, ..TaskOptions::default() };
    // Nobody looks away so long that completions are not counted.
    let journal = JournalOptions { max_list_changes: 4 * tasks, ..JournalOptions::default() };
    let manager = TaskManager::open(store, clock, options, journal, 1).await?;
    manager.register("nothing", |_ctx, ()| async { Ok(()) })?;
    let mut changes = manager.journal().changes();
    let begin = Instant::now();
    let callers = (0..CALLERS).map(|caller| {
        let manager = manager.clone();
        tokio::spawn(async move {
            let mut left = tasks / CALLERS + usize::from(caller < tasks % CALLERS);
            while left > 0 {
                let batch = left.min(BATCH);
                manager.start_all(vec![StartTask::new("nothing"); batch]).await?;
                left -= batch;
            }
            Ok::<_, meanwhile::error::Error>(())
        })
    });
    let callers: Vec<_> = callers.collect();
    let mut completed = 0;
    while completed < tasks {
        match changes.next().await {
            Some(Changed::Tasks(changes)) => {
                completed += changes.iter().filter(|change| change.change.to == Some(TaskStatus::Completed)).count();
            }
            Some(Changed::Missed) => return Err("completions were missed: the figure would be wrong".into()),
            None => return Err("the store was closed".into()),
        }
    }
    let elapsed = begin.elapsed();
    for caller in callers {
        caller.await??;
    }
    manager.close(std::future::ready(())).await;
    Ok(elapsed)
}

/// The same rows, by hand: three transactions for each batch, each synced.
fn plain_loop(file: &Path, tasks: usize) -> Result<Duration, Failure> {
    let connection = Connection::open(file)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.execute_batch(SCHEMA)?;
    connection.execute("INSERT INTO kind (id, name) VALUES (1, 'nothing')", [])?;
    let pending = r#"{"status":"PENDING","progress":{"percent":0.0},"run_at":"2026-11-23T08:30:00.123Z"}"#;
    let running = r#"{"status":"RUNNING","progress":{"percent":0.0}}"#;
    let completed = r#"{"status":"COMPLETED","progress":{"percent":100.0},"result":null}"#;
    let begin = Instant::now();
    let mut next = 0;
    while next < tasks {
        let ids = next..tasks.min(next + BATCH);
        next = ids.end;
        let event = |connection: &Connection, id: usize, seq: u32, attempt: u32, body: &str| {
            let mut insert = connection.prepare_cached(
                "INSERT INTO event (task, seq, attempt, at, type, body) VALUES (?1, ?2, ?3, ?4, 0, ?5)",
            )?;
            insert.execute(params![id as i64, seq, attempt, 1_700_000_000_000_i64, body])
        };
        connection.execute_batch("BEGIN IMMEDIATE")?;
        for id in ids.clone() {
            let mut insert = connection.prepare_cached(
                "INSERT INTO task (id, kind, status, priority, run_at, head, max_attempts, max_lost, retry_backoff_ms, \
                 max_retry_backoff_ms, tags, input) VALUES (?1, 1, 0, 0, ?2, 1, 1, 3, 1000, 600000, '[]', 'null')",
            )?;
            insert.execute(params![id as i64, 1_700_000_000_000_i64])?;
            event(&connection, id, 1, 0, pending)?;
        }
        connection.execute_batch("COMMIT; BEGIN IMMEDIATE")?;
        for id in ids.clone() {
            let mut update = connection.prepare_cached(
                "UPDATE task SET status = 1, attempt = 1, session = ?2, head = 2, started_at = ?3 WHERE id = ?1",
            )?;
            update.execute(params![id as i64, 7_000_000_000_000_000_000_i64, 1_700_000_000_000_i64])?;
            event(&connection, id, 2, 1, running)?;
        }
        connection.execute_batch("COMMIT; BEGIN IMMEDIATE")?;
        for id in ids {
            let mut update = connection.prepare_cached(
                "UPDATE task SET status = 2, head = 3, last_write = 1, percent = 100, completed_at = ?2, \
                 result = 'null' WHERE id = ?1",
            )?;
            update.execute(params![id as i64, 1_700_000_000_000_i64])?;
            event(&connection, id, 3, 1, completed)?;
        }
        connection.execute_batch("COMMIT")?;
    }
    Ok(begin.elapsed())
}
