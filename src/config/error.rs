//! What is wrong with a configuration: one line that says where, and what to do.

use std::{fmt, ops::Range, path::Path, str::Utf8Error, sync::Arc};

use super::environment::Environment;

/// A place in a configuration file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// The file, as it was named.
    pub file: Arc<str>,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// A configuration that cannot be used. Its text is one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// Where; `None` when it is not about a place in a file.
    pub location: Option<Location>,
    /// The full key, such as `tasks.concurrency`; `None` when the text is not TOML.
    pub key: Option<String>,
    /// What is wrong, and what to do.
    pub message: String,
}

impl ConfigError {
    /// The file cannot be read at all.
    pub(super) fn unreadable(file: &Path, error: &std::io::Error) -> Self {
        let message = format!(
            "cannot read the configuration file {}: {error}; name another with --config FILE, or none for the built-in one",
            file.display()
        );
        Self { location: None, key: None, message }
    }

    /// The file is not a text.
    pub(super) fn not_utf8(file: &str, bytes: &[u8], error: Utf8Error) -> Self {
        let before = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
        let location = Some(location(file.into(), &before));
        Self { location, key: None, message: "not UTF-8 from here on: save the file as UTF-8".to_owned() }
    }

    /// Something about one key.
    pub(super) fn at(location: Location, key: impl Into<String>, message: impl Into<String>) -> Self {
        Self { location: Some(location), key: Some(key.into()), message: message.into() }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(location) = &self.location {
            write!(f, "{location}: ")?;
        }
        if let Some(key) = &self.key {
            write!(f, "`{}`: ", one_line(key))?;
        }
        f.write_str(&one_line(&self.message))
    }
}

/// Whatever others put into their messages and keys.
fn one_line(text: &str) -> String {
    text.lines().map(str::trim).collect::<Vec<_>>().join(" ")
}

impl std::error::Error for ConfigError {}

/// A text to find places in.
#[derive(Debug, Clone)]
pub(super) struct Document<'a> {
    pub(super) file: Arc<str>,
    pub(super) text: &'a str,
    pub(super) environment: &'a Environment<'a>,
}

impl Document<'_> {
    /// Where these bytes begin.
    pub(super) fn location(&self, span: &Range<usize>) -> Location {
        location(self.file.clone(), self.text.get(..span.start).unwrap_or(self.text))
    }
}

/// Where a text goes on of which this stands before.
fn location(file: Arc<str>, before: &str) -> Location {
    let line_start = before.rfind('\n').map_or(0, |end| end + 1);
    Location { file, line: before.matches('\n').count() + 1, column: before[line_start..].chars().count() + 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_from_one_and_in_characters() {
        let environment = Environment::new(&|_| Err(std::env::VarError::NotPresent));
        let document = Document { file: "a.toml".into(), text: "é = 1\nü = ü\n", environment: &environment };
        let places = [(0, "a.toml:1:1"), (3, "a.toml:1:3"), (7, "a.toml:2:1"), (12, "a.toml:2:5"), (99, "a.toml:3:1")];
        for (start, place) in places {
            assert_eq!(document.location(&(start..start)).to_string(), place);
        }
    }

    #[test]
    fn the_text_is_one_line() {
        let location = Location { file: "a.toml".into(), line: 3, column: 1 };
        let error = ConfigError::at(location, "tasks.con\ncurrency", "is wrong\n  and more");
        assert_eq!(error.to_string(), "a.toml:3:1: `tasks.con currency`: is wrong and more");
    }
}
