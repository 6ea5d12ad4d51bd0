//! The command line: what may be typed, and what each command does with it.

mod logging;
mod variables;

use std::{
    env,
    ffi::OsString,
    io::{self, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use rand::{SeedableRng, rngs::StdRng};

use crate::{
    clock::{Clock, SystemClock},
    config::{self, Config, ConfigError, Overrides, parse_listen},
    exit::{self, StartError},
    graphql,
    http::Token,
    serve::{graphiql_pages, serve},
    shutdown::{self, Shutdown},
    store::sqlite,
};

/// How long threads that still run may take after everything else has ended.
const THREADS_DEADLINE: Duration = Duration::from_secs(1);

const EXAMPLES: &str = "\
Examples:
  meanwhile                                 serve on 127.0.0.1:8000, with example sources
  meanwhile --listen 0.0.0.0:80 --token-file token --data /var/lib/meanwhile
  meanwhile init && meanwhile check --config meanwhile.toml
  meanwhile serve --config meanwhile.toml   with sources of your own
  meanwhile schema > schema.graphql
  meanwhile backup --data /var/lib/meanwhile monday.db

The log goes to stderr. MEANWHILE_LOG says what is in it: a level, such as `debug`, or `meanwhile=debug,warn`.";

fn after_help() -> String {
    format!("{EXAMPLES}\n\n{}", exit::help())
}

/// A GraphQL server for slow work: durable background tasks, and live streams that go on without gap or duplicate.
#[derive(Debug, Parser)]
#[command(
    name = "meanwhile",
    version,
    // `meanwhile --listen …` is `meanwhile serve --listen …`.
    args_conflicts_with_subcommands = true,
    after_help = after_help(),
)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: ServeArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server (also what happens without a command)
    #[command(after_help = after_help())]
    Serve(ServeArgs),
    /// Print the GraphQL schema
    Schema,
    /// Write a commented configuration file; one that is there is left alone
    Init {
        /// The file
        #[arg(default_value = "meanwhile.toml")]
        file: PathBuf,
    },
    /// Check a configuration without starting the server
    Check(CheckArgs),
    /// Copy the data to a file, also while the server runs
    Backup(BackupArgs),
    /// Guard a program that runs as a task: started by the server itself
    #[cfg(target_os = "linux")]
    #[command(hide = true)]
    Guard {
        /// Which task, for those who look at the system's processes
        label: String,
    },
}

/// Flags win over environment variables, and both over the configuration file.
#[derive(Debug, Args)]
struct ServeArgs {
    /// Address and port to listen on; port 0 means any free one [default: 127.0.0.1:8000]
    #[arg(long, value_name = "ADDRESS:PORT", env = "MEANWHILE_LISTEN", hide_env_values = true, value_parser = parse_listen)]
    listen: Option<SocketAddr>,
    /// Folder that tasks are kept in; made when it is not there [default: ./meanwhile-data]
    #[arg(long, value_name = "DIR", env = "MEANWHILE_DATA", hide_env_values = true)]
    data: Option<PathBuf>,
    /// Configuration file (TOML) instead of the built-in example configuration
    #[arg(long, value_name = "FILE", env = "MEANWHILE_CONFIG", hide_env_values = true)]
    config: Option<PathBuf>,
    /// Folder with GraphiQL's files, for browsers without internet; otherwise they come from a CDN
    #[arg(long, value_name = "DIR", env = "MEANWHILE_GRAPHIQL_ASSETS", hide_env_values = true)]
    graphiql_assets: Option<PathBuf>,
    /// File with the token that clients have to send; the token itself may stand in MEANWHILE_TOKEN instead
    #[arg(long, value_name = "FILE", env = "MEANWHILE_TOKEN_FILE", hide_env_values = true)]
    token_file: Option<PathBuf>,
    /// Listen where other machines can reach it although no token is needed
    #[arg(long)]
    insecure: bool,
}

