//! Joins as the configuration declares them: jq over JSON.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::FutureExt;
use serde_json::{Map, Value};

use super::{
    Comparison, Fetches, Joined, JoinedPart, MAX_PARTS, Order, PartInfo,
    plan::{ArgsRule, Given, Plan, PlannedPart},
    run::{Ran, run},
};
use crate::{
    clock::Clock,
    error::{Error, ErrorCode},
    join::{GraphError, JoinLimits},
    jq::{Filter, JqError, JqLimits, JqRunner, Values},
    model::Json,
    source::{ArgDefinition, Args, Gives, SourceError, Sources},
};

/// What a join is made of.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct JoinDefinition {
    /// What it gives, for people.
    pub description: Option<String>,
    /// The args it takes.
    pub args: Vec<ArgDefinition>,
    /// Its parts.
    pub parts: Vec<PartDefinition>,
    /// Makes the whole of the parts: `.` has each part's value by the part's name (null where there is none),
    /// `$args` the join's args, `$errors` the error of each part that has failed, with `code` and `message`. Not
    /// given: the whole is what `.` would be.
    pub shape: Option<Filter>,
    /// How much a run may take.
    pub limits: JoinLimits,
    /// What each of its filters may take.
    pub filters: JqLimits,
}

/// A part of a join.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PartDefinition {
    /// What it is called.
    pub name: String,
    /// The name of its source.
    pub source: String,
    /// The source's args: `.` has the values of the parts in `depends_on` by their names, `$args` the join's args. A
    /// filter that gives nothing leaves the arg out.
    pub args: Vec<(String, Filter)>,
    /// The parts whose values `args` needs.
    pub depends_on: Vec<String>,
    /// Whether the join fails with it.
    pub required: bool,
    /// All rows or the first; `None`: as the source says.
    pub gives: Option<Gives>,
}

impl JoinDefinition {
    /// The variables that `shape` may use.
    pub const SHAPE_VARIABLES: [&'static str; 2] = ["$args", "$errors"];
    /// The variables that args of parts may use.
    pub const ARG_VARIABLES: [&'static str; 1] = ["$args"];
}

/// A field of a [`PartDefinition`], or an item in one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PartField {
    /// Its source.
    Source,
    /// The arg of this name.
    Arg(String),
    /// This name in `depends_on`.
    DependsOn(String),
}

/// Why a definition makes no join.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct DefinitionError {
    /// Which part is at fault; `None`: the join as a whole.
    pub part: Option<String>,
    /// What of that part; `None`: the part as a whole.
    pub field: Option<PartField>,
    /// What is wrong, and what to do.
    pub message: String,
}

/// A declared join, ready to run. Its values are JSON.
#[derive(Debug)]
pub struct ConfiguredJoin {
    definition: JoinDefinition,
    plan: Plan<Args>,
    clock: Arc<dyn Clock>,
    runner: JqRunner,
}

impl ConfiguredJoin {
    /// A join of this name over these sources.
    pub fn new(
        name: &str,
        definition: JoinDefinition,
        sources: &Sources,
        runner: &JqRunner,
    ) -> Result<Self, DefinitionError> {
        let whole = |message: String| DefinitionError { part: None, field: None, message };
        if definition.parts.is_empty() || definition.parts.len() > MAX_PARTS {
            return Err(whole(format!("must have from 1 to {MAX_PARTS} parts")));
        }
        let plan_part = |part: &PartDefinition| plan_part(name, part, &definition, sources, runner);
        let parts = definition.parts.iter().map(plan_part).collect::<Result<Vec<_>, _>>()?;
        let plan = Plan::new(name, parts, definition.limits.clone()).map_err(|error| {
            let message = error.to_string();
            let (part, dependency) = match error {
                GraphError::Unknown { part, dependency } => (part, dependency),
                // The last step of it.
                GraphError::Cycle(mut path) => match (path.pop(), path.pop()) {
                    (Some(dependency), Some(part)) => (part, dependency),
                    _ => return whole(message),
                },
                GraphError::Repeated(_) => return whole(message),
            };
            DefinitionError { part: Some(part), field: Some(PartField::DependsOn(dependency)), message }
        })?;
        Ok(Self { definition, plan, clock: sources.clock().clone(), runner: runner.clone() })
    }

    /// What it is called.
    pub fn name(&self) -> &Arc<str> {
        &self.plan.name
    }

    /// What it is made of.
    pub fn definition(&self) -> &JoinDefinition {
        &self.definition
    }

    /// Its parts, in the order of their definition.
    pub fn parts(&self) -> impl Iterator<Item = &PartInfo> {
        self.plan.parts.iter().map(|part| &part.info)
    }

