//! Listing and counting on many tasks: how long a page and a count take, p50 and p99.
//!
//! `cargo bench --bench lists [-- TASKS]`; a million tasks when nothing is said.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use meanwhile::{
    clock::SystemClock,
    journal::JournalOptions,
    model::{Json, TaskId, TaskStatus},
    store::{
        Order, TaskFilter, TaskQuery,
        sqlite::{SqliteOptions, SqliteStore},
    },
    task::{StartTask, TaskManager, TaskOptions},
};

type Failure = Box<dyn std::error::Error>;

/// Tasks in one start.
const BATCH: usize = 1000;
/// Times each question is asked.
const ROUNDS: usize = 500;
/// Entries in a page.
const PAGE: usize = 50;
/// Where counting stops.
const CAP: u64 = 10_000;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    // `cargo bench` adds an argument of its own.
    let tasks = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(1_000_000);
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let clock = Arc::new(SystemClock::default());
    let store = Arc::new(SqliteStore::open(folder.path(), &SqliteOptions::default(), clock.clone())?);
    let manager = TaskManager::open(store, clock, TaskOptions::default(), JournalOptions::default(), 1).await?;
    let ids = fill(&manager, tasks).await?;
    let middle = ids[ids.len() / 2];

    let filter = TaskFilter::default;
    let tagged = |tag: &str| TaskFilter { tags: vec![tag.to_owned()], ..filter() };
    let pending = || TaskFilter { statuses: vec![TaskStatus::Pending], ..filter() };
    let failed = || TaskFilter { statuses: vec![TaskStatus::Failed], ..filter() };
    let deep = |filter| TaskQuery { filter, below: Some(middle), limit: PAGE, ..TaskQuery::default() };
    let page = |filter| TaskQuery { filter, limit: PAGE, ..TaskQuery::default() };
    println!("{tasks} tasks; pages of {PAGE}; {ROUNDS} rounds; milliseconds");
    println!("{:<44} {:>8} {:>8}", "", "p50", "p99");
    for (name, query) in [
        ("newest page", page(filter())),
        ("page from the middle", deep(filter())),
        ("last page backwards", TaskQuery { order: Order::OldestFirst, ..page(filter()) }),
        ("pending, page from the middle", deep(pending())),
        ("failed (none)", page(failed())),
        ("tag of every tenth, page from the middle", deep(tagged("tenth"))),
        ("tag of ten tasks", page(tagged("rare"))),
    ] {
        let mut times = Vec::with_capacity(ROUNDS);
        for _ in 0..ROUNDS {
            let begin = Instant::now();
            manager.list(query.clone()).await?;
            times.push(begin.elapsed());
        }
        report(&format!("list: {name}"), times);
    }
    for (name, filter) in [
        ("all", filter()),
        ("pending", pending()),
        ("failed (none)", failed()),
        ("tag of every tenth", tagged("tenth")),
        ("tag of ten tasks", tagged("rare")),
    ] {
        let mut times = Vec::with_capacity(ROUNDS);
        for _ in 0..ROUNDS {
            let begin = Instant::now();
            manager.count(filter.clone(), CAP).await?;
            times.push(begin.elapsed());
        }
        report(&format!("count: {name}"), times);
    }
    manager.close(std::future::ready(())).await;
    Ok(())
}

/// Half of the tasks run to their end, the others are of a kind that nobody runs here.
async fn fill(manager: &TaskManager, tasks: usize) -> Result<Vec<TaskId>, Failure> {
    manager.register("done", |_ctx, ()| async { Ok(()) })?;
    let later = chrono::DateTime::from_timestamp(4_000_000_000, 0);
    let mut ids = Vec::with_capacity(tasks);
    while ids.len() < tasks {
        let batch = (ids.len()..tasks.min(ids.len() + BATCH)).map(|number| {
            let mut tags = Vec::new();
            if number % 10 == 0 {
                tags.push("tenth".to_owned());
            }
            if number % (tasks / 10).max(1) == 0 {
                tags.push("rare".to_owned());
            }
            let run_at = if number % 2 == 0 { None } else { later };
            StartTask { tags, run_at, input: Json::null(), ..StartTask::new("done") }
        });
        ids.extend(manager.start_all(batch.collect()).await?.into_iter().map(|started| started.task.id));
    }
    let running = TaskFilter { statuses: vec![TaskStatus::Completed], ..TaskFilter::default() };
    let expected = tasks.div_ceil(2) as u64;
    while manager.count(running.clone(), expected).await? < expected {
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(ids)
}

fn report(name: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |share: f64| {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index")]
        let index = ((times.len() - 1) as f64 * share) as usize;
        times[index].as_secs_f64() * 1000.0
    };
    println!("{name:<44} {:>8.3} {:>8.3}", at(0.5), at(0.99));
}
