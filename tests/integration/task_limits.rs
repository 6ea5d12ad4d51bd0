//! Retries, deadlines, order, limits, pauses, cancelling as a ladder, deleting and retention, through the manager.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
        mpsc as std_mpsc,
    },
    time::Duration,
};

use CancelStep::{Confirmed, Delivered, Dropped, Overtaken, Requested, Unresponsive};
use chrono::TimeDelta;
use futures::{StreamExt, TryStreamExt};
use meanwhile::{
    clock::{Clock, ManualClock},
    error::ErrorCode,
    journal::{FollowError, Followed},
    model::{CancelStep, Event, EventBody, Json, LogLevel, TaskId, TaskStatus, code},
    store::TaskFilter,
    task::{JobContext, JobError, KindOptions, KindPolicy, RetentionOptions, Retry, StartTask, TaskOptions},
};
use tokio::sync::{Semaphore, mpsc};

use crate::{
    store_conformance,
    support::tasks::{Tasks, status},
};

fn policy(policy: KindPolicy) -> KindOptions {
    KindOptions { policy, ..KindOptions::default() }
}

fn manual() -> ManualClock {
    ManualClock::new(store_conformance::clock().now())
}

/// The steps of a task's cancellation.
async fn ladder(tasks: &Tasks, id: TaskId) -> Vec<CancelStep> {
    let step = |body: &EventBody| match body {
        EventBody::Cancellation(cancellation) => Some(cancellation.step),
        _ => None,
    };
    tasks.events(id).await.iter().filter_map(|event| step(&event.body)).collect()
}

