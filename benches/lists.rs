//! Listing and counting on many tasks: how long a page and a count take, p50 and p99.
//!
//! `cargo bench --bench lists [-- TASKS]`; ten million tasks when nothing is said, which take 2.5 GB of disk under
//! `target/` until it ends, and some minutes to be made.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use meanwhile::{
    clock::{Clock, SystemClock},
    model::{TaskId, TaskStatus},
    store::{
        Order, Store, TaskFilter, TaskQuery,
        sqlite::{SqliteOptions, SqliteStore},
    },
};

type Failure = Box<dyn std::error::Error>;

/// Times each question is asked; and those that look at much.
const ROUNDS: usize = 500;
const FEW_ROUNDS: usize = 20;
/// Entries in a page.
const PAGE: usize = 50;
/// Where counting stops.
const CAP: u64 = 10_000;
/// When the first task was created, in milliseconds since 1970. One follows each millisecond.
const BEGIN_MS: i64 = 1_750_000_000_000;
const KINDS: [&str; 5] = ["resize", "import", "export", "mail", "report"];

#[tokio::main]
async fn main() -> Result<(), Failure> {
    // `cargo bench` adds an argument of its own.
    let tasks = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(10_000_000);
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    // It makes the tables.
    open(folder.path())?.close().await;
    let begin = Instant::now();
    let bytes = fill(&folder.path().join("meanwhile.db"), tasks)?;
    println!("{tasks} tasks, {} MiB, made in {:.0} s", bytes >> 20, begin.elapsed().as_secs_f64());

    let store = open(folder.path())?;
    let filter = TaskFilter::default;
    let tagged = |tags: &[&str]| TaskFilter { tags: tags.iter().map(|tag| (*tag).into()).collect(), ..filter() };
    let of = |kind: &str, status| TaskFilter { kinds: vec![kind.into()], statuses: vec![status], ..filter() };
    let in_status = |status| TaskFilter { statuses: vec![status], ..filter() };
    let with = |filter: TaskFilter, status| TaskFilter { statuses: vec![status], ..filter };
    let middle = TaskId::first_at(BEGIN_MS + tasks / 2);
    let an_hour = TaskFilter {
        created_after: Some(middle.created_at()),
        created_before: Some(middle.created_at() + chrono::TimeDelta::hours(1)),
        ..filter()
    };
    let deep = |filter| TaskQuery { filter, below: Some(middle), limit: PAGE, ..TaskQuery::default() };
    let page = |filter| TaskQuery { filter, limit: PAGE, ..TaskQuery::default() };

    println!("pages of {PAGE}, counts up to {CAP}; {ROUNDS} rounds; milliseconds");
    println!("{:<58} {:>8} {:>8}", "", "p50", "p99");
    for (name, query) in [
        ("newest page", page(filter())),
        ("page from the middle", deep(filter())),
        ("last page, backwards", TaskQuery { order: Order::OldestFirst, ..page(filter()) }),
        ("an hour, newest first", page(an_hour.clone())),
        ("pending, page from the middle", deep(in_status(TaskStatus::Pending))),
        ("one kind, failed, page from the middle", deep(of("mail", TaskStatus::Failed))),
        ("running (there is none)", page(in_status(TaskStatus::Running))),
        ("tag of every tenth, page from the middle", deep(tagged(&["tenth"]))),
        ("tag of ten tasks", page(tagged(&["rare"]))),
        ("tag of every tenth, failed", page(with(tagged(&["tenth"]), TaskStatus::Failed))),
        ("two tags that are together in every 110th task", page(tagged(&["tenth", "eleventh"]))),
        ("two tags of each half of the time, never together", page(tagged(&["early", "late"]))),
        ("a tag of every tenth and one of ten tasks", page(tagged(&["tenth", "rare"]))),
    ] {
        let ask = || async { store.list(query.clone()).await.map(|page| page.tasks.len()) };
        report(&format!("list: {name}"), &measure(ROUNDS, ask).await?);
    }
    for (name, filter) in [
        ("all", filter()),
        ("an hour", an_hour),
        ("pending", in_status(TaskStatus::Pending)),
        ("running (there is none)", in_status(TaskStatus::Running)),
        ("tag of every tenth", tagged(&["tenth"])),
        ("tag of ten tasks", tagged(&["rare"])),
    ] {
        let ask = || async { store.count(filter.clone(), CAP).await };
        report(&format!("count: {name}"), &measure(ROUNDS, ask).await?);
    }
    for (name, filter) in [
        ("tag of every tenth, failed", with(tagged(&["tenth"]), TaskStatus::Failed)),
        ("two tags that are together in every 110th task", tagged(&["tenth", "eleventh"])),
    ] {
        let ask = || async { store.count(filter.clone(), CAP).await };
        report(&format!("count: {name}"), &measure(FEW_ROUNDS, ask).await?);
    }
    // The worst there is: it takes all the look-ups that it may.
    let alternating = page(tagged(&["tenth", "after a tenth"]));
    let ask = || async { store.list(alternating.clone()).await.map(|page| page.searched_until) };
    report("list: two tags that alternate, never together", &measure(FEW_ROUNDS, ask).await?);
    store.close().await;
    Ok(())
}

