//! What every store does: a suite that takes any store, by the place it is opened in.

use std::{collections::HashSet, sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use meanwhile::{
    clock::{Clock, ManualClock},
    model::{
        Event, EventBody, EventType, IdempotencyKey, Json, LogLevel, NewTask, Outcome, Progress, Seq, Task, TaskError,
        TaskId, TaskStatus, code,
    },
    store::{
        Attempt, EventQuery, KindStatistics, MAX_TASKS_BYTES, NewEvent, Order, StatisticsQuery, Store, StoreError,
        TaskFilter, TaskQuery, TaskTimes,
    },
};

use crate::support::{new_task, write};

/// Where a store keeps its data: what is opened there again finds what was written before.
pub(crate) trait Place {
    fn open(&self, clock: &ManualClock) -> Arc<dyn Store>;
}

pub(crate) fn clock() -> ManualClock {
    ManualClock::new(DateTime::from_timestamp_millis(1_800_000_000_000).unwrap())
}

async fn start(store: &dyn Store, task: NewTask) -> Task {
    store.start(vec![task]).await.unwrap().remove(0).task
}

async fn claim_one(store: &dyn Store, kind: &str) -> Attempt {
    let mut claimed = store.claim(&[kind.into()], 1.into()).await.unwrap();
    assert_eq!(claimed.attempts.len(), 1, "a task to claim");
    claimed.attempts.remove(0)
}

async fn get(store: &dyn Store, id: TaskId) -> Task {
    store.tasks(vec![id]).await.unwrap().remove(0).expect("the task is there")
}

async fn events(store: &dyn Store, task: TaskId) -> Vec<Arc<Event>> {
    let query = EventQuery { task, after: 0, limit: 1000, limit_bytes: usize::MAX, types: Vec::new() };
    store.events(query).await.unwrap().events
}

fn statuses(events: &[Arc<Event>]) -> Vec<TaskStatus> {
    let of = |event: &Arc<Event>| match &event.body {
        EventBody::Status(change) => Some(change.status),
        _ => None,
    };
    events.iter().filter_map(of).collect()
}

fn log(at: DateTime<Utc>, message: &str) -> NewEvent {
    NewEvent { at, body: EventBody::Log { level: LogLevel::Info, message: message.into() } }
}

fn chunk(at: DateTime<Utc>, value: &str) -> NewEvent {
    NewEvent { at, body: EventBody::Chunk { index: 0, value: Json::parse(value).unwrap() } }
}

fn failure(attempt: u32) -> TaskError {
    TaskError { code: code::HANDLER_FAILED.into(), message: "no".into(), details: None, attempt, retryable: true }
}

pub(crate) async fn a_started_task_is_pending_with_its_first_event_and_survives_reopening(place: &impl Place) {
    let clock = clock();
    let store = place.open(&clock);
    let task = start(&*store, NewTask { tags: vec!["a".into(), "b".into()], priority: 3, ..new_task("k") }).await;
    assert_eq!((task.status, task.head, task.attempt), (TaskStatus::Pending, 1, 0));
    assert_eq!(task.created_at(), clock.now());
    store.close().await;
    let store = place.open(&clock);
    assert_eq!(get(&*store, task.id).await, task);
    assert_eq!(statuses(&events(&*store, task.id).await), [TaskStatus::Pending]);
    let next = start(&*store, new_task("k")).await;
    assert!(next.id > task.id, "ids grow over a restart");
}

fn with_key(key: &str, fingerprint: u8) -> NewTask {
    let idempotency = IdempotencyKey { key: key.into(), fingerprint: [fingerprint; 32] };
    NewTask { idempotency: Some(idempotency), ..new_task("k") }
}

pub(crate) async fn starting_several_is_all_or_nothing(place: &impl Place) {
    let store = place.open(&clock());
    start(&*store, with_key("used", 1)).await;
    let refused = store.start(vec![new_task("k"), with_key("used", 2)]).await;
    assert!(matches!(refused, Err(StoreError::Conflict(_))), "{refused:?}");
    assert_eq!(store.count(TaskFilter::default(), 100).await.unwrap(), 1);
    let started = store.start(vec![new_task("k"), new_task("l")]).await.unwrap();
    assert_eq!(started.len(), 2);
}

pub(crate) async fn the_same_idempotency_key_starts_one_task(place: &impl Place) {
    let store = place.open(&clock());
    let first = store.start(vec![with_key("a", 1), with_key("a", 1)]).await.unwrap();
    assert_eq!((first[0].existed, first[1].existed), (false, true));
    let again = store.start(vec![with_key("a", 1)]).await.unwrap();
    assert_eq!(again[0].task.id, first[0].task.id);
    assert!(again[0].existed);
    assert!(matches!(store.start(vec![with_key("a", 2)]).await, Err(StoreError::Conflict(_))));
}

pub(crate) async fn claims_go_by_priority_then_run_at_then_age(place: &impl Place) {
    let clock = clock();
    let store = place.open(&clock);
    let plain = start(&*store, new_task("k")).await.id;
    let other_kind = start(&*store, new_task("l")).await.id;
    let urgent = start(&*store, NewTask { priority: 5, ..new_task("l") }).await.id;
    let earlier = clock.now() - TimeDelta::seconds(5);
    let overdue = start(&*store, NewTask { run_at: Some(earlier), ..new_task("k") }).await.id;
    let claimed = store.claim(&["k".into(), "l".into()], 3.into()).await.unwrap();
    let order: Vec<_> = claimed.attempts.iter().map(|attempt| attempt.by.task).collect();
    assert_eq!(order, [urgent, overdue, plain]);
    assert_eq!(claim_one(&*store, "l").await.by.task, other_kind);
}

pub(crate) async fn a_task_is_not_claimed_before_its_time_nor_by_who_does_not_know_its_kind(place: &impl Place) {
    let clock = clock();
    let store = place.open(&clock);
    let due = clock.now() + TimeDelta::seconds(10);
    let task = start(&*store, NewTask { run_at: Some(due), ..new_task("k") }).await;
    let claimed = store.claim(&["k".into(), "unheard-of".into()], 10.into()).await.unwrap();
    assert_eq!((claimed.attempts.len(), claimed.next_due), (0, Some(due)));
    clock.advance(Duration::from_secs(10));
    assert!(store.claim(&["l".into()], 10.into()).await.unwrap().attempts.is_empty());
    let attempt = claim_one(&*store, "k").await;
    assert_eq!((attempt.by.task, attempt.by.attempt, attempt.input), (task.id, 1, task.input));
}

pub(crate) async fn an_attempt_writes_dense_events_and_ends_once(place: &impl Place) {
    let clock = clock();
    let store = place.open(&clock);
    let id = start(&*store, new_task("k")).await.id;
    let by = claim_one(&*store, "k").await.by;
    let now = clock.now();
    let progress = NewEvent { at: now, body: EventBody::Progress(Progress::of(1.0, 4.0).message("one")) };
    store.record(write(by, 1, vec![log(now, "hello"), chunk(now, "[1]"), progress])).await.unwrap();
    assert_eq!(get(&*store, id).await.progress, Progress::of(1.0, 4.0).message("one"));
    let result = Json::parse("{\"ok\":true}").unwrap();
    let ended = store.finish(write(by, 2, vec![chunk(now, "[2]")]), Outcome::Completed(result.clone())).await;
    assert_eq!(ended, Ok(TaskStatus::Completed));
    let task = get(&*store, id).await;
    assert_eq!((task.status, task.result, task.progress.percent), (TaskStatus::Completed, Some(result), 100.0));
    assert_eq!(task.completed_at, Some(now));
    let events = events(&*store, id).await;
    assert_eq!(events.iter().map(|event| event.seq).collect::<Vec<_>>(), (1..=task.head).collect::<Vec<Seq>>());
    assert_eq!(statuses(&events), [TaskStatus::Pending, TaskStatus::Running, TaskStatus::Completed]);
    let chunks: Vec<_> = events
        .iter()
        .filter_map(|event| match &event.body {
            EventBody::Chunk { index, value } => Some((*index, value.as_str())),
            _ => None,
        })
        .collect();
    assert_eq!(chunks, [(0, "[1]"), (1, "[2]")]);
    let again = store.finish(write(by, 3, vec![]), Outcome::Completed(Json::null())).await;
    assert_eq!(again, Err(StoreError::Stale(by)));
}

pub(crate) async fn a_stale_attempt_writes_nothing(place: &impl Place) {
    let clock = clock();
    let store = place.open(&clock);
    let id = start(&*store, new_task("k")).await.id;
    let by = claim_one(&*store, "k").await.by;
    store.finish(write(by, 1, vec![]), Outcome::Released(failure(1))).await.unwrap();
    let second = claim_one(&*store, "k").await.by;
    assert_eq!(second.attempt, 2);
    let head = get(&*store, id).await.head;
    let late = write(by, 2, vec![log(clock.now(), "late")]);
    assert_eq!(store.record(late.clone()).await, Err(StoreError::Stale(by)));
    assert_eq!(store.finish(late, Outcome::Completed(Json::null())).await, Err(StoreError::Stale(by)));
    assert_eq!(get(&*store, id).await.head, head);
    let foreign = meanwhile::store::AttemptRef { session: second.session ^ 1, ..second };
    assert_eq!(store.record(write(foreign, 1, vec![])).await, Err(StoreError::Stale(foreign)));
}

pub(crate) async fn a_repeated_write_is_acknowledged_and_changes_nothing(place: &impl Place) {
    let clock = clock();
    let store = place.open(&clock);
    let id = start(&*store, new_task("k")).await.id;
    let by = claim_one(&*store, "k").await.by;
    let once = write(by, 1, vec![chunk(clock.now(), "1")]);
    store.record(once.clone()).await.unwrap();
    store.record(once).await.unwrap();
    assert_eq!(get(&*store, id).await.head, 3);
    let last = write(by, 2, vec![]);
    store.finish(last.clone(), Outcome::Completed(Json::null())).await.unwrap();
    assert_eq!(store.finish(last, Outcome::Completed(Json::null())).await, Ok(TaskStatus::Completed));
    assert_eq!(get(&*store, id).await.head, 4);
}

pub(crate) async fn a_failure_waits_for_its_retry_and_then_ends(place: &impl Place) {
    let clock = clock();
    let store = place.open(&clock);
    let id = start(&*store, NewTask { max_attempts: 2, ..new_task("k") }).await.id;
    let retry_at = clock.now() + TimeDelta::seconds(3);
    let by = claim_one(&*store, "k").await.by;
    let outcome = Outcome::Failed { error: failure(1), retry_at: Some(retry_at) };
    assert_eq!(store.finish(write(by, 1, vec![]), outcome).await, Ok(TaskStatus::Pending));
    let task = get(&*store, id).await;
    assert_eq!((task.status, task.run_at, task.error), (TaskStatus::Pending, retry_at, Some(failure(1))));
    assert!(store.claim(&["k".into()], 1.into()).await.unwrap().attempts.is_empty());
    clock.advance(Duration::from_secs(3));
    let attempt = claim_one(&*store, "k").await;
    assert_eq!(attempt.failures, 1);
    let outcome = Outcome::Failed { error: failure(2), retry_at: Some(retry_at) };
    assert_eq!(store.finish(write(attempt.by, 1, vec![]), outcome).await, Ok(TaskStatus::Failed));
    assert_eq!(get(&*store, id).await.error, Some(failure(2)));
}

pub(crate) async fn an_attempt_of_a_process_that_is_gone_is_lost_and_runs_again(place: &impl Place) {
    let clock = clock();
    let mut store = place.open(&clock);
    let id = start(&*store, new_task("k")).await.id;
    for lost in 1..=3 {
        let by = claim_one(&*store, "k").await.by;
        assert_eq!(store.recover().await, Ok(0), "its own attempts are not lost");
        store.close().await;
        store = place.open(&clock);
        assert_eq!(store.recover().await, Ok(1));
        assert_eq!(store.record(write(by, 1, vec![])).await, Err(StoreError::Stale(by)));
        let task = get(&*store, id).await;
        assert_eq!(task.status, if lost < 3 { TaskStatus::Pending } else { TaskStatus::Failed });
        assert_eq!(task.error.unwrap().code, code::ATTEMPT_LOST);
    }
}

pub(crate) async fn no_attempt_begins_after_the_deadline_however_many_tasks_are_overdue(place: &impl Place) {
    let clock = clock();
    let store = place.open(&clock);
    let overdue = NewTask { deadline_ms: Some(1000), ..new_task("k") };
    let started = store.start(vec![overdue; 600]).await.unwrap();
    clock.advance(Duration::from_millis(1000));
    let timely = start(&*store, new_task("k")).await.id;
    let mut claimed = Vec::new();
    loop {
        let next = store.claim(&["k".into()], 50.into()).await.unwrap();
        claimed.extend(next.attempts.into_iter().map(|attempt| attempt.by.task));
        if !next.more {
            break;
        }
    }
    assert_eq!(claimed, [timely]);
    for overdue in started {
        let task = get(&*store, overdue.task.id).await;
        assert_eq!((task.status, task.error.unwrap().code.as_str()), (TaskStatus::Failed, code::DEADLINE_EXCEEDED));
    }
}

pub(crate) async fn cancelling_is_immediate_when_pending_and_a_request_when_running(place: &impl Place) {
    let store = place.open(&clock());
    let pending = start(&*store, new_task("k")).await.id;
    let cancelled = store.cancel(pending, Some("not needed".into())).await.unwrap();
    assert_eq!(cancelled.status, TaskStatus::Cancelled);
    assert!(cancelled.error.as_ref().unwrap().message.contains("not needed"));
    assert_eq!(store.cancel(pending, None).await, Ok(cancelled));
    let running = start(&*store, new_task("k")).await.id;
    let by = claim_one(&*store, "k").await.by;
    let asked = store.cancel(running, None).await.unwrap();
    assert_eq!((asked.status, asked.cancel_requested, asked.head), (TaskStatus::Running, true, 3));
    assert_eq!(store.cancel(running, None).await.unwrap().head, 3, "asking again says nothing new");
    let outcome = Outcome::Failed { error: failure(1), retry_at: None };
    assert_eq!(store.finish(write(by, 1, vec![]), outcome).await, Ok(TaskStatus::Cancelled));
    let completed = start(&*store, new_task("k")).await.id;
    let by = claim_one(&*store, "k").await.by;
    store.finish(write(by, 1, vec![]), Outcome::Completed(Json::null())).await.unwrap();
    assert!(matches!(store.cancel(completed, None).await, Err(StoreError::Conflict(_))));
    let nobody = TaskId::from_i64(7);
    assert_eq!(store.cancel(nobody, None).await, Err(StoreError::NotFound(nobody)));
}

/// An id names one task for ever, although the clock may stand still, or go back, from one start to the next.
pub(crate) async fn no_id_is_given_again_after_its_task_was_deleted(place: &impl Place) {
    let clock = clock();
    let mut given = HashSet::new();
    for _ in 0..8 {
        let store = place.open(&clock);
        store.recover().await.unwrap();
        for started in store.start(vec![new_task("k"); 2]).await.unwrap() {
            assert!(given.insert(started.task.id), "{} was given before", started.task.id);
        }
        let attempts = store.claim(&["k".into()], 2.into()).await.unwrap().attempts;
        for attempt in attempts {
            store.finish(write(attempt.by, 1, Vec::new()), Outcome::Completed(Json::null())).await.unwrap();
        }
        let newest = given.iter().max().copied().unwrap();
        assert!(store.delete(newest).await.unwrap());
        store.close().await;
    }
}

pub(crate) async fn an_ended_task_can_be_retried_as_a_new_one(place: &impl Place) {
    let store = place.open(&clock());
    let task = start(&*store, NewTask { tags: vec!["t".into()], priority: 2, ..new_task("k") }).await;
    assert!(matches!(store.retry(task.id, None).await, Err(StoreError::Conflict(_))));
    store.cancel(task.id, None).await.unwrap();
    let again = store.retry(task.id, None).await.unwrap().task;
    assert_eq!(again.retry_of, Some(task.id));
    assert_eq!((again.kind, again.input, again.tags, again.priority), (task.kind, task.input, task.tags, 2));
    assert_eq!(again.status, TaskStatus::Pending);
    assert_eq!(get(&*store, task.id).await.status, TaskStatus::Cancelled);
}

pub(crate) async fn lists_page_both_ways_and_filter(place: &impl Place) {
    let clock = clock();
    let store = place.open(&clock);
    let mut ids = Vec::new();
    for index in 0..10 {
        let kind = if index % 2 == 0 { "even" } else { "odd" };
        let mut tags = vec![format!("t{}", index % 3)];
        if index > 5 {
            tags.push("late".into());
        }
        ids.push(start(&*store, NewTask { tags, ..new_task(kind) }).await.id);
        clock.advance(Duration::from_millis(10));
    }
    store.cancel(ids[4], None).await.unwrap();
    let small = TaskQuery { limit_bytes: 0, ..TaskQuery::default() };
    let page = store.list(small).await.unwrap();
    assert_eq!((page.tasks.len(), page.has_more), (1, true), "a page over its bytes has one task, and goes on");
    let list = async |filter: TaskFilter, order, below, above, limit| {
        let page = store.list(TaskQuery { filter, order, below, above, limit, ..TaskQuery::default() }).await.unwrap();
        (page.tasks.iter().map(|task| task.id).collect::<Vec<_>>(), page.has_more)
    };
    let all = TaskFilter::default();
    let (newest, more) = list(all.clone(), Order::NewestFirst, None, None, 3).await;
    assert_eq!((newest, more), (vec![ids[9], ids[8], ids[7]], true));
    let (rest, more) = list(all.clone(), Order::NewestFirst, Some(ids[7]), None, 20).await;
    assert_eq!((rest.len(), rest[0], more), (7, ids[6], false));
    let (oldest, more) = list(all, Order::OldestFirst, None, Some(ids[0]), 2).await;
    assert_eq!((oldest, more), (vec![ids[1], ids[2]], true));
    let even_pending =
        TaskFilter { kinds: vec!["even".into()], statuses: vec![TaskStatus::Pending], ..TaskFilter::default() };
    let (found, _) = list(even_pending, Order::NewestFirst, None, None, 20).await;
    assert_eq!(found, [ids[8], ids[6], ids[2], ids[0]]);
    let tagged = TaskFilter { tags: vec!["t1".into(), "late".into()], ..TaskFilter::default() };
    assert_eq!(list(tagged.clone(), Order::OldestFirst, None, None, 20).await.0, [ids[7]]);
    assert_eq!(store.count(tagged, 10).await, Ok(1));
    let span = TaskFilter {
        created_after: Some(ids[2].created_at()),
        created_before: Some(ids[5].created_at()),
        ..TaskFilter::default()
    };
    assert_eq!(list(span, Order::OldestFirst, None, None, 20).await.0, [ids[3], ids[4]]);
    let nothing = TaskFilter { kinds: vec!["none".into()], ..TaskFilter::default() };
    assert_eq!(list(nothing, Order::NewestFirst, None, None, 20).await, (vec![], false));
}

pub(crate) async fn tasks_by_id_come_in_the_order_asked_for_and_large_ones_a_few_at_a_time(place: &impl Place) {
    let store = place.open(&clock());
    let text = "x".repeat(MAX_TASKS_BYTES / 3);
    let large = NewTask { input: Json::from(serde_json::Value::from(text)), ..new_task("k") };
    let (small, first, second, third) = (
        start(&*store, new_task("k")).await.id,
        start(&*store, large.clone()).await.id,
        start(&*store, large.clone()).await.id,
        start(&*store, large).await.id,
    );
    let nobody = TaskId::from_i64(7);
    let ids = |tasks: Vec<Option<Task>>| tasks.into_iter().map(|task| task.map(|task| task.id)).collect::<Vec<_>>();
    let read = async |wanted: &[TaskId]| ids(store.tasks(wanted.to_vec()).await.unwrap());
    assert_eq!(read(&[second, nobody, small]).await, [Some(second), None, Some(small)]);
    assert_eq!(read(&[first, second, third, small]).await, [Some(first), Some(second)]);
    assert_eq!(read(&[]).await, []);
    let text = "x".repeat(MAX_TASKS_BYTES + 1);
    let larger = NewTask { input: Json::from(serde_json::Value::from(text)), ..new_task("k") };
    let larger = start(&*store, larger).await.id;
    assert_eq!(read(&[larger, small]).await, [Some(larger)]);
}

pub(crate) async fn counting_stops_at_the_cap(place: &impl Place) {
    let store = place.open(&clock());
    store.start((0..20).map(|n| new_task(if n < 15 { "k" } else { "l" })).collect()).await.unwrap();
    assert_eq!(store.count(TaskFilter::default(), 1000).await, Ok(20));
    assert_eq!(store.count(TaskFilter::default(), 18).await, Ok(18));
    let kind = TaskFilter { kinds: vec!["k".into()], ..TaskFilter::default() };
    assert_eq!(store.count(kind, 1000).await, Ok(15));
}

pub(crate) async fn statistics_count_by_kind_and_status_and_measure_what_completed_last(place: &impl Place) {
    let clock = clock();
    let store = place.open(&clock);
    // Waits 10, 20, 30 ms, and runs twice as long.
    for round in 1..=3 {
        start(&*store, new_task("measured")).await;
        clock.advance(Duration::from_millis(10 * round));
        let by = claim_one(&*store, "measured").await.by;
        clock.advance(Duration::from_millis(20 * round));
        store.finish(write(by, 1, vec![]), Outcome::Completed(Json::null())).await.unwrap();
    }
    for _ in 0..3 {
        start(&*store, new_task("waiting")).await;
    }
    claim_one(&*store, "waiting").await;
    let query = |kind: Option<&str>| StatisticsQuery { kind: kind.map(str::to_owned), max_count: 100, sample: 2 };
    let [measured, waiting] = &store.statistics(query(None)).await.unwrap()[..] else { panic!("not two kinds") };
    assert_eq!((&*measured.kind, &*waiting.kind), ("measured", "waiting"));
    let of = |kind: &KindStatistics| kind.counts.map(|(_, count)| count);
    assert_eq!(waiting.counts.map(|(status, _)| status), TaskStatus::ALL);
    assert_eq!((of(measured), of(waiting)), ([0, 0, 3, 0, 0], [2, 1, 0, 0, 0]));
    let times = |waited_ms, ran_ms| TaskTimes { waited_ms, ran_ms };
    assert_eq!(measured.times, [times(30, 60), times(20, 40)]);
    assert_eq!(waiting.times, []);
    assert_eq!(store.statistics(query(Some("waiting"))).await.unwrap(), std::slice::from_ref(waiting));
    assert_eq!(store.statistics(query(Some("other"))).await.unwrap(), []);
    let capped = StatisticsQuery { max_count: 2, ..query(Some("measured")) };
    assert_eq!(of(&store.statistics(capped).await.unwrap()[0]), [0, 0, 2, 0, 0]);
}

pub(crate) async fn events_come_in_pages_and_by_type(place: &impl Place) {
    let clock = clock();
    let store = place.open(&clock);
    let id = start(&*store, new_task("k")).await.id;
    let by = claim_one(&*store, "k").await.by;
    let chunks = (0..10).map(|n| chunk(clock.now(), &n.to_string())).collect();
    store.record(write(by, 1, chunks)).await.unwrap();
    store.record(write(by, 2, vec![log(clock.now(), "end")])).await.unwrap();
    let read = async |after, limit, limit_bytes, types: &[EventType]| {
        let query = EventQuery { task: id, after, limit, limit_bytes, types: types.to_vec() };
        let page = store.events(query).await.unwrap();
        assert_eq!((page.head, page.pruned_through), (13, 0));
        (page.events.iter().map(|event| event.seq).collect::<Vec<_>>(), page.has_more)
    };
    assert_eq!(read(0, 3, usize::MAX, &[]).await, (vec![1, 2, 3], true));
    assert_eq!(read(10, 3, usize::MAX, &[]).await, (vec![11, 12, 13], false));
    assert_eq!(read(5, 100, 1, &[]).await, (vec![6], true));
    assert_eq!(read(0, 100, usize::MAX, &[EventType::Log, EventType::Status]).await, (vec![1, 2, 13], false));
    assert_eq!(read(13, 100, usize::MAX, &[]).await, (vec![], false));
    let nobody = TaskId::from_i64(7);
    let query = EventQuery { task: nobody, after: 0, limit: 1, limit_bytes: 1, types: vec![] };
    assert_eq!(store.events(query).await, Err(StoreError::NotFound(nobody)));
}

pub(crate) async fn pruned_events_are_gone_but_never_the_newest(place: &impl Place) {
    let clock = clock();
    let store = place.open(&clock);
    let id = start(&*store, new_task("k")).await.id;
    let by = claim_one(&*store, "k").await.by;
    store.record(write(by, 1, vec![log(clock.now(), "a"), log(clock.now(), "b")])).await.unwrap();
    store.prune_events(id, 2).await.unwrap();
    assert_eq!(events(&*store, id).await[0].seq, 3);
    store.prune_events(id, 99).await.unwrap();
    let query = EventQuery { task: id, after: 0, limit: 9, limit_bytes: 999, types: vec![] };
    let page = store.events(query).await.unwrap();
    assert_eq!((page.events.len(), page.events[0].seq, page.pruned_through, page.head), (1, 4, 3, 4));
}

pub(crate) async fn the_feed_tells_every_commit_in_order(place: &impl Place) {
    let clock = clock();
    let store = place.open(&clock);
    let mut feed = store.feed();
    let id = start(&*store, new_task("k")).await.id;
    let by = claim_one(&*store, "k").await.by;
    store.record(write(by, 1, vec![log(clock.now(), "a"), log(clock.now(), "b")])).await.unwrap();
    store.finish(write(by, 2, vec![]), Outcome::Completed(Json::null())).await.unwrap();
    store.close().await;
    let mut heads = Vec::new();
    let mut moves = Vec::new();
    while let Some(batch) = feed.next().await {
        assert!(!batch.lagged);
        for commit in batch.commits {
            assert_eq!(commit.task, id);
            heads.push(commit.head);
            moves.push((commit.change.from, commit.change.to));
        }
    }
    assert_eq!(heads, [1, 2, 4, 5]);
    let (pending, running) = (Some(TaskStatus::Pending), Some(TaskStatus::Running));
    assert_eq!(
        moves,
        [(None, pending), (pending, running), (running, running), (running, Some(TaskStatus::Completed))]
    );
}

pub(crate) async fn a_closed_store_says_so(place: &impl Place) {
    let store = place.open(&clock());
    assert_eq!(store.check().await, Ok(()));
    store.close().await;
    assert_eq!(store.check().await, Err(StoreError::Closed));
    assert_eq!(store.start(vec![new_task("k")]).await.unwrap_err(), StoreError::Closed);
    assert_eq!(store.tasks(vec![]).await, Err(StoreError::Closed));
}
