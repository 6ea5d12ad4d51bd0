//! Running tasks through the manager.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use futures::TryStreamExt;
use meanwhile::{
    clock::{Clock, ManualClock, SystemClock},
    error::ErrorCode,
    journal::JournalOptions,
    model::{EventBody, Json, LogLevel, Progress, TaskStatus, code},
    store::{
        Store, StoreError,
        sqlite::{SqliteOptions, SqliteStore},
    },
    task::{JobContext, JobError, KindOptions, KindPolicy, Retry, StartTask, TaskManager, TaskOptions},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, mpsc};

use crate::{
    store_conformance,
    support::tasks::{Tasks, open, status},
};

#[derive(Deserialize, JsonSchema)]
struct Resize {
    width: u32,
}

#[derive(Serialize)]
struct Resized {
    pixels: u32,
}

#[tokio::test]
async fn a_typed_handler_runs_and_its_result_is_the_tasks() {
    let tasks = Tasks::new().await;
    let resize = |ctx: JobContext, input: Resize| async move {
        ctx.log(LogLevel::Info, "resizing").await?;
        ctx.chunk(&[input.width]).await?;
        ctx.progress(50.0);
        Ok(Resized { pixels: input.width * 2 })
    };
    tasks.register("resize", resize).unwrap();
    let task = tasks.run(StartTask::new("resize").input(&serde_json::json!({"width": 21})).unwrap()).await;
    assert_eq!((task.status, task.attempt), (TaskStatus::Completed, 1));
    assert_eq!(task.result.unwrap().as_str(), "{\"pixels\":42}");
    let events = tasks.events(task.id).await;
    assert!(events.iter().any(|event| matches!(&event.body, EventBody::Log { message, .. } if message == "resizing")));
    assert!(events.iter().any(|event| matches!(&event.body, EventBody::Progress(p) if p.percent == 50.0)));
    assert!(matches!(tasks.register("resize", |_, ()| async { Ok(()) }), Err(e) if e.code() == ErrorCode::Conflict));
}

#[tokio::test]
async fn a_task_whose_input_does_not_fit_any_more_fails_and_is_not_tried_again() {
    let tasks = Tasks::new().await;
    tasks.register("resize", |_, _: Json| async { Ok(()) }).unwrap();
    tasks.pause("resize").await.unwrap();
    let request = StartTask { max_attempts: Some(5), ..StartTask::new("resize") };
    let id = tasks.start(request).await.unwrap().id;
    let tasks = tasks.restart().await;
    tasks.register("resize", |_, input: Resize| async move { Ok(input.width) }).unwrap();
    tasks.resume("resize").await.unwrap();
    let task = tasks.ended(id).await;
    assert_eq!((task.status, task.attempt), (TaskStatus::Failed, 1));
    assert_eq!(task.error.unwrap().code, code::INVALID_INPUT);
}

#[tokio::test]
async fn a_panic_fails_that_attempt_with_its_message_and_nothing_else() {
    let tasks = Tasks::new().await;
    tasks
        .register("explode", |_, n: u32| async move { if n > 0 { panic!("number {n} went off") } else { Ok(()) } })
        .unwrap();
    let task = tasks.run(StartTask::new("explode").input(&7).unwrap()).await;
    let error = task.error.unwrap();
    assert_eq!((task.status, error.code.as_str()), (TaskStatus::Failed, code::HANDLER_PANICKED));
    assert!(error.message.contains("number 7 went off"), "{}", error.message);
    let next = tasks.run(StartTask::new("explode").input(&0).unwrap()).await;
    assert_eq!(next.status, TaskStatus::Completed);
}

#[tokio::test]
async fn a_failure_is_tried_again_as_the_handler_says() {
    let tasks = Tasks::new().await;
    let calls = Arc::new(AtomicU32::new(0));
    let counted = calls.clone();
    tasks
        .register("flaky", move |_, ()| {
            let call = counted.fetch_add(1, Ordering::SeqCst);
            async move {
                match call {
                    0 => Err(JobError::new("later").retry(Retry::After(Duration::from_millis(1)))),
                    1 => Err(JobError::new("never").code("NO_USE").retry(Retry::Never)),
                    _ => Ok(()),
                }
            }
        })
        .unwrap();
    let task = tasks.run(StartTask { max_attempts: Some(5), ..StartTask::new("flaky") }).await;
    assert_eq!((task.status, task.attempt, calls.load(Ordering::SeqCst)), (TaskStatus::Failed, 2, 2));
    let error = task.error.unwrap();
    assert_eq!((error.code.as_str(), error.attempt, error.retryable), ("NO_USE", 2, false));
}

