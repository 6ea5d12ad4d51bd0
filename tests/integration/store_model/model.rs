//! The model: what a store holds, in a vector, and what each operation makes of it.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, HashMap},
};

use meanwhile::model::{CancelStep, EventType, TaskStatus, code};
use proptest::{prelude::*, sample::Index};
use proptest_state_machine::ReferenceStateMachine;

use super::operations::{CONCURRENCY, End, Fits, Line, Operation, PER_KEY, Spec, TAGS, Who, operation};

use TaskStatus::{Cancelled, Completed, Failed, Pending, Running};

/// When the model's clock begins, in milliseconds since 1970.
const BEGIN_MS: i64 = 1_800_000_000_000;

/// What the store answers, with tasks by their number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    Nothing,
    Started(Vec<(usize, bool)>),
    Retried(usize),
    Claimed(Claims),
    Status(TaskStatus),
    Recovered(usize),
    Swept(usize),
    Paused(Vec<usize>),
    Tasks(Vec<usize>),
    Count(u64),
    Seqs(Vec<u64>),
    Conflict,
    Stale,
    NotFound,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Claims {
    /// Task, attempt and its failures so far.
    pub(crate) attempts: Vec<(usize, u32, u32)>,
    /// When the next becomes due. A kind that filled its room says nothing of what comes.
    pub(crate) next_due: Option<i64>,
    pub(crate) next_deadline: Option<i64>,
    pub(crate) expired: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Body {
    Status { status: TaskStatus, error: Option<String>, run_at: Option<i64>, result: bool },
    Progress(u32),
    Log(String),
    Chunk { index: u64, value: u32 },
    Cancellation(CancelStep, Option<String>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EventView {
    pub(crate) seq: u64,
    pub(crate) attempt: u32,
    pub(crate) at: i64,
    pub(crate) body: Body,
}

/// What can be seen of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TaskView {
    pub(crate) kind: usize,
    pub(crate) status: TaskStatus,
    pub(crate) priority: i32,
    pub(crate) run_at: i64,
    pub(crate) created_at: i64,
    pub(crate) started_at: Option<i64>,
    pub(crate) completed_at: Option<i64>,
    pub(crate) tags: Vec<String>,
    pub(crate) attempt: u32,
    pub(crate) max_attempts: u32,
    pub(crate) retry_of: Option<usize>,
    pub(crate) cancel_requested: bool,
    pub(crate) percent: u32,
    pub(crate) error: Option<String>,
    pub(crate) result: bool,
    pub(crate) head: u64,
    pub(crate) deadline: Option<i64>,
    pub(crate) concurrency_key: Option<u8>,
}

#[derive(Debug, Clone)]
pub(crate) struct ModelTask {
    pub(crate) view: TaskView,
    /// All there ever were.
    pub(crate) events: Vec<EventView>,
    pub(crate) pruned_through: u64,
    pub(crate) deleted: bool,
    max_lost: u32,
    deadline_ms: Option<u64>,
    failures: u32,
    lost: u32,
    chunks: u64,
    /// Of the newest attempt.
    pub(crate) last_write: u64,
}

#[derive(Debug, Clone)]
pub(crate) struct Model {
    pub(crate) now_ms: i64,
    pub(crate) tasks: Vec<ModelTask>,
    keys: HashMap<u8, (u8, usize)>,
    paused: BTreeSet<usize>,
    /// Whether the last claim's `next_due` means something.
    pub(crate) due_known: bool,
    /// What the last operation is answered.
    pub(crate) answer: Answer,
    /// The number that the last write carried.
    pub(crate) number: u64,
    /// The tasks that the last operation changed, or could have.
    pub(crate) touched: Vec<usize>,
}

impl ReferenceStateMachine for Model {
    type State = Self;
    type Transition = Operation;

    fn init_state() -> BoxedStrategy<Self> {
        let (keys, answer) = (HashMap::new(), Answer::Nothing);
        Just(Self {
            now_ms: BEGIN_MS,
            tasks: Vec::new(),
            keys,
            answer,
            number: 0,
            touched: Vec::new(),
            paused: BTreeSet::new(),
            due_known: false,
        })
        .boxed()
    }

    fn transitions(_: &Self) -> BoxedStrategy<Operation> {
        operation()
    }

    fn apply(mut model: Self, operation: &Operation) -> Self {
        model.touched.clear();
        model.answer = match operation {
            Operation::Start(specs) => model.start(specs),
            Operation::Claim { kinds, limit } => model.claim(kinds, *limit),
            Operation::Record { who, lines } => model.write(who, lines, None),
            Operation::Finish { who, lines, end } => model.write(who, lines, Some(*end)),
            Operation::Cancel(task) => model.cancel(task),
            Operation::Retry(task) => model.retry(task),
            Operation::Delete(task) => model.delete(task),
            Operation::Sweep { tasks_ms, events_ms, .. } => model.sweep(*tasks_ms, *events_ms),
            Operation::Pause { kind, paused } => model.pause(*kind, *paused),
            Operation::Prune { task, through } => model.prune(task, *through),
            Operation::List { fits, newest_first, .. } => model.list(fits, *newest_first),
            Operation::Count { fits, cap } => Answer::Count(cap.min(&(model.fitting(fits).len() as u64)).to_owned()),
            Operation::Events { task, after, types, .. } => model.events(task, *after, types),
            Operation::Advance { ms } => {
                model.now_ms += i64::try_from(*ms).unwrap();
                Answer::Nothing
            }
            Operation::Reopen { .. } => model.reopen(),
        };
        model
    }
}

impl Model {
    /// The task meant, deleted or not; `None` while there is none.
    pub(crate) fn pick(&self, index: &Index) -> Option<usize> {
        (!self.tasks.is_empty()).then(|| index.index(self.tasks.len()))
    }

    /// The task meant, if it is there.
    fn present(&self, index: &Index) -> Option<usize> {
        self.pick(index).filter(|task| !self.tasks[*task].deleted)
    }

    fn start(&mut self, specs: &[Spec]) -> Answer {
        let mut keys = self.keys.clone();
        for spec in specs {
            if let Some((key, fingerprint)) = spec.key
                && keys.entry(key).or_insert((fingerprint, usize::MAX)).0 != fingerprint
            {
                return Answer::Conflict;
            }
        }
        let mut started = Vec::new();
        for spec in specs {
            let known = spec.key.and_then(|(key, _)| self.keys.get(&key));
            if let Some((_, task)) = known {
                started.push((*task, true));
                continue;
            }
            let task = self.add(spec, None);
            if let Some((key, fingerprint)) = spec.key {
                self.keys.insert(key, (fingerprint, task));
            }
            started.push((task, false));
        }
        Answer::Started(started)
    }

    fn add(&mut self, spec: &Spec, retry_of: Option<usize>) -> usize {
        let task = self.tasks.len();
        let run_at = self.now_ms + spec.delay_ms.unwrap_or(0);
        let view = TaskView {
            kind: spec.kind,
            status: Pending,
            priority: spec.priority,
            run_at,
            created_at: self.now_ms,
            started_at: None,
            completed_at: None,
            tags: spec.tags.iter().map(|tag| (*tag).to_owned()).collect(),
            attempt: 0,
            max_attempts: spec.max_attempts,
            retry_of,
            cancel_requested: false,
            percent: 0,
            error: None,
            result: false,
            head: 0,
            deadline: spec.deadline_ms.map(|ms| run_at.max(self.now_ms) + i64::try_from(ms).unwrap()),
            concurrency_key: spec.concurrency_key,
        };
        let (max_lost, events) = (spec.max_lost, Vec::new());
        self.tasks.push(ModelTask {
            view,
            events,
            pruned_through: 0,
            deleted: false,
            max_lost,
            deadline_ms: spec.deadline_ms,
            failures: 0,
            lost: 0,
            chunks: 0,
            last_write: 0,
        });
        self.happened(task, Body::Status { status: Pending, error: None, run_at: Some(run_at), result: false });
        task
    }

    fn happened(&mut self, task: usize, body: Body) {
        let at = self.now_ms;
        let task_model = &mut self.tasks[task];
        task_model.view.head += 1;
        let (seq, attempt) = (task_model.view.head, task_model.view.attempt);
        task_model.events.push(EventView { seq, attempt, at, body });
        if !self.touched.contains(&task) {
            self.touched.push(task);
        }
    }

    fn claim(&mut self, kinds: &[usize], limit: usize) -> Answer {
        let expired = self.expire();
        let mut claims = Claims { expired, ..Claims::default() };
        self.due_known = true;
        let mut due = Vec::new();
        for kind in kinds {
            let room = self.room(*kind, limit);
            let mut of_kind = self.due(*kind);
            of_kind.truncate(room);
            if room > 0 && of_kind.len() == room {
                self.due_known = false;
            }
            if room > 0 {
                let later =
                    self.pending(*kind).map(|task| self.tasks[task].view.run_at).filter(|at| *at > self.now_ms).min();
                claims.next_due = [claims.next_due, later].into_iter().flatten().min();
            }
            due.extend(of_kind);
        }
        due.sort_by_key(|task| self.place(*task));
        due.truncate(limit);
        let now_ms = self.now_ms;
        for task in due {
            let model = &mut self.tasks[task];
            model.last_write = 0;
            let view = &mut model.view;
            (view.status, view.started_at, view.percent) = (Running, Some(now_ms), 0);
            view.attempt += 1;
            claims.attempts.push((task, view.attempt, model.failures));
            self.happened(task, Body::Status { status: Running, error: None, run_at: None, result: false });
        }
        let pending = self.tasks.iter().filter(|task| task.view.status == Pending);
        claims.next_deadline = pending.filter_map(|task| task.view.deadline).min();
        claims.next_due = claims.next_due.filter(|_| self.due_known);
        Answer::Claimed(claims)
    }

    fn expire(&mut self) -> usize {
        let overdue: Vec<usize> = (0..self.tasks.len())
            .filter(|task| {
                let view = &self.tasks[*task].view;
                view.status == Pending && view.deadline.is_some_and(|deadline| deadline <= self.now_ms)
            })
            .collect();
        for task in &overdue {
            self.settle(*task, Failed, Some(code::DEADLINE_EXCEEDED), None);
        }
        overdue.len()
    }

    fn pending(&self, kind: usize) -> impl Iterator<Item = usize> + '_ {
        (0..self.tasks.len()).filter(move |task| {
            let view = &self.tasks[*task].view;
            view.status == Pending && view.kind == kind
        })
    }

    fn running(&self, kind: usize) -> impl Iterator<Item = &TaskView> {
        self.tasks.iter().map(|task| &task.view).filter(move |view| view.status == Running && view.kind == kind)
    }

    fn room(&self, kind: usize, limit: usize) -> usize {
        if self.paused.contains(&kind) {
            return 0;
        }
        CONCURRENCY[kind].map_or(limit, |most| limit.min(most.saturating_sub(self.running(kind).count())))
    }

    /// The due tasks of a kind whose keys have room, in their order.
    fn due(&self, kind: usize) -> Vec<usize> {
        let mut due: Vec<usize> =
            self.pending(kind).filter(|task| self.tasks[*task].view.run_at <= self.now_ms).collect();
        due.sort_by_key(|task| self.place(*task));
        let mut used: HashMap<u8, usize> = HashMap::new();
        for key in self.running(kind).filter_map(|view| view.concurrency_key) {
            *used.entry(key).or_default() += 1;
        }
        due.retain(|task| {
            self.tasks[*task].view.concurrency_key.is_none_or(|key| {
                let used = used.entry(key).or_default();
                *used += 1;
                *used <= PER_KEY[kind]
            })
        });
        due
    }

    fn place(&self, task: usize) -> (Reverse<i32>, i64, usize) {
        (Reverse(self.tasks[task].view.priority), self.tasks[task].view.run_at, task)
    }

    fn write(&mut self, who: &Who, lines: &[Line], end: Option<End>) -> Answer {
        let Some(task) = self.pick(&who.task) else { return Answer::Stale };
        self.touched.push(task);
        let model = &mut self.tasks[task];
        self.number = model.last_write + who.ahead;
        // Before the first attempt there is nobody to write.
        if who.foreign || who.back > 0 || model.view.attempt == 0 || model.deleted {
            return Answer::Stale;
        }
        if who.ahead == 0 {
            return if end.is_some() { Answer::Status(model.view.status) } else { Answer::Nothing };
        }
        if model.view.status != Running {
            return Answer::Stale;
        }
        model.last_write = self.number;
        for line in lines {
            self.line(task, line);
        }
        end.map_or(Answer::Nothing, |end| Answer::Status(self.end(task, end)))
    }

    fn line(&mut self, task: usize, line: &Line) {
        let model = &mut self.tasks[task];
        let body = match line {
            Line::Progress(percent) => {
                model.view.percent = *percent;
                Body::Progress(*percent)
            }
            Line::Log(number) => Body::Log(number.to_string()),
            Line::Chunk(value) => {
                model.chunks += 1;
                Body::Chunk { index: model.chunks - 1, value: *value }
            }
        };
        self.happened(task, body);
    }

    fn end(&mut self, task: usize, end: End) -> TaskStatus {
        let asked = self.tasks[task].view.cancel_requested;
        let now_ms = self.now_ms;
        let model = &mut self.tasks[task];
        let (status, error, run_at) = match end {
            End::Completed => (Completed, None, None),
            End::Cancelled => (Cancelled, Some(code::CANCELLED), None),
            End::Failed { retry_after_ms } => {
                model.failures += 1;
                let again = retry_after_ms.filter(|after_ms| {
                    model.failures < model.view.max_attempts
                        && model.view.deadline.is_none_or(|deadline| now_ms + after_ms < deadline)
                });
                match again {
                    _ if asked => (Cancelled, Some(code::CANCELLED), None),
                    Some(after_ms) => (Pending, Some(code::HANDLER_FAILED), Some(now_ms + after_ms)),
                    None => (Failed, Some(code::HANDLER_FAILED), None),
                }
            }
            End::Released if asked => (Cancelled, Some(code::CANCELLED), None),
            End::Released => (Pending, Some(code::INTERRUPTED), Some(now_ms)),
        };
        self.settle(task, status, error, run_at);
        status
    }

    /// The task's new status, and the event that tells it.
    fn settle(&mut self, task: usize, status: TaskStatus, error: Option<&str>, run_at: Option<i64>) {
        if self.tasks[task].view.cancel_requested && status.is_terminal() {
            let step = if status == Completed { CancelStep::Overtaken } else { CancelStep::Confirmed };
            self.happened(task, Body::Cancellation(step, None));
        }
        let error = error.map(str::to_owned);
        let result = status == Completed;
        let view = &mut self.tasks[task].view;
        view.status = status;
        view.result = result;
        if result {
            view.percent = 100;
        }
        if error.is_some() {
            view.error.clone_from(&error);
        }
        if let Some(run_at) = run_at {
            view.run_at = run_at;
        }
        view.completed_at = status.is_terminal().then_some(self.now_ms);
        self.happened(task, Body::Status { status, error, run_at, result });
    }

    fn cancel(&mut self, task: &Index) -> Answer {
        let Some(task) = self.present(task) else { return Answer::NotFound };
        self.touched.push(task);
        let view = &mut self.tasks[task].view;
        match view.status {
            Pending => self.settle(task, Cancelled, Some(code::CANCELLED), None),
            Running if !view.cancel_requested => {
                view.cancel_requested = true;
                self.happened(task, Body::Cancellation(CancelStep::Requested, Some("for a reason".to_owned())));
            }
            Running | Cancelled => {}
            Completed | Failed => return Answer::Conflict,
        }
        Answer::Status(self.tasks[task].view.status)
    }

    fn retry(&mut self, task: &Index) -> Answer {
        let Some(task) = self.present(task) else { return Answer::NotFound };
        let ModelTask { view, max_lost, deadline_ms, .. } = &self.tasks[task];
        if !view.status.is_terminal() {
            return Answer::Conflict;
        }
        let spec = Spec {
            kind: view.kind,
            priority: view.priority,
            delay_ms: None,
            tags: TAGS.into_iter().filter(|tag| view.tags.iter().any(|t| t == tag)).collect(),
            key: None,
            max_attempts: view.max_attempts,
            max_lost: *max_lost,
            concurrency_key: view.concurrency_key,
            deadline_ms: *deadline_ms,
        };
        Answer::Retried(self.add(&spec, Some(task)))
    }

    fn delete(&mut self, task: &Index) -> Answer {
        let Some(task) = self.present(task) else { return Answer::NotFound };
        if !self.tasks[task].view.status.is_terminal() {
            return Answer::Conflict;
        }
        self.remove(task);
        Answer::Nothing
    }

    fn remove(&mut self, task: usize) {
        self.tasks[task].deleted = true;
        self.keys.retain(|_, (_, of)| *of != task);
        self.touched.push(task);
    }

    fn sweep(&mut self, tasks_ms: Option<u64>, events_ms: Option<u64>) -> Answer {
        let before = |ms: Option<u64>| ms.map(|ms| self.now_ms - i64::try_from(ms).unwrap());
        let (tasks_before, events_before) = (before(tasks_ms), before(events_ms));
        let mut deleted = 0;
        for task in 0..self.tasks.len() {
            let ModelTask { view, deleted: gone, .. } = &self.tasks[task];
            let older =
                |before: Option<i64>| view.completed_at.is_some_and(|at| before.is_some_and(|before| at < before));
            if *gone {
                continue;
            } else if older(tasks_before) {
                self.remove(task);
                deleted += 1;
            } else if older(events_before) {
                let model = &mut self.tasks[task];
                model.pruned_through = model.view.head - 1;
                self.touched.push(task);
            }
        }
        Answer::Swept(deleted)
    }

    fn pause(&mut self, kind: usize, paused: bool) -> Answer {
        if paused {
            self.paused.insert(kind);
        } else {
            self.paused.remove(&kind);
        }
        Answer::Paused(self.paused.iter().copied().collect())
    }

    fn prune(&mut self, task: &Index, through: u64) -> Answer {
        let Some(task) = self.present(task) else { return Answer::NotFound };
        self.touched.push(task);
        let model = &mut self.tasks[task];
        model.pruned_through = model.pruned_through.max(through.min(model.view.head - 1));
        Answer::Nothing
    }

    fn fitting(&self, fits: &Fits) -> Vec<usize> {
        let fit = |task: &usize| {
            let ModelTask { view, deleted, .. } = &self.tasks[*task];
            !deleted
                && (fits.kinds.is_empty() || fits.kinds.contains(&view.kind))
                && (fits.statuses.is_empty() || fits.statuses.contains(&view.status))
                && fits.tags.iter().all(|tag| view.tags.iter().any(|t| t == tag))
                && fits.created_after_ms.is_none_or(|ago| view.created_at > self.now_ms - ago)
                && fits.created_before_ms.is_none_or(|ago| view.created_at < self.now_ms - ago)
        };
        (0..self.tasks.len()).filter(fit).collect()
    }

    fn list(&self, fits: &Fits, newest_first: bool) -> Answer {
        let mut tasks = self.fitting(fits);
        if newest_first {
            tasks.reverse();
        }
        Answer::Tasks(tasks)
    }

    fn events(&self, task: &Index, after: u64, types: &[EventType]) -> Answer {
        let Some(task) = self.present(task) else { return Answer::NotFound };
        let model = &self.tasks[task];
        let of_type = |body: &Body| match body {
            Body::Status { .. } => EventType::Status,
            Body::Progress(_) => EventType::Progress,
            Body::Log(_) => EventType::Log,
            Body::Chunk { .. } => EventType::Chunk,
            Body::Cancellation(..) => EventType::Cancellation,
        };
        let fit = |event: &&EventView| {
            event.seq > after.max(model.pruned_through) && (types.is_empty() || types.contains(&of_type(&event.body)))
        };
        Answer::Seqs(model.events.iter().filter(fit).map(|event| event.seq).collect())
    }

    fn reopen(&mut self) -> Answer {
        let running: Vec<usize> =
            (0..self.tasks.len()).filter(|task| self.tasks[*task].view.status == Running).collect();
        for task in &running {
            let now_ms = self.now_ms;
            let model = &mut self.tasks[*task];
            model.lost += 1;
            let (status, run_at) = match model.view.cancel_requested {
                true => (Cancelled, None),
                false if model.lost >= model.max_lost => (Failed, None),
                false => (Pending, Some(now_ms)),
            };
            let code = if status == Cancelled { code::CANCELLED } else { code::ATTEMPT_LOST };
            self.settle(*task, status, Some(code), run_at);
        }
        Answer::Recovered(running.len())
    }
}
