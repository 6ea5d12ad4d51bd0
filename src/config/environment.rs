//! `${NAME}` and `${NAME:-default}`: values from the environment.

use std::{cell::RefCell, fmt};

use crate::secret::Secret;

/// Values shorter than this are not looked for in messages, in bytes: they would be found everywhere.
const MIN_REDACTED_BYTES: usize = 4;

/// Where variables come from, and what was taken from there: that never shows in an error.
pub(super) struct Environment<'a> {
    lookup: &'a dyn Fn(&str) -> Option<String>,
    taken: RefCell<Vec<(String, Secret)>>,
}

impl<'a> Environment<'a> {
    pub(super) fn new(lookup: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Self { lookup, taken: RefCell::default() }
    }

    /// The text with values in the places of variables; `$${` stands for `${`. The error fits behind a key, and has no
    /// value in it.
    pub(super) fn fill(&self, text: &str) -> Result<String, String> {
        let mut filled = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(begin) = rest.find("${") {
            let (before, reference) = rest.split_at(begin);
            if let Some(before) = before.strip_suffix('$') {
                filled += before;
                filled += "${";
                rest = &reference[2..];
                continue;
            }
            filled += before;
            let end = reference.find('}').ok_or("has a `${` without `}`; write `$${` for the characters themselves")?;
            filled += &self.value(&reference[2..end])?;
            rest = &reference[end + 1..];
        }
        filled += rest;
        Ok(filled)
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
            (Some(value), default) if !value.is_empty() || default.is_none() => {
                self.taken.borrow_mut().push((name.to_owned(), value.as_str().into()));
                Ok(value)
            }
            (_, Some(default)) => Ok(default.to_owned()),
            (_, None) => Err(format!(
                "needs the environment variable `{name}`, which is not set: set it, or write `${{{name}:-default}}`"
            )),
        }
    }

    /// The message without the values that were taken.
    pub(super) fn redact(&self, message: &str) -> String {
        let taken = self.taken.borrow();
        let long = taken.iter().filter(|(_, value)| value.expose().len() >= MIN_REDACTED_BYTES);
        long.fold(message.to_owned(), |message, (name, value)| message.replace(value.expose(), &format!("${{{name}}}")))
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

    fn fill(text: &str) -> Result<String, String> {
        let lookup = |name: &str| match name {
            "TOKEN" => Some("hunter2".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        Environment::new(&lookup).fill(text)
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
        ] {
            assert!(fill(text).unwrap_err().contains(expected), "{text}");
        }
    }

    #[test]
    fn values_do_not_show_in_messages() {
        let lookup = |_: &str| Some("hunter2".to_owned());
        let environment = Environment::new(&lookup);
        environment.fill("${TOKEN}").unwrap();
        assert_eq!(environment.redact("cannot read /x/hunter2/y"), "cannot read /x/${TOKEN}/y");
    }
}
