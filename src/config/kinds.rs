//! `[kinds.NAME]`.

use super::{Config, ConfigError, Location, ProgramConfig, kind_policy, section::Section};
use crate::task::{KindPolicy, TaskManager};

/// A kind of tasks, as configured: how its tasks are run, and what does their work when that is a program.
#[derive(Debug, Clone, PartialEq)]
pub struct KindConfig {
    /// What the kind is called.
    pub name: String,
    /// Where errors about it point.
    pub location: Location,
    /// How its tasks are run: wins over what is said at registration.
    pub policy: KindPolicy,
    /// The program that does its work; `None`: a kind that is registered otherwise.
    pub program: Option<ProgramConfig>,
}

impl KindConfig {
    pub(super) fn read_all(section: Section<'_>) -> Result<Vec<Self>, ConfigError> {
        section.named_sections()?.into_iter().map(|(name, section)| Self::read(name, section)).collect()
    }

    fn read(name: String, mut section: Section<'_>) -> Result<Self, ConfigError> {
        section.check_name(&name)?;
        let location = section.location().clone();
        let program = ProgramConfig::read(&mut section)?;
        let policy = kind_policy::read(&mut section)?;
        section.finish()?;
        Ok(Self { name, location, policy, program })
    }
}

/// Every kind that is configured is registered; otherwise somebody waits for what will not happen.
pub fn check_kinds(config: &Config, manager: &TaskManager) -> Result<(), ConfigError> {
    let registered = manager.kinds();
    check_known(config, &registered.iter().map(|kind| &*kind.name).collect::<Vec<_>>())
}

/// Every kind that is configured is one of these.
pub(super) fn check_known(config: &Config, known: &[&str]) -> Result<(), ConfigError> {
    match config.kinds.iter().find(|kind| !known.contains(&kind.name.as_str())) {
        None => Ok(()),
        Some(kind) => {
            let message = format!("there is no such kind: give it a `command`, or name one of {}", known.join(", "));
            Err(ConfigError::at(kind.location.clone(), format!("kinds.{}", kind.name), message))
        }
    }
}
