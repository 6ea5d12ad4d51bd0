//! What a task costs above starting its program: `true` by itself, and as a task. The real manager and the real guard.
//!
//! `cargo bench --bench programs [-- COUNT]`; 300 when nothing is said.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a bench stops where something is wrong")]

#[cfg(target_os = "linux")]
#[tokio::main]
async fn main() {
    linux::run().await;
}

#[cfg(not(target_os = "linux"))]
fn main() {
    println!("programs can be tasks only on Linux");
}

#[cfg(target_os = "linux")]
mod linux {
    use std::{
        sync::Arc,
        time::{Duration, Instant},
    };

    use futures::{StreamExt, TryStreamExt, stream};
    use meanwhile::{
        clock::{Clock, SystemClock},
        journal::JournalOptions,
        model::TaskStatus,
        store::{
            Store,
            sqlite::{SqliteOptions, SqliteStore},
        },
        task::{
            KindOptions, KindType, StartTask, TaskManager, TaskOptions,
            program::{CommandTemplate, GuardExecutable, ProgramJob, ProgramOptions},
        },
    };
    use serde_json::Value;

    /// Programs that run at once, where several do.
    const PARALLEL: usize = 8;

    pub(super) async fn run() {
        let count: usize = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(300);
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
        let store = SqliteStore::open(folder.path(), &SqliteOptions::default(), clock.clone()).unwrap();
        let store: Arc<dyn Store> = Arc::new(store);
        let (options, journal) = (TaskOptions::default(), JournalOptions::default());
        let tasks = TaskManager::open(store, clock, options, journal, 1).await.unwrap();
        let program = ProgramOptions::new(CommandTemplate::parse(&["true"]).unwrap());
        let guard = GuardExecutable::at(env!("CARGO_BIN_EXE_meanwhile"));
        let job = Arc::new(ProgramJob::new(program, guard));
        tasks.register_job("true", KindType::Program, KindOptions::default(), job).unwrap();
        tasks.register("nothing", |_, _: Value| async { Ok(()) }).unwrap();

        println!("{count} each, one after another; milliseconds");
        println!("{:<52} {:>8} {:>8}", "", "p50", "p99");
        let spawned = measure(count, 1, spawn).await;
        report("`true`, spawned and waited for", &spawned);
        let handled = measure(count, 1, || task(&tasks, "nothing")).await;
        report("a task of a handler that does nothing", &handled);
        let ran = measure(count, 1, || task(&tasks, "true")).await;
        report("a task of the program `true`", &ran);
        let above = median(&ran) - median(&spawned) - median(&handled);
        println!("the program's task above both: {above:.2} ms");
        println!();
        println!("{count} each, {PARALLEL} at once; per second");
        let per_second = |begin: Instant| count as f64 / begin.elapsed().as_secs_f64();
        let begin = Instant::now();
        measure(count, PARALLEL, spawn).await;
        println!("{:<52} {:>8.0}", "`true`, spawned and waited for", per_second(begin));
        let begin = Instant::now();
        measure(count, PARALLEL, || task(&tasks, "true")).await;
        println!("{:<52} {:>8.0}", "tasks of the program `true`", per_second(begin));
    }

    /// What any server would do that starts a program for its output.
    async fn spawn() {
        let output = tokio::process::Command::new("true").output().await.unwrap();
        assert!(output.status.success());
    }

    /// From the request to the last event.
    async fn task(tasks: &TaskManager, kind: &str) {
        let id = tasks.start(StartTask::new(kind)).await.unwrap().id;
        tasks.journal().follow(id, 0).try_for_each(|_| std::future::ready(Ok(()))).await.unwrap();
        assert_eq!(tasks.get(id).await.unwrap().unwrap().status, TaskStatus::Completed);
    }

    async fn measure<F: Future<Output = ()>>(count: usize, parallel: usize, run: impl Fn() -> F) -> Vec<Duration> {
        let timed = |_| {
            let run = run();
            async {
                let begin = Instant::now();
                run.await;
                begin.elapsed()
            }
        };
        let mut times: Vec<Duration> = stream::iter(0..count).map(timed).buffer_unordered(parallel).collect().await;
        times.sort_unstable();
        times
    }

    fn median(times: &[Duration]) -> f64 {
        times[times.len() / 2].as_secs_f64() * 1000.0
    }

    fn report(name: &str, times: &[Duration]) {
        let p99 = times[(times.len() - 1) * 99 / 100].as_secs_f64() * 1000.0;
        println!("{name:<52} {:>8.2} {p99:>8.2}", median(times));
    }
}
