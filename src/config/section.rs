//! Reads the keys of one table: each has a name, a type and a range, and none may be left over.

mod filled;

use std::{cmp::Ordering, fmt::Display, ops::RangeInclusive};

use serde_json::Value;
use toml::{
    Spanned,
    de::{DeString, DeTable, DeValue},
};

use super::error::{ConfigError, Document, Location};

/// A key, and where it stands.
type Key<'a> = Spanned<DeString<'a>>;

/// The longest name that the file gives to something, in bytes.
const MAX_NAME_BYTES: usize = 64;
/// How alike two keys must be (0 to 1) for one to be taken for a misspelling of the other.
const ALIKE: f64 = 0.75;

/// Checks a name that the file gives to something, as or under this key.
pub(super) fn check_name(name: &str, location: &Location, key: String) -> Result<(), ConfigError> {
    let is_name = name.len() <= MAX_NAME_BYTES
        && name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    if is_name {
        return Ok(());
    }
    let message = format!(
        "a name has letters, digits, `_` and `-`, begins with a letter and has at most {MAX_NAME_BYTES} of them"
    );
    Err(ConfigError::at(location.clone(), key, message))
}

/// A table of the configuration whose keys are taken out one by one.
#[derive(Debug)]
pub(super) struct Section<'a> {
    document: &'a Document<'a>,
    /// The table's full key; empty for the whole file.
    path: String,
    location: Location,
    table: DeTable<'a>,
    /// All keys that were asked for (what an unknown one can be meant to be), and where they stand.
    known: Vec<(&'static str, Option<Location>)>,
}

/// A value, and where it stands.
#[derive(Debug)]
pub(super) struct Entry<T> {
    pub(super) value: T,
    pub(super) location: Location,
}