#[tokio::test]
async fn no_more_attempts_run_at_once_than_the_limit_allows() {
    let options = TaskOptions { concurrency: 3, ..TaskOptions::default() };
    let tasks = Tasks::with(Arc::new(SystemClock::default()), options).await;
    let (begun, mut begins) = mpsc::unbounded_channel();
    let gate = Arc::new(Semaphore::new(0));
    let (running, most) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let (gate_in, running_in, most_in) = (gate.clone(), running.clone(), most.clone());
    tasks
        .register("wait", move |_, ()| {
            let (gate, running, most, begun) = (gate_in.clone(), running_in.clone(), most_in.clone(), begun.clone());
            async move {
                most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                begun.send(()).ok();
                gate.acquire().await.unwrap().forget();
                running.fetch_sub(1, Ordering::SeqCst);
                Ok(())
            }
        })
        .unwrap();
    let started = tasks.start_all((0..20).map(|_| StartTask::new("wait")).collect()).await.unwrap();
    for _ in 0..3 {
        begins.recv().await.unwrap();
    }
    gate.add_permits(20);
    for task in started {
        assert_eq!(tasks.ended(task.task.id).await.status, TaskStatus::Completed);
    }
    assert_eq!(most.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn fast_progress_is_coalesced_and_the_last_is_never_lost() {
    let clock = ManualClock::new(store_conformance::clock().now());
    let tasks = Tasks::with(Arc::new(clock.clone()), TaskOptions::default()).await;
    tasks
        .register("fast", |ctx: JobContext, ()| async move {
            for done in 0..1000 {
                ctx.progress(Progress::of(f64::from(done), 1000.0));
                tokio::task::yield_now().await;
            }
            Err::<(), _>(JobError::new("so that the last progress is not 100").retry(Retry::Never))
        })
        .unwrap();
    let task = tasks.run(StartTask::new("fast")).await;
    let shown = tasks.events(task.id).await.iter().filter(|event| matches!(event.body, EventBody::Progress(_))).count();
    // On a clock that stands still, only the first and the last are due.
    assert_eq!((shown, task.progress.done), (2, Some(999.0)));
}

#[tokio::test]
async fn cancelling_a_running_task_tells_its_handler() {
    let tasks = Tasks::new().await;
    tasks
        .register("patient", |ctx: JobContext, ()| async move {
            ctx.cancelled().await;
            Err::<(), _>(JobError::new("cleaned up"))
        })
        .unwrap();
    let id = tasks.start(StartTask::new("patient")).await.unwrap().id;
    tasks.until(id, status(TaskStatus::Running)).await;
    tasks.cancel(id, Some("changed my mind".into())).await.unwrap();
    let task = tasks.ended(id).await;
    assert_eq!(task.status, TaskStatus::Cancelled);
    assert!(task.error.unwrap().message.contains("cleaned up"));
}

#[tokio::test]
async fn an_attempt_that_takes_too_long_is_dropped() {
    let tasks = Tasks::new().await;
    let policy = KindPolicy { timeout_ms: Some(5), ..KindPolicy::default() };
    let options = KindOptions { policy, ..KindOptions::default() };
    tasks.register_with("endless", options, |_, ()| std::future::pending::<Result<(), JobError>>()).unwrap();
    let task = tasks.run(StartTask::new("endless")).await;
    assert_eq!((task.status, task.error.unwrap().code.as_str()), (TaskStatus::Failed, code::TIMEOUT));
}

#[tokio::test]
async fn closing_lets_work_end_and_gives_back_what_does_not() {
    let tasks =
        Tasks::with(Arc::new(SystemClock::default()), TaskOptions { release_grace_ms: 10, ..TaskOptions::default() })
            .await;
    let gate = Arc::new(Semaphore::new(0));
    let opened = gate.clone();
    tasks
        .register("quick", move |_, ()| {
            let gate = opened.clone();
            async move {
                gate.acquire().await.unwrap().forget();
                Ok(())
            }
        })
        .unwrap();
    tasks.register("stuck", |_, ()| std::future::pending::<Result<(), JobError>>()).unwrap();
    let quick = tasks.start(StartTask::new("quick")).await.unwrap().id;
    let stuck = tasks.start(StartTask::new("stuck")).await.unwrap().id;
    for id in [quick, stuck] {
        tasks.until(id, status(TaskStatus::Running)).await;
    }
    let closing = tasks.manager.clone();
    let hurry = async {
        gate.add_permits(1);
        tasks.until(quick, status(TaskStatus::Completed)).await;
    };
    closing.close(hurry).await;
    let refused = tasks.start(StartTask::new("quick")).await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::Unavailable);
    let again = open(tasks.folder.path(), Arc::new(SystemClock::default()), TaskOptions::default()).await;
    let task = again.get(stuck).await.unwrap().unwrap();
    assert_eq!((task.status, task.error.unwrap().code.as_str()), (TaskStatus::Pending, code::INTERRUPTED));
    again.register("stuck", |_, ()| async { Ok("unstuck") }).unwrap();
    again.journal().follow(stuck, 0).try_for_each(|_| std::future::ready(Ok(()))).await.unwrap();
    let task = again.get(stuck).await.unwrap().unwrap();
    assert_eq!((task.status, task.attempt), (TaskStatus::Completed, 2));
}

#[tokio::test]
async fn requests_over_a_limit_are_refused_by_name() {
    let options = TaskOptions { max_input_bytes: 10, max_tags: 1, max_batch_tasks: 2, ..TaskOptions::default() };
    let tasks = Tasks::with(Arc::new(SystemClock::default()), options).await;
    tasks.register("k", |_, ()| async { Ok(()) }).unwrap();
    let k = || StartTask::new("k");
    let cases = [
        (vec![k().input("0123456789").unwrap()], ErrorCode::LimitExceeded, "max_input_bytes"),
        (vec![StartTask { tags: vec!["a".into(), "b".into()], ..k() }], ErrorCode::LimitExceeded, "max_tags"),
        (vec![StartTask { tags: vec!["a".repeat(101)], ..k() }], ErrorCode::LimitExceeded, "max_tag_bytes"),
        (vec![k(), k(), k()], ErrorCode::LimitExceeded, "max_batch_tasks"),
        (vec![StartTask { priority: 101, ..k() }], ErrorCode::InvalidInput, "priority"),
        (vec![StartTask { max_attempts: Some(0), ..k() }], ErrorCode::InvalidInput, "maxAttempts"),
        (vec![k(), StartTask::new("other")], ErrorCode::UnknownKind, "there are: k"),
    ];
    for (requests, code, named) in cases {
        let error = tasks.start_all(requests).await.unwrap_err();
        assert_eq!(error.code(), code);
        assert!(error.to_string().contains(named), "{error}");
    }
    assert_eq!(tasks.count(Default::default(), 10).await.unwrap(), 0, "nothing was started");
}

#[tokio::test]
async fn a_store_that_fails_is_told_at_once() {
    let tasks = Tasks::new().await;
    // Another program breaks the database.
    let database = rusqlite::Connection::open(tasks.folder.path().join("meanwhile.db")).unwrap();
    database.execute_batch("DROP TABLE task_tag; DROP TABLE event; DROP TABLE task").unwrap();
    let error = tasks.start(StartTask::new("k")).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::UnknownKind);
    tasks.register("k", async |_: JobContext, (): ()| Ok(())).unwrap();
    let error = tasks.start(StartTask::new("k")).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::Unavailable);
    tokio::time::timeout(Duration::from_secs(10), tasks.failed()).await.unwrap();
}

