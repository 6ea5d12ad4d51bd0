//! Kinds of tasks.

use std::sync::Arc;

use async_graphql::{Context, Enum, Object};

use super::{
    api::Shared,
    scalar::{DateTime, JsonScalar},
};
use crate::{error::Error, task};

/// What runs a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "task::KindType")]
pub(super) enum TaskKindType {
    /// Rust code of the program that embeds Meanwhile.
    Handler,
    /// A declared program.
    Program,
    /// Part of Meanwhile.
    BuiltIn,
}

/// A sort of work that tasks can do here.
#[derive(Debug)]
pub(super) struct TaskKind {
    pub(super) info: Arc<task::KindInfo>,
    pub(super) paused_at: Option<chrono::DateTime<chrono::Utc>>,
}

impl TaskKind {
    /// One kind, as it stands now.
    pub(super) async fn read(shared: &Shared, info: Arc<task::KindInfo>) -> Result<Self, Error> {
        let paused = shared.manager.paused().await?;
        Ok(Self::new(info, &paused))
    }

    /// All kinds, as they stand now.
    pub(super) async fn read_all(shared: &Shared) -> Result<Vec<Self>, Error> {
        let paused = shared.manager.paused().await?;
        Ok(shared.manager.kinds().into_iter().map(|info| Self::new(info, &paused)).collect())
    }

    fn new(info: Arc<task::KindInfo>, paused: &[(Arc<str>, chrono::DateTime<chrono::Utc>)]) -> Self {
        let paused_at = paused.iter().find(|(name, _)| *name == info.name).map(|(_, at)| *at);
        Self { info, paused_at }
    }

    fn policy(&self) -> &task::KindPolicy {
        &self.info.options.policy
    }
}

/// A sort of work that tasks can do here.
#[Object]
impl TaskKind {
    /// What `startTask` calls it.
    async fn name(&self) -> &str {
        &self.info.name
    }

    /// What it does.
    async fn description(&self) -> Option<&str> {
        self.info.options.description.as_deref()
    }

    /// What runs it.
    #[graphql(name = "type")]
    async fn kind_type(&self) -> TaskKindType {
        self.info.kind_type.into()
    }

    /// JSON Schema of the input it takes, where one is known. What does not fit is not started.
    async fn input_schema(&self) -> Option<JsonScalar> {
        self.info.options.input_schema.clone().map(JsonScalar)
    }

    /// How many attempts may fail before a task does, where the task does not say.
    async fn max_attempts(&self, ctx: &Context<'_>) -> u32 {
        self.policy().max_attempts.unwrap_or(Shared::of(ctx).manager.options().max_attempts)
    }

    /// How many of a task's attempts may be lost to crashes before it fails.
    async fn max_lost(&self, ctx: &Context<'_>) -> u32 {
        self.policy().max_lost.unwrap_or(Shared::of(ctx).manager.options().max_lost)
    }

    /// Time limit of one attempt, where the task does not say, in milliseconds; null: none.
    async fn timeout_ms(&self) -> Option<u64> {
        self.policy().timeout_ms
    }

    /// Time limit of a whole task, all attempts and waits together, where the task does not say, in milliseconds; null:
    /// none.
    async fn deadline_ms(&self) -> Option<u64> {
        self.policy().deadline_ms
    }

    /// Wait before the first automatic retry, where the task does not say, in milliseconds; doubles with each failure.
    async fn retry_backoff_ms(&self, ctx: &Context<'_>) -> u64 {
        self.policy().retry_backoff_ms.unwrap_or(Shared::of(ctx).manager.options().retry_backoff_ms)
    }

    /// The longest wait before an automatic retry, where the task does not say, in milliseconds.
    async fn max_retry_backoff_ms(&self, ctx: &Context<'_>) -> u64 {
        self.policy().max_retry_backoff_ms.unwrap_or(Shared::of(ctx).manager.options().max_retry_backoff_ms)
    }

    /// How long a handler may go on after a request to cancel, in milliseconds; then it is dropped.
    async fn cancel_grace_ms(&self, ctx: &Context<'_>) -> u64 {
        self.policy().cancel_grace_ms.unwrap_or(Shared::of(ctx).manager.options().cancel_grace_ms)
    }

    /// How many of its tasks may run at once; null: as many as there is room for.
    async fn concurrency(&self) -> Option<u64> {
        self.policy().concurrency.map(|limit| limit as u64)
    }

    /// How many of its tasks with the same `concurrencyKey` may run at once.
    async fn concurrency_per_key(&self, ctx: &Context<'_>) -> u64 {
        let default = Shared::of(ctx).manager.options().concurrency_per_key;
        self.policy().concurrency_per_key.unwrap_or(default) as u64
    }

    /// Since when its tasks wait, by `pauseKind`; null: they do not.
    async fn paused_at(&self) -> Option<DateTime> {
        self.paused_at.map(DateTime)
    }
}
