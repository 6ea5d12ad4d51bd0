use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
};

use super::{Job, KindPolicy, TaskOptions, schema::InputSchema};
use crate::{
    error::{Error, ErrorCode},
    model::Json,
    store::KindClaim,
};

/// What is known of a kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KindInfo {
    /// Its name.
    pub name: Arc<str>,
    /// What runs it.
    pub kind_type: KindType,
    /// What was said of it, in the configuration and at registration.
    pub options: KindOptions,
}

/// What runs a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KindType {
    /// Rust code of the program that embeds the library.
    Handler,
    /// A declared program.
    Program,
    /// Part of Meanwhile.
    BuiltIn,
}

/// What can be said of a kind at registration.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KindOptions {
    /// What it does, for people.
    pub description: Option<String>,
    /// How its tasks are run, where they do not say.
    pub policy: KindPolicy,
    /// JSON Schema of its input: a task whose input does not fit is not started. `None`: that of the handler's Rust type.
    pub input_schema: Option<Json>,
}

impl KindOptions {
    /// With the JSON Schema of this type as that of the input, if none was said and the type does not take everything.
    #[must_use]
    pub fn input_of<T: schemars::JsonSchema>(mut self) -> Self {
        let schema = schemars::schema_for!(T);
        // Of `serde_json::Value` there are only its title and the dialect.
        let constrains = schema
            .as_object()
            .is_some_and(|schema| schema.keys().any(|key| !matches!(key.as_str(), "$schema" | "title")));
        if self.input_schema.is_none() && constrains {
            self.input_schema = Some(Json::from(schema.to_value()));
        }
        self
    }
}

/// What registering a kind of this name and with this schema of its input would refuse, whatever else is registered.
pub fn check_kind(name: &str, input_schema: Option<&Json>) -> Result<(), Error> {
    input_schema_of(name, input_schema).map(drop)
}

fn input_schema_of(name: &str, schema: Option<&Json>) -> Result<Option<InputSchema>, Error> {
    if name.is_empty() || name.len() > 100 {
        return Err(Error::invalid("the name of a kind has 1 to 100 bytes"));
    }
    schema.map(|schema| InputSchema::new(name, schema)).transpose()
}

/// A kind that is registered.
struct Kind {
    info: Arc<KindInfo>,
    job: Arc<dyn Job>,
    schema: Option<InputSchema>,
}

type Kinds = BTreeMap<Arc<str>, Arc<Kind>>;

/// The kinds that are known here. Kinds can be added while tasks run.
#[derive(Default)]
pub(super) struct Registry {
    kinds: RwLock<Kinds>,
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}

impl Registry {
    pub(super) fn add(&self, info: KindInfo, job: Arc<dyn Job>) -> Result<(), Error> {
        let schema = input_schema_of(&info.name, info.options.input_schema.as_ref())?;
        let mut kinds = self.kinds.write().unwrap_or_else(PoisonError::into_inner);
        if kinds.contains_key(&info.name) {
            return Err(Error::new(ErrorCode::Conflict, format!("there is already a kind `{}`", info.name)));
        }
        kinds.insert(info.name.clone(), Arc::new(Kind { info: Arc::new(info), job, schema }));
        Ok(())
    }

    /// `UNKNOWN_KIND` names those there are.
    pub(super) fn info(&self, name: &str) -> Result<Arc<KindInfo>, Error> {
        self.kind(name).map(|kind| kind.info.clone())
    }

    /// Whether this input fits the kind.
    pub(super) fn check(&self, name: &str, input: &Json) -> Result<(), Error> {
        let kind = self.kind(name)?;
        if let Some(schema) = &kind.schema {
            schema.check(name, input)?;
        }
        kind.job.check(input)
    }

    fn kind(&self, name: &str) -> Result<Arc<Kind>, Error> {
        let kinds = self.read();
        kinds.get(name).cloned().ok_or_else(|| {
            let known: Vec<&str> = kinds.keys().map(AsRef::as_ref).collect();
            let message = format!("there is no kind `{name}`; there are: {}", known.join(", "));
            Error::new(ErrorCode::UnknownKind, message)
        })
    }

    pub(super) fn job(&self, name: &str) -> Option<Arc<dyn Job>> {
        self.read().get(name).map(|kind| kind.job.clone())
    }

    fn names(&self) -> Vec<Arc<str>> {
        self.read().keys().cloned().collect()
    }

    /// What to claim.
    pub(super) fn claims(&self, options: &TaskOptions) -> Vec<KindClaim> {
        let claim = |kind: &Arc<Kind>| KindClaim {
            name: kind.info.name.clone(),
            concurrency: kind.info.options.policy.concurrency,
            concurrency_per_key: kind.info.options.policy.concurrency_per_key.unwrap_or(options.concurrency_per_key),
        };
        self.read().values().map(claim).collect()
    }

    pub(super) fn all(&self) -> Vec<Arc<KindInfo>> {
        self.read().values().map(|kind| kind.info.clone()).collect()
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Kinds> {
        self.kinds.read().unwrap_or_else(PoisonError::into_inner)
    }
}
