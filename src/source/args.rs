//! Named args: what a source or a join takes, and what it is given.

use serde_json::{Map, Value};

use super::SourceError;
use crate::{error::ErrorCode, model::Json};

/// Named arguments for a source or a join.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Args(Map<String, Value>);

impl Args {
    /// None.
    pub fn none() -> Self {
        Self::default()
    }

    /// From a JSON object, or `null` for none.
    pub fn from_json(json: &Json) -> Result<Self, SourceError> {
        match json.decode::<Value>() {
            Ok(Value::Object(map)) => Ok(Self(map)),
            Ok(Value::Null) => Ok(Self::default()),
            _ => {
                Err(SourceError::new(ErrorCode::InvalidInput, "args must be an object, such as {\"name\": \"value\"}"))
            }
        }
    }

    /// With one more, or another value for one.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.0.insert(name.into(), value.into());
        self
    }

    /// The value of this name, if given.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// As a JSON object.
    pub fn to_json(&self) -> Json {
        Json::from(Value::Object(self.0.clone()))
    }

    /// Checks them against what `owner` (such as "source `orders`") takes, and adds the defaults: gives exactly the
    /// args that are defined, in their order.
    pub fn resolve(mut self, owner: &str, definitions: &[ArgDefinition]) -> Result<Self, SourceError> {
        let refuse = |what: String| SourceError::new(ErrorCode::InvalidInput, format!("{owner}{what}"));
        let mut resolved = Map::new();
        for definition in definitions {
            let name = &definition.name;
            let value = match (self.0.remove(name), &definition.default) {
                (Some(value), _) if has_lost_digits(&value) => {
                    let what = "a whole number of more than 64 bits, which would lose digits: declare the arg as \"text\", \
                                and pass it in quotes";
                    return Err(refuse(format!(", arg `{name}`: {what}")));
                }
                (Some(value), None) if definition.takes(&value) => value,
                (Some(value), Some(default)) if definition.takes(&value) || value == *default => value,
                (Some(_), _) => {
                    return Err(refuse(format!(", arg `{name}`: must be a {}", definition.arg_type.as_str())));
                }
                (None, Some(default)) => default.clone(),
                (None, None) => {
                    let hint = if definition.arg_type == ArgType::Any { "; `null` counts as a value" } else { "" };
                    return Err(refuse(format!(", arg `{name}`: it must be given{hint}")));
                }
            };
            resolved.insert(name.clone(), value);
        }
        match self.0.keys().next() {
            None => Ok(Self(resolved)),
            Some(unknown) => {
                let names: Vec<&str> = definitions.iter().map(|definition| definition.name.as_str()).collect();
                let takes =
                    if names.is_empty() { "no args".to_owned() } else { format!("the args: {}", names.join(", ")) };
                Err(refuse(format!(" has no arg `{unknown}`; it takes {takes}")))
            }
        }
    }
}

/// The most digits of a decimal number of which a number with a floating point loses none.
const SAFE_DIGITS: usize = 15;

/// Whether it may have been a whole number that fits into no integer, such as an id of 128 bits: it was read as the
/// nearest number with a floating point. How it was written is not known here; with few digits it can have lost none,
/// and beyond 128 bits nobody writes a number without an exponent.
fn has_lost_digits(value: &Value) -> bool {
    let Value::Number(number) = value else { return false };
    let Some(float) = number.as_f64().filter(|_| number.is_f64()) else { return false };
    let digits = |text: String| text.bytes().take_while(|byte| *byte != b'e').filter(u8::is_ascii_digit).count();
    (2_f64.powi(64)..=2_f64.powi(128)).contains(&float.abs()) && digits(format!("{float:e}")) > SAFE_DIGITS
}

impl FromIterator<(String, Value)> for Args {
    fn from_iter<I: IntoIterator<Item = (String, Value)>>(args: I) -> Self {
        Self(args.into_iter().collect())
    }
}

/// An arg that a source or a join takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArgDefinition {
    /// What it is called.
    pub name: String,
    /// What values it takes.
    pub arg_type: ArgType,
    /// Its value when none is given; `None`: one must be given.
    pub default: Option<Value>,
}

