//! The program's own log: to stderr, so that stdout stays for what was asked for.

use std::io::{self, IsTerminal};

use tracing_subscriber::{
    EnvFilter,
    filter::{Directive, LevelFilter},
};

use crate::{config::ConfigError, exit::StartError};

/// Which messages are shown: `info`, `debug`, `meanwhile=debug,warn` and so on.
const VARIABLE: &str = "MEANWHILE_LOG";

/// Libraries that would show whatever clients and sources send, secrets included.
const WORDLESS: [&str; 8] =
    ["tungstenite", "tokio_tungstenite", "reqwest", "hyper", "hyper_util", "hyper_rustls", "tokio_rustls", "rustls"];
/// And that would show it in their errors: what is wrong is told by those who use them.
const SILENT: [&str; 1] = ["rustls_platform_verifier"];

/// Begins to write the log.
pub(super) fn start() -> Result<(), StartError> {
    let mut filter = EnvFilter::builder()
        .with_env_var(VARIABLE)
        .with_default_directive(LevelFilter::INFO.into())
        .from_env()
        .map_err(|error| ConfigError {
            location: None,
            key: Some(VARIABLE.to_owned()),
            message: format!("{error}; use a level, such as `debug`, or `meanwhile=debug,warn`"),
        })?;
    let quiet = WORDLESS.map(|target| format!("{target}=warn")).into_iter();
    let silent = SILENT.map(|target| format!("{target}=off"));
    for directive in quiet.chain(silent).filter_map(|directive| directive.parse::<Directive>().ok()) {
        filter = filter.add_directive(directive);
    }
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    // An application around this library may have a log already: then that one stays.
    let _ = log.with_ansi(io::stderr().is_terminal()).try_init();
    Ok(())
}
