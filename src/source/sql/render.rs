//! Writes a row as JSON text, straight from SQLite's own memory.

use base64::{Engine, engine::general_purpose::STANDARD};
use rusqlite::{Row, Statement, types::ValueRef};
use serde::Serialize;

use crate::model::Json;

/// Writes the rows of one statement: an object for each, its keys in the order of the columns.
#[derive(Debug)]
pub(super) struct Renderer {
    /// What stands before each column's value: `{"id":`, then `,"name":` and so on.
    keys: Vec<String>,
    max_bytes: usize,
    /// Used again for each row.
    text: Vec<u8>,
}

/// Why a row could not be written.
#[derive(Debug)]
pub(super) enum RenderError {
    /// The row is over the limit of bytes.
    TooLarge,
    /// SQLite did not give a value.
    Sqlite(rusqlite::Error),
}

/// The name of the first column that another one already has: it cannot be a second key.
pub(super) fn repeated_column(statement: &Statement<'_>) -> Option<String> {
    let names: Vec<&str> = statement.column_names().collect();
    let repeated = names.iter().enumerate().find(|(index, name)| names[..*index].contains(name));
    repeated.map(|(_, name)| (*name).to_owned())
}

impl Renderer {
    /// For the rows of this statement, up to so many bytes of text each.
    pub(super) fn new(statement: &Statement<'_>, max_bytes: usize) -> Self {
        let key = |(index, name): (usize, &str)| {
            let open = if index == 0 { '{' } else { ',' };
            format!("{open}{}:", serde_json::Value::from(name))
        };
        Self { keys: statement.column_names().enumerate().map(key).collect(), max_bytes, text: Vec::new() }
    }

    /// The row as JSON text.
    pub(super) fn render(&mut self, row: &Row<'_>) -> Result<Json, RenderError> {
        self.text.clear();
        for index in 0..self.keys.len() {
            self.text.extend_from_slice(self.keys[index].as_bytes());
            self.value(row.get_ref(index).map_err(RenderError::Sqlite)?)?;
            if self.text.len() >= self.max_bytes {
                return Err(RenderError::TooLarge);
            }
        }
        self.text.push(b'}');
        // All parts were valid, so nothing is replaced and nothing copied but into the shared text.
        Ok(Json::trusted(&*String::from_utf8_lossy(&self.text)))
    }

    fn value(&mut self, value: ValueRef<'_>) -> Result<(), RenderError> {
        match value {
            ValueRef::Null => self.text.extend_from_slice(b"null"),
            ValueRef::Integer(integer) => self.json(&integer),
            // JSON has no infinity: it is written as null.
            ValueRef::Real(real) => self.json(&real),
            ValueRef::Text(text) => {
                self.fits(text.len())?;
                self.json(&*String::from_utf8_lossy(text));
            }
            ValueRef::Blob(blob) => {
                self.fits(blob.len())?;
                self.json(&STANDARD.encode(blob));
            }
        }
        Ok(())
    }

    /// Refuses a large value before it is copied.
    fn fits(&self, bytes: usize) -> Result<(), RenderError> {
        if self.text.len() + bytes > self.max_bytes { Err(RenderError::TooLarge) } else { Ok(()) }
    }

    fn json<T: Serialize + ?Sized>(&mut self, value: &T) {
        // Writing numbers and texts into memory cannot fail.
        let _ = serde_json::to_writer(&mut self.text, value);
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::*;

    fn first_row(query: &str, max_bytes: usize) -> Result<Json, RenderError> {
        let connection = Connection::open_in_memory().unwrap();
        let mut statement = connection.prepare(query).unwrap();
        let mut renderer = Renderer::new(&statement, max_bytes);
        renderer.render(statement.query([]).unwrap().next().unwrap().unwrap())
    }

    #[test]
    fn keys_are_the_columns_in_their_order_and_values_keep_their_types() {
        let query = "SELECT 2 AS z, 1.5 AS a, 'a\"\n' AS \"quo\"\"ted\", NULL AS n, x'00ff' AS blob, -9223372036854775808 AS low, 3.0 AS whole";
        let row = first_row(query, 1000).unwrap();
        let expected =
            r#"{"z":2,"a":1.5,"quo\"ted":"a\"\n","n":null,"blob":"AP8=","low":-9223372036854775808,"whole":3.0}"#;
        assert_eq!(row.as_str(), expected);
    }

    #[test]
    fn infinity_is_null_and_broken_text_is_mended() {
        let row = first_row("SELECT 9e999 AS inf, -9e999 AS neg, CAST(x'61ff62' AS TEXT) AS broken", 1000).unwrap();
        assert_eq!(row.as_str(), "{\"inf\":null,\"neg\":null,\"broken\":\"a\u{fffd}b\"}");
        assert!(Json::parse(row.as_str()).is_ok());
    }

    #[test]
    fn a_row_over_the_limit_is_refused() {
        assert_eq!(first_row("SELECT 'abc' AS a", 11).unwrap().len(), 11);
        for query in
            ["SELECT 'abcd' AS a", "SELECT zeroblob(1000000) AS a", "SELECT 1234567 AS a", "SELECT '\"\"\"\"' AS a"]
        {
            assert!(matches!(first_row(query, 11), Err(RenderError::TooLarge)), "{query}");
        }
    }

    #[test]
    fn a_column_name_used_twice_is_found() {
        let connection = Connection::open_in_memory().unwrap();
        let find = |query: &str| repeated_column(&connection.prepare(query).unwrap());
        assert_eq!(find("SELECT 1 AS a, 2 AS b"), None);
        assert_eq!(find("SELECT 1 AS a, 2 AS b, 3 AS a"), Some("a".to_owned()));
    }
}
