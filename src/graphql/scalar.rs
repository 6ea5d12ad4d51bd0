//! The schema's own scalars.

use async_graphql::{InputValueError, InputValueResult, Name, Scalar, ScalarType, Value, indexmap::IndexMap};
use async_graphql_value::RAW_VALUE_TOKEN;
use chrono::{Datelike, SecondsFormat, Utc};

use crate::model::Json;

/// Any JSON value: an object, a list, a text, a number, a boolean or null.
///
/// What the server's side writes (results, chunks, rows) passes through as it was written. Of a request, the order of
/// keys is kept, and a number is read as a 64-bit integer or a double.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct JsonScalar(pub(super) Json);

/// Any JSON value: an object, a list, a text, a number, a boolean or null.
///
/// What the server's side writes (results, chunks, rows) passes through as it was written. Of a request, the order of
/// keys is kept, and a number is read as a 64-bit integer or a double.
#[Scalar(name = "JSON", specified_by_url = "https://datatracker.ietf.org/doc/html/rfc8259")]
impl ScalarType for JsonScalar {
    fn parse(value: Value) -> InputValueResult<Self> {
        if let Some(name) = enum_value(&value) {
            return Err(InputValueError::custom(format!("JSON has no enum values: write \"{name}\" in quotes")));
        }
        let text = serde_json::to_string(&value).map_err(InputValueError::custom)?;
        // Read again: variables are what a client made them, also where their keys mean something to serde_json.
        Json::parse(&text).map(Self).map_err(InputValueError::custom)
    }

    fn to_value(&self) -> Value {
        // What serde_json writes as it stands.
        let text = Value::String(self.0.as_str().to_owned());
        Value::Object(IndexMap::from([(Name::new(RAW_VALUE_TOKEN), text)]))
    }
}

fn enum_value(value: &Value) -> Option<&Name> {
    match value {
        Value::Enum(name) => Some(name),
        Value::List(items) => items.iter().find_map(enum_value),
        Value::Object(fields) => fields.values().find_map(enum_value),
        _ => None,
    }
}

/// A moment, in UTC, to the millisecond, such as `2026-11-23T08:30:00.000Z`. Any offset is understood, and the years
/// 0 to 9999.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DateTime(pub chrono::DateTime<Utc>);

/// A moment, in UTC, to the millisecond, such as `2026-11-23T08:30:00.000Z`. Any offset is understood, and the years
/// 0 to 9999.
#[Scalar(name = "DateTime", specified_by_url = "https://scalars.graphql.org/andimarek/date-time.html")]
impl ScalarType for DateTime {
    fn parse(value: Value) -> InputValueResult<Self> {
        let Value::String(text) = &value else { return Err(InputValueError::expected_type(value)) };
        let time = chrono::DateTime::parse_from_rfc3339(text).ok();
        // To the millisecond, as it is stored and shown; a leap second becomes the next one.
        let time = time.and_then(|time| chrono::DateTime::from_timestamp_millis(time.timestamp_millis()));
        // Of other years RFC 3339 knows nothing; an offset can lead there.
        time.filter(|time| (0..=9999).contains(&time.year())).map(Self).ok_or_else(|| {
            let shown: String = text.chars().take(100).collect();
            InputValueError::custom(format!("{shown:?} is not a date and time such as \"2026-11-23T08:30:00Z\""))
        })
    }

    fn to_value(&self) -> Value {
        Value::String(self.0.to_rfc3339_opts(SecondsFormat::Millis, true))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_passes_through_as_it_was_written() {
        let json = Json::parse(r#"{"b": 1.50, "a": [null, "\u00e9"]}"#).unwrap();
        let response = async_graphql::Response::new(JsonScalar(json).to_value());
        let text = serde_json::to_string(&response).unwrap();
        assert_eq!(text, r#"{"data":{"b": 1.50, "a": [null, "\u00e9"]}}"#);
    }

    #[test]
    fn an_enum_value_is_not_json() {
        let value = Value::List(vec![Value::Enum(Name::new("RED"))]);
        assert!(JsonScalar::parse(value).is_err());
    }

    #[test]
    fn a_key_that_serde_json_knows_cannot_smuggle_in_what_is_not_json() {
        let value = Value::Object(IndexMap::from([(Name::new(RAW_VALUE_TOKEN), Value::from("}, oops"))]));
        let JsonScalar(json) = JsonScalar::parse(value).ok().unwrap();
        let map: std::collections::BTreeMap<String, String> = json.decode().unwrap();
        assert_eq!(map[RAW_VALUE_TOKEN], "}, oops");
    }

    #[test]
    fn times_are_utc_to_the_millisecond() {
        let time = DateTime::parse(Value::from("2026-11-23T10:30:00.5+02:00")).ok().unwrap();
        assert_eq!(time.to_value(), Value::from("2026-11-23T08:30:00.500Z"));
        let leap = DateTime::parse(Value::from("2016-12-31T23:59:60.9996Z")).ok().unwrap();
        assert_eq!(leap.to_value(), Value::from("2017-01-01T00:00:00.999Z"));
        for text in ["2026-11-23", "now", "", "9999-12-31T23:59:59-01:00", "0000-01-01T00:00:00+00:01"] {
            assert!(DateTime::parse(Value::from(text)).is_err(), "{text}");
        }
    }
}
