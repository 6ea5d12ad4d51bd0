//! What can be done.

use async_graphql::{Context, ID, InputObject, Object, SimpleObject};

use super::{
    api::Shared,
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
            // What is below zero is out of range like zero: the manager says what is in range.
            max_attempts: input.max_attempts.map(|attempts| u32::try_from(attempts).unwrap_or(0)),
            timeout_ms: input.timeout_ms.map(|timeout_ms| u64::try_from(timeout_ms).unwrap_or(0)),
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
    /// Why, for people; it stands in the task's error.
    reason: Option<String>,
}

/// An ended task to be done again.
#[derive(Debug, InputObject)]
pub(super) struct RetryTaskInput {
    /// Its id.
    id: ID,
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
        Ok(StartTasksPayload { tasks: started.into_iter().map(|started| TaskObject(started.task)).collect() })
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

    /// Starts a new task that copies an ended one. `CONFLICT` while that one has not ended.
    async fn retry_task(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The ended task.")] input: RetryTaskInput,
    ) -> Result<RetryTaskPayload, Error> {
        let task = Shared::of(ctx).manager.retry(parse_id(&input.id)?).await?;
        Ok(RetryTaskPayload { task: TaskObject(task) })
    }
}

/// `NOT_FOUND` for what cannot be the id of a task.
pub(super) fn parse_id(id: &ID) -> Result<TaskId, Error> {
    id.parse().map_err(|_| Error::not_found(format!("there is no task {:?}", id.as_str())))
}