impl ArgDefinition {
    /// One that must be given.
    pub fn required(name: impl Into<String>, arg_type: ArgType) -> Self {
        Self { name: name.into(), arg_type, default: None }
    }

    /// One that need not be given.
    pub fn optional(name: impl Into<String>, arg_type: ArgType, default: impl Into<Value>) -> Self {
        Self { name: name.into(), arg_type, default: Some(default.into()) }
    }

    /// Whether the value is of its type.
    pub fn takes(&self, value: &Value) -> bool {
        match self.arg_type {
            ArgType::Text => value.is_string(),
            ArgType::Number => value.is_number(),
            ArgType::Boolean => value.is_boolean(),
            ArgType::Any => true,
        }
    }
}

/// The types of args.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ArgType {
    /// A text.
    Text,
    /// A number.
    Number,
    /// True or false.
    Boolean,
    /// Any of them, or null.
    Any,
}

impl ArgType {
    /// The type's name in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Number => "number",
            Self::Boolean => "boolean",
            Self::Any => "value",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(given: &str) -> Result<String, String> {
        let definitions = [
            ArgDefinition::required("city", ArgType::Text),
            ArgDefinition::optional("days", ArgType::Number, 3),
            ArgDefinition::optional("detailed", ArgType::Boolean, Value::Null),
        ];
        let args = Args::from_json(&Json::parse(given).unwrap()).unwrap();
        args.resolve("source `weather`", &definitions)
            .map(|args| args.to_json().to_string())
            .map_err(|error| error.message)
    }

    #[test]
    fn defaults_are_added_and_the_order_is_that_of_the_definitions() {
        assert_eq!(resolve(r#"{"city":"Bern"}"#).unwrap(), r#"{"city":"Bern","days":3,"detailed":null}"#);
        let given = r#"{"detailed":true,"days":1.5,"city":"é"}"#;
        assert_eq!(resolve(given).unwrap(), r#"{"city":"é","days":1.5,"detailed":true}"#);
        assert!(resolve(r#"{"city":"Bern","detailed":null}"#).is_ok());
        let exact = r#"{"city":"a","days":18446744073709551615,"detailed":null}"#;
        assert_eq!(resolve(exact).unwrap(), exact);
    }

    #[test]
    fn what_does_not_fit_names_the_owner_and_the_arg() {
        for (given, expected) in [
            ("{}", "source `weather`, arg `city`: it must be given"),
            (r#"{"city":1}"#, "source `weather`, arg `city`: must be a text"),
            (r#"{"city":null}"#, "source `weather`, arg `city`: must be a text"),
            (r#"{"city":"a","days":"3"}"#, "source `weather`, arg `days`: must be a number"),
            (r#"{"city":"a","days":null}"#, "source `weather`, arg `days`: must be a number"),
            (r#"{"city":"a","detailed":{}}"#, "source `weather`, arg `detailed`: must be a boolean"),
            (
                r#"{"city":"a","days":123456789012345678901}"#,
                "source `weather`, arg `days`: a whole number of more than 64 bits, which would lose digits: declare the \
                 arg as \"text\", and pass it in quotes",
            ),
            (r#"{"city":"a","cty":"b"}"#, "source `weather` has no arg `cty`; it takes the args: city, days, detailed"),
        ] {
            assert_eq!(resolve(given).unwrap_err(), expected, "{given}");
        }
        assert!(Args::from_json(&Json::parse("[1]").unwrap()).is_err());
    }

    #[test]
    fn a_large_number_is_taken_when_it_has_lost_no_digits() {
        for number in ["1e20", "1e300", "-2.5e25", "100000000000000000000", "1.7976931348623157e308", "6.02214076e23"] {
            assert!(resolve(&format!(r#"{{"city":"a","days":{number}}}"#)).is_ok(), "{number}");
        }
        for number in ["18446744073709551617", "-123456789012345678901", "340282366920938463463374607431768211455"] {
            let error = resolve(&format!(r#"{{"city":"a","days":{number}}}"#)).unwrap_err();
            assert!(error.contains("declare the arg as \"text\""), "{number}: {error}");
        }
        // The advice is true.
        assert!(resolve(r#"{"city":"123456789012345678901"}"#).is_ok());
    }
}
