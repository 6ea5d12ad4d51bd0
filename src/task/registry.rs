use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
};

use super::Job;
use crate::{
    error::{Error, ErrorCode},
    model::Json,
};

/// What is known of a kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KindInfo {
    /// Its name.
    pub name: Arc<str>,
    /// What runs it.
    pub kind_type: KindType,
    /// What was said at registration.
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
    /// How many attempts may fail, where the task does not say.
    pub max_attempts: Option<u32>,
    /// Time limit of one attempt, where the task does not say, in milliseconds.
    pub timeout_ms: Option<u64>,
    /// JSON Schema of its input, for people and programs.
    pub input_schema: Option<Json>,
}

type Kinds = BTreeMap<Arc<str>, (Arc<KindInfo>, Arc<dyn Job>)>;

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
        if info.name.is_empty() || info.name.len() > 100 {
            return Err(Error::invalid("the name of a kind has 1 to 100 bytes"));
        }
        let mut kinds = self.kinds.write().unwrap_or_else(PoisonError::into_inner);
        if kinds.contains_key(&info.name) {
            return Err(Error::new(ErrorCode::Conflict, format!("there is already a kind `{}`", info.name)));
        }
        kinds.insert(info.name.clone(), (Arc::new(info), job));
        Ok(())
    }

    /// `UNKNOWN_KIND` names those there are.
    pub(super) fn info(&self, name: &str) -> Result<Arc<KindInfo>, Error> {
        let kinds = self.read();
        kinds.get(name).map(|(info, _)| info.clone()).ok_or_else(|| {
            let known: Vec<&str> = kinds.keys().map(AsRef::as_ref).collect();
            let message = format!("there is no kind `{name}`; there are: {}", known.join(", "));
            Error::new(ErrorCode::UnknownKind, message)
        })
    }

    pub(super) fn job(&self, name: &str) -> Option<Arc<dyn Job>> {
        self.read().get(name).map(|(_, job)| job.clone())
    }

    pub(super) fn names(&self) -> Vec<Arc<str>> {
        self.read().keys().cloned().collect()
    }

    pub(super) fn all(&self) -> Vec<Arc<KindInfo>> {
        self.read().values().map(|(info, _)| info.clone()).collect()
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Kinds> {
        self.kinds.read().unwrap_or_else(PoisonError::into_inner)
    }
}
