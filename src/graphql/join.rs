//! Joins of sources.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_graphql::{Object, SimpleObject};

use super::{scalar::JsonScalar, source::ArgDefinition};
use crate::{
    error::Error,
    join::{self, ConfiguredJoin, Fetches, JoinRoom, PartInfo},
    source,
};

/// A named set of parts, each a source and its args, that are fetched together.
#[derive(Debug)]
pub(super) struct Join(pub(super) Arc<ConfiguredJoin>);

/// A named set of parts, each a source and its args, that are fetched together.
#[Object]
impl Join {
    /// What `joinedData` calls it.
    async fn name(&self) -> &str {
        self.0.name()
    }

    /// What it gives.
    async fn description(&self) -> Option<&str> {
        self.0.definition().description.as_deref()
    }

    /// Names of the args it takes.
    async fn args(&self) -> Vec<&str> {
        self.0.definition().args.iter().map(|arg| arg.name.as_str()).collect()
    }

    /// The args it takes, with their types.
    async fn arg_definitions(&self) -> Vec<ArgDefinition> {
        self.0.definition().args.iter().map(ArgDefinition::from).collect()
    }

    /// Its parts, in the order of their definition.
    async fn parts(&self) -> Vec<JoinPart> {
        self.0.parts().map(JoinPart::from).collect()
    }

    /// How long it may take: its parts together, and its shape in what they leave. In milliseconds.
    async fn timeout_ms(&self) -> u64 {
        self.0.definition().limits.timeout_ms
    }
}

/// A part of a join.
#[derive(Debug, SimpleObject)]
pub(super) struct JoinPart {
    /// What it is called in the join.
    name: String,
    /// The source that its value comes from.
    source: String,
    /// The parts that it waits for, because its args are made of their values.
    depends_on: Vec<String>,
    /// Whether the join fails with it.
    required: bool,
}

impl From<&PartInfo> for JoinPart {
    fn from(part: &PartInfo) -> Self {
        Self {
            name: part.name.to_string(),
            source: part.source.to_string(),
            depends_on: part.depends_on.iter().map(ToString::to_string).collect(),
            required: part.required,
        }
    }
}

/// What a join gave.
#[derive(Debug, SimpleObject)]
pub(super) struct JoinedData {
    /// The join's name.
    join: String,
    /// The whole, as the join shapes it.
    data: Option<JsonScalar>,
    /// From the start to the whole, in milliseconds. All times here are of one clock that never goes back.
    elapsed_ms: f64,
    /// The parts' own times added up, in milliseconds: what fetching one after another would take.
    sequential_ms: f64,
    /// Each part, in the order of the join's definition.
    parts: Vec<JoinedPart>,
}

/// A part of a join, as it was fetched.
#[derive(Debug, SimpleObject)]
pub(super) struct JoinedPart {
    /// What it is called in the join.
    name: String,
    /// The source that its value comes from.
    source: String,
    /// The parts that it waited for.
    depends_on: Vec<String>,
    /// Whether the join would have failed with it.
    required: bool,
    /// Its value; null when there is an error.
    value: Option<JsonScalar>,
    /// Why it has no value.
    error: Option<SourceError>,
    /// From the join's start to the part's, in milliseconds.
    started_ms: f64,
    /// From the part's start to its end, in milliseconds.
    elapsed_ms: f64,
    /// Whether an identical part of this request was fetched already, so that this one took nothing by itself.
    shared: bool,
}

/// Why a part has no value.
#[derive(Debug, SimpleObject)]
pub(super) struct SourceError {
    /// One of the codes that errors have in `extensions.code`.
    code: String,
    /// What happened.
    message: String,
}

/// A join that was run both ways.
#[derive(Debug, SimpleObject)]
pub(super) struct Comparison {
    /// The join's name.
    join: String,
    /// One part after another.
    sequential: JoinedData,
    /// Each part as soon as the parts it waits for are there.
    concurrent: JoinedData,
    /// How much less time the concurrent run took, in per cent of the sequential one's. Null when the two runs did not do
    /// the same: a part failed in one of them only, or with another code, or the join's time was over before all parts
    /// had ended.
    improvement_percent: Option<f64>,
    /// How many times as fast the concurrent run was. Null when `improvementPercent` is.
    speedup: Option<f64>,
}

/// Milliseconds, to the microsecond.
fn ms(time: Duration) -> f64 {
    (time.as_secs_f64() * 1_000_000.0).round() / 1000.0
}

impl JoinedData {
    pub(super) fn new(join: &ConfiguredJoin, joined: join::Joined) -> Self {
        Self {
            join: join.name().to_string(),
            elapsed_ms: ms(joined.elapsed),
            sequential_ms: ms(joined.sequential()),
            data: Some(JsonScalar(joined.data)),
            parts: joined.parts.into_iter().map(JoinedPart::from).collect(),
        }
    }
}

impl From<join::JoinedPart> for JoinedPart {
    fn from(part: join::JoinedPart) -> Self {
        let join::JoinedPart { info, result, started, elapsed, shared } = part;
        let JoinPart { name, source, depends_on, required } = JoinPart::from(&info);
        let (value, error) = match result {
            Ok(value) => (Some(JsonScalar(value)), None),
            Err(error) => (None, Some(SourceError::from(error))),
        };
        let (started_ms, elapsed_ms) = (ms(started), ms(elapsed));
        Self { name, source, depends_on, required, value, error, started_ms, elapsed_ms, shared }
    }
}

impl From<source::SourceError> for SourceError {
    fn from(error: source::SourceError) -> Self {
        Self { code: error.code.as_str().to_owned(), message: error.message }
    }
}

impl Comparison {
    pub(super) fn new(join: &ConfiguredJoin, compared: join::Comparison) -> Self {
        Self {
            join: join.name().to_string(),
            improvement_percent: compared.improvement_percent(),
            speedup: compared.speedup(),
            sequential: JoinedData::new(join, compared.sequential),
            concurrent: JoinedData::new(join, compared.concurrent),
        }
    }
}

/// In a request's data: the joins it runs.
#[derive(Debug, Default)]
pub(super) struct RequestJoins {
    fetches: OnceLock<Fetches>,
    runs: AtomicUsize,
}

impl RequestJoins {
    /// Identical parts of its joins are fetched once, and their values have to fit in this room.
    pub(super) fn fetches(&self, room: &JoinRoom) -> &Fetches {
        self.fetches.get_or_init(|| Fetches::within(room))
    }

    /// Counts `runs` more of them.
    pub(super) fn begin(&self, runs: usize, max_joins: usize) -> Result<(), Error> {
        if self.runs.fetch_add(runs, Ordering::Relaxed) + runs > max_joins {
            let allowed = format!("{max_joins} joins in one request; a comparison counts as two");
            return Err(Error::limit("max_request_joins", allowed));
        }
        Ok(())
    }
}