/// Lets time pass for all who sleep, until `done`.
async fn pass_time<T>(clock: &ManualClock, done: impl Future<Output = T>) -> T {
    let pass = async {
        loop {
            if let Some(wake) = clock.next_wake() {
                clock.advance(wake);
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        result = done => result,
        () = pass => unreachable!("it goes on for ever"),
    }
}

#[tokio::test]
async fn waits_between_attempts_double_up_to_the_longest_as_the_task_asked() {
    let clock = manual();
    let tasks = Tasks::with(Arc::new(clock.clone()), TaskOptions::default()).await;
    tasks
        .register_with(
            "flaky",
            policy(KindPolicy { max_attempts: Some(9), retry_backoff_ms: Some(1), ..KindPolicy::default() }),
            |_, ()| async { Err::<(), _>(JobError::new("no")) },
        )
        .unwrap();
    let request = StartTask {
        max_attempts: Some(5),
        retry_backoff_ms: Some(1000),
        max_retry_backoff_ms: Some(3000),
        ..StartTask::new("flaky")
    };
    let id = tasks.start(request).await.unwrap().id;
    for (attempt, longest_ms) in (1..).zip([1000, 2000, 3000, 3000]) {
        let failed = |event: &Event| event.attempt == attempt && status(TaskStatus::Pending)(&event.body);
        tasks.until_event(id, failed).await;
        let wait = tasks.get(id).await.unwrap().unwrap().run_at - clock.now();
        assert!((longest_ms / 2..=longest_ms).contains(&wait.num_milliseconds()), "{wait} after attempt {attempt}");
        clock.advance(wait.to_std().unwrap());
    }
    let task = tasks.ended(id).await;
    assert_eq!((task.status, task.attempt), (TaskStatus::Failed, 5));
}

#[tokio::test]
async fn what_the_configuration_says_of_a_kind_wins_over_its_registration() {
    let kinds = [("k".to_owned(), KindPolicy { max_attempts: Some(3), ..KindPolicy::default() })].into();
    let tasks = Tasks::with(Arc::new(manual()), TaskOptions { kinds, ..TaskOptions::default() }).await;
    let options = policy(KindPolicy { max_attempts: Some(7), timeout_ms: Some(5), ..KindPolicy::default() });
    tasks.register_with("k", options, |_, ()| async { Ok(()) }).unwrap();
    let task = tasks.start(StartTask::new("k")).await.unwrap();
    assert_eq!((task.max_attempts, task.timeout_ms), (3, Some(5)));
}

#[tokio::test]
async fn a_deadline_ends_a_task_that_runs_one_that_waits_and_one_between_attempts() {
    let clock = manual();
    let tasks = Tasks::with(Arc::new(clock.clone()), TaskOptions::default()).await;
    tasks.register("endless", |_, ()| std::future::pending::<Result<(), JobError>>()).unwrap();
    tasks
        .register("later", |_, ()| async {
            Err::<(), _>(JobError::new("no").retry(Retry::After(Duration::from_secs(60))))
        })
        .unwrap();
    tasks.register("paused", |_, ()| async { Ok(()) }).unwrap();
    tasks.pause("paused").await.unwrap();
    let with_deadline =
        |kind: &str| StartTask { deadline_ms: Some(1000), max_attempts: Some(5), ..StartTask::new(kind) };
    let began = clock.now();
    let mut ids = Vec::new();
    for kind in ["endless", "paused", "later"] {
        ids.push(tasks.start(with_deadline(kind)).await.unwrap().id);
    }
    tasks.until(ids[0], status(TaskStatus::Running)).await;
    // A retry after the deadline would be in vain: it fails at once, with its own error, which says why.
    let task = tasks.ended(ids[2]).await;
    let error = task.error.unwrap();
    assert_eq!((task.status, task.attempt, error.code.as_str()), (TaskStatus::Failed, 1, code::HANDLER_FAILED));
    assert!(error.retryable && error.message.starts_with("no (") && error.message.contains("deadline"), "{error:?}");
    for id in &ids[..2] {
        let task = pass_time(&clock, tasks.ended(*id)).await;
        assert_eq!((task.status, task.error.unwrap().code.as_str()), (TaskStatus::Failed, code::DEADLINE_EXCEEDED));
        assert_eq!(task.deadline, Some(began + TimeDelta::seconds(1)));
        assert!(task.completed_at >= task.deadline);
    }
}

/// A kind whose attempts wait for a permit each, and how many of them there were at once.
struct Gated {
    gate: Arc<Semaphore>,
    begun: mpsc::UnboundedReceiver<u32>,
    most: Arc<AtomicU32>,
}

impl Gated {
    fn new(tasks: &Tasks, kind: &str, options: KindOptions) -> Self {
        let (send, begun) = mpsc::unbounded_channel();
        let (gate, most, running) =
            (Arc::new(Semaphore::new(0)), Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
        let (gate_in, most_in) = (gate.clone(), most.clone());
        let handler = move |_: JobContext, number: u32| {
            let (gate, most, running, send) = (gate_in.clone(), most_in.clone(), running.clone(), send.clone());
            async move {
                most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                send.send(number).ok();
                gate.acquire().await.unwrap().forget();
                running.fetch_sub(1, Ordering::SeqCst);
                Ok(())
            }
        };
        tasks.register_with(kind, options, handler).unwrap();
        Self { gate, begun, most }
    }
}

fn numbered(kind: &str, number: u32) -> StartTask {
    StartTask::new(kind).input(&number).unwrap()
}

#[tokio::test]
async fn a_kind_runs_no_more_at_once_than_it_may_and_does_not_keep_others_waiting() {
    let tasks = Tasks::new().await;
    let mut slow = Gated::new(&tasks, "slow", policy(KindPolicy { concurrency: Some(2), ..KindPolicy::default() }));
    tasks.register("quick", |_, ()| async { Ok(()) }).unwrap();
    let ids: Vec<TaskId> = {
        let started = tasks.start_all((0..6).map(|number| numbered("slow", number)).collect()).await.unwrap();
        started.into_iter().map(|started| started.task.id).collect()
    };
    slow.begun.recv().await.unwrap();
    slow.begun.recv().await.unwrap();
    assert_eq!(tasks.run(StartTask::new("quick")).await.status, TaskStatus::Completed);
    slow.gate.add_permits(6);
    for id in ids {
        assert_eq!(tasks.ended(id).await.status, TaskStatus::Completed);
    }
    assert_eq!(slow.most.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn tasks_with_the_same_key_run_one_after_the_other_in_their_order_and_others_beside_them() {
    let tasks = Tasks::new().await;
    let mut kind = Gated::new(&tasks, "k", KindOptions::default());
    let keyed = |number: u32, key: &str, priority| StartTask {
        concurrency_key: Some(key.into()),
        priority,
        ..numbered("k", number)
    };
    let first = tasks.start(keyed(1, "a", 0)).await.unwrap().id;
    assert_eq!(kind.begun.recv().await, Some(1));
    let waiting = vec![keyed(2, "a", 0), keyed(3, "a", 5), keyed(4, "a", 0), keyed(5, "b", -5)];
    let mut ids: Vec<TaskId> = Vec::new();
    for request in waiting {
        ids.push(tasks.start(request).await.unwrap().id);
    }
    assert_eq!(kind.begun.recv().await, Some(5), "another key is not kept waiting");
    // One that waits is cancelled: that does not hold up those behind it.
    tasks.cancel(ids[0], None).await.unwrap();
    kind.gate.add_permits(2);
    tasks.ended(first).await;
    assert_eq!(kind.begun.recv().await, Some(3), "the most urgent comes first");
    kind.gate.add_permits(1);
    assert_eq!(kind.begun.recv().await, Some(4));
    kind.gate.add_permits(1);
    for id in &ids[1..] {
        assert_eq!(tasks.ended(*id).await.status, TaskStatus::Completed);
    }
}

#[tokio::test]
async fn a_paused_kind_waits_also_over_a_restart_until_it_is_resumed() {
    let tasks = Tasks::new().await;
    tasks.register("k", |_, ()| async { Ok(()) }).unwrap();
    tasks.register("other", |_, ()| async { Ok(()) }).unwrap();
    tasks.pause("k").await.unwrap();
    let id = tasks.start(StartTask::new("k")).await.unwrap().id;
    // Claimed after it, so that it was passed over.
    tasks.run(StartTask::new("other")).await;
    assert_eq!(tasks.get(id).await.unwrap().unwrap().status, TaskStatus::Pending);
    let tasks = tasks.restart().await;
    tasks.register("k", |_, ()| async { Ok(()) }).unwrap();
    tasks.register("other", |_, ()| async { Ok(()) }).unwrap();
    tasks.run(StartTask::new("other")).await;
    assert_eq!(tasks.get(id).await.unwrap().unwrap().status, TaskStatus::Pending);
    assert_eq!(&*tasks.paused().await.unwrap()[0].0, "k");
    tasks.resume("k").await.unwrap();
    assert_eq!(tasks.ended(id).await.status, TaskStatus::Completed);
    assert!(tasks.paused().await.unwrap().is_empty());
    assert_eq!(tasks.pause("nobody").await.unwrap_err().code(), ErrorCode::UnknownKind);
}

#[tokio::test]
async fn a_stream_that_is_far_behind_when_its_task_is_deleted_ends_with_that() {
    let tasks = Tasks::new().await;
    // More than one slice of a deletion.
    tasks
        .register("chatty", |ctx: JobContext, ()| async move {
            for number in 0..25_000 {
                ctx.log(LogLevel::Info, number.to_string()).await?;
            }
            Ok(())
        })
        .unwrap();
    let id = tasks.run(StartTask::new("chatty")).await.id;
    let mut behind: Vec<_> = (0..3).map(|part| Box::pin(tasks.journal().follow(id, part * 10_000))).collect();
    for follow in &mut behind {
        follow.next().await.unwrap().unwrap();
    }
    let deleted = async { tasks.delete(id).await.unwrap() };
    let followed = futures::future::join_all(behind.into_iter().map(TryStreamExt::try_collect::<Vec<_>>));
    let ((), followed) = tokio::join!(deleted, followed);
    for end in followed {
        // Who had read it all before it was gone has the whole of it.
        let ended = end.as_ref().map(|followed| followed.last().unwrap().clone());
        match ended {
            Ok(Followed::Event(last)) => assert!(status(TaskStatus::Completed)(&last.body)),
            Ok(Followed::Gap { .. }) => panic!("a gap is not the end"),
            Err(error) => assert_eq!(error, &FollowError::NotFound(id)),
        }
    }
    assert_eq!(tasks.count(TaskFilter::default(), 9).await.unwrap(), 0);
}

/// The longest time that a task can ask for.
const LONGEST_MS: u64 = (1 << 31) - 1;

fn text(bytes: usize) -> String {
    "é".repeat(bytes / 2)
}

#[tokio::test]
async fn what_is_at_a_limit_is_taken_and_what_is_one_beyond_is_not() {
    let options = TaskOptions {
        max_input_bytes: 20,
        max_tags: 2,
        max_tag_bytes: 4,
        max_batch_tasks: 2,
        max_chunk_bytes: 12,
        max_result_bytes: 12,
        max_message_bytes: 64,
        ..TaskOptions::default()
    };
    let tasks = Tasks::with(Arc::new(manual()), options).await;
    tasks
        .register("echo", |ctx: JobContext, input: String| async move {
            ctx.log(LogLevel::Info, &input).await?;
            ctx.chunk(&input).await?;
            Ok(input)
        })
        .unwrap();
    let with = |change: &dyn Fn(&mut StartTask)| {
        let mut request = StartTask::new("echo").input("").unwrap();
        change(&mut request);
        request
    };
    type Change = dyn Fn(&mut StartTask, usize);
    let changes: [(&str, &Change); 11] = [
        ("max_input_bytes", &|request, more| request.input = Json::from_value(&"x".repeat(18 + more)).unwrap()),
        // One that is given several times counts once.
        ("max_tags", &|request, more| {
            request.tags = ["a", "b", "a", "b", "c"][..4 + more].iter().map(ToString::to_string).collect();
        }),
        ("tags: over the limit `max_tag_bytes`", &|request, more| request.tags = vec![text(4 + 2 * more)]),
        ("idempotencyKey: over the limit `max_tag_bytes`", &|request, more| {
            request.idempotency_key = Some(text(4 + 2 * more));
        }),
        ("concurrencyKey: over the limit `max_tag_bytes`", &|request, more| {
            request.concurrency_key = Some(text(4 + 2 * more));
        }),
        ("concurrencyKey", &|request, more| request.concurrency_key = Some("k"[more..].to_owned())),
        ("priority", &|request, more| request.priority = -100 - i32::try_from(more).unwrap()),
        ("maxAttempts", &|request, more| request.max_attempts = Some(1000 + u32::try_from(more).unwrap())),
        ("deadlineMs", &|request, more| request.deadline_ms = Some(LONGEST_MS + more as u64)),
        ("retryBackoffMs", &|request, more| request.retry_backoff_ms = Some(LONGEST_MS + more as u64)),
        ("maxRetryBackoffMs is 10; it must be at least retryBackoffMs", &|request, more| {
            (request.retry_backoff_ms, request.max_retry_backoff_ms) = (Some(10 + more as u64), Some(10));
        }),
    ];
    for (name, change) in changes {
        tasks.start(with(&|request| change(request, 0))).await.unwrap();
        let error = tasks.start(with(&|request| change(request, 1))).await.unwrap_err();
        assert!(error.to_string().contains(name), "{error}");
    }
    assert_eq!(tasks.start_all(vec![with(&|_| {}); 2]).await.unwrap().len(), 2);
    assert!(tasks.start_all(vec![with(&|_| {}); 3]).await.is_err());
    assert_eq!(tasks.start_all(Vec::new()).await.unwrap(), []);
    let task = tasks.run(StartTask::new("echo").input(&"x".repeat(10)).unwrap()).await;
    assert_eq!(task.status, TaskStatus::Completed, "{:?}", task.error);
    let task = tasks.run(StartTask::new("echo").input(&"x".repeat(11)).unwrap()).await;
    let error = task.error.unwrap();
    assert!(error.code == code::LIMIT_EXCEEDED && error.message.contains("max_chunk_bytes"), "{}", error.message);
}

#[tokio::test]
async fn a_task_that_says_more_than_it_may_fails_and_names_the_limit() {
    let options = TaskOptions { max_task_events: 20, max_task_bytes: 1000, ..TaskOptions::default() };
    let tasks = Tasks::with(Arc::new(manual()), options).await;
    tasks
        .register("chatty", |ctx: JobContext, bytes: usize| async move {
            loop {
                // A handler that does not listen is ended all the same.
                let _ = ctx.log(LogLevel::Info, "x".repeat(bytes)).await;
                tokio::task::yield_now().await;
            }
            #[allow(unreachable_code, reason = "it tells the type")]
            Ok(())
        })
        .unwrap();
    for (bytes, limit, allowed) in [(1, "max_task_events", 20), (600, "max_task_bytes", 3)] {
        let request = StartTask { max_attempts: Some(3), ..StartTask::new("chatty").input(&bytes).unwrap() };
        let task = tasks.run(request).await;
        let error = task.error.unwrap();
        assert_eq!((task.status, task.attempt, error.code.as_str()), (TaskStatus::Failed, 1, code::LIMIT_EXCEEDED));
        assert!(error.message.contains(limit), "{}", error.message);
        // And the one that says so.
        assert_eq!(task.head, allowed + 1);
    }
}

#[tokio::test]
async fn each_step_of_a_cancellation_is_an_event() {
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
    assert_eq!(tasks.ended(id).await.status, TaskStatus::Cancelled);
    let steps = ladder(&tasks, id).await;
    assert_eq!((steps[0], *steps.last().unwrap()), (Requested, Confirmed));
}

#[tokio::test]
async fn a_handler_that_does_not_listen_is_dropped_after_its_grace() {
    let clock = manual();
    let tasks = Tasks::with(Arc::new(clock.clone()), TaskOptions::default()).await;
    let options = policy(KindPolicy { cancel_grace_ms: Some(700), ..KindPolicy::default() });
    tasks.register_with("deaf", options, |_, ()| std::future::pending::<Result<(), JobError>>()).unwrap();
    let id = tasks.start(StartTask::new("deaf")).await.unwrap().id;
    tasks.until(id, status(TaskStatus::Running)).await;
    let began = clock.now();
    tasks.cancel(id, None).await.unwrap();
    let task = pass_time(&clock, tasks.ended(id)).await;
    assert_eq!(task.status, TaskStatus::Cancelled);
    assert!(task.completed_at.unwrap() - began >= TimeDelta::milliseconds(700));
    assert_eq!(ladder(&tasks, id).await, [Requested, Delivered, Dropped, Confirmed]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn code_that_cannot_be_dropped_is_reported_and_the_task_ends_when_it_does() {
    let clock = manual();
    let tasks = Tasks::with(Arc::new(clock.clone()), TaskOptions::default()).await;
    let (release, blocked) = std_mpsc::channel::<()>();
    let blocked = Arc::new(Mutex::new(blocked));
    tasks
        .register("blocking", move |_, ()| {
            let blocked = blocked.clone();
            async move {
                blocked.lock().unwrap().recv().unwrap();
                tokio::task::yield_now().await;
                Ok(())
            }
        })
        .unwrap();
    let id = tasks.start(StartTask::new("blocking")).await.unwrap().id;
    tasks.until(id, status(TaskStatus::Running)).await;
    tasks.cancel(id, None).await.unwrap();
    let reported = |body: &EventBody| matches!(body, EventBody::Cancellation(c) if c.step == Unresponsive);
    pass_time(&clock, tasks.until(id, reported)).await;
    assert_eq!(tasks.get(id).await.unwrap().unwrap().status, TaskStatus::Running, "its code still runs");
    release.send(()).unwrap();
    assert_eq!(tasks.ended(id).await.status, TaskStatus::Cancelled);
    assert_eq!(ladder(&tasks, id).await, [Requested, Delivered, Unresponsive, Dropped, Confirmed]);
}

#[tokio::test]
async fn a_task_that_completes_after_the_request_stays_completed_and_says_so() {
    let tasks = Tasks::new().await;
    tasks
        .register("stubborn", |ctx: JobContext, ()| async move {
            ctx.cancelled().await;
            Ok("done all the same")
        })
        .unwrap();
    let id = tasks.start(StartTask::new("stubborn")).await.unwrap().id;
    tasks.until(id, status(TaskStatus::Running)).await;
    tasks.cancel(id, None).await.unwrap();
    assert_eq!(tasks.ended(id).await.status, TaskStatus::Completed);
    assert_eq!(ladder(&tasks, id).await.last(), Some(&Overtaken));
}

#[tokio::test]
async fn a_deleted_task_is_gone_its_streams_end_and_its_key_is_free() {
    let tasks = Tasks::new().await;
    let mut kind = Gated::new(&tasks, "k", KindOptions::default());
    let keyed = StartTask { idempotency_key: Some("once".into()), tags: vec!["t".into()], ..numbered("k", 1) };
    let id = tasks.start(keyed.clone()).await.unwrap().id;
    kind.begun.recv().await.unwrap();
    let error = tasks.delete(id).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::Conflict, "{error}");
    kind.gate.add_permits(2);
    let head = tasks.ended(id).await.head;
    tasks.delete(id).await.unwrap();
    assert_eq!(tasks.get(id).await.unwrap(), None);
    assert_eq!(tasks.count(TaskFilter { tags: vec!["t".into()], ..TaskFilter::default() }, 9).await.unwrap(), 0);
    let followed: Result<Vec<_>, _> = tasks.journal().follow(id, head).try_collect().await;
    assert_eq!(followed, Err(FollowError::NotFound(id)));
    assert_eq!(tasks.delete(id).await.unwrap_err().code(), ErrorCode::NotFound);
    let again = tasks.start(keyed).await.unwrap().id;
    assert_ne!(again, id);
    tasks.ended(again).await;
}

#[tokio::test]
async fn a_stream_that_waits_at_the_end_of_a_deleted_task_hears_of_it() {
    let tasks = Tasks::new().await;
    tasks.register("k", |_, ()| async { Ok(()) }).unwrap();
    let mut changes = tasks.journal().changes();
    let id = tasks.run(StartTask::new("k")).await.id;
    tasks.delete(id).await.unwrap();
    loop {
        let Some(meanwhile::journal::Changed::Tasks(moved)) = changes.next().await else { panic!("the store goes on") };
        if let Some(last) = moved.iter().find(|change| change.change.to.is_none()) {
            assert_eq!((last.task, last.change.from), (id, Some(TaskStatus::Completed)));
            break;
        }
    }
}

#[tokio::test]
async fn old_tasks_and_old_events_go_while_the_server_runs() {
    let clock = manual();
    let retention = RetentionOptions {
        keep_tasks_ms: Some(10_000),
        keep_events_ms: Some(1_000),
        sweep_interval_ms: 500,
        sweep_slice: 2,
    };
    let tasks = Tasks::with(Arc::new(clock.clone()), TaskOptions { retention, ..TaskOptions::default() }).await;
    let kind = Gated::new(&tasks, "long", KindOptions::default());
    tasks.register("k", |_, ()| async { Ok(()) }).unwrap();
    let long = tasks.start(numbered("long", 1)).await.unwrap().id;
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(tasks.run(StartTask::new("k")).await.id);
    }
    let stored = || async {
        let mut stored = 0;
        for id in &ids {
            let query = meanwhile::store::EventQuery { task: *id, after: 0, limit: 9, limit_bytes: 999, types: vec![] };
            stored += tasks.store().events(query).await.map_or(0, |page| page.events.len());
        }
        stored
    };
    let step = Duration::from_millis(500);
    let pass_until = |wanted: usize| {
        let (clock, stored) = (&clock, &stored);
        async move {
            while stored().await > wanted {
                clock.advance(step);
                tokio::task::yield_now().await;
            }
        }
    };
    let began = clock.now();
    pass_until(5).await;
    assert!(clock.now() - began > TimeDelta::milliseconds(1_000), "no event goes before its time");
    assert!(tasks.get(ids[0]).await.unwrap().is_some());
    pass_until(0).await;
    assert!(clock.now() - began > TimeDelta::milliseconds(10_000), "no task goes before its time");
    assert_eq!(tasks.get(long).await.unwrap().unwrap().status, TaskStatus::Running, "only ended tasks are old");
    kind.gate.add_permits(1);
    assert_eq!(tasks.ended(long).await.status, TaskStatus::Completed);
}