    /// Runs it. What `fetches` knows already is not fetched again. Dropping the future stops what is outstanding.
    ///
    /// The error is that of the args, of a required part, or of the shape.
    pub async fn run(&self, args: Args, order: Order, fetches: &Fetches) -> Result<Joined, Error> {
        let args = Arc::new(args.resolve(&format!("join `{}`", self.plan.name), &self.definition.args)?);
        let ran = run(&self.plan, args.clone(), order, fetches, &self.clock).await?;
        let data = self.shape_in_time(&args, &ran).await?;
        let elapsed = self.clock.elapsed().saturating_sub(ran.began);
        Ok(Joined { data, elapsed, parts: ran.parts, timed_out: ran.timed_out })
    }

    /// Runs it both ways, each by itself: every source is really asked twice. Concurrently first, so that what the first
    /// run warms up (connections, caches) helps the sequential one.
    ///
    /// Of `fetches` only the room is used.
    pub async fn compare(&self, args: Args, fetches: &Fetches) -> Result<Comparison, Error> {
        let concurrent = self.run(args.clone(), Order::Concurrent, &fetches.anew()).await?;
        let sequential = self.run(args, Order::Sequential, &fetches.anew()).await?;
        Ok(Comparison { sequential, concurrent })
    }

    /// In what is left of the join's time, the wait for a turn included.
    async fn shape_in_time(&self, args: &Args, ran: &Ran) -> Result<Json, Error> {
        let used = self.clock.elapsed().saturating_sub(ran.began);
        let timeout_ms = self.definition.limits.timeout_ms;
        let left = Duration::from_millis(timeout_ms).saturating_sub(used);
        let time = if left.is_zero() { Duration::from_millis(SHAPE_GRACE_MS) } else { left };
        tokio::select! {
            biased;
            data = self.shape(args, &ran.parts) => data,
            () = self.clock.sleep(time) => {
                let name = &self.plan.name;
                let more = if left.is_zero() {
                    format!(", all of which its parts took, nor in {SHAPE_GRACE_MS} ms more")
                } else {
                    String::new()
                };
                let message = format!(
                    "join `{name}`: its `shape` did not get its turn, or did not end, within the {timeout_ms} ms that \
                     the join has (its `timeout_ms`){more}"
                );
                Err(Error::new(ErrorCode::Timeout, message))
            }
        }
    }

    async fn shape(&self, args: &Args, parts: &[JoinedPart]) -> Result<Json, Error> {
        let null = Json::null();
        let values = parts.iter().map(|part| (&*part.info.name, part.result.as_ref().unwrap_or(&null)));
        let whole = object(values);
        let Some(filter) = &self.definition.shape else { return Ok(whole) };
        let error = |part: &JoinedPart| {
            let error = part.result.as_ref().err()?;
            let described = serde_json::json!({ "code": error.code.as_str(), "message": error.message });
            Some((part.info.name.to_string(), described))
        };
        let errors = Json::from(Value::Object(parts.iter().filter_map(error).collect::<Map<_, _>>()));
        let values = Values { input: whole, variables: vec![args.to_json(), errors] };
        let outputs = self.runner.run(vec![filter.clone()], values, self.definition.filters.clone()).await;
        let failed = |error: &JqError| filter_error(&format!("join `{}`: its `shape`", self.plan.name), error);
        let outputs = outputs.map_err(|(_, error)| Error::from(failed(&error)))?;
        match outputs.into_iter().next().as_deref() {
            Some([one]) => Ok(one.clone()),
            None | Some([]) => Ok(Json::null()),
            Some(_) => Err(failed(&JqError::Failed(MORE_THAN_ONE.to_owned())).into()),
        }
    }
}

/// What a shape has where parts took all of the join's time, so that the others' values are still given, in
/// milliseconds.
const SHAPE_GRACE_MS: u64 = 100;

const MORE_THAN_ONE: &str = "it gives more than one value: write it in [ ] to have a list of them";

/// An object of these values, as they were written.
fn object<'a>(entries: impl Iterator<Item = (&'a str, &'a Json)>) -> Json {
    let mut text = String::from("{");
    for (index, (name, value)) in entries.enumerate() {
        if index > 0 {
            text.push(',');
        }
        text += &Value::from(name).to_string();
        text.push(':');
        text += value.as_str();
    }
    text.push('}');
    Json::trusted(text)
}

