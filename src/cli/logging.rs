//! The program's own log: to stderr, so that stdout stays for what was asked for.

use std::io::{self, IsTerminal};

use tracing::{Level, Metadata};
use tracing_subscriber::{
    EnvFilter, Layer,
    filter::{FilterExt, FilterFn, LevelFilter},
    layer::SubscriberExt,
    util::SubscriberInitExt,
};

use crate::{config::ConfigError, exit::StartError};

/// Which messages are shown: `info`, `debug`, `meanwhile=debug,warn` and so on.
const VARIABLE: &str = "MEANWHILE_LOG";

/// Libraries that would show whatever clients and sources send and where they are, secrets included: below a warning
/// they say nothing, whatever the variable asks for.
const WORDLESS: [&str; 10] = [
    "h2",
    "hyper",
    "hyper_rustls",
    "hyper_util",
    "reqwest",
    "rustls",
    "tokio_rustls",
    "tokio_tungstenite",
    "tower_http",
    "tungstenite",
];
/// And that would show it in their errors: what is wrong is told by those who use them.
const SILENT: [&str; 1] = ["rustls_platform_verifier"];

/// Begins to write the log.
pub(super) fn start() -> Result<(), StartError> {
    let asked = EnvFilter::builder()
        .with_env_var(VARIABLE)
        .with_default_directive(LevelFilter::INFO.into())
        .from_env()
        .map_err(|error| ConfigError {
            location: None,
            key: Some(VARIABLE.to_owned()),
            message: format!("{error}; use a level, such as `debug`, or `meanwhile=debug,warn`"),
        })?;
    // Not a directive for each: one of the variable that names its target more exactly would win.
    let allowed = FilterFn::new(may_show).with_max_level_hint(LevelFilter::TRACE);
    let log = tracing_subscriber::fmt::layer().with_writer(io::stderr).with_ansi(io::stderr().is_terminal());
    let log = tracing_subscriber::registry().with(log.with_filter(asked.and(allowed)));
    // An application around this library may have a log already: then that one stays.
    let _ = log.try_init();
    Ok(())
}

fn may_show(metadata: &Metadata<'_>) -> bool {
    let is_of = |library: &&str| -> bool {
        metadata.target().strip_prefix(library).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    };
    !SILENT.iter().any(is_of) && (*metadata.level() <= Level::WARN || !WORDLESS.iter().any(is_of))
}
