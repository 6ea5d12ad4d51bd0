//! Sources: named, read-only places data comes from.
//!
//! A source turns named args into a stream of rows. Streams are lazy: a source does work only as rows are
//! asked for, holds a bounded number of them, and stops when the stream is dropped.

mod args;
pub mod http;
mod limits;
pub mod simulated;
pub mod sql;
pub mod store;
mod template;
mod this_server;
mod timeout;

use std::{collections::BTreeMap, fmt, sync::Arc};

use futures::stream::BoxStream;

pub use self::{
    args::{ArgDefinition, ArgType, Args},
    limits::{Limited, SourceLimits},
    this_server::ThisServer,
};
use crate::{
    clock::Clock,
    error::{Error, ErrorCode},
    model::Json,
};

/// A read-only place data comes from. Anyone can implement it.
///
/// What its [`SourceInfo`] says about args and limits is not the implementation's to keep: [`Sources`] does that for
/// all of them.
pub trait Source: fmt::Debug + Send + Sync + 'static {
    /// What it is, for the API.
    fn info(&self) -> &SourceInfo;

    /// Begins to read. Rows come one at a time, when asked for; an error is the stream's last item.
    /// Args that do not fit are reported at once; those that are defined are there, of their types.
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
    /// The args it takes.
    pub args: Vec<ArgDefinition>,
    /// What it may take and give.
    pub limits: SourceLimits,
    /// What its rows are to a join.
    pub gives: Gives,
}

impl SourceInfo {
    /// A source of the program's own, without args, with the default limits, whose rows are a list.
    pub fn custom(name: impl Into<Arc<str>>) -> Self {
        Self {
            name: name.into(),
            description: None,
            source_type: SourceType::Custom,
            args: Vec::new(),
            limits: SourceLimits::default(),
            gives: Gives::Rows,
        }
    }
}

/// What the rows of a source are together: what a join has of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Gives {
    /// All rows, a list.
    Rows,
    /// The one row, or the first; null when there is none. Further ones are not read.
    Value,
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
    /// Of the program that embeds the library.
    Custom,
}

/// Why a source gave no (further) row.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SourceError {
    /// The stable code.
    pub code: ErrorCode,
    /// What happened; names the source.
    pub message: String,
    /// The limit it is over, if that is why.
    pub limit: Option<&'static str>,
}

impl SourceError {
    /// A failure of a source; `message` should name it.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), limit: None }
    }

    /// A source is over its limit called `limit`, which allows `allowed`, in words.
    pub fn limit(source: &str, limit: &'static str, allowed: impl fmt::Display) -> Self {
        let message = format!("source `{source}` is over its limit `{limit}`, which allows {allowed}");
        Self { code: ErrorCode::LimitExceeded, message, limit: Some(limit) }
    }
}

/// The sources there are, by name.
#[derive(Debug, Clone)]
pub struct Sources {
    clock: Arc<dyn Clock>,
    by_name: BTreeMap<Arc<str>, Arc<Limited>>,
}

impl Sources {
    /// None yet. Their time limits are kept by this clock.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, by_name: BTreeMap::new() }
    }

    /// Adds a source under its own name; one of the same name is replaced.
    pub fn insert(&mut self, source: impl Source) {
        self.by_name.insert(source.info().name.clone(), Arc::new(Limited::new(source, self.clock.clone())));
    }

    /// What their time limits are kept by.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// The source of this name. `UNKNOWN_SOURCE` names those there are.
    pub fn get(&self, name: &str) -> Result<&Arc<Limited>, Error> {
        self.by_name.get(name).ok_or_else(|| {
            let known: Vec<&str> = self.by_name.keys().map(AsRef::as_ref).collect();
            let message = format!("there is no source `{name}`; there are: {}", known.join(", "));
            Error::new(ErrorCode::UnknownSource, message)
        })
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Limited>> {
        self.by_name.values()
    }
}
