//! A join, ready to run.

use std::{fmt, sync::Arc};

use futures::future::BoxFuture;

use super::{
    JoinLimits,
    graph::{Graph, GraphError},
};
use crate::{
    model::Json,
    source::{Args, Gives, Limited, SourceError},
};

/// A part of a join: what is known of it beforehand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartInfo {
    /// What it is called in its join.
    pub name: Arc<str>,
    /// Where its value comes from.
    pub source: Arc<str>,
    /// The parts whose values its args are made of.
    pub depends_on: Vec<Arc<str>>,
    /// Whether the join fails with it.
    pub required: bool,
}

/// What args of a part are made of.
#[derive(Debug)]
pub(super) struct Given<A> {
    /// The args of the join.
    pub(super) args: Arc<A>,
    /// The values of the parts it depends on, each by its number; no others.
    pub(super) values: Vec<(usize, Json)>,
}

/// Makes the args of a part.
pub(super) type ArgsRule<A> =
    Box<dyn Fn(Given<A>) -> BoxFuture<'static, Result<Args, SourceError>> + Send + Sync + 'static>;

/// A part, ready to be fetched.
pub(super) struct PlannedPart<A> {
    pub(super) info: PartInfo,
    pub(super) source: Arc<Limited>,
    pub(super) gives: Gives,
    pub(super) args: ArgsRule<A>,
}

/// A join over args of type `A`.
pub(super) struct Plan<A> {
    pub(super) name: Arc<str>,
    pub(super) parts: Vec<PlannedPart<A>>,
    pub(super) graph: Graph,
    pub(super) limits: JoinLimits,
}

impl<A> Plan<A> {
    pub(super) fn new(name: &str, parts: Vec<PlannedPart<A>>, limits: JoinLimits) -> Result<Self, GraphError> {
        let edges: Vec<(&str, Vec<&str>)> = parts
            .iter()
            .map(|PlannedPart { info, .. }| (&*info.name, info.depends_on.iter().map(AsRef::as_ref).collect()))
            .collect();
        let graph = Graph::new(&edges)?;
        Ok(Self { name: name.into(), parts, graph, limits })
    }
}

impl<A> fmt::Debug for Plan<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plan")
            .field("name", &self.name)
            .field("parts", &self.parts.iter().map(|part| &part.info).collect::<Vec<_>>())
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}
