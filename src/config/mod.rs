//! The configuration: file, environment and flags become one validated [`Config`].
//!
//! Each section has a struct whose `Default` is the only place its defaults stand in. Every limit's name
//! carries its unit. Unknown keys are errors, and every error is one line that says where and what to do.

mod access;
mod api;
mod args;
mod check;
mod environment;
mod error;
mod http;
mod http_source;
mod joins;
mod journal;
mod kind_policy;
mod kinds;
mod programs;
mod retention;
mod section;
mod server;
mod sources;
mod store;
mod tasks;

use std::{
    env::VarError,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

pub use self::{
    check::{check, write_template},
    error::{ConfigError, Location},
    joins::{JoinConfig, PartLocations, build_joins},
    kinds::{KindConfig, check_kinds},
    programs::{ProgramConfig, register_programs},
    server::{ServerConfig, parse_listen},
    sources::{SourceConfig, SourceOptions, build_sources},
    store::StoreConfig,
};
use self::{environment::Environment, error::Document, section::Section};
use crate::{graphql::ApiOptions, http::Token, journal::JournalOptions, task::TaskOptions};

/// Used when no file is named.
const BUILTIN: &str = include_str!("builtin.toml");
/// What errors call it.
const BUILTIN_NAME: &str = "builtin.toml";

/// Everything that can be configured.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Config {
    /// How the server is reached.
    pub server: ServerConfig,
    /// Limits of the schema. `[api]`.
    pub api: ApiOptions,
    /// Where tasks and their journal live.
    pub store: StoreConfig,
    /// How tasks run, and how large they may be. `[tasks]`.
    pub tasks: TaskOptions,
    /// How tasks of each kind are run, and the programs among them, in the order of the file. `[kinds.NAME]`.
    pub kinds: Vec<KindConfig>,
    /// What following the journal may hold in memory. `[journal]`.
    pub journal: JournalOptions,
    /// Where data comes from, in the order of the file.
    pub sources: Vec<SourceConfig>,
    /// What is fetched together, in the order of the file.
    pub joins: Vec<JoinConfig>,
}

/// What flags and the environment say, over what the file says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Overrides {
    /// Instead of `server.listen`.
    pub listen: Option<SocketAddr>,
    /// Instead of `store.data`.
    pub data: Option<PathBuf>,
    /// Instead of `server.graphiql_assets`.
    pub graphiql_assets: Option<PathBuf>,
    /// Instead of `server.token_file`.
    pub token_file: Option<PathBuf>,
    /// The token itself, instead of one in a file.
    pub token: Option<Token>,
    /// Also when `server.insecure` does not say so.
    pub insecure: bool,
}

impl Config {
    /// The configuration in this file, or the built-in one.
    pub fn load(file: Option<&Path>) -> Result<Self, ConfigError> {
        match file {
            None => Self::builtin(),
            Some(file) => {
                let bytes = fs::read(file).map_err(|error| ConfigError::unreadable(file, &error))?;
                let name = file.to_string_lossy();
                let text = str::from_utf8(&bytes).map_err(|error| ConfigError::not_utf8(&name, &bytes, error))?;
                Self::parse(&name, text)
            }
        }
    }

    /// The built-in example configuration.
    pub fn builtin() -> Result<Self, ConfigError> {
        Self::parse(BUILTIN_NAME, BUILTIN)
    }

    /// The configuration in this text. `file` is what errors call it, and relative paths are meant from the
    /// folder it stands in.
    pub fn parse(file: &str, text: &str) -> Result<Self, ConfigError> {
        Self::parse_with(file, text, &|name| std::env::var(name))
    }

    /// The same, with the variables of another environment.
    pub fn parse_with(
        file: &str,
        text: &str,
        variable: &dyn Fn(&str) -> Result<String, VarError>,
    ) -> Result<Self, ConfigError> {
        let environment = Environment::new(variable);
        Self::read(&Document { file: file.into(), text, environment: &environment })
    }

    fn read(document: &Document<'_>) -> Result<Self, ConfigError> {
        let mut root = Section::parse(document)?;
        let mut config = Self {
            server: ServerConfig::read(root.section("server")?)?,
            api: api::read(root.section("api")?)?,
            store: StoreConfig::read(root.section("store")?)?,
            tasks: tasks::read(root.section("tasks")?)?,
            journal: journal::read(root.section("journal")?)?,
            sources: SourceConfig::read_all(root.section("sources")?)?,
            kinds: KindConfig::read_all(root.section("kinds")?)?,
            joins: JoinConfig::read_all(root.section("joins")?)?,
        };
        config.tasks.retention = retention::read(root.section("retention")?)?;
        config.tasks.kinds = config.kinds.iter().map(|kind| (kind.name.clone(), kind.policy)).collect();
        root.finish()?;
        // Transports look at a document before the API does.
        config.server.http.document.clone_from(&config.api.document);
        Ok(config)
    }

    /// With what flags and the environment say.
    #[must_use]
    pub fn with(mut self, overrides: Overrides) -> Self {
        if let Some(listen) = overrides.listen {
            self.server.listen = listen.into();
        }
        if let Some(data) = overrides.data {
            self.store.data = data.into();
        }
        if let Some(folder) = overrides.graphiql_assets {
            self.server.graphiql_assets = Some(folder.into());
        }
        if let Some(file) = overrides.token_file {
            self.server.token_file = Some(file.into());
        }
        if overrides.token.is_some() {
            self.server.http.access.token = overrides.token;
        }
        self.server.insecure |= overrides.insecure;
        self
    }
}

#[cfg(test)]
mod tests;
