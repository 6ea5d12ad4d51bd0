//! The SQLite store beside a small model of it, under random operations, dropped and reopened in between.
//!
//! What the store answers, what it then holds and what its feed tells must be what the model says. More cases than the
//! default: `PROPTEST_CASES=2000 cargo test --release --test integration store_model::`. A failure is shrunk and printed
//! as the operations that lead to it; its seed is kept in `tests/proptest-regressions`, to be run first the next time.

mod model;
mod operations;

use std::{collections::HashMap, sync::Arc};

use chrono::{DateTime, TimeDelta, Utc};
use meanwhile::{
    clock::{Clock, ManualClock},
    model::{
        Event, EventBody, EventType, IdempotencyKey, Json, LogLevel, NewTask, Outcome, Progress, Task, TaskError,
        TaskId, code,
    },
    store::{
        AttemptRef, CommitFeed, EventQuery, KindClaim, NewEvent, Order, Store, StoreError, SweepQuery, TaskFilter,
        TaskQuery,
        sqlite::{SqliteOptions, SqliteStore},
    },
};
use proptest::{sample::Index, test_runner::Config};
use proptest_state_machine::{StateMachineTest, prop_state_machine};

use self::{
    model::{Answer, Body, Claims, EventView, Model, TaskView},
    operations::{CONCURRENCY, End, Fits, KINDS, Line, Operation, PER_KEY, Spec, Who},
};
use crate::support::{new_task, write};

prop_state_machine! {
    #![proptest_config(Config { cases: 24, max_shrink_iters: 3000, ..Config::default() })]

    #[test]
    fn the_store_does_what_its_model_says(sequential 1..60 => StoreUnderTest);
}

/// The store, and how the model's numbers name what is in it.
struct StoreUnderTest {
    runtime: tokio::runtime::Runtime,
    folder: tempfile::TempDir,
    clock: ManualClock,
    /// `None` only while it is opened again.
    store: Option<Arc<dyn Store>>,
    feed: CommitFeed,
    ids: Vec<TaskId>,
    attempts: HashMap<(usize, u32), AttemptRef>,
    /// Every event that a feed told of, by task.
    told: HashMap<TaskId, Vec<Arc<Event>>>,
}

impl StateMachineTest for StoreUnderTest {
    type SystemUnderTest = Self;
    type Reference = Model;

    fn init_test(model: &Model) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let clock = ManualClock::new(time(model.now_ms));
        let store = open(folder.path(), &clock);
        let (feed, told) = (store.feed(), HashMap::new());
        Self { runtime, folder, clock, store: Some(store), feed, ids: Vec::new(), attempts: HashMap::new(), told }
    }

    fn apply(mut test: Self, model: &Model, operation: Operation) -> Self {
        let answer = test.run(model, &operation);
        assert_eq!(answer, model.answer, "the answer to {operation:?}");
        let all = matches!(operation, Operation::Reopen { .. });
        let touched = if all { (0..test.ids.len()).collect() } else { model.touched.clone() };
        touched.into_iter().for_each(|task| test.compare(model, task));
        test
    }

    fn teardown(mut test: Self, model: Model) {
        test.end_store(true);
        for (task, id) in test.ids.iter().enumerate() {
            let told = test.told.get(id).map_or(&[][..], Vec::as_slice);
            let told: Vec<EventView> = told.iter().map(|event| event_view(event)).collect();
            assert_eq!(told, model.tasks[task].events, "what the feeds told of task {task}");
        }
    }
}

fn open(folder: &std::path::Path, clock: &ManualClock) -> Arc<dyn Store> {
    let clock: Arc<dyn Clock> = Arc::new(clock.clone());
    Arc::new(SqliteStore::open(folder, &SqliteOptions::default(), clock).unwrap())
}

fn time(ms: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(ms).unwrap()
}

impl StoreUnderTest {
    /// Ends the store, in an orderly way or not, after all that it told was heard.
    fn end_store(&mut self, close: bool) {
        let store = self.store.take().unwrap();
        let (feed, told) = (&mut self.feed, &mut self.told);
        self.runtime.block_on(async {
            if close {
                store.close().await;
            }
            drop(store);
            while let Some(batch) = feed.next().await {
                assert!(!batch.lagged);
                for commit in batch.commits {
                    let events = told.entry(commit.task).or_default();
                    events.extend(commit.events);
                    assert_eq!(events.last().map(|event| event.seq), Some(commit.head));
                }
            }
        });
    }

