//! Opening the data folder: the lock, the pragmas, the migrations.

use std::{
    fs::{self, File, TryLockError},
    io,
    path::PathBuf,
};

use rusqlite::{Connection, OpenFlags, TransactionBehavior, config::DbConfig};

use crate::{as_written::AsWritten, store::OpenError};

/// The database in the data folder.
pub(super) const DATABASE_FILE: &str = "meanwhile.db";
/// Held locked by the process that has the folder open.
const LOCK_FILE: &str = "meanwhile.lock";
/// Each brings the schema to its version. Never change one that was released.
const MIGRATIONS: &[(u32, &str)] = &[
    (1, include_str!("migrations/0001_tasks_and_events.sql")),
    (2, include_str!("migrations/0002_limits.sql")),
    (3, include_str!("migrations/0003_running.sql")),
    (4, include_str!("migrations/0004_last_task.sql")),
];
/// The schema's version that this program works with.
pub(super) const VERSION: u32 = 4;
/// Marks the file as one of ours (`PRAGMA application_id`): "MWHL".
const APPLICATION_ID: i32 = 0x4d57_484c;
/// Compiled statements kept by each connection.
const STATEMENT_CACHE: usize = 64;
/// Pages of the write-ahead log (16 MiB) that are copied into the database at once: those that many commits change are
/// copied once for all of them.
const CHECKPOINT_PAGES: u32 = 4096;
/// The write-ahead log is cut back to this size after a checkpoint.
const WAL_LIMIT_BYTES: i64 = 64 << 20;

/// A data folder that this process has to itself.
#[derive(Debug)]
pub(super) struct Folder {
    database: AsWritten<PathBuf>,
    vfs: Option<String>,
    /// Unlocked when dropped, also when the process is killed.
    _lock: File,
}

impl Folder {
    /// Makes the folder where there is none, and locks it.
    pub(super) fn open(path: &AsWritten<PathBuf>, vfs: Option<String>) -> Result<Self, OpenError> {
        let unusable = |what: &str, error: &io::Error| {
            OpenError::Unusable(format!(
                "cannot {what} in the data folder {path}: {error}; choose a folder this user may write to with --data DIR"
            ))
        };
        if path.expose().is_file() {
            return Err(OpenError::Unusable(format!(
                "the data folder {path} is a file; choose a folder with --data DIR"
            )));
        }
        fs::create_dir_all(path.expose()).map_err(|error| unusable("make or enter a folder", &error))?;
        let lock = File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(path.join(LOCK_FILE).expose())
            .map_err(|error| unusable("write", &error))?;
        match lock.try_lock() {
            // An absolute path: SQLite would take a relative one that begins with `file:` as an URI.
            Ok(()) => match path.join(DATABASE_FILE).try_map(std::path::absolute) {
                Ok(database) => Ok(Self { database, vfs, _lock: lock }),
                Err(error) => Err(unusable("find the database", &error)),
            },
            Err(TryLockError::WouldBlock) => Err(OpenError::Locked(format!(
                "the data folder {path} is in use by another meanwhile process; stop that one, or choose another folder with --data DIR"
            ))),
            Err(TryLockError::Error(error)) => Err(unusable("lock a file", &error)),
        }
    }

    /// The connection that writes, on a database brought up to date.
    pub(super) fn writer(&self) -> Result<Connection, OpenError> {
        let result = self.connect(OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE).and_then(|c| {
            c.pragma_update(None, "journal_mode", "WAL")?;
            // Acknowledged means on disk: every commit waits for the disk.
            c.pragma_update(None, "synchronous", "FULL")?;
            c.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
            c.pragma_update(None, "journal_size_limit", WAL_LIMIT_BYTES)?;
            Ok(c)
        });
        let mut connection = result.map_err(|error| self.unusable(&error))?;
        // SQLite opens what it may not write for reading, and says nothing.
        if connection.is_readonly(rusqlite::MAIN_DB).map_err(|error| self.unusable(&error))? {
            return Err(OpenError::Unusable(format!(
                "cannot write the database {}: this user may only read it; change its permissions or its owner, or choose \
                 another folder with --data DIR",
                self.database
            )));
        }
        self.migrate(&mut connection)?;
        Ok(connection)
    }

    /// A connection that can only read.
    pub(super) fn reader(&self) -> Result<Connection, OpenError> {
        let result = self.connect(OpenFlags::SQLITE_OPEN_READ_WRITE).and_then(|c| {
            c.pragma_update(None, "query_only", true)?;
            Ok(c)
        });
        result.map_err(|error| self.unusable(&error))
    }

    fn connect(&self, flags: OpenFlags) -> rusqlite::Result<Connection> {
        let flags = flags | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = match &self.vfs {
            None => Connection::open_with_flags(self.database.expose(), flags)?,
            Some(vfs) => Connection::open_with_flags_and_vfs(self.database.expose(), flags, vfs.as_str())?,
        };
        connection.set_prepared_statement_cache_capacity(STATEMENT_CACHE);
        // A compiled statement stays as it is, whatever is bound to it: otherwise some are compiled anew at each use.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
        Ok(connection)
    }

    fn migrate(&self, connection: &mut Connection) -> Result<(), OpenError> {
        let empty =
            |c: &Connection| c.query_row("SELECT NOT EXISTS (SELECT 1 FROM sqlite_schema)", [], |row| row.get(0));
        let application: i32 = pragma(connection, "application_id").map_err(|e| self.unusable(&e))?;
        let ours =
            application == APPLICATION_ID || (application == 0 && empty(connection).map_err(|e| self.unusable(&e))?);
        if !ours {
            return Err(OpenError::Unusable(format!(
                "{} is a database, but not one of meanwhile; choose another folder with --data DIR",
                self.database
            )));
        }
        let version: u32 = pragma(connection, "user_version").map_err(|e| self.unusable(&e))?;
        if version > VERSION {
            return Err(OpenError::TooNew(format!(
                "the database {} was written by a newer meanwhile (schema {version}; this program knows {VERSION}); \
                 install that version, or choose another folder with --data DIR",
                self.database
            )));
        }
        for (target, migration) in MIGRATIONS.iter().filter(|(target, _)| *target > version) {
            let apply = |connection: &mut Connection| {
                let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
                transaction.execute_batch(migration)?;
                transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
                transaction.pragma_update(None, "user_version", target)?;
                transaction.commit()
            };
            apply(connection).map_err(|error| self.unusable(&error))?;
        }
        Ok(())
    }

    pub(super) fn unusable(&self, error: &rusqlite::Error) -> OpenError {
        // Without the statement: it says nothing to who reads this.
        let reason = match error {
            rusqlite::Error::SqlInputError { msg, .. } => msg.clone(),
            error => self.database.hide_in(&error.to_string()),
        };
        OpenError::Unusable(format!(
            "cannot use the database {}: {reason}; check the folder's permissions and free space, or choose another with --data DIR",
            self.database
        ))
    }
}

fn pragma<T: rusqlite::types::FromSql>(connection: &Connection, name: &str) -> rusqlite::Result<T> {
    connection.pragma_query_value(None, name, |row| row.get(0))
}
