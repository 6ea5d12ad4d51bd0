//! What can be done.

use async_graphql::{Context, ID, InputObject, Object, SimpleObject};

use super::{
    api::Shared,
    kind::TaskKind,
    scalar::{DateTime, JsonScalar},
    task::TaskObject,
};
use crate::{
    error::Error,
    model::{Json, TaskId},
    task::StartTask,
};

/// A task to be started.
#[derive(Debug, InputObject)]
pub(super) struct StartTaskInput {
    /// What sort of work: one of `kinds`.
    kind: String,
    /// What the handler is given; nothing said: null.
    input: Option<JsonScalar>,
    /// Labels to find it by.
    tags: Option<Vec<String>>,
    /// From -100 to 100; higher runs first. Nothing said: 0.
    priority: Option<i32>,
    /// Not to run before; nothing said: as soon as there is room.
    run_at: Option<DateTime>,
    /// Your own name for this request: sent again with the same key it gives the same task, and is a `CONFLICT`
    /// when the request is another one.
    idempotency_key: Option<String>,
    /// How many attempts may fail before the task does; nothing said: what the kind says.
    max_attempts: Option<i32>,
    /// Time limit of one attempt, in milliseconds; nothing said: what the kind says.
    timeout_ms: Option<i64>,
    /// Time limit of the whole task, all attempts and waits together, from its start or its `runAt` on, in milliseconds;
    /// nothing said: what the kind says.
    deadline_ms: Option<i64>,
    /// Wait before the first automatic retry, in milliseconds; doubles with each failure, and half of each wait is left
    /// to chance. Nothing said: what the kind says.
    retry_backoff_ms: Option<i64>,
    /// The longest wait before an automatic retry, in milliseconds, not less than `retryBackoffMs`; nothing said: what the
    /// kind says.
    max_retry_backoff_ms: Option<i64>,
    /// Of the tasks of this kind with the same key only so many run at once (the kind's `concurrencyPerKey`); the others
    /// wait.
    concurrency_key: Option<String>,
}

