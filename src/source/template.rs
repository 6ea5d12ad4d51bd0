//! A JSON value with places for args.

use serde_json::Value;

use super::{ArgDefinition, Args};
use crate::model::Json;

/// A value in which a whole text `{name}` stands for the arg of that name, with its type. Nothing is spliced into
/// texts, so no arg can change what stands around it. Without args all texts mean themselves.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct JsonTemplate {
    value: Json,
    /// `None`: no places in it.
    places: Option<Value>,
}

impl JsonTemplate {
    /// The error says which place is not that of an arg.
    pub(super) fn new(value: &Json, args: &[ArgDefinition]) -> Result<Self, UnknownPlace> {
        let decoded: Value = if args.is_empty() { Value::Null } else { value.decode().unwrap_or(Value::Null) };
        let mut names = Vec::new();
        collect(&decoded, &mut names);
        if let Some(unknown) = names.iter().find(|name| args.iter().all(|arg| arg.name != **name)) {
            return Err(UnknownPlace(format!("{{{unknown}}}")));
        }
        let places = if names.is_empty() { None } else { Some(decoded) };
        Ok(Self { value: value.clone(), places })
    }

    /// With the args in their places.
    pub(super) fn fill(&self, args: &Args) -> Json {
        match &self.places {
            None => self.value.clone(),
            Some(places) => Json::from(filled(places, args)),
        }
    }

    /// Whether this arg has a place in it.
    pub(super) fn mentions(&self, arg: &str) -> bool {
        let mut names = Vec::new();
        if let Some(places) = &self.places {
            collect(places, &mut names);
        }
        names.contains(&arg)
    }
}

/// A place for an arg that there is not, with its braces.
#[derive(Debug, thiserror::Error)]
#[error("has a place `{0}` for an arg that is not one of its `args`: add it there")]
pub(super) struct UnknownPlace(pub(super) String);

/// The arg that a text stands for.
fn place(text: &str) -> Option<&str> {
    let name = text.strip_prefix('{')?.strip_suffix('}')?;
    let is_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    is_name.then_some(name)
}

fn collect<'a>(value: &'a Value, names: &mut Vec<&'a str>) {
    match value {
        Value::String(text) => names.extend(place(text)),
        Value::Array(items) => items.iter().for_each(|item| collect(item, names)),
        Value::Object(entries) => entries.values().for_each(|value| collect(value, names)),
        _ => {}
    }
}

fn filled(value: &Value, args: &Args) -> Value {
    match value {
        Value::String(text) => place(text).and_then(|name| args.get(name)).unwrap_or(value).clone(),
        Value::Array(items) => items.iter().map(|item| filled(item, args)).collect(),
        Value::Object(entries) => {
            Value::Object(entries.iter().map(|(key, value)| (key.clone(), filled(value, args))).collect())
        }
        other => other.clone(),
    }
}
