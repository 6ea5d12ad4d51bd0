//! `[kinds.NAME]`.

use super::{ConfigError, ProgramConfig, args, section::Section};
use crate::task::KindOptions;

/// A kind of tasks, as configured. `[kinds.NAME]`.
#[derive(Debug, Clone, PartialEq)]
pub struct KindConfig {
    /// What it is called.
    pub name: String,
    /// The program that does its work.
    pub program: ProgramConfig,
    /// What holds for its tasks.
    pub options: KindOptions,
}

impl KindConfig {
    pub(super) fn read_all(section: Section<'_>) -> Result<Vec<Self>, ConfigError> {
        section.named_sections()?.into_iter().map(|(name, section)| Self::read(name, section)).collect()
    }

    fn read(name: String, mut section: Section<'_>) -> Result<Self, ConfigError> {
        args::check_name(&name, section.location(), "kinds")?;
        let Some(program) = ProgramConfig::read(&mut section)? else {
            let message = "is missing: add the program and its arguments, such as command = [\"python3\", \"work.py\"]";
            return Err(section.error("command", message));
        };
        let options = read_options(&mut section)?;
        section.finish()?;
        Ok(Self { name, program, options })
    }
}

/// What holds for tasks of a kind.
fn read_options(section: &mut Section<'_>) -> Result<KindOptions, ConfigError> {
    let mut options = KindOptions::default();
    let mut max_attempts = 0;
    section.number("max_attempts", &mut max_attempts, 1..=1000)?;
    options.max_attempts = (max_attempts > 0).then_some(max_attempts);
    let mut timeout_ms = 0;
    section.number("timeout_ms", &mut timeout_ms, 1..=31_536_000_000)?;
    options.timeout_ms = (timeout_ms > 0).then_some(timeout_ms);
    Ok(options)
}
