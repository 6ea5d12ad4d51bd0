//! Keys whose texts have values of the environment in them.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{Entry, Section};
use crate::{
    as_written::AsWritten,
    config::{
        environment::Braces,
        error::{ConfigError, Location},
    },
    secret::Secret,
};

/// JSON with values of the environment in its texts.
pub(in crate::config) struct FilledJson {
    pub(in crate::config) value: Value,
    /// Its texts as they were written, each with its full key.
    pub(in crate::config) texts: Vec<(String, Entry<String>)>,
}

impl Section<'_> {
    /// The texts in this table, with values of the environment in them: each is a secret as a whole.
    pub(in crate::config) fn named_secrets(self) -> Result<Vec<(String, Entry<Secret>)>, ConfigError> {
        let place = self.bare();
        let secret = |(name, Entry { value, location }): (String, Entry<String>)| {
            let value = place.fill(&name, &value, &location, Braces::Plain)?.into_value().into();
            Ok((name, Entry { value, location }))
        };
        self.named_texts("must be a text in quotes")?.into_iter().map(secret).collect()
    }

    /// Any value, as JSON, with values of the environment in its texts, none of which makes one a place for an arg; and
    /// each text as it was written, with its full key.
    pub(in crate::config) fn filled_json(&mut self, key: &'static str) -> Result<Option<FilledJson>, ConfigError> {
        let mut texts = Vec::new();
        let value = self.json_with(key, &mut |section, key, text, location| {
            let filled = section.fill(key, text, location, Braces::Plain)?;
            if filled.is_filled() && filled.expose().starts_with('{') && filled.expose().ends_with('}') {
                let message = "the environment gives it a text that would be a place for an arg, `{…}`";
                return Err(ConfigError::at(location.clone(), section.key(key), message));
            }
            texts.push((section.key(key), Entry { value: text.to_owned(), location: location.clone() }));
            Ok(filled.into_value())
        })?;
        Ok(value.map(|value| FilledJson { value, texts }))
    }

    /// A text with values of the environment in it.
    pub(in crate::config) fn filled_text(
        &mut self,
        key: &'static str,
    ) -> Result<Option<Entry<AsWritten<String>>>, ConfigError> {
        let Some(Entry { value, location }) = self.text(key)? else { return Ok(None) };
        let value = self.fill(key, &value, &location, Braces::Plain)?;
        Ok(Some(Entry { value, location }))
    }

    /// The text with values of the environment in it.
    pub(in crate::config) fn fill(
        &self,
        key: &str,
        text: &str,
        location: &Location,
        braces: Braces,
    ) -> Result<AsWritten<String>, ConfigError> {
        let filled = self.document.environment.fill(text, braces);
        filled.map_err(|what| ConfigError::at(location.clone(), self.key(key), what))
    }

    /// A file or folder, with values of the environment in it. A relative one is meant from the configuration file's
    /// own folder.
    pub(in crate::config) fn path(&mut self, key: &'static str) -> Result<Option<AsWritten<PathBuf>>, ConfigError> {
        Ok(self.filled_text(key)?.map(|entry| self.beside_the_file(&entry.value)))
    }

    /// A file or folder that must be given.
    pub(in crate::config) fn required_path(&mut self, key: &'static str) -> Result<AsWritten<PathBuf>, ConfigError> {
        let entry = self.required_text(key)?;
        Ok(self.beside_the_file(&self.fill(key, &entry.value, &entry.location, Braces::Plain)?))
    }

    fn beside_the_file(&self, path: &AsWritten<String>) -> AsWritten<PathBuf> {
        let beside = |path: &str| Path::new(&*self.document.file).with_file_name(path);
        let value = beside(path.expose());
        if !path.is_filled() {
            return value.into();
        }
        let text = path.to_string();
        // The folder belongs before it only when the path is meant from there.
        let is_absolute = Path::new(path.expose()).is_absolute();
        AsWritten::filled(value, if is_absolute { text } else { beside(&text).to_string_lossy().into_owned() })
    }

    /// The folder that the configuration file stands in.
    pub(in crate::config) fn folder(&self) -> PathBuf {
        match Path::new(&*self.document.file).parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
            _ => PathBuf::from("."),
        }
    }
}
