//! Tasks per second from the first start to the last completion, through `TaskManager`: the same work that
//! `benches/peers/run` has BullMQ and graphile-worker do beside it. And how soon a handler begins on an idle manager.
//!
//! `cargo bench --bench peers [-- TASKS]`; 20,000 tasks when nothing is said. `PEERS_DATA` names the folder for the data.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use meanwhile::{
    clock::SystemClock,
    journal::{Changed, Changes, JournalOptions},
    model::TaskStatus,
    store::sqlite::{SqliteOptions, SqliteStore},
    task::{StartTask, TaskManager, TaskOptions},
};
use tokio::sync::mpsc;

type Failure = Box<dyn std::error::Error>;

/// Callers that start tasks, each one after another; and attempts under way at once.
const CLIENTS: usize = 64;
/// Callers that start many at once, and how many.
const BULK_CLIENTS: usize = 4;
const BULK: usize = 256;
/// Tasks started one by one on an idle manager.
const IDLE: usize = 1000;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let tasks: usize = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(20_000);
    let base = std::env::var_os("PEERS_DATA").map_or_else(|| env!("CARGO_TARGET_TMPDIR").into(), PathBuf::from);
    let folder = tempfile::tempdir_in(base)?;
    let (one, bulk) = (folder.path().join("one"), folder.path().join("bulk"));
    let rate = |elapsed: Duration| tasks as f64 / elapsed.as_secs_f64();
    println!("meanwhile one-by-one {:.0}", rate(run(&one, tasks, CLIENTS, 1).await?));
    println!("meanwhile bulk {:.0}", rate(run(&bulk, tasks, BULK_CLIENTS, BULK).await?));
    let mut times = idle(&folder.path().join("idle")).await?;
    times.sort_unstable();
    let at = |percent: usize| times[(times.len() - 1) * percent / 100].as_secs_f64() * 1000.0;
    println!("meanwhile start-to-handler-ms p50 {:.3} p99 {:.3}", at(50), at(99));
    Ok(())
}

async fn open(data: &Path, tasks: usize) -> Result<TaskManager, Failure> {
    std::fs::create_dir_all(data)?;
    let clock = Arc::new(SystemClock::default());
    let store = Arc::new(SqliteStore::open(data, &SqliteOptions::default(), clock.clone())?);
    let options = TaskOptions { concurrency: CLIENTS, ..TaskOptions::default() };
    // Nobody looks away so long that completions are not counted.
    let journal = JournalOptions { max_list_changes: 4 * tasks, ..JournalOptions::default() };
    Ok(TaskManager::open(store, clock, options, journal, 1).await?)
}

/// From the first start to the last completion: each task on disk when its start is acknowledged, and when it ends.
async fn run(data: &Path, tasks: usize, clients: usize, bulk: usize) -> Result<Duration, Failure> {
    let manager = open(data, tasks).await?;
    manager.register("nothing", |_ctx, ()| async { Ok(()) })?;
    let changes = manager.journal().changes();
    let begin = Instant::now();
    let callers: Vec<_> = (0..clients)
        .map(|caller| {
            let manager = manager.clone();
            tokio::spawn(async move {
                let mut left = tasks / clients + usize::from(caller < tasks % clients);
                while left > 0 {
                    let batch = left.min(bulk);
                    manager.start_all(vec![StartTask::new("nothing"); batch]).await?;
                    left -= batch;
                }
                Ok::<_, meanwhile::error::Error>(())
            })
        })
        .collect();
    completed(changes, tasks).await?;
    let elapsed = begin.elapsed();
    for caller in callers {
        caller.await??;
    }
    manager.close(std::future::ready(())).await;
    Ok(elapsed)
}

async fn completed(mut changes: Changes, tasks: usize) -> Result<(), Failure> {
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
    Ok(())
}

/// From the call of `start` to the first line of the handler.
async fn idle(data: &Path) -> Result<Vec<Duration>, Failure> {
    let manager = open(data, IDLE).await?;
    let (begun, mut begins) = mpsc::unbounded_channel();
    manager.register("nothing", move |_ctx, ()| {
        // Nobody listens any more when the bench has ended.
        let _ = begun.send(Instant::now());
        async { Ok(()) }
    })?;
    let mut times = Vec::with_capacity(IDLE);
    for _ in 0..IDLE {
        let changes = manager.journal().changes();
        let begin = Instant::now();
        manager.start(StartTask::new("nothing")).await?;
        times.push(begins.recv().await.ok_or("the handler did not begin")? - begin);
        completed(changes, 1).await?;
    }
    manager.close(std::future::ready(())).await;
    Ok(times)
}