#[derive(Debug, Args)]
struct CheckArgs {
    /// Configuration file (TOML) instead of the built-in example configuration
    #[arg(long, value_name = "FILE", env = "MEANWHILE_CONFIG", hide_env_values = true)]
    config: Option<PathBuf>,
}

/// Where the data is, and where its copy goes.
#[derive(Debug, Args)]
struct BackupArgs {
    /// The copy; it must not be there yet. To restore it, put it into an empty data folder as `meanwhile.db`
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The server's data folder [default: ./meanwhile-data]
    #[arg(long, value_name = "DIR", env = "MEANWHILE_DATA", hide_env_values = true)]
    data: Option<PathBuf>,
    /// The server's configuration file, where that names the data folder
    #[arg(long, value_name = "FILE", env = "MEANWHILE_CONFIG", hide_env_values = true)]
    config: Option<PathBuf>,
}

/// A secret does not belong on a command line, where others can see it.
const TOKEN_VARIABLE: &str = "MEANWHILE_TOKEN";

/// Help, or a command line that could not be understood.
#[derive(Debug)]
pub struct Usage {
    error: clap::Error,
    /// The environment variable that is to blame.
    variable: Option<String>,
}

impl Usage {
    /// Prints it: help to stdout, an error to stderr.
    pub fn print(&self) {
        // Who stops reading has seen enough.
        let _ = self.error.print();
        if let Some(variable) = &self.variable {
            let _ = writeln!(io::stderr(), "\nThe value comes from the environment variable {variable}.");
        }
    }

    /// 0 for help, 2 for an error.
    pub fn exit_code(&self) -> u8 {
        u8::try_from(self.error.exit_code()).unwrap_or(2)
    }
}

impl Cli {
    /// What the program was called with; else what to print instead: help, or what could not be understood.
    pub fn from_process() -> Result<Self, Usage> {
        let args: Vec<String> = env::args_os().map(|arg| arg.to_string_lossy().into_owned()).collect();
        let command = variables::without_empty(Self::command());
        let parsed = command.clone().try_get_matches().and_then(|matches| Self::from_arg_matches(&matches));
        parsed.map_err(|error| Usage { variable: variables::to_blame(&error, &command, &args), error })
    }

    /// Does what was asked for, until it is done.
    pub fn run(self) -> Result<(), StartError> {
        match self.command {
            None => run_serve(self.serve),
            Some(Command::Serve(args)) => run_serve(args),
            Some(Command::Schema) => print(&graphql::sdl()),
            Some(Command::Init { file }) => init(&file),
            Some(Command::Check(args)) => check(&args),
            Some(Command::Backup(args)) => args.run(),
            #[cfg(target_os = "linux")]
            Some(Command::Guard { .. }) => {
                crate::task::program::guard::run().map_err(|error| StartError::Unexpected(error.to_string()))
            }
        }
    }
}

impl BackupArgs {
    fn run(self) -> Result<(), StartError> {
        let data = match self.data {
            Some(data) => data.into(),
            None => Config::load(self.config.as_deref())?.store.data,
        };
        let backup = sqlite::backup(&data, &self.file, rand::random())?;
        print(&format!("{}: {} tasks, {} bytes\n", self.file.display(), backup.tasks, backup.bytes))
    }
}

/// To stdout; who stops reading has seen enough.
fn print(text: &str) -> Result<(), StartError> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(StartError::Unexpected(format!("cannot write to stdout: {error}")))
        }
        _ => Ok(()),
    }
}

impl ServeArgs {
    fn into_config(self) -> Result<Config, StartError> {
        let token = match self.token_file {
            // What is typed wins.
            Some(_) => None,
            None => token(env::var_os(TOKEN_VARIABLE))?,
        };
        let overrides = Overrides {
            listen: self.listen,
            data: self.data,
            graphiql_assets: self.graphiql_assets,
            token_file: self.token_file,
            token,
            insecure: self.insecure,
        };
        Ok(Config::load(self.config.as_deref())?.with(overrides))
    }
}

