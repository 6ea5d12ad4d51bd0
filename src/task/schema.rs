//! JSON Schema of a kind's input: checked before a task is stored.

use jsonschema::{ValidationError, Validator};
use serde_json::Value;

use crate::{
    error::{Error, shorten},
    model::Json,
};

/// How many misfits an error tells of.
const TOLD: usize = 3;
/// The longest text about one misfit, in bytes: it may repeat what does not fit.
const TOLD_BYTES: usize = 300;

/// A schema, ready to check inputs.
#[derive(Debug)]
pub(super) struct InputSchema(Validator);

impl InputSchema {
    /// `INVALID_INPUT` when it is no valid JSON Schema.
    pub(super) fn new(kind: &str, schema: &Json) -> Result<Self, Error> {
        let bad = |what: &dyn std::fmt::Display| {
            Error::invalid(format!("the input schema of kind `{kind}` is not a valid JSON Schema: {what}"))
        };
        let schema: Value = schema.decode().map_err(|error| bad(&error))?;
        jsonschema::validator_for(&schema).map(Self).map_err(|error| bad(&misfit(&error)))
    }

    /// `INVALID_INPUT` names the path of each of the first misfits.
    pub(super) fn check(&self, kind: &str, input: &Json) -> Result<(), Error> {
        let value: Value = input.decode().map_err(|error| Error::invalid(error.to_string()))?;
        let mut errors = self.0.iter_errors(&value);
        let misfits: Vec<String> = errors.by_ref().take(TOLD).map(|error| misfit(&error)).collect();
        if misfits.is_empty() {
            return Ok(());
        }
        let more = if errors.next().is_some() { "; and more" } else { "" };
        Err(Error::invalid(format!("the input does not fit kind `{kind}`: {}{more}", misfits.join("; "))))
    }
}

/// Where something does not fit, and what.
fn misfit(error: &ValidationError<'_>) -> String {
    let path = error.instance_path().to_string();
    let text = shorten(error.to_string(), TOLD_BYTES);
    format!("at `{}`: {text}", if path.is_empty() { "/" } else { &path })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema(text: &str) -> Result<InputSchema, Error> {
        InputSchema::new("k", &Json::parse(text).unwrap())
    }

    #[test]
    fn what_does_not_fit_is_told_with_its_path() {
        let schema =
            schema(r#"{"type":"object","properties":{"a":{"items":{"type":"integer","minimum":1}}}}"#).unwrap();
        let check = |text: &str| schema.check("k", &Json::parse(text).unwrap()).map_err(|error| error.to_string());
        assert_eq!(check(r#"{"a":[1,2]}"#), Ok(()));
        let error = check(r#"{"a":[1,0,"x"]}"#).unwrap_err();
        assert!(error.contains("at `/a/1`") && error.contains("at `/a/2`"), "{error}");
        let error = check(&format!("\"{}\"", "y".repeat(10_000))).unwrap_err();
        assert!(error.contains("at `/`") && error.len() < 500, "{error}");
    }

    #[test]
    fn a_schema_that_is_none_is_refused() {
        let error = schema(r#"{"type":"number-ish"}"#).unwrap_err().to_string();
        assert!(error.contains("kind `k`") && error.contains("at `/type`"), "{error}");
    }
}
