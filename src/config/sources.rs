//! `[sources.NAME]`, and making sources of them.

use std::sync::Arc;

use rand::{SeedableRng, rngs::StdRng};

use super::{
    Config, ConfigError, Location, args, http_source,
    section::{Entry, Section},
};
use crate::{
    clock::Clock,
    error::ErrorCode,
    model::Json,
    source::{
        ArgDefinition, SourceError, SourceLimits, Sources, ThisServer,
        http::{HttpClient, HttpSource, HttpSourceOptions},
        simulated::{SimulatedFailure, SimulatedOptions, SimulatedSource, SimulatedValue},
        sql::{SqlOptions, SqlSource},
        store::{StoreFigures, StoreOptions, StoreSource},
    },
};

/// A source, as configured. `[sources.NAME]`.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceConfig {
    /// What it is called.
    pub name: String,
    /// Where errors about it point: to the query of an SQL source, to the table of another.
    pub location: Location,
    /// What it is.
    pub options: SourceOptions,
}

/// What a source is: its `type`, and what belongs to that.
#[derive(Debug, Clone, PartialEq)]
pub enum SourceOptions {
    /// `type = "sql"`: a query on a SQLite file.
    Sql(SqlOptions),
    /// `type = "http"`: answers of an HTTP API.
    Http(Box<HttpSourceOptions>),
    /// `type = "simulated"`: made up, with chosen slowness.
    Simulated(SimulatedOptions),
    /// `type = "store"`: figures of the server's own tasks.
    Store(StoreOptions),
}

impl SourceConfig {
    pub(super) fn read_all(section: Section<'_>) -> Result<Vec<Self>, ConfigError> {
        section.named_sections()?.into_iter().map(|(name, section)| Self::read(name, section)).collect()
    }

    fn read(name: String, mut section: Section<'_>) -> Result<Self, ConfigError> {
        let mut location = section.location().clone();
        section.check_name(&name)?;
        let Entry { value, location: type_location } = section.required_text("type")?;
        let options = match value.as_str() {
            "sql" => {
                let (options, query_location) = read_sql(&mut section)?;
                location = query_location;
                SourceOptions::Sql(options)
            }
            "http" => SourceOptions::Http(Box::new(http_source::read(&mut section)?)),
            "simulated" => SourceOptions::Simulated(read_simulated(&mut section)?),
            "store" => SourceOptions::Store(read_store(&mut section)?),
            other => {
                let message = format!("must be \"sql\", \"http\", \"simulated\" or \"store\", not {other:?}");
                return Err(ConfigError::at(type_location, section.key("type"), message));
            }
        };
        section.finish()?;
        Ok(Self { name, location, options })
    }
}

/// What every type has: `description`, `args`, `timeout_ms`, `max_rows`, `max_bytes` and `concurrency`.
pub(super) struct Common {
    pub(super) description: Option<String>,
    pub(super) args: Vec<ArgDefinition>,
    pub(super) limits: SourceLimits,
}

impl Common {
    pub(super) fn read(section: &mut Section<'_>, mut limits: SourceLimits) -> Result<Self, ConfigError> {
        let description = section.text("description")?.map(|entry| entry.value);
        let args = args::read(section.section("args")?)?;
        section.number("timeout_ms", &mut limits.timeout_ms, 1..=86_400_000)?;
        section.number("max_rows", &mut limits.max_rows, 1..=1_000_000_000_000)?;
        section.number("max_bytes", &mut limits.max_bytes, 1..=1 << 50)?;
        section.number("concurrency", &mut limits.concurrency, 1..=1_000_000)?;
        Ok(Self { description, args, limits })
    }
}

fn read_sql(section: &mut Section<'_>) -> Result<(SqlOptions, Location), ConfigError> {
    let file = section.required_path("file")?;
    let query = section.required_text("query")?;
    let defaults = SqlOptions::new(file, query.value);
    let Common { description, args, limits } = Common::read(section, defaults.limits.clone())?;
    let mut options = SqlOptions { description, args, limits, ..defaults };
    section.number("max_row_bytes", &mut options.max_row_bytes, 64..=1 << 28)?;
    Ok((options, query.location))
}