    fn store(&self) -> &dyn Store {
        &**self.store.as_ref().unwrap()
    }

    /// The task meant, among those there were before the operation; a stranger's while there was none.
    fn id(&self, index: &Index) -> TaskId {
        if self.ids.is_empty() { TaskId::from_i64(7) } else { self.ids[index.index(self.ids.len())] }
    }

    fn number(&self, id: TaskId) -> usize {
        self.ids.iter().position(|known| *known == id).unwrap()
    }

    fn run(&mut self, model: &Model, operation: &Operation) -> Answer {
        match operation {
            Operation::Start(specs) => self.start(specs),
            Operation::Claim { kinds, limit } => self.claim(model, kinds, *limit),
            Operation::Record { who, lines } => {
                let write = self.write(model, who, lines);
                let result = self.runtime.block_on(self.store().record(write));
                answer(result, |()| Answer::Nothing)
            }
            Operation::Finish { who, lines, end } => {
                let write = self.write(model, who, lines);
                let outcome = self.outcome(*end, write.by.attempt);
                let result = self.runtime.block_on(self.store().finish(write, outcome));
                answer(result, Answer::Status)
            }
            Operation::Cancel(task) => {
                let result = self.runtime.block_on(self.store().cancel(self.id(task), Some("for a reason".into())));
                answer(result, |task| Answer::Status(task.status))
            }
            Operation::Retry(task) => {
                let result = self.runtime.block_on(self.store().retry(self.id(task), None));
                answer(result, |started| Answer::Retried(self.note(started.task.id)))
            }
            Operation::Delete(task) => {
                let result = self.runtime.block_on(self.store().delete(self.id(task)));
                answer(result, |done| {
                    assert!(done, "few events are gone at once");
                    Answer::Nothing
                })
            }
            Operation::Sweep { tasks_ms, events_ms, slice } => self.sweep(*tasks_ms, *events_ms, *slice),
            Operation::Pause { kind, paused } => {
                self.runtime.block_on(self.store().pause(KINDS[*kind].into(), *paused)).unwrap();
                let paused = self.runtime.block_on(self.store().paused()).unwrap();
                let number = |name: &str| KINDS.iter().position(|kind| *kind == name).unwrap();
                let mut paused: Vec<usize> = paused.iter().map(|(name, _)| number(name)).collect();
                paused.sort_unstable();
                Answer::Paused(paused)
            }
            Operation::Prune { task, through } => {
                let result = self.runtime.block_on(self.store().prune_events(self.id(task), *through));
                answer(result, |()| Answer::Nothing)
            }
            Operation::List { fits, page, newest_first } => self.list(fits, *page, *newest_first),
            Operation::Count { fits, cap } => {
                let result = self.runtime.block_on(self.store().count(self.filter(fits), *cap));
                answer(result, Answer::Count)
            }
            Operation::Events { task, after, page, types } => {
                answer(self.events(self.id(task), *after, *page, types), |events| {
                    Answer::Seqs(events.iter().map(|event| event.seq).collect())
                })
            }
            Operation::Advance { ms } => {
                self.clock.advance(std::time::Duration::from_millis(*ms));
                Answer::Nothing
            }
            Operation::Reopen { close } => {
                self.end_store(*close);
                let store = open(self.folder.path(), &self.clock);
                self.feed = store.feed();
                let result = self.runtime.block_on(store.recover());
                self.store = Some(store);
                answer(result, Answer::Recovered)
            }
        }
    }

    fn note(&mut self, id: TaskId) -> usize {
        if let Some(known) = self.ids.iter().position(|known| *known == id) {
            return known;
        }
        self.ids.push(id);
        self.ids.len() - 1
    }

    fn start(&mut self, specs: &[Spec]) -> Answer {
        let now = self.clock.now();
        let task = |spec: &Spec| NewTask {
            tags: spec.tags.iter().map(|tag| (*tag).to_owned()).collect(),
            priority: spec.priority,
            run_at: spec.delay_ms.map(|ms| now + TimeDelta::milliseconds(ms)),
            idempotency: spec
                .key
                .map(|(key, fingerprint)| IdempotencyKey { key: key.to_string(), fingerprint: [fingerprint; 32] }),
            max_attempts: spec.max_attempts,
            max_lost: spec.max_lost,
            concurrency_key: spec.concurrency_key.map(|key| key.to_string()),
            deadline_ms: spec.deadline_ms,
            ..new_task(KINDS[spec.kind])
        };
        let result = self.runtime.block_on(self.store().start(specs.iter().map(task).collect()));
        answer(result, |started| {
            Answer::Started(started.iter().map(|started| (self.note(started.task.id), started.existed)).collect())
        })
    }

