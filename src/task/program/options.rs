use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use super::CommandTemplate;
use crate::{as_written::AsWritten, model::LogLevel, secret::Secret};

/// A program as the work of a kind: what is run, and what its output and its end mean. Each limit's name carries its
/// unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgramOptions {
    /// What is run.
    pub command: CommandTemplate,
    /// Where it runs.
    pub folder: AsWritten<PathBuf>,
    /// Variables of its environment.
    pub environment: Vec<(String, Secret)>,
    /// Further variables that it gets as the server has them. Others of the server are not passed on: they may hold
    /// secrets. Those that every program needs always are, see [`PASSED_ON`].
    pub pass_environment: Vec<String>,
    /// Exit codes that mean that it has done its work.
    pub success_exit_codes: Vec<u8>,
    /// Exit codes that mean that trying again cannot help.
    pub no_retry_exit_codes: Vec<u8>,
    /// How long it may go on after SIGTERM, before SIGKILL, in milliseconds.
    pub stop_grace_ms: u64,
    /// How long processes that it left behind may go on after its own end, in milliseconds.
    pub leftover_grace_ms: u64,
    /// Output that becomes log lines of an attempt, in bytes; of what is beyond, only the last lines are kept, for the
    /// error.
    pub max_log_bytes: usize,
    /// The level of the lines that it writes to stderr.
    pub stderr_level: LogLevel,
}

impl ProgramOptions {
    /// A program with nothing special about it, which runs in the current folder.
    pub fn new(command: CommandTemplate) -> Self {
        Self {
            command,
            folder: ".".into(),
            environment: Vec::new(),
            pass_environment: Vec::new(),
            success_exit_codes: vec![0],
            no_retry_exit_codes: Vec::new(),
            stop_grace_ms: 5000,
            leftover_grace_ms: 1000,
            max_log_bytes: 4 << 20,
            stderr_level: LogLevel::Info,
        }
    }

    /// How long an attempt may take to end after a request to cancel, in milliseconds: longer than its program may.
    pub fn cancel_grace_ms(&self) -> u64 {
        self.stop_grace_ms.saturating_add(KILL_PATIENCE_MS)
    }

    /// Whether the program and its folder are there; what is missing otherwise.
    pub fn check(&self) -> Result<(), String> {
        if !self.folder.expose().is_dir() {
            return Err(format!("its folder {} is not there", self.folder));
        }
        let program = Path::new(self.command.program());
        let is_there = if program.components().count() > 1 {
            program.is_file()
        } else {
            let path = self.environment().into_iter().rev().find(|(name, _)| name == "PATH");
            path.is_some_and(|(_, path)| std::env::split_paths(&path).any(|folder| folder.join(program).is_file()))
        };
        if is_there { Ok(()) } else { Err(format!("its program {} is not there", program.display())) }
    }

    /// What the program's environment is made of: a few variables of the server, then those that were configured.
    pub(super) fn environment(&self) -> Vec<(OsString, OsString)> {
        let names = PASSED_ON.into_iter().chain(self.pass_environment.iter().map(String::as_str));
        let passed = names.filter_map(|name| Some((name.into(), std::env::var_os(name)?)));
        let own = self.environment.iter().map(|(name, value)| (name.into(), value.expose().into()));
        passed.chain(own).collect()
    }
}

/// How long killed processes may take to end, in milliseconds: those that the kernel is busy with end later.
pub(super) const KILL_PATIENCE_MS: u64 = 10_000;

/// Variables of the server's environment that every program gets.
pub const PASSED_ON: [&str; 11] =
    ["PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR"];
