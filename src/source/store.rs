//! Counts and latencies of the server's own tasks, in whatever store they are.

use futures::{StreamExt, stream, stream::BoxStream};
use serde_json::{Map, Value, json};

use super::{
    ArgDefinition, ArgType, Args, Gives, Row, Source, SourceError, SourceInfo, SourceLimits, SourceType, ThisServer,
};
use crate::{
    error::ErrorCode,
    model::{Json, TaskStatus},
    store::{KindStatistics, StatisticsQuery, TaskTimes},
};

/// The arg with which only one kind is read.
const KIND: &str = "kind";

/// What a [`StoreSource`] gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StoreFigures {
    /// How many tasks are in each status, in all and of each kind: one value.
    Counts,
    /// How long completed tasks have waited and run: a row for each kind.
    Latencies,
}

/// What a [`StoreSource`] reads, and its limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreOptions {
    /// What it gives, for people.
    pub description: Option<String>,
    /// Which figures.
    pub figures: StoreFigures,
    /// Where counting tasks of one kind and status stops.
    pub max_count: u64,
    /// How many of each kind's newest completed tasks are measured.
    pub sample: usize,
    /// What a read may take and give.
    pub limits: SourceLimits,
}

impl StoreOptions {
    /// With the default limits.
    pub fn new(figures: StoreFigures) -> Self {
        let limits = SourceLimits { concurrency: 4, ..SourceLimits::default() };
        Self { description: None, figures, max_count: 1_000_000, sample: 1000, limits }
    }
}

/// The server's own tasks, as a source. It takes the arg `kind`: nothing said, all kinds.
#[derive(Debug)]
pub struct StoreSource {
    info: SourceInfo,
    options: StoreOptions,
    this_server: ThisServer,
}

impl StoreSource {
    /// A source of this name.
    pub fn new(name: &str, mut options: StoreOptions, this_server: &ThisServer) -> Self {
        let info = SourceInfo {
            name: name.into(),
            description: options.description.take(),
            source_type: SourceType::Store,
            args: vec![ArgDefinition::optional(KIND, ArgType::Text, Value::Null)],
            limits: options.limits.clone(),
            gives: match options.figures {
                StoreFigures::Counts => Gives::Value,
                StoreFigures::Latencies => Gives::Rows,
            },
        };
        Self { info, options, this_server: this_server.clone() }
    }
}

impl Source for StoreSource {
    fn info(&self) -> &SourceInfo {
        &self.info
    }

    fn read(&self, args: Args) -> Result<BoxStream<'static, Result<Row, SourceError>>, SourceError> {
        let name = self.info.name.clone();
        let store = self.this_server.store().cloned().ok_or_else(|| {
            SourceError::new(ErrorCode::Unavailable, format!("source `{name}` reads tasks, and there is no store yet"))
        })?;
        let StoreOptions { figures, max_count, sample, .. } = self.options;
        let kind = args.get(KIND).and_then(Value::as_str).map(str::to_owned);
        let query =
            StatisticsQuery { kind, max_count, sample: if figures == StoreFigures::Counts { 0 } else { sample } };
        let rows = async move {
            match store.statistics(query).await {
                Ok(kinds) if figures == StoreFigures::Counts => stream::iter(vec![Ok(row(counts(&kinds)))]),
                Ok(kinds) => stream::iter(kinds.iter().map(|kind| Ok(row(latencies(kind)))).collect::<Vec<_>>()),
                Err(error) => {
                    let message = format!("source `{name}`: {error}");
                    stream::iter(vec![Err(SourceError::new(ErrorCode::Unavailable, message))])
                }
            }
        };
        Ok(stream::once(rows).flatten().boxed())
    }
}

fn row(value: Value) -> Row {
    Row { value: Json::from(value), metadata: None }
}

/// `{"total": 3, "pending": 1, …, "kinds": {"simulate": {"total": 3, "pending": 1, …}}}`
fn counts(kinds: &[KindStatistics]) -> Value {
    let sums = |kinds: &[KindStatistics]| {
        let mut sums = Map::from_iter([("total".to_owned(), json!(0))]);
        let mut add = |name: String, count: u64| {
            let before = sums.get(&name).and_then(Value::as_u64).unwrap_or(0);
            sums.insert(name, json!(before + count));
        };
        for (status, count) in kinds.iter().flat_map(|kind| kind.counts) {
            add("total".to_owned(), count);
            add(name_of(status).to_owned(), count);
        }
        sums
    };
    let by_kind: Map<_, _> =
        kinds.iter().map(|kind| (kind.kind.to_string(), Value::Object(sums(std::slice::from_ref(kind))))).collect();
    let mut all = sums(kinds);
    all.insert("kinds".to_owned(), Value::Object(by_kind));
    Value::Object(all)
}

const fn name_of(status: TaskStatus) -> &'static str {
    match status {
        TaskStatus::Pending => "pending",
        TaskStatus::Running => "running",
        TaskStatus::Completed => "completed",
        TaskStatus::Failed => "failed",
        TaskStatus::Cancelled => "cancelled",
    }
}

/// `{"kind": "simulate", "measured": 3, "waitedMs": {"p50": 1, …}, "ranMs": {…}}`
fn latencies(kind: &KindStatistics) -> Value {
    json!({
        "kind": &*kind.kind,
        "measured": kind.times.len(),
        "waitedMs": percentiles(&kind.times, |times| times.waited_ms),
        "ranMs": percentiles(&kind.times, |times| times.ran_ms),
    })
}

/// Nearest-rank percentiles; null when nothing was measured.
fn percentiles(times: &[TaskTimes], of: impl Fn(&TaskTimes) -> u64) -> Value {
    let mut sorted: Vec<u64> = times.iter().map(of).collect();
    sorted.sort_unstable();
    let rank = |percent: usize| sorted.get((sorted.len() * percent).div_ceil(100).saturating_sub(1));
    json!({ "p50": rank(50), "p90": rank(90), "p99": rank(99), "max": sorted.last() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(name: &str, pending: u64, ran_ms: impl Iterator<Item = u64>) -> KindStatistics {
        let counts = TaskStatus::ALL.map(|status| (status, if status == TaskStatus::Pending { pending } else { 0 }));
        let times = ran_ms.map(|ran_ms| TaskTimes { waited_ms: 0, ran_ms }).collect();
        KindStatistics { kind: name.into(), counts, times }
    }

    #[test]
    fn counts_are_added_up_over_kinds() {
        let counts = counts(&[kind("a", 2, 0..0), kind("b", 3, 0..0)]);
        assert_eq!((&counts["total"], &counts["pending"], &counts["failed"]), (&json!(5), &json!(5), &json!(0)));
        assert_eq!(counts["kinds"]["b"]["pending"], json!(3));
    }

    #[test]
    fn percentiles_are_those_of_the_nearest_rank() {
        let row = latencies(&kind("a", 0, (1..=100).rev()));
        assert_eq!(row["ranMs"], json!({ "p50": 50, "p90": 90, "p99": 99, "max": 100 }));
        let row = latencies(&kind("a", 0, 7..8));
        assert_eq!(row["ranMs"], json!({ "p50": 7, "p90": 7, "p99": 7, "max": 7 }));
        let row = latencies(&kind("a", 0, 0..0));
        assert_eq!(row["ranMs"], json!({ "p50": null, "p90": null, "p99": null, "max": null }));
    }
}
