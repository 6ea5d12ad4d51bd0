use std::{fmt, sync::Arc};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{DeserializeOwned, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

/// A JSON value kept as its text: inputs, results and chunks pass through the server unread.
///
/// Cloning is cheap (the text is shared). The text is always one valid JSON value.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Json(Arc<str>);

/// The text given to [`Json::parse`] is not one JSON value.
#[derive(Debug, thiserror::Error)]
#[error("not valid JSON: {0}")]
pub struct InvalidJson(#[from] serde_json::Error);

impl Json {
    /// The JSON value `null`.
    pub fn null() -> Self {
        Self(Arc::from("null"))
    }

    /// Takes a text that must be one JSON value; surrounding white space is dropped.
    pub fn parse(text: &str) -> Result<Self, InvalidJson> {
        let raw: &RawValue = serde_json::from_str(text)?;
        Ok(Self(Arc::from(raw.get())))
    }

    /// The same, of a text from elsewhere: every reader of JSON can read it. It is not nested deeper than 127 lists and
    /// objects, its numbers are not larger than those of 64 bits with a floating point, and its texts are Unicode.
    pub fn parse_readable(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str::<Readable>(text)?;
        let raw: &RawValue = serde_json::from_str(text)?;
        Ok(Self(Arc::from(raw.get())))
    }

    /// Writes any serializable value as JSON. Fails where serde_json does (a map key that is not text).
    pub fn from_value<T: Serialize + ?Sized>(value: &T) -> Result<Self, InvalidJson> {
        Ok(Self(Arc::from(serde_json::to_string(value)?)))
    }

    /// Reads the value as a `T`. The error says what does not fit.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_str(&self.0)
    }

    /// The JSON text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Length of the text, in bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Never true (a JSON text has at least one byte); here because `len` is.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes over a text that this program itself wrote as JSON, such as a stored column.
    pub(crate) fn trusted(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }
}

impl schemars::JsonSchema for Json {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Json".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        true.into()
    }
}

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&serde_json::Value> for Json {
    fn from(value: &serde_json::Value) -> Self {
        Self(Arc::from(value.to_string()))
    }
}

impl From<serde_json::Value> for Json {
    fn from(value: serde_json::Value) -> Self {
        Self::from(&value)
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let raw: &RawValue = serde_json::from_str(&self.0).map_err(serde::ser::Error::custom)?;
        raw.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        Ok(Self(Arc::from(raw.get())))
    }
}

/// A value that is read to its end, and not kept.
struct Readable;

impl<'de> Deserialize<'de> for Readable {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Not as ignored: what is ignored is not looked at.
        deserializer.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for Readable {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self, A::Error> {
        while let Some(Self) = items.next_element()? {}
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self, A::Error> {
        while let Some((Self, Self)) = entries.next_entry()? {}
        Ok(self)
    }
}

/// Reads a field that is there, also when it is `null`: a value like any other, which serde takes for none.
pub(super) fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Json>, D::Error> {
    Json::deserialize(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use super::Json;

    #[test]
    fn keeps_the_text_and_the_order_of_keys() {
        let json = Json::parse(" {\"b\":1, \"a\":2}\n").unwrap();
        assert_eq!(json.as_str(), "{\"b\":1, \"a\":2}");
    }

    #[test]
    fn what_not_every_reader_can_read_is_refused_when_it_matters() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        for text in
            [&nested(127), "1e308", "123456789012345678901234567890", "\"\\ud83d\\ude00\"", "{\"a\":[null,true,-1]}"]
        {
            assert_eq!(Json::parse_readable(text).unwrap().as_str(), text);
        }
        let deep = nested(100_000);
        for text in [&deep, "1e999999", "[-1e400]", "\"\\ud800\"", "{\"\\udc00\":1}"] {
            assert!(Json::parse(text).is_ok() && Json::parse_readable(text).is_err(), "{}", &text[..8]);
        }
        for text in ["", "1 2", "{\"a\":}"] {
            assert!(Json::parse_readable(text).is_err(), "{text}");
        }
    }

    #[test]
    fn refuses_what_is_not_one_value() {
        for text in ["", "{", "1 2", "nul", "{\"a\":}"] {
            assert!(Json::parse(text).is_err(), "{text}");
        }
    }
}
