use serde_json::{Map, Value};

use super::SourceError;
use crate::{error::ErrorCode, model::Json};

/// Named arguments for a source.
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

    /// The value of this name, if given.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// Refuses args the source does not know, and says which it takes.
    pub fn check_names(&self, source: &str, known: &[String]) -> Result<(), SourceError> {
        match self.0.keys().find(|name| !known.contains(name)) {
            None => Ok(()),
            Some(unknown) => {
                let takes =
                    if known.is_empty() { "no args".to_owned() } else { format!("the args: {}", known.join(", ")) };
                let message = format!("source `{source}` has no arg `{unknown}`; it takes {takes}");
                Err(SourceError::new(ErrorCode::InvalidInput, message))
            }
        }
    }
}
