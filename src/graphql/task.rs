//! A task.

use async_graphql::{Context, Enum, ID, Interface, Object, SimpleObject};

use super::{
    api::Shared,
    event::TaskEventType,
    event_connection::{TaskEventConnection, events_of},
    scalar::{DateTime, JsonScalar},
};
use crate::{error::Error, journal::EventCursor, model, model::Task};

/// What has an id of its own.
#[derive(Debug, Interface)]
#[graphql(field(name = "id", ty = "ID", desc = "Names it, for ever."))]
pub(super) enum Node {
    /// A task.
    Task(TaskObject),
}

/// Where a task stands: `PENDING → RUNNING → COMPLETED | FAILED | CANCELLED`.
///
/// An automatic retry goes back to `PENDING`. The last three are terminal: such a task never changes again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "model::TaskStatus")]
pub(super) enum TaskStatus {
    /// Waits for its time and for a free place.
    Pending,
    /// An attempt is under way.
    Running,
    /// Ended well; has a result.
    Completed,
    /// Ended badly; has an error.
    Failed,
    /// Ended by a request.
    Cancelled,
}

/// One unit of background work, as it stands now.
#[derive(Debug, Clone)]
pub(super) struct TaskObject(pub(super) Task);

/// One unit of background work, as it stands now.
#[Object(name = "Task")]
impl TaskObject {
    /// Names it, for ever.
    async fn id(&self) -> ID {
        ID(self.0.id.to_string())
    }

    /// What sort of work it is: one of `kinds`.
    async fn kind(&self) -> &str {
        &self.0.kind
    }

    /// Where it stands.
    async fn status(&self) -> TaskStatus {
        self.0.status.into()
    }

    /// What the handler is given.
    async fn input(&self) -> JsonScalar {
        JsonScalar(self.0.input.clone())
    }

    /// What the handler gave back; there when the task has completed.
    async fn result(&self) -> Option<JsonScalar> {
        self.0.result.clone().map(JsonScalar)
    }

    /// Why the newest attempt that ended badly did so.
    async fn error(&self) -> Option<TaskErrorObject> {
        self.0.error.clone().map(TaskErrorObject)
    }

    /// How far the newest attempt has come.
    async fn progress(&self) -> ProgressObject {
        let model::Progress { percent, done, total, message } = self.0.progress.clone();
        ProgressObject { percent, done, total, message, at: self.0.progress_at.map(DateTime) }
    }

    /// Number of the newest attempt; 0 before the first.
    async fn attempt(&self) -> u32 {
        self.0.attempt
    }

    /// How many attempts may fail before the task does. Attempts lost to a crash are not counted here.
    async fn max_attempts(&self) -> u32 {
        self.0.max_attempts
    }

    /// Time limit of one attempt, in milliseconds; null: none.
    async fn timeout_ms(&self) -> Option<u64> {
        self.0.timeout_ms
    }

    /// Labels to find it by.
    async fn tags(&self) -> &[String] {
        &self.0.tags
    }

    /// From -100 to 100; higher runs first.
    async fn priority(&self) -> i32 {
        self.0.priority
    }

    /// When it was started by its client.
    async fn created_at(&self) -> DateTime {
        DateTime(self.0.created_at())
    }

    /// Not to run before; moved by an automatic retry.
    async fn run_at(&self) -> DateTime {
        DateTime(self.0.run_at)
    }

    /// When the newest attempt began.
    async fn started_at(&self) -> Option<DateTime> {
        self.0.started_at.map(DateTime)
    }

    /// When it ended: set together with the terminal status.
    async fn completed_at(&self) -> Option<DateTime> {
        self.0.completed_at.map(DateTime)
    }

    /// The ended task that `retryTask` copied.
    async fn retry_of(&self) -> Option<ID> {
        self.0.retry_of.map(|id| ID(id.to_string()))
    }

    /// Whether somebody asked a running attempt to stop.
    async fn cancel_requested(&self) -> bool {
        self.0.cancel_requested
    }

    /// The task fails when it has not ended by then; null: there is no such time.
    async fn deadline_at(&self) -> Option<DateTime> {
        self.0.deadline.map(DateTime)
    }

    /// Of the tasks of its kind with the same key only so many run at once.
    async fn concurrency_key(&self) -> Option<&str> {
        self.0.concurrency_key.as_deref()
    }

    /// Event cursor of its newest event: follow the task from here with `taskEvents(after: …)`.
    async fn cursor(&self, ctx: &Context<'_>) -> String {
        let generation = Shared::of(ctx).manager.journal().generation();
        EventCursor { generation, task: self.0.id, seq: self.0.head }.to_string()
    }

    /// What has happened to it so far, oldest first: for those who poll instead of subscribing.
    async fn events(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "At most so many.")] first: Option<i32>,
        #[graphql(desc = "An event cursor: only what happened after that event.")] after: Option<String>,
        #[graphql(desc = "Only of these types; nothing said: of all.")] types: Option<Vec<TaskEventType>>,
    ) -> Result<TaskEventConnection, Error> {
        events_of(Shared::of(ctx), &self.0, first, after, types.unwrap_or_default()).await
    }
}

/// How far an attempt has come.
#[derive(Debug, SimpleObject)]
#[graphql(name = "Progress")]
pub(super) struct ProgressObject {
    /// From 0 to 100.
    percent: f64,
    /// How much is done, in the job's own unit.
    done: Option<f64>,
    /// How much there is to do, in the same unit; null when nobody knows.
    total: Option<f64>,
    /// What is being done, for people.
    message: Option<String>,
    /// When that was reported.
    at: Option<DateTime>,
}

/// Why an attempt or a task ended badly.
#[derive(Debug)]
pub(super) struct TaskErrorObject(pub model::TaskError);

/// Why an attempt or a task ended badly.
#[Object(name = "TaskError")]
impl TaskErrorObject {
    /// Stable, for programs: `HANDLER_FAILED`, `HANDLER_PANICKED`, `PROGRAM_FAILED`, `PROGRAM_KILLED`,
    /// `PROGRAM_NOT_STARTED`, `INVALID_INPUT`, `LIMIT_EXCEEDED`, `TIMEOUT`, `DEADLINE_EXCEEDED`, `ATTEMPT_LOST`,
    /// `INTERRUPTED`, `CANCELLED`, `INTERNAL`, or the handler's own.
    async fn code(&self) -> &str {
        &self.0.code
    }

    /// For people.
    async fn message(&self) -> &str {
        &self.0.message
    }

    /// The handler's own data about it.
    async fn details(&self) -> Option<JsonScalar> {
        self.0.details.clone().map(JsonScalar)
    }

    /// The attempt that ended so.
    async fn attempt(&self) -> u32 {
        self.0.attempt
    }

    /// Whether trying again could help, as the handler sees it.
    async fn retryable(&self) -> bool {
        self.0.retryable
    }
}
