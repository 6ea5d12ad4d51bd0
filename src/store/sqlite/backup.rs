//! Copying the database while a server works on it.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use rusqlite::{Connection, OpenFlags};

use super::open::{DATABASE_FILE, VERSION};
use crate::as_written::AsWritten;

/// What a backup holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backup {
    /// How many tasks.
    pub tasks: u64,
    /// The file's length, in bytes.
    pub bytes: u64,
}

/// Why there is no backup. The text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// There is no database, or it cannot be read.
    #[error("cannot read the database {database}: {problem}; name the data folder with --data DIR")]
    Source {
        /// Where it should be.
        database: AsWritten<PathBuf>,
        /// What is wrong.
        problem: String,
    },
    /// It was written by a newer program.
    #[error("the database {} was written by a newer meanwhile: make the backup with that one", .0)]
    TooNew(AsWritten<PathBuf>),
    /// There is something in the backup's place, which is left as it is.
    #[error("{} is there already: choose another name for the backup, or move that file away", .0.display())]
    Exists(PathBuf),
    /// The copy cannot be written, or is not sound.
    #[error("cannot write the backup {}: {problem}", .file.display())]
    Target {
        /// The backup.
        file: PathBuf,
        /// What is wrong.
        problem: String,
    },
}

/// Copies the database in the data folder to `file`, as it stands at one moment: every task and event that was
/// acknowledged before. A server may work on it meanwhile and is not slowed, only its write-ahead log grows until the
/// copy is done.
///
/// The copy is a database as it would be in a data folder, checked and on disk when this returns. It is a *store of its
/// own*, with this `generation`: event cursors of the original are not valid there, because what happens in the one is
/// unknown in the other. What was running is found lost when a server starts on it, and runs again.
pub fn backup(folder: &AsWritten<PathBuf>, file: &Path, generation: u64) -> Result<Backup, BackupError> {
    let source = open(folder)?;
    let target =
        |problem: &dyn std::fmt::Display| BackupError::Target { file: file.to_owned(), problem: problem.to_string() };
    // Holds the name: what is made there later by others is an error of theirs.
    File::create_new(file).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => BackupError::Exists(file.to_owned()),
        _ => target(&error),
    })?;
    let mut name = file.as_os_str().to_owned();
    name.push(".partial");
    let partial = PathBuf::from(name);
    let copied = copy(&source, &partial, generation).map_err(|error| target(&error)).and_then(|tasks| {
        let bytes = publish(folder.join(DATABASE_FILE).expose(), &partial, file).map_err(|error| target(&error))?;
        Ok(Backup { tasks, bytes })
    });
    if copied.is_err() {
        // What is left of it would be taken for a backup.
        let _ = fs::remove_file(&partial);
        let _ = fs::remove_file(file);
    }
    copied
}

fn open(folder: &AsWritten<PathBuf>) -> Result<Connection, BackupError> {
    let database = folder.join(DATABASE_FILE);
    let unreadable = |problem: &dyn std::fmt::Display| BackupError::Source {
        database: database.clone(),
        problem: database.hide_in(&problem.to_string()),
    };
    fs::metadata(database.expose()).map_err(|error| unreadable(&error))?;
    // A database with a write-ahead log cannot always be read by who may only read.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(database.expose(), flags).map_err(|error| unreadable(&error))?;
    let version: u32 =
        connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(|error| unreadable(&error))?;
    if version > VERSION {
        return Err(BackupError::TooNew(database));
    }
    Ok(connection)
}

/// Makes the copy and checks it. How many tasks it has.
fn copy(source: &Connection, partial: &Path, generation: u64) -> rusqlite::Result<u64> {
    let path = partial.to_str().ok_or_else(|| rusqlite::Error::InvalidPath(partial.to_owned()))?;
    match fs::remove_file(partial) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(rusqlite::Error::ToSqlConversionFailure(error.into()));
        }
        _ => {}
    }
    // One read transaction: a backup in steps begins anew whenever another process writes.
    source.execute("VACUUM INTO ?1", [path])?;
    let copy = Connection::open_with_flags(partial, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    copy.execute("UPDATE store SET generation = ?1", [generation.cast_signed()])?;
    copy.query_row("PRAGMA quick_check(1)", [], |row| {
        let found: String = row.get(0)?;
        let damaged = || rusqlite::Error::ToSqlConversionFailure(format!("the copy is damaged: {found}").into());
        if found == "ok" { Ok(()) } else { Err(damaged()) }
    })?;
    let tasks = copy.query_row("SELECT count(*) FROM task", [], |row| row.get::<_, i64>(0))?;
    Ok(tasks.unsigned_abs())
}

/// Brings the copy to disk, and then into its place. Its length.
fn publish(database: &Path, partial: &Path, file: &Path) -> io::Result<u64> {
    // Who may read the one may read the other, and nobody else.
    fs::set_permissions(partial, fs::metadata(database)?.permissions())?;
    let copy = File::open(partial)?;
    copy.sync_all()?;
    fs::rename(partial, file)?;
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()?;
    Ok(copy.metadata()?.len())
}