/// The token in the environment, if there is one.
fn token(value: Option<OsString>) -> Result<Option<Token>, ConfigError> {
    let Some(value) = value.filter(|value| !value.is_empty()) else { return Ok(None) };
    let token = Token::new(value.to_str().unwrap_or_default());
    token.map(Some).map_err(|message| ConfigError { location: None, key: Some(TOKEN_VARIABLE.to_owned()), message })
}

fn init(file: &Path) -> Result<(), StartError> {
    config::write_template(file).map_err(|error| StartError::Init { file: file.to_owned(), error })?;
    print(&format!("{0} is written; now: meanwhile serve --config {0}\n", file.display()))
}

fn check(args: &CheckArgs) -> Result<(), StartError> {
    logging::start()?;
    let config = Config::load(args.config.as_deref())?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let what = config::check(&config, &clock, &mut StdRng::from_rng(&mut rand::rng()))?;
    drop(graphiql_pages(&config)?);
    let name = args.config.as_deref().map_or("the built-in configuration".into(), Path::to_string_lossy);
    print(&format!("{name} is valid: {what}\n"))
}

fn run_serve(args: ServeArgs) -> Result<(), StartError> {
    logging::start()?;
    let config = args.into_config()?;
    let unexpected = |error: io::Error| StartError::Unexpected(format!("cannot start: {error}"));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(unexpected)?;
    let result = runtime.block_on(async {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
        let shutdown = Shutdown::new();
        let deadline = Duration::from_millis(config.server.shutdown_deadline_ms);
        let signals = shutdown::signals().map_err(unexpected)?;
        tokio::spawn(shutdown.clone().watch(signals, deadline, clock.clone()));
        serve(config, clock, StdRng::from_rng(&mut rand::rng()), shutdown).await
    });
    runtime.shutdown_timeout(THREADS_DEADLINE);
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(["meanwhile"].iter().chain(args))
    }

    fn serve_args(args: &[&str]) -> ServeArgs {
        let cli = parse(args).unwrap();
        match cli.command {
            None => cli.serve,
            Some(Command::Serve(args)) => args,
            Some(_) => panic!("{args:?} is not `serve`"),
        }
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_work_with_and_without_the_word_serve() {
        for words in [&[][..], &["serve"]] {
            let flags = ["--listen", "localhost:0", "--data", "d", "--graphiql-assets", "g"];
            let config = serve_args(&[words, &flags].concat()).into_config().unwrap();
            assert_eq!(config.server.listen.to_string(), "127.0.0.1:0");
            assert_eq!(config.store.data, "d".into());
            assert_eq!(config.server.graphiql_assets, Some("g".into()));
        }
    }

    #[test]
    fn nothing_at_all_means_the_built_in_configuration() {
        assert_eq!(serve_args(&[]).into_config().unwrap(), Config::builtin().unwrap());
    }

    #[test]
    fn wrong_usage_is_exit_code_2() {
        for args in
            [&["--listen", "8000"][..], &["serve", "--port", "1"], &["watch"], &["--listen", "localhost:0", "schema"]]
        {
            let error = parse(args).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{args:?}");
        }
    }

    #[test]
    fn a_token_in_the_environment_is_checked_and_not_told() {
        assert_eq!(token(None), Ok(None));
        assert_eq!(token(Some("".into())), Ok(None));
        assert!(token(Some("0123456789abcdef".into())).unwrap().unwrap().is("0123456789abcdef"));
        let error = token(Some("secret".into())).unwrap_err().to_string();
        assert!(error.contains("MEANWHILE_TOKEN") && !error.contains("secret"), "{error}");
    }

    #[test]
    fn help_has_examples_variables_and_exit_codes() {
        let help = parse(&["--help"]).unwrap_err().to_string();
        for expected in
            ["Examples:", "MEANWHILE_LISTEN", "MEANWHILE_GRAPHIQL_ASSETS", "MEANWHILE_TOKEN", "Exit codes:", "78"]
        {
            assert!(help.contains(expected), "{expected} is missing in\n{help}");
        }
    }
}
