//! The file and the statement: opening it so that nothing can be written, and checking what is to run.

use std::{fs, io, path::PathBuf, thread, time::Duration};

use rusqlite::{Connection, ErrorCode as SqliteCode, OpenFlags, Statement, limits::Limit};

use super::render::repeated_column;
use crate::as_written::AsWritten;

/// Steps of SQLite's machine between two looks at whether the rows are still wanted: some microseconds.
const STEPS_BETWEEN_CHECKS: i32 = 1000;
/// The largest text, blob or table row SQLite may hold in memory, in bytes, even when it gives out only a
/// part of it. At least as large as the largest row that is given out.
const MAX_VALUE_BYTES: usize = 16 << 20;

/// Pauses between two tries to get past another program's lock, in milliseconds; the last one again and again.
const LOCK_PAUSES_MS: [u64; 8] = [1, 2, 5, 10, 15, 20, 25, 50];

/// A query on a file.
#[derive(Debug, Clone)]
pub(super) struct Database {
    file: AsWritten<PathBuf>,
    query: String,
    max_row_bytes: usize,
    /// How long another program's lock is waited for.
    lock_wait: Duration,
}

/// Nobody waits any more.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Abandoned;

/// Why the query cannot run. The texts fit behind "source `x` ".
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The file is missing or broken; that may pass.
    File(String),
    /// Another program has locked the file, and nothing was read yet.
    Locked(String),
    /// The query is at fault, or does not fit the tables in the file.
    Query(String),
    /// The args do not fit the query.
    Args(String),
    /// A row or value is over the limit of bytes.
    TooLarge,
}

impl Database {
    pub(super) fn new(file: AsWritten<PathBuf>, query: String, max_row_bytes: usize, lock_wait: Duration) -> Self {
        Self { file, query, max_row_bytes, lock_wait }
    }

    /// The largest row, in bytes of JSON text.
    pub(super) fn max_row_bytes(&self) -> usize {
        self.max_row_bytes
    }

    /// Whether the query could run now.
    pub(super) fn check(&self) -> Result<(), Trouble> {
        let sleep = |pause| {
            thread::sleep(pause);
            Ok(())
        };
        self.past_locks(sleep, || self.prepare(&self.open(|| false)?).map(drop))
    }

    /// Tries until another program's lock is gone, or is not waited for any longer. Not SQLite's own waiting, which
    /// cannot be stopped: `pause` can be.
    pub(super) fn past_locks(
        &self,
        pause: impl Fn(Duration) -> Result<(), Abandoned>,
        mut attempt: impl FnMut() -> Result<(), Trouble>,
    ) -> Result<(), Trouble> {
        let mut waited = Duration::ZERO;
        for tries in 0.. {
            let result = attempt();
            let left = self.lock_wait.saturating_sub(waited);
            if !matches!(result, Err(Trouble::Locked(_))) || left.is_zero() {
                return result;
            }
            let next = LOCK_PAUSES_MS[LOCK_PAUSES_MS.len().min(tries + 1) - 1];
            let next = Duration::from_millis(next).min(left);
            if pause(next) == Err(Abandoned) {
                return Ok(());
            }
            waited += next;
        }
        Ok(())
    }

    /// A connection that can write nothing, and whose statements end soon after `stop` says so.
    pub(super) fn open(&self, stop: impl Fn() -> bool + Send + 'static) -> Result<Connection, Trouble> {
        let file = self.file()?;
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let open = || {
            let mut connection = Connection::open_with_flags(&file, flags)?;
            connection.busy_timeout(Duration::ZERO)?;
            connection.pragma_update(None, "query_only", true)?;
            // Views and triggers of a file that came from elsewhere may call nothing with side effects.
            connection.pragma_update(None, "trusted_schema", false)?;
            let value_bytes = i32::try_from(self.max_row_bytes.max(MAX_VALUE_BYTES)).unwrap_or(i32::MAX);
            connection.set_limit(Limit::SQLITE_LIMIT_LENGTH, value_bytes)?;
            connection.set_limit(Limit::SQLITE_LIMIT_ATTACHED, 0)?;
            // Not an interrupt handle: an interrupt between two steps of a statement would be lost.
            connection.progress_handler(STEPS_BETWEEN_CHECKS, Some(stop))?;
            Ok(connection)
        };
        open().map_err(|error: rusqlite::Error| self.trouble(&error))
    }

