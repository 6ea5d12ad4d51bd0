//! Kinds of tasks.

use std::sync::Arc;

use async_graphql::{Context, Enum, Object};

use super::{api::Shared, scalar::JsonScalar};
use crate::task;

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
pub(super) struct TaskKind(pub(super) Arc<task::KindInfo>);

/// A sort of work that tasks can do here.
#[Object]
impl TaskKind {
    /// What `startTask` calls it.
    async fn name(&self) -> &str {
        &self.0.name
    }

    /// What it does.
    async fn description(&self) -> Option<&str> {
        self.0.options.description.as_deref()
    }

    /// What runs it.
    #[graphql(name = "type")]
    async fn kind_type(&self) -> TaskKindType {
        self.0.kind_type.into()
    }

    /// JSON Schema of the input it takes, where one is known.
    async fn input_schema(&self) -> Option<JsonScalar> {
        self.0.options.input_schema.clone().map(JsonScalar)
    }

    /// How many attempts may fail before a task does, where the task does not say.
    async fn max_attempts(&self, ctx: &Context<'_>) -> u32 {
        self.0.options.max_attempts.unwrap_or(Shared::of(ctx).manager.options().max_attempts)
    }

    /// Time limit of one attempt, where the task does not say, in milliseconds; null: none.
    async fn timeout_ms(&self) -> Option<u64> {
        self.0.options.timeout_ms
    }
}
