//! `[joins.NAME]`, and making joins of them.

use super::{
    Config, ConfigError, Location, args,
    section::{Entry, Section},
};
use crate::{
    join::{ConfiguredJoin, DefinitionError, JoinDefinition, Joins, PartDefinition, PartField},
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
    pub part_locations: Vec<PartLocations>,
    /// What it is.
    pub definition: JoinDefinition,
}

/// Where the fields of a part stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartLocations {
    /// The part as a whole.
    pub part: Location,
    /// Its source.
    pub source: Location,
    /// Each of its args, in their order.
    pub args: Vec<Location>,
    /// Each name in `depends_on`, in their order.
    pub depends_on: Vec<Location>,
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
            let (part, locations) = read_part(name, part)?;
            definition.parts.push(part);
            part_locations.push(locations);
        }
        if definition.parts.is_empty() {
            let example = section.key("parts.NAME");
            return Err(section.error("parts", format!("a join needs at least one part: add `[{example}]`")));
        }
        section.finish()?;
        Ok(Self { name, location, part_locations, definition })
    }
}

fn read_part(name: String, mut section: Section<'_>) -> Result<(PartDefinition, PartLocations), ConfigError> {
    section.check_name(&name)?;
    let source = section.required_text("source")?;
    let depends_on = section.located_texts("depends_on")?.map(|entry| entry.value).unwrap_or_default();
    let mut locations = PartLocations {
        part: section.location().clone(),
        source: source.location,
        args: Vec::new(),
        depends_on: depends_on.iter().map(|entry| entry.location.clone()).collect(),
    };
    let mut part = PartDefinition {
        name,
        source: source.value,
        args: Vec::new(),
        depends_on: depends_on.into_iter().map(|entry| entry.value).collect(),
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
    for (name, text) in given.named_texts("must be a jq expression in quotes, such as \"$args.id\"")? {
        let filter = compile(&text, place.key(&name), &JoinDefinition::ARG_VARIABLES)?;
        part.args.push((name, filter));
        locations.args.push(text.location);
    }
    section.finish()?;
    Ok((part, locations))
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
            let (location, key) = place(definition, part_locations, &error).unwrap_or((location, String::new()));
            ConfigError::at(location.clone(), format!("joins.{name}{key}"), error.message)
        });
        joins.insert(join?);
    }
    Ok(joins)
}

/// Where the fault is, and the key behind that of the join.
fn place<'l>(
    definition: &JoinDefinition,
    locations: &'l [PartLocations],
    error: &DefinitionError,
) -> Option<(&'l Location, String)> {
    let name = error.part.as_ref()?;
    let index = definition.parts.iter().position(|part| part.name == *name)?;
    let (part, locations) = (definition.parts.get(index)?, locations.get(index)?);
    let (location, field) = match &error.field {
        None => (Some(&locations.part), String::new()),
        Some(PartField::Source) => (Some(&locations.source), ".source".to_owned()),
        Some(PartField::Arg(arg)) => {
            let index = part.args.iter().position(|(name, _)| name == arg)?;
            (locations.args.get(index), format!(".args.{arg}"))
        }
        Some(PartField::DependsOn(dependency)) => {
            let index = part.depends_on.iter().position(|name| name == dependency)?;
            (locations.depends_on.get(index), ".depends_on".to_owned())
        }
    };
    Some((location?, format!(".parts.{name}{field}")))
}
