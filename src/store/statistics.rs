//! How many tasks there are, and how long they took.

use std::sync::Arc;

use crate::model::TaskStatus;

/// Which figures to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatisticsQuery {
    /// Only of this kind; `None`: of each.
    pub kind: Option<String>,
    /// Counting tasks of a kind and status stops here.
    pub max_count: u64,
    /// How many of each kind's tasks that completed last are measured: those with the highest ids.
    pub sample: usize,
}

/// The figures of one kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KindStatistics {
    /// Which kind.
    pub kind: Arc<str>,
    /// How many tasks are in each status, in the order of [`TaskStatus::ALL`]; at most `max_count`.
    pub counts: [(TaskStatus, u64); TaskStatus::ALL.len()],
    /// The measured tasks.
    pub times: Vec<TaskTimes>,
}

/// How long one completed task took, in its last attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TaskTimes {
    /// From the moment it was due to its start, in milliseconds.
    pub waited_ms: u64,
    /// From its start to its end, in milliseconds.
    pub ran_ms: u64,
}