/// Makes what is meant of a text, given with its section, its key there and its place.
type MakeText<'s, 'a> = dyn FnMut(&Section<'a>, &str, &str, &Location) -> Result<String, ConfigError> + 's;

/// What can stand under a name of the user's own.
#[derive(Debug)]
pub(super) enum Named<'a> {
    Text(Entry<String>),
    Section(Section<'a>),
}

impl<'a> Section<'a> {
    /// The whole file.
    pub(super) fn parse(document: &'a Document<'a>) -> Result<Self, ConfigError> {
        let table = DeTable::parse(document.text).map_err(|error| ConfigError {
            location: Some(document.location(&error.span().unwrap_or_default())),
            key: None,
            message: format!("not valid TOML: {}", error.message()),
        })?;
        let location = document.location(&(0..0));
        Ok(Self { document, path: String::new(), location, table: table.into_inner(), known: Vec::new() })
    }

    /// The full key of one in this table.
    pub(super) fn key(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// An error about a key of this table: at the key, or at the table when the key is missing.
    pub(super) fn error(&self, key: &str, message: impl Into<String>) -> ConfigError {
        ConfigError::at(self.location_of(key).clone(), self.key(key), message)
    }

    /// An error about this table.
    pub(super) fn error_here(&self, message: impl Into<String>) -> ConfigError {
        ConfigError::at(self.location.clone(), self.path.clone(), message)
    }

    /// This table without its keys: for errors after they were taken out.
    pub(super) fn bare(&self) -> Section<'a> {
        let (document, path, location) = (self.document, self.path.clone(), self.location.clone());
        Section { document, path, location, table: DeTable::new(), known: Vec::new() }
    }

    /// Where a key that was asked for stands; the table's place when it is not there.
    pub(super) fn location_of(&self, key: &str) -> &Location {
        let location = self.known.iter().find(|(known, _)| *known == key).and_then(|(_, location)| location.as_ref());
        location.unwrap_or(&self.location)
    }

    /// Whether a key that was asked for is there.
    pub(super) fn was_given(&self, key: &str) -> bool {
        self.known.iter().any(|(known, location)| *known == key && location.is_some())
    }

    /// Checks the name that the file gives to what this table describes.
    pub(super) fn check_name(&self, name: &str) -> Result<(), ConfigError> {
        check_name(name, &self.location, self.path.clone())
    }

    /// Where the table stands.
    pub(super) fn location(&self) -> &Location {
        &self.location
    }

    /// A table in this one; an empty one when it is not there.
    pub(super) fn section(&mut self, key: &'static str) -> Result<Section<'a>, ConfigError> {
        let path = self.key(key);
        match self.take(key) {
            None => {
                let (document, location) = (self.document, self.location.clone());
                Ok(Section { document, path, location, table: DeTable::new(), known: Vec::new() })
            }
            Some(entry) => self.as_section(path, entry),
        }
    }

    /// The tables in this one, whatever their names, in the order of the file.
    pub(super) fn named_sections(mut self) -> Result<Vec<(String, Section<'a>)>, ConfigError> {
        let mut entries: Vec<_> = std::mem::take(&mut self.table).into_iter().collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        let named = |(key, value): (Key<'a>, Spanned<DeValue<'a>>)| {
            let location = self.document.location(&key.span());
            let name = key.into_inner().into_owned();
            let section = self.as_section(self.key(&name), Entry { value: value.into_inner(), location })?;
            Ok((name, section))
        };
        entries.into_iter().map(named).collect()
    }

    /// What stands in this table under names of the user's own, in the order of the file: texts, or tables.
    pub(super) fn named_entries(mut self) -> Result<Vec<(String, Named<'a>)>, ConfigError> {
        let mut entries: Vec<_> = std::mem::take(&mut self.table).into_iter().collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        let named = |(key, value): (Key<'a>, Spanned<DeValue<'a>>)| {
            let span = if value.get_ref().is_table() { key.span() } else { value.span() };
            let location = self.document.location(&span);
            let name = key.into_inner().into_owned();
            let entry = match value.into_inner() {
                DeValue::String(text) => Named::Text(Entry { value: text.into_owned(), location }),
                table @ DeValue::Table(_) => {
                    Named::Section(self.as_section(self.key(&name), Entry { value: table, location })?)
                }
                other => {
                    let message = format!("must be a text or a table, not {}", describe(&other));
                    return Err(ConfigError::at(location, self.key(&name), message));
                }
            };
            Ok((name, entry))
        };
        entries.into_iter().map(named).collect()
    }

    fn as_section(&self, path: String, entry: Entry<DeValue<'a>>) -> Result<Section<'a>, ConfigError> {
        match entry.value {
            DeValue::Table(table) => {
                Ok(Section { document: self.document, path, location: entry.location, table, known: Vec::new() })
            }
            other => {
                let message = format!("must be a table, written `[{path}]`, not {}", shown(&path, &other));
                Err(ConfigError::at(entry.location, path, message))
            }
        }
    }

    /// A whole number within a range; stays as it is when the key is not there.
    pub(super) fn number<T>(
        &mut self,
        key: &'static str,
        target: &mut T,
        range: RangeInclusive<T>,
    ) -> Result<(), ConfigError>
    where
        T: TryFrom<u64> + PartialOrd + Display,
    {
        let Some(Entry { value, location }) = self.take(key) else { return Ok(()) };
        match whole(&value).filter(|number| range.contains(number)) {
            Some(number) => {
                *target = number;
                Ok(())
            }
            None => {
                let allowed = format!("must be a whole number from {} to {}", range.start(), range.end());
                Err(self.wrong(key, location, &allowed, &value))
            }
        }
    }

    /// A whole number within a range, if the key is there.
    pub(super) fn optional_number<T>(
        &mut self,
        key: &'static str,
        range: RangeInclusive<T>,
    ) -> Result<Option<T>, ConfigError>
    where
        T: TryFrom<u64> + PartialOrd + Display + Copy,
    {
        let is_there = self.table.contains_key(key);
        let mut number = *range.start();
        self.number(key, &mut number, range)?;
        Ok(is_there.then_some(number))
    }

    /// `true` or `false`; stays as it is when the key is not there.
    pub(super) fn flag(&mut self, key: &'static str, target: &mut bool) -> Result<(), ConfigError> {
        match self.take(key) {
            None => Ok(()),
            Some(Entry { value: DeValue::Boolean(flag), .. }) => {
                *target = flag;
                Ok(())
            }
            Some(Entry { value, location }) => Err(self.wrong(key, location, "must be true or false", &value)),
        }
    }

    /// A text that is not empty.
    pub(super) fn text(&mut self, key: &'static str) -> Result<Option<Entry<String>>, ConfigError> {
        match self.take(key) {
            None => Ok(None),
            Some(Entry { value: DeValue::String(text), location }) if !text.trim().is_empty() => {
                Ok(Some(Entry { value: text.into_owned(), location }))
            }
            Some(Entry { value, location }) => {
                Err(self.wrong(key, location, "must be a text in quotes, and not empty", &value))
            }
        }
    }

    /// A list of texts, which may be empty ones.
    pub(super) fn texts(&mut self, key: &'static str) -> Result<Option<Entry<Vec<String>>>, ConfigError> {
        let texts = self.located_texts(key)?;
        Ok(texts.map(|Entry { value, location }| Entry {
            value: value.into_iter().map(|entry| entry.value).collect(),
            location,
        }))
    }

    /// The same, with the place of each.
    pub(super) fn located_texts(
        &mut self,
        key: &'static str,
    ) -> Result<Option<Entry<Vec<Entry<String>>>>, ConfigError> {
        let text = |item: &DeValue<'_>| item.as_str().map(str::to_owned);
        self.list(key, "must be a list of texts, such as [\"a\", \"b\"]", text)
    }

    /// A list of whole numbers within a range; stays as it is when the key is not there.
    pub(super) fn numbers<T>(
        &mut self,
        key: &'static str,
        target: &mut Vec<T>,
        range: RangeInclusive<T>,
    ) -> Result<(), ConfigError>
    where
        T: TryFrom<u64> + PartialOrd + Display,
    {
        let allowed = format!("must be a list of whole numbers from {} to {}", range.start(), range.end());
        if let Some(entry) = self.list(key, &allowed, |item| whole(item).filter(|number| range.contains(number)))? {
            *target = entry.value.into_iter().map(|entry| entry.value).collect();
        }
        Ok(())
    }

    fn list<T>(
        &mut self,
        key: &'static str,
        allowed: &str,
        read: impl Fn(&DeValue<'_>) -> Option<T>,
    ) -> Result<Option<Entry<Vec<Entry<T>>>>, ConfigError> {
        let Some(Entry { value, location }) = self.take(key) else { return Ok(None) };
        let DeValue::Array(items) = &value else { return Err(self.wrong(key, location, allowed, &value)) };
        let item = |item: &Spanned<DeValue<'_>>| {
            let location = self.document.location(&item.span());
            match read(item.get_ref()) {
                Some(value) => Ok(Entry { value, location }),
                None => Err(self.wrong(key, location, allowed, item.get_ref())),
            }
        };
        let value = items.iter().map(item).collect::<Result<_, _>>()?;
        Ok(Some(Entry { value, location }))
    }

    /// The texts in this table, whatever their names, in the order of the file. Their names may be any text, and so
    /// may they; what they must be is what an error says.
    pub(super) fn named_texts(mut self, allowed: &str) -> Result<Vec<(String, Entry<String>)>, ConfigError> {
        let mut entries: Vec<_> = std::mem::take(&mut self.table).into_iter().collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        let named = |(key, value): (Key<'a>, Spanned<DeValue<'a>>)| {
            let location = self.document.location(&value.span());
            let name = key.into_inner().into_owned();
            match value.into_inner() {
                DeValue::String(text) => Ok((name, Entry { value: text.into_owned(), location })),
                other => Err(self.wrong(&name, location, allowed, &other)),
            }
        };
        entries.into_iter().map(named).collect()
    }

    /// A text that must be there.
    pub(super) fn required_text(&mut self, key: &'static str) -> Result<Entry<String>, ConfigError> {
        match self.text(key)? {
            Some(entry) => Ok(entry),
            None => Err(self.misspelled(key).unwrap_or_else(|| self.error(key, "is missing: add it"))),
        }
    }

    /// Any value, as JSON, with `text` made of each of its texts.
    fn json_with(&mut self, key: &'static str, text: &mut MakeText<'_, 'a>) -> Result<Option<Value>, ConfigError> {
        let Some(Entry { value, location }) = self.take(key) else { return Ok(None) };
        self.to_json_with(key, &value, &location, text).map(Some)
    }

    fn to_json_with(
        &self,
        key: &str,
        value: &DeValue<'_>,
        location: &Location,
        text: &mut MakeText<'_, 'a>,
    ) -> Result<Value, ConfigError> {
        let at = |item: &Spanned<DeValue<'_>>| self.document.location(&item.span());
        Ok(match value {
            DeValue::String(value) => Value::from(text(self, key, value, location)?),
            DeValue::Array(items) => {
                let item = |item| self.to_json_with(key, Spanned::get_ref(item), &at(item), text);
                items.iter().map(item).collect::<Result<_, _>>()?
            }
            DeValue::Table(table) => {
                let mut entries: Vec<_> = table.iter().collect();
                entries.sort_by_key(|(key, _)| key.span().start);
                let entry = |(name, value): (&Key<'_>, &Spanned<DeValue<'_>>)| {
                    let key = format!("{key}.{}", name.get_ref());
                    Ok((name.get_ref().to_string(), self.to_json_with(&key, value.get_ref(), &at(value), text)?))
                };
                Value::Object(entries.into_iter().map(entry).collect::<Result<_, _>>()?)
            }
            other => to_json(other).map_err(|what| ConfigError::at(location.clone(), self.key(key), what))?,
        })
    }

    /// Any value, as JSON.
    pub(super) fn json(&mut self, key: &'static str) -> Result<Option<Value>, ConfigError> {
        let Some(Entry { value, location }) = self.take(key) else { return Ok(None) };
        match to_json(&value) {
            Ok(json) => Ok(Some(json)),
            Err(what) => Err(ConfigError::at(location, self.key(key), what)),
        }
    }

    /// Says that no more keys are known: any that is left is an error.
    pub(super) fn finish(self) -> Result<(), ConfigError> {
        let Some((key, _)) = self.table.iter().min_by_key(|(key, _)| key.span().start) else { return Ok(()) };
        Err(self.unknown(key))
    }

    fn take(&mut self, key: &'static str) -> Option<Entry<DeValue<'a>>> {
        let Some((name, value)) = self.table.remove_entry(key) else {
            self.known.push((key, None));
            return None;
        };
        // A table is where its name stands, anything else where the value stands.
        let span = if value.get_ref().is_table() { name.span() } else { value.span() };
        let location = self.document.location(&span);
        self.known.push((key, Some(location.clone())));
        Some(Entry { value: value.into_inner(), location })
    }

    fn wrong(&self, key: &str, location: Location, allowed: &str, value: &DeValue<'_>) -> ConfigError {
        let key = self.key(key);
        let message = format!("{allowed}, not {}", shown(&key, value));
        ConfigError::at(location, key, message)
    }

    /// The error for a key that looks like a misspelling of a missing one.
    fn misspelled(&self, missing: &'static str) -> Option<ConfigError> {
        let alike = |(key, _): &(&Key<'_>, &Spanned<DeValue<'_>>)| likeness(key.get_ref(), missing) >= ALIKE;
        self.table.iter().find(alike).map(|(key, _)| self.unknown(key))
    }

    fn unknown(&self, key: &Key<'_>) -> ConfigError {
        let name = key.get_ref();
        let known: Vec<&str> = self.known.iter().map(|(known, _)| *known).collect();
        let by_likeness =
            |a: &&&str, b: &&&str| likeness(name, a).partial_cmp(&likeness(name, b)).unwrap_or(Ordering::Equal);
        // A limit whose unit was left out.
        let without_unit =
            known.iter().find(|known| known.strip_prefix(&**name).is_some_and(|unit| unit.starts_with('_')));
        let alike = known.iter().max_by(by_likeness).filter(|known| likeness(name, known) >= ALIKE);
        let message = match without_unit.or(alike) {
            Some(meant) => format!("unknown key; did you mean `{meant}`?"),
            None => format!("unknown key: remove it; known here: {}", known.join(", ")),
        };
        ConfigError::at(self.document.location(&key.span()), self.key(name), message)
    }
}

/// A whole number, if it is one and fits.
fn whole<T: TryFrom<u64>>(value: &DeValue<'_>) -> Option<T> {
    match value {
        DeValue::Integer(integer) => {
            u64::from_str_radix(integer.as_str(), integer.radix()).ok().and_then(|number| T::try_from(number).ok())
        }
        _ => None,
    }
}

fn likeness(a: &str, b: &str) -> f64 {
    strsim::normalized_damerau_levenshtein(&a.to_lowercase(), b)
}

/// Keys whose values may be secrets.
const SECRET_KEYS: [&str; 4] = ["url", "headers", "body", "environment"];

/// The value, or only what it is where it could be a secret in the wrong place.
fn shown(key: &str, value: &DeValue<'_>) -> String {
    match value {
        _ if !key.split('.').any(|part| SECRET_KEYS.contains(&part)) => describe(value),
        DeValue::String(_) => "a text".to_owned(),
        DeValue::Integer(_) | DeValue::Float(_) => "a number".to_owned(),
        other => describe(other),
    }
}

fn describe(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) if text.chars().count() <= 40 => format!("{:?}", text.as_ref()),
        DeValue::String(_) => "a text".to_owned(),
        DeValue::Integer(integer) => integer.to_string(),
        DeValue::Float(float) => float.to_string(),
        DeValue::Boolean(flag) => flag.to_string(),
        DeValue::Datetime(datetime) => datetime.to_string(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

fn to_json(value: &DeValue<'_>) -> Result<Value, String> {
    let too_large = |number: &dyn Display| format!("the number {number} is too large for JSON");
    Ok(match value {
        DeValue::String(text) => Value::from(text.as_ref()),
        DeValue::Boolean(flag) => Value::from(*flag),
        DeValue::Datetime(datetime) => Value::from(datetime.to_string()),
        DeValue::Integer(integer) => {
            Value::from(i64::from_str_radix(integer.as_str(), integer.radix()).map_err(|_| too_large(integer))?)
        }
        DeValue::Float(float) => {
            let number = float.as_str().parse::<f64>().ok().filter(|number| number.is_finite());
            Value::from(number.ok_or_else(|| too_large(float))?)
        }
        DeValue::Array(array) => array.iter().map(|item| to_json(item.get_ref())).collect::<Result<_, _>>()?,
        DeValue::Table(table) => {
            let mut entries: Vec<_> = table.iter().collect();
            entries.sort_by_key(|(key, _)| key.span().start);
            let entry = |(key, value): (&Key<'_>, &Spanned<DeValue<'_>>)| {
                Ok((key.get_ref().to_string(), to_json(value.get_ref())?))
            };
            Value::Object(entries.into_iter().map(entry).collect::<Result<_, String>>()?)
        }
    })
}

#[cfg(test)]
mod tests {
    use std::env::VarError;

    use super::*;
    use crate::config::environment::Environment;

    fn read<T>(text: &str, take: impl FnOnce(&mut Section<'_>) -> Result<T, ConfigError>) -> Result<T, String> {
        let environment = Environment::new(&|_| Err(VarError::NotPresent));
        let document = Document { file: "conf/m.toml".into(), text, environment: &environment };
        let mut section = Section::parse(&document).map_err(|error| error.to_string())?;
        let value = take(&mut section).map_err(|error| error.to_string())?;
        section.finish().map_err(|error| error.to_string())?;
        Ok(value)
    }

    fn number(text: &str) -> Result<u32, String> {
        read(text, |section| {
            let mut number = 7;
            section.number("concurrency", &mut number, 1..=100).map(|()| number)
        })
    }

    #[test]
    fn a_number_is_read_or_keeps_its_default() {
        for (text, expected) in [("", 7), ("concurrency = 100", 100), ("concurrency = 0x1_0", 16)] {
            assert_eq!(number(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn a_number_out_of_range_says_what_is_allowed() {
        for wrong in ["0", "101", "-1", "1.5", "\"5\"", "[1]", "99999999999999999999"] {
            let error = number(&format!("\nconcurrency = {wrong}")).unwrap_err();
            assert!(
                error.starts_with("conf/m.toml:2:15: `concurrency`: must be a whole number from 1 to 100, not "),
                "{error}"
            );
        }
    }

    #[test]
    fn a_misspelled_key_gets_a_suggestion_and_another_the_list() {
        assert_eq!(
            number("# top\n concurency = 3").unwrap_err(),
            "conf/m.toml:2:2: `concurency`: unknown key; did you mean `concurrency`?"
        );
        assert_eq!(
            read("timeout = 5", |section| section.number("timeout_ms", &mut 1_u64, 1..=9)).unwrap_err(),
            "conf/m.toml:1:1: `timeout`: unknown key; did you mean `timeout_ms`?"
        );
        assert_eq!(
            number("colour = 3").unwrap_err(),
            "conf/m.toml:1:1: `colour`: unknown key: remove it; known here: concurrency"
        );
    }

    #[test]
    fn a_missing_key_that_was_misspelled_is_recognised() {
        let required = |text: &str| read(text, |section| section.required_text("query").map(|entry| entry.value));
        assert_eq!(required("query = \"x\""), Ok("x".to_owned()));
        assert_eq!(required("").unwrap_err(), "conf/m.toml:1:1: `query`: is missing: add it");
        assert_eq!(
            required("qeury = \"x\"").unwrap_err(),
            "conf/m.toml:1:1: `qeury`: unknown key; did you mean `query`?"
        );
        assert!(required("query = \" \"").unwrap_err().contains("not empty"));
    }

    #[test]
    fn text_that_is_not_toml_says_where() {
        let error = number("[server\nlisten = 1").unwrap_err();
        assert!(error.starts_with("conf/m.toml:1:8: not valid TOML: "), "{error}");
        assert_eq!(error.lines().count(), 1);
        let twice = number("concurrency = 1\nconcurrency = 2").unwrap_err();
        assert!(twice.starts_with("conf/m.toml:2:1: not valid TOML: duplicate key"), "{twice}");
    }

    #[test]
    fn paths_are_meant_from_the_files_folder() {
        let path = |text: &str| read(text, |section| section.path("data")).unwrap();
        assert_eq!(path("data = \"d\""), Some("conf/d".into()));
        assert_eq!(path("data = \"/d\""), Some("/d".into()));
    }

    #[test]
    fn any_value_becomes_json_with_its_keys_in_order() {
        let text = "value = { z = 1, a = [1.5, \"x\", true], d = 2026-01-02 }";
        let json = read(text, |section| section.json("value")).unwrap().unwrap();
        assert_eq!(json.to_string(), r#"{"z":1,"a":[1.5,"x",true],"d":"2026-01-02"}"#);
        assert!(read("value = inf", |section| section.json("value")).unwrap_err().contains("too large"));
    }

    #[test]
    fn a_section_that_is_not_a_table_says_how_to_write_it() {
        let error = read("tasks = 3", |section| section.section("tasks").map(drop)).unwrap_err();
        assert_eq!(error, "conf/m.toml:1:9: `tasks`: must be a table, written `[tasks]`, not 3");
    }

    #[test]
    fn keys_of_tables_have_their_full_name() {
        let read = |section: &mut Section<'_>| {
            let mut inner = section.section("a")?.section("b")?;
            inner.flag("on", &mut false)?;
            inner.finish()
        };
        let error = self::read("[a.b]\nx = 1", read).unwrap_err();
        assert_eq!(error, "conf/m.toml:2:1: `a.b.x`: unknown key: remove it; known here: on");
    }
}