fn plan_part(
    join: &str,
    part: &PartDefinition,
    definition: &JoinDefinition,
    sources: &Sources,
    runner: &JqRunner,
) -> Result<PlannedPart<Args>, DefinitionError> {
    let wrong = |field, message: String| DefinitionError { part: Some(part.name.clone()), field, message };
    let source = sources.get(&part.source).map_err(|error| wrong(Some(PartField::Source), error.to_string()))?;
    let taken = &source.info().args;
    if let Some((unknown, _)) = part.args.iter().find(|(name, _)| taken.iter().all(|arg| arg.name != *name)) {
        let names: Vec<&str> = taken.iter().map(|arg| arg.name.as_str()).collect();
        let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        let field = Some(PartField::Arg(unknown.clone()));
        return Err(wrong(field, format!("source `{}` has no arg `{unknown}`; its args: {names}", part.source)));
    }
    let given = |arg: &ArgDefinition| part.args.iter().any(|(name, _)| *name == arg.name);
    if let Some(missing) = taken.iter().find(|arg| arg.default.is_none() && !given(arg)) {
        let name = &missing.name;
        return Err(wrong(None, format!("source `{}` needs the arg `{name}`: add `args.{name}`", part.source)));
    }
    let info = PartInfo {
        name: part.name.as_str().into(),
        source: source.info().name.clone(),
        depends_on: part.depends_on.iter().map(|name| name.as_str().into()).collect(),
        required: part.required,
    };
    let gives = part.gives.unwrap_or(source.info().gives);
    let args = args_rule(join, part, definition, runner);
    Ok(PlannedPart { info, source: source.clone(), gives, args })
}

/// The part's filters, run over what its dependencies gave.
fn args_rule(join: &str, part: &PartDefinition, definition: &JoinDefinition, runner: &JqRunner) -> ArgsRule<Args> {
    let (names, filters): (Vec<String>, Vec<Filter>) = part.args.iter().cloned().unzip();
    let part_names: Vec<Arc<str>> = definition.parts.iter().map(|part| part.name.as_str().into()).collect();
    let (runner, limits) = (runner.clone(), definition.filters.clone());
    let shared = Arc::new((names, part_names, format!("join `{join}`, part `{}`: its arg", part.name)));
    Box::new(move |given: Given<Args>| {
        let (shared, runner, limits, filters) = (shared.clone(), runner.clone(), limits.clone(), filters.clone());
        let make = async move {
            let (names, part_names, place) = &*shared;
            let input = object(given.values.iter().map(|(part, value)| (&*part_names[*part], value)));
            let values = Values { input, variables: vec![given.args.to_json()] };
            let failed = |arg: usize, error: &JqError| filter_error(&format!("{place} `{}`", names[arg]), error);
            let outputs = runner.run(filters, values, limits).await.map_err(|(arg, error)| failed(arg, &error))?;
            let value = |(arg, outputs): (usize, Vec<Json>)| match &outputs[..] {
                [] => None,
                [one] => Some(
                    one.decode()
                        .map(|value| (names[arg].clone(), value))
                        .map_err(|error| failed(arg, &JqError::Failed(error.to_string()))),
                ),
                _ => Some(Err(failed(arg, &JqError::Failed(MORE_THAN_ONE.to_owned())))),
            };
            outputs.into_iter().enumerate().filter_map(value).collect::<Result<Args, SourceError>>()
        };
        make.boxed()
    })
}

fn filter_error(place: &str, error: &JqError) -> SourceError {
    let (code, limit) = match error {
        JqError::Limit { name, .. } => (ErrorCode::LimitExceeded, Some(*name)),
        JqError::Syntax(_) | JqError::Failed(_) => (ErrorCode::InvalidInput, None),
    };
    SourceError { code, message: format!("{place} {error}"), limit }
}

/// The declared joins, by name.
#[derive(Debug, Clone, Default)]
pub struct Joins {
    by_name: BTreeMap<Arc<str>, Arc<ConfiguredJoin>>,
}

impl Joins {
    /// Adds a join under its own name; one of the same name is replaced.
    pub fn insert(&mut self, join: ConfiguredJoin) {
        self.by_name.insert(join.name().clone(), Arc::new(join));
    }

    /// The join of this name. `UNKNOWN_JOIN` names those there are.
    pub fn get(&self, name: &str) -> Result<&Arc<ConfiguredJoin>, Error> {
        self.by_name.get(name).ok_or_else(|| {
            let known: Vec<&str> = self.by_name.keys().map(AsRef::as_ref).collect();
            let message = format!("there is no join `{name}`; there are: {}", known.join(", "));
            Error::new(ErrorCode::UnknownJoin, message)
        })
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<ConfiguredJoin>> {
        self.by_name.values()
    }
}