    fn claim(&mut self, model: &Model, kinds: &[usize], limit: usize) -> Answer {
        let kind = |kind: &usize| KindClaim {
            name: KINDS[*kind].into(),
            concurrency: CONCURRENCY[*kind],
            concurrency_per_key: PER_KEY[*kind],
        };
        let kinds: Vec<KindClaim> = kinds.iter().map(kind).collect();
        let claimed = self.runtime.block_on(self.store().claim(&kinds, limit.into())).unwrap();
        let mut attempts = Vec::new();
        for attempt in &claimed.attempts {
            let number = self.number(attempt.by.task);
            self.attempts.insert((number, attempt.by.attempt), attempt.by);
            attempts.push((number, attempt.by.attempt, attempt.failures));
        }
        let ms = |at: DateTime<Utc>| at.timestamp_millis();
        Answer::Claimed(Claims {
            attempts,
            next_due: claimed.next_due.map(ms).filter(|_| model.due_known),
            next_deadline: claimed.next_deadline.map(ms),
            expired: claimed.expired,
        })
    }

    /// Slice after slice, to the end.
    fn sweep(&self, tasks_ms: Option<u64>, events_ms: Option<u64>, limit: usize) -> Answer {
        let before = |ms: Option<u64>| ms.map(|ms| self.clock.now() - TimeDelta::milliseconds(ms.try_into().unwrap()));
        let mut query =
            SweepQuery { tasks_before: before(tasks_ms), events_before: before(events_ms), after: None, limit };
        let mut deleted = 0;
        loop {
            let swept = self.runtime.block_on(self.store().sweep(query.clone())).unwrap();
            assert!(swept.events <= limit, "a slice deletes no more than it may");
            deleted += swept.tasks;
            query.after = swept.after;
            if !swept.more {
                return Answer::Swept(deleted);
            }
        }
    }

    /// The write of whoever is meant. The model's numbers are those after it.
    fn write(&self, model: &Model, who: &Who, lines: &[Line]) -> meanwhile::store::AttemptWrite {
        let nobody = AttemptRef { task: self.id(&who.task), attempt: 1, session: 5 };
        let Some(task) = model.pick(&who.task) else { return write(nobody, 1, Vec::new()) };
        let attempt = model.tasks[task].view.attempt.saturating_sub(who.back);
        let mut by = self.attempts.get(&(task, attempt)).copied().unwrap_or(nobody);
        if who.foreign {
            by.session ^= 1;
        }
        let at = self.clock.now();
        let event = |line: &Line| {
            let body = match line {
                Line::Progress(percent) => EventBody::Progress(Progress::percent(f64::from(*percent))),
                Line::Log(number) => EventBody::Log { level: LogLevel::Info, message: number.to_string() },
                Line::Chunk(value) => EventBody::Chunk { index: 99, value: Json::from_value(value).unwrap() },
            };
            NewEvent { at, body }
        };
        write(by, model.number, lines.iter().map(event).collect())
    }

    fn outcome(&self, end: End, attempt: u32) -> Outcome {
        let error =
            |code: &str| TaskError { code: code.into(), message: "so".into(), details: None, attempt, retryable: true };
        match end {
            End::Completed => Outcome::Completed(Json::null()),
            End::Failed { retry_after_ms } => Outcome::Failed {
                error: error(code::HANDLER_FAILED),
                retry_at: retry_after_ms.map(|ms| self.clock.now() + TimeDelta::milliseconds(ms)),
            },
            End::Cancelled => Outcome::Cancelled(error(code::CANCELLED)),
            End::Released => Outcome::Released(error(code::INTERRUPTED)),
        }
    }

    fn filter(&self, fits: &Fits) -> TaskFilter {
        let ago = |ms: Option<i64>| ms.map(|ms| self.clock.now() - TimeDelta::milliseconds(ms));
        TaskFilter {
            kinds: fits.kinds.iter().map(|kind| KINDS[*kind].to_owned()).collect(),
            statuses: fits.statuses.clone(),
            tags: fits.tags.iter().map(|tag| (*tag).to_owned()).collect(),
            created_after: ago(fits.created_after_ms),
            created_before: ago(fits.created_before_ms),
        }
    }

