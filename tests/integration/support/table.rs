//! A generated SQLite table as a source.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rusqlite::Connection;

/// Makes `table.sqlite` with this many rows in the folder, and a configuration beside it whose source `table` reads
/// them. The configuration's path.
pub(crate) fn generate(folder: &Path, rows: u64) -> PathBuf {
    let connection = Connection::open(folder.join("table.sqlite")).unwrap();
    connection.pragma_update(None, "journal_mode", "WAL").unwrap();
    connection.pragma_update(None, "synchronous", "OFF").unwrap();
    connection
        .execute_batch(&format!(
            "CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT NOT NULL, price REAL NOT NULL, note TEXT);
             WITH RECURSIVE number (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < {rows})
             INSERT INTO item SELECT n, 'item ' || n, n * 0.25, hex(n * 7919) FROM number;"
        ))
        .unwrap();
    let config = folder.join("meanwhile.toml");
    let text = "[sources.table]\ntype = \"sql\"\nfile = \"table.sqlite\"\nquery = \"SELECT * FROM item\"\n";
    fs::write(&config, text).unwrap();
    config
}
