//! Sources: named, read-only places data comes from.
//!
//! A source turns named args into a stream of rows. Streams are lazy: a source does work only as rows are
//! asked for, holds a bounded number of them, and stops when the stream is dropped.

mod args;
pub mod simulated;
pub mod sql;
mod timeout;

use std::{collections::BTreeMap, fmt, sync::Arc};

use futures::stream::BoxStream;

pub use args::Args;

use crate::{
    error::{Error, ErrorCode},
    model::Json,
};

/// A read-only place data comes from. Anyone can implement it.
pub trait Source: fmt::Debug + Send + Sync + 'static {
    /// What it is, for the API.
    fn info(&self) -> &SourceInfo;

    /// Begins to read. Rows come one at a time, when asked for; an error is the stream's last item.
    /// Args that do not fit are reported at once.
    fn read(&self, args: Args) -> Result<BoxStream<'static, Result<Row, SourceError>>, SourceError>;
}

/// One row.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// The data: for SQL an object with a key for each column.
    pub value: Json,
    /// What the source says about the row, beside its value.
    pub metadata: Option<Json>,
}

/// What a source is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceInfo {
    /// Its name in the configuration.
    pub name: Arc<str>,
    /// What it gives, for people.
    pub description: Option<String>,
    /// Its type.
    pub source_type: SourceType,
    /// Names of the args it takes.
    pub args: Vec<String>,
    /// How long the first row, and each row after it, may take, in milliseconds.
    pub timeout_ms: u64,
}

/// The types of sources.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SourceType {
    /// An SQL database.
    Sql,
    /// An HTTP API.
    Http,
    /// Made up, with chosen slowness.
    Simulated,
    /// This server's own tasks.
    Store,
}

/// Why a source gave no (further) row.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SourceError {
    /// The stable code.
    pub code: ErrorCode,
    /// What happened; names the source.
    pub message: String,
}

impl SourceError {
    /// A failure of a source; `message` should name it.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

/// The sources there are, by name.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    by_name: BTreeMap<Arc<str>, Arc<dyn Source>>,
}

impl Sources {
    /// Adds a source under its own name; one of the same name is replaced.
    pub fn insert(&mut self, source: impl Source) {
        self.by_name.insert(source.info().name.clone(), Arc::new(source));
    }

    /// The source of this name. `UNKNOWN_SOURCE` names those there are.
    pub fn get(&self, name: &str) -> Result<&Arc<dyn Source>, Error> {
        self.by_name.get(name).ok_or_else(|| {
            let known: Vec<&str> = self.by_name.keys().map(AsRef::as_ref).collect();
            let message = format!("there is no source `{name}`; there are: {}", known.join(", "));
            Error::new(ErrorCode::UnknownSource, message)
        })
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<dyn Source>> {
        self.by_name.values()
    }
}