#[tokio::test]
async fn a_full_store_does_not_keep_the_manager_from_closing() {
    let folder = tempfile::tempdir().unwrap();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let options = SqliteOptions { max_pages: Some(100), ..SqliteOptions::default() };
    let store = Arc::new(SqliteStore::open(folder.path(), &options, clock.clone()).unwrap());
    let options = TaskOptions { release_grace_ms: 1, ..TaskOptions::default() };
    let manager = TaskManager::open(store.clone(), clock.clone(), options, JournalOptions::default(), 1).await.unwrap();
    let fill = async |ctx: JobContext, (): ()| -> Result<(), JobError> {
        loop {
            ctx.chunk(&"x".repeat(10_000)).await?;
        }
    };
    manager.register("fill", fill).unwrap();
    let id = manager.start(StartTask::new("fill")).await.unwrap().id;
    while store.start(vec![crate::support::new_task("k")]).await != Err(StoreError::Full) {}
    tokio::time::timeout(Duration::from_secs(30), manager.close(async {})).await.unwrap();

    // With more room, the attempt that could say nothing is found lost.
    let manager = open(folder.path(), clock, TaskOptions::default()).await;
    assert_eq!(manager.get(id).await.unwrap().unwrap().error.unwrap().code, code::ATTEMPT_LOST);
}

