//! `args`: what a source or a join takes.

use super::{
    ConfigError,
    section::{Entry, Named, Section, check_name},
};
use crate::source::{ArgDefinition, ArgType};

/// The most args that one source or join takes.
const MAX_ARGS: usize = 64;

/// Reads `args.NAME = "text"`, or a table with `type` and `required` or `default`.
pub(super) fn read(section: Section<'_>) -> Result<Vec<ArgDefinition>, ConfigError> {
    let too_many = section.error_here(format!("has more than {MAX_ARGS} args"));
    let place = section.bare();
    let entries = section.named_entries()?;
    if entries.len() > MAX_ARGS {
        return Err(too_many);
    }
    entries.into_iter().map(|(name, entry)| read_one(&place, name, entry)).collect()
}

fn read_one(place: &Section<'_>, name: String, entry: Named<'_>) -> Result<ArgDefinition, ConfigError> {
    let mut section = match entry {
        Named::Text(text) => {
            check_name(&name, &text.location, place.key(&name))?;
            let arg_type = read_type(&text, place.key(&name))?;
            return Ok(ArgDefinition::required(name, arg_type));
        }
        Named::Section(section) => section,
    };
    section.check_name(&name)?;
    let text = section.required_text("type")?;
    let arg_type = read_type(&text, section.key("type"))?;
    let mut required = true;
    section.flag("required", &mut required)?;
    let required_is_said = section.was_given("required");
    let definition = match section.json("default")? {
        Some(_) if required_is_said && required => {
            return Err(section.error("default", "cannot be together with `required = true`: remove one"));
        }
        Some(default) => {
            let definition = ArgDefinition::optional(name, arg_type, default.clone());
            if !definition.takes(&default) {
                return Err(section.error("default", format!("must be a {}, not {default}", arg_type.as_str())));
            }
            definition
        }
        None if required => ArgDefinition::required(name, arg_type),
        None => ArgDefinition::optional(name, arg_type, serde_json::Value::Null),
    };
    section.finish()?;
    Ok(definition)
}

fn read_type(text: &Entry<String>, key: String) -> Result<ArgType, ConfigError> {
    match text.value.as_str() {
        "text" => Ok(ArgType::Text),
        "number" => Ok(ArgType::Number),
        "boolean" => Ok(ArgType::Boolean),
        other => {
            let message = format!("must be \"text\", \"number\" or \"boolean\", not {other:?}");
            Err(ConfigError::at(text.location.clone(), key, message))
        }
    }
}