    /// All pages, one after the other.
    fn list(&self, fits: &Fits, limit: usize, newest_first: bool) -> Answer {
        let order = if newest_first { Order::NewestFirst } else { Order::OldestFirst };
        let mut query = TaskQuery { filter: self.filter(fits), order, limit, ..TaskQuery::default() };
        let mut found = Vec::new();
        loop {
            let page = self.runtime.block_on(self.store().list(query.clone())).unwrap();
            assert!(page.tasks.len() <= limit);
            found.extend(page.tasks.iter().map(|task| self.number(task.id)));
            let Some(last) = page.tasks.last().filter(|_| page.has_more) else { return Answer::Tasks(found) };
            let end = if newest_first { &mut query.below } else { &mut query.above };
            *end = Some(last.id);
        }
    }

    /// All pages, one after the other.
    fn events(
        &self,
        task: TaskId,
        mut after: u64,
        limit: usize,
        types: &[EventType],
    ) -> Result<Vec<Arc<Event>>, StoreError> {
        let mut events = Vec::new();
        loop {
            let query = EventQuery { task, after, limit, limit_bytes: usize::MAX, types: types.to_vec() };
            let page = self.runtime.block_on(self.store().events(query))?;
            assert!(page.events.len() <= limit);
            events.extend(page.events);
            match events.last().filter(|_| page.has_more) {
                Some(last) => after = last.seq,
                None => return Ok(events),
            }
        }
    }

    /// The task and its journal are as the model says.
    fn compare(&self, model: &Model, task: usize) {
        let (id, model) = (self.ids[task], &model.tasks[task]);
        let found = self.runtime.block_on(self.store().tasks(vec![id])).unwrap().remove(0);
        if model.deleted {
            assert_eq!((found, self.events(id, 0, 1, &[])), (None, Err(StoreError::NotFound(id))), "task {task}");
            return;
        }
        let found = found.unwrap();
        assert_eq!(self.view(found), model.view, "task {task}");
        let events = self.events(id, 0, 100, &[]).unwrap();
        let events: Vec<EventView> = events.iter().map(|event| event_view(event)).collect();
        let kept: Vec<EventView> =
            model.events.iter().filter(|event| event.seq > model.pruned_through).cloned().collect();
        assert_eq!(events, kept, "the events of task {task}");
    }

    fn view(&self, task: Task) -> TaskView {
        let ms = |time: DateTime<Utc>| time.timestamp_millis();
        TaskView {
            kind: KINDS.iter().position(|kind| *kind == &*task.kind).unwrap(),
            status: task.status,
            priority: task.priority,
            run_at: ms(task.run_at),
            created_at: ms(task.created_at()),
            started_at: task.started_at.map(ms),
            completed_at: task.completed_at.map(ms),
            attempt: task.attempt,
            max_attempts: task.max_attempts,
            retry_of: task.retry_of.map(|id| self.number(id)),
            cancel_requested: task.cancel_requested,
            percent: percent(&task.progress),
            error: task.error.map(|error| error.code),
            result: task.result.is_some(),
            head: task.head,
            deadline: task.deadline.map(ms),
            concurrency_key: task.concurrency_key.map(|key| key.parse().unwrap()),
            tags: task.tags,
        }
    }
}

fn percent(progress: &Progress) -> u32 {
    progress.percent.to_string().parse().unwrap()
}

fn event_view(event: &Event) -> EventView {
    let body = match &event.body {
        EventBody::Status(change) => Body::Status {
            status: change.status,
            error: change.error.as_ref().map(|error| error.code.clone()),
            run_at: change.run_at.map(|at| at.timestamp_millis()),
            result: change.result.is_some(),
        },
        EventBody::Progress(progress) => Body::Progress(percent(progress)),
        EventBody::Log { message, .. } => Body::Log(message.clone()),
        EventBody::Cancellation(cancellation) => Body::Cancellation(cancellation.step, cancellation.message.clone()),
        EventBody::Chunk { index, value } => Body::Chunk { index: *index, value: value.decode().unwrap() },
    };
    EventView { seq: event.seq, attempt: event.attempt, at: event.at.timestamp_millis(), body }
}

fn answer<T>(result: Result<T, StoreError>, ok: impl FnOnce(T) -> Answer) -> Answer {
    match result {
        Ok(value) => ok(value),
        Err(StoreError::Conflict(_)) => Answer::Conflict,
        Err(StoreError::Stale(_)) => Answer::Stale,
        Err(StoreError::NotFound(_)) => Answer::NotFound,
        Err(error) => panic!("{error}"),
    }
}