#[tokio::test]
async fn what_cannot_be_started_cannot_be_repeated() {
    let tasks = Tasks::new().await;
    tasks.register("k", async |_: JobContext, (): ()| Ok(())).unwrap();
    let task = tasks.run(StartTask::new("k")).await;
    tasks.close(async {}).await;
    let again = open(tasks.folder.path(), Arc::new(SystemClock::default()), TaskOptions::default()).await;
    assert_eq!(again.retry(task.id, None).await.unwrap_err().code(), ErrorCode::UnknownKind);
    again.close(async {}).await;
    assert_eq!(again.retry(task.id, None).await.unwrap_err().code(), ErrorCode::Unavailable);
}

#[tokio::test]
async fn progress_that_is_no_number_is_brought_inside() {
    let tasks = Tasks::new().await;
    tasks
        .register("odd", |ctx: JobContext, ()| async move {
            ctx.progress(Progress { percent: f64::NAN, done: Some(f64::INFINITY), total: None, message: None });
            ctx.log(LogLevel::Info, "so that it is recorded").await?;
            Err::<(), _>(JobError::new("so that the last progress is not 100").retry(Retry::Never))
        })
        .unwrap();
    let task = tasks.run(StartTask::new("odd")).await;
    assert_eq!((task.status, task.progress.percent, task.progress.done), (TaskStatus::Failed, 0.0, None));
}

#[tokio::test]
async fn the_error_of_a_handler_is_no_larger_than_a_message_may_be() {
    let options = TaskOptions { max_message_bytes: 100, max_result_bytes: 100, ..TaskOptions::default() };
    let tasks = Tasks::with(Arc::new(SystemClock::default()), options).await;
    let fail = async |_: JobContext, (): ()| -> Result<(), JobError> {
        Err(JobError::new("é".repeat(1000)).code("C".repeat(1000)).retry(Retry::Never))
    };
    tasks.register("fail", fail).unwrap();
    let error = tasks.run(StartTask::new("fail")).await.error.unwrap();
    assert!(error.message.len() <= 100 && error.message.ends_with("(cut)"), "{}", error.message);
    assert!(error.code.len() <= 100, "{}", error.code);
}

#[tokio::test]
async fn what_the_store_cannot_take_fails_that_task_and_nothing_else() {
    let tasks = Tasks::new().await;
    let say = async |ctx: JobContext, text: String| -> Result<String, JobError> {
        ctx.log(LogLevel::Info, text.clone()).await?;
        Ok(text)
    };
    tasks.register("say", say).unwrap();
    // Another program put this there.
    let database = rusqlite::Connection::open(tasks.folder.path().join("meanwhile.db")).unwrap();
    let trigger = "CREATE TRIGGER no BEFORE INSERT ON event WHEN NEW.body LIKE '%poison%'
        BEGIN SELECT RAISE(ABORT, 'not this'); END";
    database.execute_batch(trigger).unwrap();
    let poisoned = tasks.run(StartTask::new("say").input("poison").unwrap()).await;
    let error = poisoned.error.unwrap();
    assert_eq!((poisoned.status, error.code.as_str()), (TaskStatus::Failed, code::INTERNAL), "{}", error.message);
    assert!(error.message.contains("not this"), "{}", error.message);
    let other = tasks.run(StartTask::new("say").input("hello").unwrap()).await;
    assert_eq!(other.status, TaskStatus::Completed);
}
