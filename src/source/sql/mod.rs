//! Rows of an SQL query on a SQLite file.
//!
//! Each read opens the file for itself, so a file that was replaced is noticed, and runs the statement on a
//! thread where it may block. Few rows wait between that thread and the reader (`buffer`); when they are
//! not taken the statement stands still, and when the stream is dropped it stops, also in the middle.
//! A statement that stands still keeps its view of the file: with a WAL the file's owner cannot cut it back
//! until then.

mod args;
mod buffer;
mod database;
mod render;

use std::{
    fmt,
    path::PathBuf,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures::{Stream, future::BoxFuture, stream::BoxStream};
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

use self::{
    args::Values,
    buffer::{RowReceiver, RowSender, buffer},
    database::{Database, Trouble},
    render::{RenderError, Renderer},
};
use super::{ArgDefinition, ArgType, Args, Gives, Row, Source, SourceError, SourceInfo, SourceLimits, SourceType};
use crate::{as_written::AsWritten, error::ErrorCode};

/// How long another program's lock on the file is waited for, in milliseconds.
const MAX_LOCK_WAIT_MS: u64 = 5_000;

/// What an [`SqlSource`] reads, and its limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqlOptions {
    /// What it gives, for people.
    pub description: Option<String>,
    /// The SQLite file. It is never written; beside one in WAL mode SQLite keeps files of its own.
    pub file: AsWritten<PathBuf>,
    /// One statement that reads. Args stand in it as `:name` and are bound, never spliced.
    pub query: String,
    /// Its args, all that stand in the query. None at all: those of the query, of any type, all to be given.
    pub args: Vec<ArgDefinition>,
    /// What a read may take and give; `concurrency` counts threads.
    pub limits: SourceLimits,
    /// The largest row, in bytes of JSON text.
    pub max_row_bytes: usize,
}

impl SqlOptions {
    /// With the default limits.
    pub fn new(file: impl Into<AsWritten<PathBuf>>, query: impl Into<String>) -> Self {
        Self {
            description: None,
            file: file.into(),
            query: query.into(),
            args: Vec::new(),
            limits: SourceLimits { concurrency: 16, ..SourceLimits::default() },
            max_row_bytes: 1 << 20,
        }
    }
}

/// A query on a SQLite file, as a source. Each row is an object with a key for each column; a blob is base64
/// text.
#[derive(Debug)]
pub struct SqlSource {
    info: SourceInfo,
    database: Arc<Database>,
    /// Counts threads, which end a moment after their reads are dropped.
    threads: Arc<Semaphore>,
}

impl SqlSource {
    /// A source of this name. Nothing is opened yet: see [`Self::check`].
    ///
    /// `INVALID_INPUT` when the query has parameters without a name, or others than the args.
    pub fn new(name: &str, options: SqlOptions) -> Result<Self, SourceError> {
        let invalid = |what| SourceError::new(ErrorCode::InvalidInput, format!("source `{name}` {what}"));
        let parameters = args::names(&options.query).map_err(invalid)?;
        let args = if options.args.is_empty() {
            parameters.into_iter().map(|name| ArgDefinition::required(name, ArgType::Any)).collect()
        } else {
            args::check_defined(&parameters, &options.args).map_err(invalid)?;
            options.args
        };
        let limits = options.limits;
        let threads = Arc::new(Semaphore::new(limits.concurrency.clamp(1, Semaphore::MAX_PERMITS)));
        let lock_wait = Duration::from_millis(lock_wait_ms(limits.timeout_ms));
        let database = Database::new(options.file, options.query, options.max_row_bytes, lock_wait);
        let info = SourceInfo {
            name: name.into(),
            description: options.description,
            source_type: SourceType::Sql,
            args,
            limits,
            gives: Gives::Rows,
        };
        Ok(Self { info, database: Arc::new(database), threads })
    }

    /// Whether it could be read now. Opens the file, and may wait for a lock on it.
    ///
    /// `INVALID_INPUT` when the query is not one statement that reads, or does not fit the file's tables;
    /// `UNAVAILABLE` when the file is missing, locked or broken, which may pass.
    pub fn check(&self) -> Result<(), SourceError> {
        self.database.check().map_err(|trouble| {
            let code = match trouble {
                Trouble::Query(_) | Trouble::Args(_) => ErrorCode::InvalidInput,
                Trouble::File(_) | Trouble::Locked(_) | Trouble::TooLarge => ErrorCode::Unavailable,
            };
            SourceError { code, ..trouble.of_source(&self.info.name, &self.database) }
        })
    }
}