fn open(folder: &Path) -> Result<SqliteStore, Failure> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    Ok(SqliteStore::open(folder, &SqliteOptions::default(), clock)?)
}

/// Writes the tasks straight into the tables, as they are after they were run: 90 % completed, 4 % failed, 1 % cancelled,
/// 5 % pending. Without their events, which no list looks at. How large the file is.
fn fill(database: &Path, tasks: i64) -> Result<u64, Failure> {
    let connection = rusqlite::Connection::open(database)?;
    // It need not survive anything.
    connection.execute_batch(
        "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA locking_mode = EXCLUSIVE; PRAGMA cache_size = -500000",
    )?;
    for (number, kind) in (0_i64..).zip(KINDS) {
        connection.execute("INSERT INTO kind (id, name) VALUES (?1, ?2)", (number, kind))?;
    }
    let statuses = [TaskStatus::Pending, TaskStatus::Completed, TaskStatus::Failed, TaskStatus::Cancelled];
    let [pending, completed, failed, cancelled] = statuses.map(TaskStatus::to_i64);
    connection.execute_batch(&format!(
        "INSERT INTO task (id, kind, status, priority, run_at, head, attempt, started_at, completed_at, percent, \
             max_attempts, max_lost, retry_backoff_ms, max_retry_backoff_ms, tags, input, result) \
         WITH RECURSIVE n(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM n WHERE n + 1 < {tasks}), \
         drawn AS (SELECT n, ({BEGIN_MS} + n) << 22 AS id, {BEGIN_MS} + n AS at, abs(random()) % 100 AS drawn FROM n), \
         made AS (SELECT *, CASE WHEN drawn < 5 THEN {pending} WHEN drawn < 9 THEN {failed} WHEN drawn < 10 THEN {cancelled} \
             ELSE {completed} END AS status FROM drawn) \
         SELECT id, n % {kinds}, status, 0, iif(status = {pending}, at + 100000000000, at), iif(status = {pending}, 1, 3), \
             status <> {pending}, iif(status = {pending}, NULL, at + 10), iif(status = {pending}, NULL, at + 1000), \
             iif(status = {completed}, 100, 0), 1, 3, 1000, 600000, '[\"tenth\"]', \
             '{{\"file\":\"/data/' || n || '.png\",\"width\":640}}', iif(status = {completed}, '{{\"bytes\":12345}}', NULL) \
         FROM made",
        kinds = KINDS.len(),
    ))?;
    // In the order of the index, so that it grows at its end. Each with the first task, the end and the step.
    let (half, tenth) = (tasks / 20 * 10, (tasks / 10).max(1));
    for (tag, first, end, step) in [
        ("after a tenth", 1, tasks, 10),
        ("early", 2, half, 10),
        ("eleventh", 0, tasks, 11),
        ("late", half + 2, tasks, 10),
        ("rare", 0, tasks, tenth),
        ("tenth", 0, tasks, 10),
    ] {
        connection.execute(
            "INSERT INTO task_tag (tag, task) \
             WITH RECURSIVE n(n) AS (SELECT ?2 UNION ALL SELECT n + ?4 FROM n WHERE n + ?4 < ?3) \
             SELECT ?1, (?5 + n) << 22 FROM n",
            (tag, first, end, step, BEGIN_MS),
        )?;
    }
    drop(connection);
    Ok(std::fs::metadata(database)?.len())
}

async fn measure<T, E, F: Future<Output = Result<T, E>>>(
    rounds: usize,
    ask: impl Fn() -> F,
) -> Result<Vec<Duration>, E> {
    let mut times = Vec::with_capacity(rounds);
    for _ in 0..rounds {
        let begin = Instant::now();
        ask().await?;
        times.push(begin.elapsed());
    }
    times.sort_unstable();
    Ok(times)
}

fn report(name: &str, times: &[Duration]) {
    let at = |percent: usize| times[(times.len() - 1) * percent / 100].as_secs_f64() * 1000.0;
    println!("{name:<58} {:>8.3} {:>8.3}", at(50), at(99));
}
