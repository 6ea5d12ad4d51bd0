//! Joins: named sets of parts, each a source and its args, fetched concurrently and shaped into one whole.
//!
//! [`ConfiguredJoin`] is what the configuration declares: args and shape are jq filters, values are JSON.
//! [`JoinBuilder`] makes the same in Rust, over the caller's own types. Both become a plan (`plan`: the parts and, in
//! `graph`, which waits for which) that `run` runs; `fetches` gets each part, identical ones once per request, and holds
//! their values as far as there is `room`.

mod builder;
mod configured;
mod fetches;
mod graph;
mod plan;
mod room;
mod run;

use std::time::Duration;

pub use self::{
    builder::{Join, JoinBuilder, Part, PartKey, Parts},
    configured::{ConfiguredJoin, DefinitionError, JoinDefinition, Joins, PartDefinition, PartField},
    fetches::Fetches,
    graph::GraphError,
    plan::PartInfo,
    room::JoinRoom,
    run::{JoinedPart, Order},
};
use crate::model::Json;

/// How much one run of a join may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinLimits {
    /// How long the parts may take together, and then a shape in what they leave, in milliseconds.
    pub timeout_ms: u64,
    /// JSON text of one part's value, in bytes.
    pub max_part_bytes: usize,
    /// JSON text of all parts' values together, in bytes.
    pub max_bytes: usize,
}

impl Default for JoinLimits {
    fn default() -> Self {
        Self { timeout_ms: 30_000, max_part_bytes: 4 << 20, max_bytes: 16 << 20 }
    }
}

/// The most parts of one join.
pub const MAX_PARTS: usize = 100;

/// What a join gave. `T` is what its parts were made into.
#[derive(Debug, Clone, PartialEq)]
pub struct Joined<T = Json> {
    /// The whole.
    pub data: T,
    /// From the start to the whole.
    pub elapsed: Duration,
    /// Its parts, in the order of their definition.
    pub parts: Vec<JoinedPart>,
    /// Whether its time was over before all its parts had ended.
    pub timed_out: bool,
}

impl<T> Joined<T> {
    /// The parts' own times added up. A part that was shared with an identical one has cost nothing.
    pub fn sequential(&self) -> Duration {
        self.parts.iter().filter(|part| !part.shared).map(|part| part.elapsed).sum()
    }
}

/// A join, run both ways.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison<T = Json> {
    /// One part after another.
    pub sequential: Joined<T>,
    /// Each part as soon as it can be.
    pub concurrent: Joined<T>,
}

impl<T> Comparison<T> {
    /// How much less time the concurrent run took, in per cent of the sequential one. Negative when it took more. `None`
    /// when the two did not do the same: a part ended in another way, or the join's time was over.
    pub fn improvement_percent(&self) -> Option<f64> {
        let (sequential, concurrent) = self.seconds()?;
        Some(if sequential == 0.0 { 0.0 } else { (sequential - concurrent) / sequential * 100.0 })
    }

    /// How many times as fast the concurrent run was. `None` when [`Self::improvement_percent`] is.
    pub fn speedup(&self) -> Option<f64> {
        let (sequential, concurrent) = self.seconds()?;
        Some(if concurrent == 0.0 { 1.0 } else { sequential / concurrent })
    }

    /// How long each run took, when both did the same.
    fn seconds(&self) -> Option<(f64, f64)> {
        let outcome = |part: &JoinedPart| part.result.as_ref().err().map(|error| error.code);
        let (sequential, concurrent) = (&self.sequential, &self.concurrent);
        let same = sequential.parts.iter().map(outcome).eq(concurrent.parts.iter().map(outcome));
        let whole = !sequential.timed_out && !concurrent.timed_out;
        (same && whole).then_some((sequential.elapsed.as_secs_f64(), concurrent.elapsed.as_secs_f64()))
    }
}

#[cfg(test)]
mod tests;