/// How long a lock is waited for by a source with this timeout: so much less that the error can say that it was a lock.
fn lock_wait_ms(timeout_ms: u64) -> u64 {
    (timeout_ms - timeout_ms / 4).min(MAX_LOCK_WAIT_MS)
}

impl Source for SqlSource {
    fn info(&self) -> &SourceInfo {
        &self.info
    }

    fn read(&self, args: Args) -> Result<BoxStream<'static, Result<Row, SourceError>>, SourceError> {
        let values = Values::new(&self.info.name, &self.info.args, &args)?;
        let read = Read { source: self.info.name.clone(), database: self.database.clone(), values };
        let turn = Box::pin(self.threads.clone().acquire_owned());
        Ok(Box::pin(Rows::Waiting { turn, read: Some(read) }))
    }
}

/// The rows of one read.
enum Rows {
    /// Until it may run, or somebody asks.
    Waiting { turn: BoxFuture<'static, Result<OwnedSemaphorePermit, AcquireError>>, read: Option<Read> },
    /// While the thread runs.
    Running(RowReceiver),
}

impl fmt::Debug for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Waiting { .. } => "Waiting",
            Self::Running(_) => "Running",
        })
    }
}

impl Stream for Rows {
    type Item = Result<Row, SourceError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            match &mut *self {
                Self::Waiting { turn, read } => {
                    let turn = ready!(turn.as_mut().poll(cx));
                    let (Ok(permit), Some(read)) = (turn, read.take()) else { return Poll::Ready(None) };
                    let (sender, receiver) = buffer();
                    tokio::task::spawn_blocking(move || {
                        // Given back only when the thread is done, so that `concurrency` counts threads.
                        let _permit = permit;
                        sender.finish(read.run(&sender));
                    });
                    *self = Self::Running(receiver);
                }
                Self::Running(receiver) => {
                    let row = ready!(receiver.poll_row(cx));
                    return Poll::Ready(row.map(|row| row.map(|value| Row { value, metadata: None })));
                }
            }
        }
    }
}

/// What the thread needs.
#[derive(Debug)]
struct Read {
    source: Arc<str>,
    database: Arc<Database>,
    values: Values,
}

impl Read {
    fn run(&self, sender: &RowSender) -> Result<(), SourceError> {
        let sent = self.database.past_locks(|time| sender.pause(time), || self.send_rows(sender));
        sent.map_err(|trouble| trouble.of_source(&self.source, &self.database))
    }

    fn send_rows(&self, sender: &RowSender) -> Result<(), Trouble> {
        let trouble = |error: rusqlite::Error| self.database.trouble(&error);
        let connection = self.database.open(sender.abandoned())?;
        let mut statement = self.database.prepare(&connection)?;
        for index in 1..=statement.parameter_count() {
            let parameter = statement.parameter_name(index).unwrap_or("?").to_owned();
            let Some(value) = self.values.of_parameter(&parameter) else {
                return Err(Trouble::Query(format!("has a parameter `{parameter}` that is not one of its args")));
            };
            statement.raw_bind_parameter(index, value).map_err(trouble)?;
        }
        let mut renderer = None;
        let mut rows = statement.raw_query();
        loop {
            let row = match rows.next().map_err(trouble) {
                Ok(Some(row)) => row,
                Ok(None) => return Ok(()),
                // What was sent is not sent again.
                Err(Trouble::Locked(what)) if renderer.is_some() => return Err(Trouble::File(what)),
                Err(trouble) => return Err(trouble),
            };
            // After the first step: SQLite looks at the tables again in it, so columns may be others by now.
            let renderer = renderer.get_or_insert_with(|| Renderer::new(row.as_ref(), self.database.max_row_bytes()));
            let json = renderer.render(row).map_err(|error| match error {
                RenderError::TooLarge => Trouble::TooLarge,
                RenderError::Sqlite(error) => trouble(error),
            })?;
            if sender.send(json).is_err() {
                return Ok(());
            }
        }
    }
}

impl Trouble {
    /// As an error of a read.
    fn of_source(self, source: &str, database: &Database) -> SourceError {
        match self {
            Self::File(what) | Self::Locked(what) | Self::Query(what) => {
                SourceError::new(ErrorCode::Unavailable, format!("source `{source}` {what}"))
            }
            Self::Args(what) => SourceError::new(ErrorCode::InvalidInput, format!("source `{source}` {what}")),
            Self::TooLarge => {
                SourceError::limit(source, "max_row_bytes", format!("{} bytes", database.max_row_bytes()))
            }
        }
    }
}

#[cfg(test)]
mod tests;
