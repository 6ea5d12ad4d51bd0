//! Sources of data.

use std::sync::Arc;

use async_graphql::{Enum, ID, Object, SimpleObject};

use super::scalar::{DateTime, JsonScalar};
use crate::source;

/// The types of sources.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "source::SourceType")]
pub(super) enum SourceType {
    /// An SQL database.
    Sql,
    /// An HTTP API.
    Http,
    /// Made up, with chosen slowness.
    Simulated,
    /// This server's own tasks.
    Store,
    /// Of the program that embeds the library.
    Custom,
}

/// The types of args.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "source::ArgType")]
pub(super) enum ArgType {
    /// A text.
    Text,
    /// A number.
    Number,
    /// True or false.
    Boolean,
    /// Any of them, or null.
    Any,
}

/// An arg that a source or a join takes.
#[derive(Debug, SimpleObject)]
pub(super) struct ArgDefinition {
    /// What it is called.
    name: String,
    /// What values it takes.
    #[graphql(name = "type")]
    arg_type: ArgType,
    /// Whether one must be given.
    required: bool,
    /// Its value when none is given.
    default: Option<JsonScalar>,
}

impl From<&source::ArgDefinition> for ArgDefinition {
    fn from(definition: &source::ArgDefinition) -> Self {
        Self {
            name: definition.name.clone(),
            arg_type: definition.arg_type.into(),
            required: definition.default.is_none(),
            default: definition.default.as_ref().map(|value| JsonScalar(value.into())),
        }
    }
}

/// A named, read-only place data comes from.
#[derive(Debug)]
pub(super) struct Source(pub(super) Arc<source::Limited>);

/// A named, read-only place data comes from.
#[Object]
impl Source {
    /// What `dataStream` calls it.
    async fn name(&self) -> &str {
        &self.0.info().name
    }

    /// What it gives.
    async fn description(&self) -> Option<&str> {
        self.0.info().description.as_deref()
    }

    /// What sort of place it is.
    #[graphql(name = "type")]
    async fn source_type(&self) -> SourceType {
        self.0.info().source_type.into()
    }

    /// Names of the args it takes.
    async fn args(&self) -> Vec<&str> {
        self.0.info().args.iter().map(|arg| arg.name.as_str()).collect()
    }

    /// The args it takes, with their types.
    async fn arg_definitions(&self) -> Vec<ArgDefinition> {
        self.0.info().args.iter().map(ArgDefinition::from).collect()
    }

    /// Rows that one read may give.
    async fn max_rows(&self) -> u64 {
        self.0.info().limits.max_rows
    }

    /// How long the first row, and each row after it, may take, in milliseconds.
    async fn timeout_ms(&self) -> u64 {
        self.0.info().limits.timeout_ms
    }
}

/// A piece of data that passes by in a data stream. It is not recorded.
#[derive(Debug, SimpleObject)]
pub(super) struct DataChunk {
    /// Names the stream; each subscription has one of its own.
    pub(super) stream_id: ID,
    /// Counts from 0 in its stream.
    pub(super) id: u64,
    /// When it was read.
    pub(super) timestamp: DateTime,
    /// The piece: a row of SQL is one value.
    pub(super) value: JsonScalar,
    /// What the source says about it, beside its value.
    pub(super) metadata: Option<JsonScalar>,
}
