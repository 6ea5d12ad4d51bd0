//! `${NAME}` and `${NAME:-default}`: values from the environment.

use std::{env::VarError, fmt};

use crate::as_written::AsWritten;

/// What a variable is: an error when it is not Unicode.
pub(super) type Variable = Result<String, VarError>;

/// Where variables come from.
pub(super) struct Environment<'a> {
    lookup: &'a dyn Fn(&str) -> Variable,
}

/// What `{` and `}` mean in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Braces {
    /// Themselves.
    Plain,
    /// The ends of a place for an arg: what is filled in may neither have some nor stand between them.
    Places,
}

impl<'a> Environment<'a> {
    pub(super) fn new(lookup: &'a dyn Fn(&str) -> Variable) -> Self {
        Self { lookup }
    }

    /// The text with values in the places of variables; `$${` stands for `${`. The error fits behind a key, and has no
    /// value in it.
    pub(super) fn fill(&self, text: &str, braces: Braces) -> Result<AsWritten<String>, String> {
        let mut filled = String::with_capacity(text.len());
        let (mut rest, mut has_values, mut in_place) = (text, false, false);
        while let Some(begin) = rest.find("${") {
            let (before, reference) = rest.split_at(begin);
            if let Some(before) = before.strip_suffix('$') {
                filled += before;
                filled += "${";
                // As the text will be read: a place begins here.
                in_place = true;
                rest = &reference[2..];
                continue;
            }
            filled += before;
            in_place = before.rfind(['{', '}']).map_or(in_place, |at| before[at..].starts_with('{'));
            let end = reference.find('}').ok_or("has a `${` without `}`; write `$${` for the characters themselves")?;
            let value = self.value(&reference[2..end])?;
            if braces == Braces::Places && (in_place || value.contains(['{', '}'])) {
                return Err(
                    "would get a place for an arg from the environment: write `${…}` outside of `{…}`, and `{` \
                            and `}` in its value as %7B and %7D"
                        .to_owned(),
                );
            }
            filled += &value;
            has_values = true;
            rest = &reference[end + 1..];
        }
        filled += rest;
        Ok(if has_values { AsWritten::filled(filled, text) } else { filled.into() })
    }

    fn value(&self, reference: &str) -> Result<String, String> {
        if reference.contains("${") {
            return Err("has a `${…}` inside another, which is not looked at: use one variable".to_owned());
        }
        let (name, default) = reference.split_once(":-").map_or((reference, None), |(name, text)| (name, Some(text)));
        let is_name = !name.starts_with(|c: char| c.is_ascii_digit())
            && !name.is_empty()
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if !is_name {
            return Err("has a `${…}` that is not `${NAME}` or `${NAME:-default}`".to_owned());
        }
        // As in shells: with a default, an empty value counts as none.
        match ((self.lookup)(name), default) {
            (Ok(value), default) if !value.is_empty() || default.is_none() => Ok(value),
            (Err(VarError::NotUnicode(_)), _) => {
                Err(format!("needs the environment variable `{name}`, which is not UTF-8: give it another value"))
            }
            (_, Some(default)) => Ok(default.to_owned()),
            (_, None) => Err(format!(
                "needs the environment variable `{name}`, which is not set: set it, or write `${{{name}:-default}}`"
            )),
        }
    }
}

impl fmt::Debug for Environment<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Environment").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill_with(text: &str, braces: Braces) -> Result<AsWritten<String>, String> {
        let lookup = |name: &str| match name {
            "TOKEN" => Ok("hunter2".to_owned()),
            "EMPTY" => Ok(String::new()),
            "BRACES" => Ok("{id}".to_owned()),
            "BYTES" => Err(VarError::NotUnicode("hunter2".into())),
            _ => Err(VarError::NotPresent),
        };
        Environment::new(&lookup).fill(text, braces)
    }

    fn fill(text: &str) -> Result<String, String> {
        fill_with(text, Braces::Plain).map(AsWritten::into_value)
    }

    #[test]
    fn variables_are_filled_in() {
        for (text, expected) in [
            ("plain", "plain"),
            ("Bearer ${TOKEN}", "Bearer hunter2"),
            ("${TOKEN}${TOKEN}", "hunter2hunter2"),
            ("${TOKEN:-other}", "hunter2"),
            ("${NONE:-other}!", "other!"),
            ("${NONE:-}", ""),
            ("${EMPTY}", ""),
            ("${EMPTY:-other}", "other"),
            ("${NONE:-a:-b}", "a:-b"),
            ("$TOKEN $ {TOKEN}", "$TOKEN $ {TOKEN}"),
            ("$${TOKEN} ${TOKEN}", "${TOKEN} hunter2"),
        ] {
            assert_eq!(fill(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_filled_in_says_why() {
        for (text, expected) in [
            ("a ${NONE}", "the environment variable `NONE`, which is not set"),
            ("${TOKEN", "without `}`"),
            ("${}", "not `${NAME}`"),
            ("${A B}", "not `${NAME}`"),
            ("${1A}", "not `${NAME}`"),
            ("${NONE:-${TOKEN}}", "inside another"),
            ("${BYTES:-x}", "the environment variable `BYTES`, which is not UTF-8"),
        ] {
            assert!(fill(text).unwrap_err().contains(expected), "{text}");
        }
    }

    #[test]
    fn what_is_filled_in_makes_no_place_and_is_in_none() {
        for text in ["${BRACES}", "a{${TOKEN}}", "a{x${TOKEN:-y}z}", "$${${TOKEN}}", "${NONE:-{}", "{id}/${BRACES}/$${"]
        {
            let error = fill_with(text, Braces::Places).unwrap_err();
            assert!(error.contains("a place for an arg") && !error.contains("hunter2"), "{text}: {error}");
            assert!(fill_with(text, Braces::Plain).is_ok(), "{text}");
        }
        for text in ["{id}${TOKEN}{id}", "$${id}${TOKEN}", "${TOKEN}{id}", "a}${TOKEN}", "{id}"] {
            assert!(fill_with(text, Braces::Places).is_ok(), "{text}");
        }
    }

    #[test]
    fn what_was_filled_in_does_not_show() {
        let shown = |text| format!("{:?}", fill_with(text, Braces::Plain).unwrap());
        assert_eq!(shown("a${TOKEN}"), "\"a${TOKEN}\"");
        assert_eq!(shown("a$${TOKEN}"), "\"a${TOKEN}\"");
        assert_eq!(shown("plain"), "\"plain\"");
    }
}