/// What is below zero is out of range like zero: the manager says what is in range.
fn or_zero(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

impl From<StartTaskInput> for StartTask {
    fn from(input: StartTaskInput) -> Self {
        Self {
            kind: input.kind,
            input: input.input.map_or_else(Json::null, |input| input.0),
            tags: input.tags.unwrap_or_default(),
            priority: input.priority.unwrap_or(0),
            run_at: input.run_at.map(|time| time.0),
            idempotency_key: input.idempotency_key,
            max_attempts: input.max_attempts.map(|attempts| u32::try_from(attempts).unwrap_or(0)),
            timeout_ms: input.timeout_ms.map(or_zero),
            deadline_ms: input.deadline_ms.map(or_zero),
            retry_backoff_ms: input.retry_backoff_ms.map(or_zero),
            max_retry_backoff_ms: input.max_retry_backoff_ms.map(or_zero),
            concurrency_key: input.concurrency_key,
        }
    }
}

/// Tasks to be started together.
#[derive(Debug, InputObject)]
pub(super) struct StartTasksInput {
    /// The tasks.
    tasks: Vec<StartTaskInput>,
}

/// A task to be cancelled.
#[derive(Debug, InputObject)]
pub(super) struct CancelTaskInput {
    /// Its id.
    id: ID,
    /// Why, for people: it stands in the error of a task that was pending, and in the `REQUESTED` event of one that ran.
    reason: Option<String>,
}

/// An ended task to be done again.
#[derive(Debug, InputObject)]
pub(super) struct RetryTaskInput {
    /// Its id.
    id: ID,
    /// Names this request: sent again with the same key, it gives the task that it made.
    idempotency_key: Option<String>,
}

/// An ended task to be deleted.
#[derive(Debug, InputObject)]
pub(super) struct DeleteTaskInput {
    /// Its id.
    id: ID,
}

/// A kind of tasks to be paused.
#[derive(Debug, InputObject)]
pub(super) struct PauseKindInput {
    /// Its name.
    kind: String,
}

/// A kind of tasks to be resumed.
#[derive(Debug, InputObject)]
pub(super) struct ResumeKindInput {
    /// Its name.
    kind: String,
}

/// What `startTask` made.
#[derive(Debug, SimpleObject)]
pub(super) struct StartTaskPayload {
    /// The task. It is on disk, and survives any crash.
    task: TaskObject,
    /// It had been started before, under the same idempotency key.
    existed: bool,
}

/// What `startTasks` made.
#[derive(Debug, SimpleObject)]
pub(super) struct StartTasksPayload {
    /// The tasks, in the order asked for. They are on disk, and survive any crash.
    tasks: Vec<TaskObject>,
    /// For each of them, whether it had been started before, under the same idempotency key.
    existed: Vec<bool>,
}

/// What `cancelTask` made of the task.
#[derive(Debug, SimpleObject)]
pub(super) struct CancelTaskPayload {
    /// The task as it now is: cancelled if it was pending, asked to stop if it runs.
    task: TaskObject,
}

/// What `retryTask` made.
#[derive(Debug, SimpleObject)]
pub(super) struct RetryTaskPayload {
    /// The new task; its `retryOf` is the old one.
    task: TaskObject,
    /// It had been started before, under the same idempotency key.
    existed: bool,
}

/// What `deleteTask` deleted.
#[derive(Debug, SimpleObject)]
pub(super) struct DeleteTaskPayload {
    /// Id of the task that was there.
    id: ID,
}

/// What `pauseKind` made of the kind.
#[derive(Debug, SimpleObject)]
pub(super) struct PauseKindPayload {
    /// The kind as it now is.
    kind: TaskKind,
}

/// What `resumeKind` made of the kind.
#[derive(Debug, SimpleObject)]
pub(super) struct ResumeKindPayload {
    /// The kind as it now is.
    kind: TaskKind,
}

/// What can be done.
#[derive(Debug)]
pub(super) struct Mutation;

/// What can be done.
#[Object]
impl Mutation {
    /// Starts a task in the background and returns at once. What is returned is on disk.
    async fn start_task(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The task.")] input: StartTaskInput,
    ) -> Result<StartTaskPayload, Error> {
        let mut started = Shared::of(ctx).manager.start_all(vec![input.into()]).await?;
        let started = started.pop().ok_or_else(|| Error::new(crate::error::ErrorCode::Internal, "nothing started"))?;
        Ok(StartTaskPayload { task: TaskObject(started.task), existed: started.existed })
    }

    /// Starts tasks, all or none, in one commit.
    async fn start_tasks(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The tasks.")] input: StartTasksInput,
    ) -> Result<StartTasksPayload, Error> {
        let requests = input.tasks.into_iter().map(Into::into).collect();
        let started = Shared::of(ctx).manager.start_all(requests).await?;
        let (tasks, existed) = started.into_iter().map(|started| (TaskObject(started.task), started.existed)).unzip();
        Ok(StartTasksPayload { tasks, existed })
    }

    /// Cancels a pending task at once, and asks a running one to stop. `CONFLICT` when the task has ended
    /// otherwise.
    async fn cancel_task(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The task, and why.")] input: CancelTaskInput,
    ) -> Result<CancelTaskPayload, Error> {
        let task = Shared::of(ctx).manager.cancel(parse_id(&input.id)?, input.reason).await?;
        Ok(CancelTaskPayload { task: TaskObject(task) })
    }

    /// Starts a new task that copies an ended one. `CONFLICT` while that one has not ended, `INVALID_INPUT` when its kind
    /// does not take its input any more.
    async fn retry_task(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The ended task.")] input: RetryTaskInput,
    ) -> Result<RetryTaskPayload, Error> {
        let started = Shared::of(ctx).manager.retry(parse_id(&input.id)?, input.idempotency_key).await?;
        Ok(RetryTaskPayload { task: TaskObject(started.task), existed: started.existed })
    }

    /// Deletes an ended task with its events; streams of it end, and its idempotency key is free again. `CONFLICT` while
    /// it has not ended.
    async fn delete_task(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The ended task.")] input: DeleteTaskInput,
    ) -> Result<DeleteTaskPayload, Error> {
        Shared::of(ctx).manager.delete(parse_id(&input.id)?).await?;
        Ok(DeleteTaskPayload { id: input.id })
    }

    /// Has tasks of a kind wait, also over a restart; those that run are left alone, and more can be started.
    async fn pause_kind(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The kind.")] input: PauseKindInput,
    ) -> Result<PauseKindPayload, Error> {
        let shared = Shared::of(ctx);
        let info = shared.manager.pause(&input.kind).await?;
        Ok(PauseKindPayload { kind: TaskKind::read(shared, info).await? })
    }

    /// Has tasks of a paused kind run again.
    async fn resume_kind(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The kind.")] input: ResumeKindInput,
    ) -> Result<ResumeKindPayload, Error> {
        let shared = Shared::of(ctx);
        let info = shared.manager.resume(&input.kind).await?;
        Ok(ResumeKindPayload { kind: TaskKind::read(shared, info).await? })
    }
}

/// `NOT_FOUND` for what cannot be the id of a task.
pub(super) fn parse_id(id: &ID) -> Result<TaskId, Error> {
    id.parse().map_err(|_| Error::not_found(format!("there is no task {:?}", id.as_str())))
}
