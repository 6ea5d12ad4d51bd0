//! `[joins.NAME]`, and making joins of them.

use super::{
    Config, ConfigError, Location, args,
    section::{Entry, Named, Section},
};
use crate::{
    join::{ConfiguredJoin, JoinDefinition, Joins, PartDefinition},
    jq::{Filter, JqRunner},
    source::{Gives, Sources},
};

/// A join, as configured. `[joins.NAME]`.
#[derive(Debug, Clone, PartialEq)]
pub struct JoinConfig {
    /// What it is called.
    pub name: String,
    /// Where errors about it point.
    pub location: Location,
    /// Where errors about each part point.
    pub part_locations: Vec<Location>,
    /// What it is.
    pub definition: JoinDefinition,
}

impl JoinConfig {
    pub(super) fn read_all(section: Section<'_>) -> Result<Vec<Self>, ConfigError> {
        section.named_sections()?.into_iter().map(|(name, section)| Self::read(name, section)).collect()
    }

    fn read(name: String, mut section: Section<'_>) -> Result<Self, ConfigError> {
        let location = section.location().clone();
        section.check_name(&name)?;
        let mut definition = JoinDefinition {
            description: section.text("description")?.map(|entry| entry.value),
            args: args::read(section.section("args")?)?,
            ..JoinDefinition::default()
        };
        if let Some(text) = section.text("shape")? {
            definition.shape = Some(compile(&text, section.key("shape"), &JoinDefinition::SHAPE_VARIABLES)?);
        }
        section.number("timeout_ms", &mut definition.limits.timeout_ms, 1..=86_400_000)?;
        section.number("max_part_bytes", &mut definition.limits.max_part_bytes, 1..=1 << 30)?;
        section.number("max_bytes", &mut definition.limits.max_bytes, 1..=1 << 32)?;
        let filters = &mut definition.filters;
        section.number("filter_timeout_ms", &mut filters.filter_timeout_ms, 1..=3_600_000)?;
        section.number("max_filter_outputs", &mut filters.max_filter_outputs, 1..=1_000_000)?;
        section.number("max_filter_bytes", &mut filters.max_filter_bytes, 1..=1 << 30)?;
        let mut part_locations = Vec::new();
        for (name, part) in section.section("parts")?.named_sections()? {
            part_locations.push(part.location().clone());
            definition.parts.push(read_part(name, part)?);
        }
        if definition.parts.is_empty() {
            let example = section.key("parts.NAME");
            return Err(section.error("parts", format!("a join needs at least one part: add `[{example}]`")));
        }
        section.finish()?;
        Ok(Self { name, location, part_locations, definition })
    }
}

fn read_part(name: String, mut section: Section<'_>) -> Result<PartDefinition, ConfigError> {
    section.check_name(&name)?;
    let mut part = PartDefinition {
        name,
        source: section.required_text("source")?.value,
        args: Vec::new(),
        depends_on: section.texts("depends_on")?.map(|entry| entry.value).unwrap_or_default(),
        required: false,
        gives: None,
    };
    section.flag("required", &mut part.required)?;
    if let Some(gives) = section.text("gives")? {
        part.gives = Some(match gives.value.as_str() {
            "rows" => Gives::Rows,
            "value" => Gives::Value,
            other => return Err(section.error("gives", format!("must be \"rows\" or \"value\", not {other:?}"))),
        });
    }
    let given = section.section("args")?;
    let place = given.bare();
    for (name, entry) in given.named_entries()? {
        let key = place.key(&name);
        let Named::Text(text) = entry else {
            let message = "must be a jq expression in quotes, such as \"$args.id\"";
            return Err(ConfigError::at(section.location().clone(), key, message));
        };
        part.args.push((name, compile(&text, key, &JoinDefinition::ARG_VARIABLES)?));
    }
    section.finish()?;
    Ok(part)
}

fn compile(text: &Entry<String>, key: String, variables: &[&str]) -> Result<Filter, ConfigError> {
    Filter::compile(&text.value, variables)
        .map_err(|error| ConfigError::at(text.location.clone(), key, error.to_string()))
}

/// The configured joins over these sources. Parts that wait for each other, sources that are not there and args that
/// do not fit are errors.
pub fn build_joins(config: &Config, sources: &Sources) -> Result<Joins, ConfigError> {
    let runner = JqRunner::new(sources.clock().clone());
    let mut joins = Joins::default();
    for JoinConfig { name, location, part_locations, definition } in &config.joins {
        let join = ConfiguredJoin::new(name, definition.clone(), sources, &runner).map_err(|error| {
            let part = error.part.as_ref().and_then(|part| {
                let index = definition.parts.iter().position(|known| known.name == *part)?;
                Some((part_locations.get(index)?.clone(), format!("joins.{name}.parts.{part}")))
            });
            let (location, key) = part.unwrap_or_else(|| (location.clone(), format!("joins.{name}")));
            ConfigError::at(location, key, error.message)
        });
        joins.insert(join?);
    }
    Ok(joins)
}