fn read_simulated(section: &mut Section<'_>) -> Result<SimulatedOptions, ConfigError> {
    let defaults = SimulatedOptions::default();
    let Common { description, args, limits } = Common::read(section, defaults.limits.clone())?;
    let mut options = SimulatedOptions { description, args, limits, ..defaults };
    section.number("latency_ms", &mut options.latency_ms, 0..=86_400_000)?;
    section.number("interval_ms", &mut options.interval_ms, 0..=86_400_000)?;
    section.number("rows", &mut options.rows, 0..=1_000_000_000)?;
    options.metadata = section.text("metadata")?.map(|entry| entry.value);

    let value = section.json("value")?;
    let mut random = false;
    section.flag("random", &mut random)?;
    options.value = match value {
        Some(_) if random => return Err(section.error("random", "cannot be together with `value`: remove one")),
        Some(value) => SimulatedValue::Fixed(Json::from(value)),
        None if random => SimulatedValue::Random,
        None => options.value,
    };

    let fail = section.text("fail")?;
    let mut after_rows = u64::MAX;
    section.number("fail_after", &mut after_rows, 0..=options.rows)?;
    options.fail = match fail {
        Some(Entry { value: message, .. }) => {
            Some(SimulatedFailure { message, after_rows: if after_rows == u64::MAX { 0 } else { after_rows } })
        }
        None if after_rows != u64::MAX => {
            return Err(section.error("fail_after", "needs `fail`, the message it fails with: add it"));
        }
        None => None,
    };
    Ok(options)
}

fn read_store(section: &mut Section<'_>) -> Result<StoreOptions, ConfigError> {
    let figures = match section.required_text("figures")?.value.as_str() {
        "counts" => StoreFigures::Counts,
        "latencies" => StoreFigures::Latencies,
        other => {
            let message = format!("must be \"counts\" or \"latencies\", not {other:?}");
            return Err(section.error("figures", message));
        }
    };
    let defaults = StoreOptions::new(figures);
    let Common { description, args, limits } = Common::read(section, defaults.limits.clone())?;
    if !args.is_empty() {
        return Err(section.error("args", "a source of type \"store\" has the arg `kind`, and no others: remove them"));
    }
    let mut options = StoreOptions { description, limits, ..defaults };
    section.number("max_count", &mut options.max_count, 1..=1_000_000_000)?;
    section.number("sample", &mut options.sample, 1..=1_000_000)?;
    Ok(options)
}

/// The configured sources, checked as far as they can be.
///
/// A source whose file is missing or locked is made all the same, with a warning in the log: the file may
/// come later. A query that does not fit its file is an error. What asks this server needs `this_server` only when it
/// is read.
pub fn build_sources(
    config: &Config,
    this_server: &ThisServer,
    clock: &Arc<dyn Clock>,
    random: &mut StdRng,
) -> Result<Sources, ConfigError> {
    let mut client = None;
    let mut sources = Sources::new(clock.clone());
    for SourceConfig { name, location, options } in &config.sources {
        let at_fault = |key: &'static str| {
            move |error: SourceError| ConfigError::at(location.clone(), format!("sources.{name}{key}"), error.message)
        };
        match options {
            SourceOptions::Sql(options) => {
                let source = SqlSource::new(name, options.clone()).map_err(at_fault(".query"))?;
                match source.check() {
                    Err(error) if error.code == ErrorCode::InvalidInput => return Err(at_fault(".query")(error)),
                    Err(error) => tracing::warn!("{error}; reads of it fail until then"),
                    Ok(()) => {}
                }
                sources.insert(source);
            }
            SourceOptions::Http(options) => {
                // One for all of them.
                let client = match &client {
                    Some(client) => client,
                    None => client.insert(HttpClient::new().map_err(at_fault(""))?),
                };
                let source = HttpSource::new(name, (**options).clone(), client, this_server, clock.clone());
                sources.insert(source.map_err(at_fault(""))?);
            }
            SourceOptions::Store(options) => sources.insert(StoreSource::new(name, options.clone(), this_server)),
            SourceOptions::Simulated(options) => {
                let random = StdRng::from_rng(random);
                let source = SimulatedSource::new(name, options.clone(), clock.clone(), random);
                sources.insert(source.map_err(at_fault(""))?);
            }
        }
    }
    Ok(sources)
}