    /// The one statement, which gives rows and writes nothing.
    pub(super) fn prepare<'c>(&self, connection: &'c Connection) -> Result<Statement<'c>, Trouble> {
        let statement = connection.prepare(&self.query).map_err(|error| match error {
            rusqlite::Error::MultipleStatement => Trouble::Query("has more than one statement: keep one".to_owned()),
            error => self.trouble(&error),
        })?;
        if !statement.readonly() {
            return Err(Trouble::Query("has a statement that writes: sources only read".to_owned()));
        }
        if statement.column_count() == 0 {
            return Err(Trouble::Query("has a statement that gives no rows: write a SELECT".to_owned()));
        }
        if let Some(name) = repeated_column(&statement) {
            return Err(Trouble::Query(format!("has two columns `{name}`: give one another name with AS")));
        }
        Ok(statement)
    }

    /// The file's absolute path: SQLite would take a relative one that begins with `file:` as an URI.
    fn file(&self) -> Result<PathBuf, Trouble> {
        let (file, shown) = (self.file.expose(), &self.file);
        match fs::metadata(file) {
            Ok(metadata) if metadata.is_dir() => Err(Trouble::File(format!("needs a file, but {shown} is a folder"))),
            // Opening a pipe would wait until somebody writes into it.
            Ok(metadata) if !metadata.is_file() => {
                Err(Trouble::File(format!("needs a file, but {shown} is a pipe or a device")))
            }
            Ok(_) => std::path::absolute(file)
                .map_err(|error| Trouble::File(format!("cannot find its file {shown}: {error}"))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(Trouble::File(format!("needs the file {shown}, which does not exist")))
            }
            Err(error) => Err(Trouble::File(format!("cannot read its file {shown}: {error}"))),
        }
    }

    /// Says what an error of SQLite means for a query that only reads.
    pub(super) fn trouble(&self, error: &rusqlite::Error) -> Trouble {
        let file = &self.file;
        match error.sqlite_error_code() {
            Some(SqliteCode::TooBig) => Trouble::TooLarge,
            Some(SqliteCode::DatabaseBusy | SqliteCode::DatabaseLocked) => {
                Trouble::Locked(format!("cannot read its file {file}: another program has locked it"))
            }
            Some(
                SqliteCode::CannotOpen
                | SqliteCode::NotADatabase
                | SqliteCode::DatabaseCorrupt
                | SqliteCode::SystemIoFailure
                | SqliteCode::PermissionDenied
                | SqliteCode::ReadOnly,
            ) => Trouble::File(format!("cannot read its file {file}: {}", self.reason(error))),
            Some(SqliteCode::TypeMismatch) => Trouble::Args(format!(
                "was given an arg that its query cannot use: {}; a `LIMIT`, an `OFFSET` and a row's id need whole numbers",
                self.reason(error)
            )),
            _ => Trouble::Query(format!("cannot run its query on {file}: {}", self.reason(error))),
        }
    }

    /// SQLite's own words, on one line and without the query.
    fn reason(&self, error: &rusqlite::Error) -> String {
        self.file.hide_in(&match error {
            rusqlite::Error::SqlInputError { msg, .. } => msg.clone(),
            rusqlite::Error::SqliteFailure(_, Some(message)) => message.clone(),
            error => error.to_string(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(query: &str) -> Result<(), Trouble> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("shop.db");
        Connection::open(&file).unwrap().execute_batch("CREATE TABLE item (id INTEGER, name TEXT)").unwrap();
        Database::new(file.into(), query.to_owned(), 1000, Duration::ZERO).check()
    }

    #[test]
    fn one_statement_that_reads_is_accepted() {
        for query in
            ["SELECT * FROM item", "SELECT 1;", "WITH a AS (SELECT 1 AS x) SELECT x FROM a -- done\n;  ", "VALUES (1)"]
        {
            assert_eq!(check(query), Ok(()), "{query}");
        }
    }

    #[test]
    fn anything_else_is_refused_with_what_to_do() {
        let cases = [
            ("SELECT 1; SELECT 2", "more than one statement"),
            ("DELETE FROM item", "writes"),
            ("INSERT INTO item VALUES (1, 'a') RETURNING id", "writes"),
            ("CREATE TABLE other (a)", "writes"),
            ("ATTACH ':memory:' AS other", "no rows"),
            ("BEGIN", "no rows"),
            ("PRAGMA query_only = 0", "no rows"),
            ("", "no rows"),
            ("-- nothing", "no rows"),
            ("SELECT id, id FROM item", "two columns `id`"),
            ("SELECT price FROM item", "no such column: price"),
            ("SELEC 1", "near \"SELEC\": syntax error"),
        ];
        for (query, expected) in cases {
            let Err(Trouble::Query(message)) = check(query) else { panic!("{query} was accepted") };
            assert!(message.contains(expected) && !message.contains('\n'), "{query}: {message}");
        }
    }

    #[test]
    fn a_file_that_cannot_be_read_is_another_trouble() {
        let folder = tempfile::tempdir().unwrap();
        let at = |file: PathBuf| {
            Database::new(file.into(), "SELECT 1 FROM sqlite_schema".to_owned(), 1000, Duration::ZERO).check()
        };
        let text = folder.path().join("notes.txt");
        fs::write(&text, "not a database, but long enough to look at ".repeat(100)).unwrap();
        for (file, expected) in [
            (folder.path().join("missing.db"), "does not exist"),
            (folder.path().to_owned(), "is a folder"),
            (text, "file is not a database"),
        ] {
            let Err(Trouble::File(message)) = at(file.clone()) else { panic!("{} was accepted", file.display()) };
            assert!(message.contains(expected) && message.contains(&*file.to_string_lossy()), "{message}");
        }
        assert!(!folder.path().join("missing.db").exists());
    }

    #[test]
    fn nothing_can_be_written_even_past_the_check() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("shop.db");
        Connection::open(&file).unwrap().execute_batch("CREATE TABLE item (id)").unwrap();
        let connection = Database::new(file.into(), String::new(), 1000, Duration::ZERO).open(|| false).unwrap();
        assert!(connection.execute("INSERT INTO item VALUES (1)", []).is_err());
        assert!(connection.execute("ATTACH ':memory:' AS other", []).is_err());
    }
}
