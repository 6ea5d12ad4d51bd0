//! Programs that are kinds: the keys of `[kinds.NAME]` that go with a `command`, and registering them.

use std::fmt::Display;

use serde_json::Value;

use super::{
    Config, ConfigError, KindConfig, Location,
    section::{Entry, Section},
};
use crate::{
    model::Json,
    task::{
        TaskManager, check_kind, jobs,
        program::{CommandTemplate, ProgramOptions},
    },
};

/// A program that is the work of a kind, as configured.
#[derive(Debug, Clone, PartialEq)]
pub struct ProgramConfig {
    /// Where errors about it point: to its command.
    pub location: Location,
    /// What is run.
    pub options: ProgramOptions,
    /// What it does, for people.
    pub description: Option<String>,
    /// JSON Schema of its input.
    pub input_schema: Option<Json>,
}

impl ProgramConfig {
    /// `None`: there is no `command`.
    pub(super) fn read(section: &mut Section<'_>) -> Result<Option<Self>, ConfigError> {
        let Some(command) = section.texts("command")? else { return Ok(None) };
        let description = section.text("description")?.map(|entry| entry.value);
        let input_schema = section.json("input_schema")?.map(Json::from);
        let options = read_options(section, &command.value)?;
        Ok(Some(Self { location: command.location, options, description, input_schema }))
    }
}

fn read_options(section: &mut Section<'_>, command: &[String]) -> Result<ProgramOptions, ConfigError> {
    let folder = section.folder();
    let template = CommandTemplate::parse(command).map_err(|error| section.error("command", error.to_string()))?;
    let mut program = ProgramOptions::new(template.beside(&folder));
    program.folder = section.path("folder")?.unwrap_or_else(|| folder.into());
    for (name, Entry { value, location }) in section.section("environment")?.named_secrets()? {
        check_variable(&name, value.expose())
            .map_err(|message| ConfigError::at(location, format!("{}.{name}", section.key("environment")), message))?;
        program.environment.push((name, value));
    }
    if let Some(names) = section.texts("pass_environment")? {
        for name in &names.value {
            check_variable(name, "").map_err(|message| section.error("pass_environment", message))?;
        }
        program.pass_environment = names.value;
    }
    section.numbers("success_exit_codes", &mut program.success_exit_codes, 0..=255)?;
    section.numbers("no_retry_exit_codes", &mut program.no_retry_exit_codes, 0..=255)?;
    if let Some(both) = program.no_retry_exit_codes.iter().find(|code| program.success_exit_codes.contains(code)) {
        let message = format!("has {both}, which is also in `success_exit_codes`: remove it from one of them");
        return Err(section.error("no_retry_exit_codes", message));
    }
    section.number("stop_grace_ms", &mut program.stop_grace_ms, 0..=3_600_000)?;
    section.number("leftover_grace_ms", &mut program.leftover_grace_ms, 0..=3_600_000)?;
    section.number("max_log_bytes", &mut program.max_log_bytes, 0..=1 << 40)?;
    if let Some(Entry { value, location }) = section.text("stderr_level")? {
        program.stderr_level = serde_json::from_value(Value::from(value)).map_err(|_| {
            let message = "must be \"DEBUG\", \"INFO\", \"WARN\" or \"ERROR\"";
            ConfigError::at(location, section.key("stderr_level"), message)
        })?;
    }
    Ok(program)
}

fn check_variable(name: &str, value: &str) -> Result<(), String> {
    if name.is_empty() || name.contains(['=', '\0']) {
        Err(format!("{name:?} cannot be the name of a variable: it has at least one character, and no `=`"))
    } else if value.contains('\0') {
        Err("cannot hold a NUL character".to_owned())
    } else {
        Ok(())
    }
}

/// Registers the configured programs as kinds, each to run under a guard that is this same executable.
///
/// A program that is missing is registered all the same, with a warning in the log: it may come later.
/// `max_open_files` is the soft limit that programs get, where this process has raised its own.
#[cfg(target_os = "linux")]
pub fn register_programs(
    config: &Config,
    manager: &TaskManager,
    max_open_files: Option<u64>,
) -> Result<(), ConfigError> {
    use crate::task::{
        KindOptions, KindPolicy, KindType,
        program::{GuardExecutable, ProgramJob},
    };
    for (name, program) in programs(config) {
        warn_if_missing(name, program);
        let ProgramConfig { options, description, input_schema, .. } = program;
        let policy = KindPolicy { cancel_grace_ms: Some(options.cancel_grace_ms()), ..KindPolicy::default() };
        let kind = KindOptions { description: description.clone(), input_schema: input_schema.clone(), policy };
        let job = ProgramJob::new(options.clone(), GuardExecutable::this_one()).max_open_files(max_open_files);
        let job = std::sync::Arc::new(job);
        manager.register_job(name, KindType::Program, kind, job).map_err(|error| at_fault(name, program, &error))?;
    }
    Ok(())
}

/// Programs need Linux: one that is configured is an error.
#[cfg(not(target_os = "linux"))]
pub fn register_programs(config: &Config, _: &TaskManager, _: Option<u64>) -> Result<(), ConfigError> {
    check_programs(config)
}

/// What registering the configured programs beside the built-in kinds would refuse.
pub(super) fn check_programs(config: &Config) -> Result<(), ConfigError> {
    for (name, program) in programs(config) {
        if !cfg!(target_os = "linux") {
            let message =
                "programs can be tasks only on Linux, which alone can keep track of all their processes: remove it";
            return Err(at_fault(name, program, &message));
        }
        check_kind(name, program.input_schema.as_ref()).map_err(|error| at_fault(name, program, &error))?;
        if jobs::NAMES.contains(&name) {
            return Err(at_fault(name, program, &format!("there is already a kind `{name}`")));
        }
        warn_if_missing(name, program);
    }
    Ok(())
}

fn programs(config: &Config) -> impl Iterator<Item = (&str, &ProgramConfig)> {
    config.kinds.iter().filter_map(|KindConfig { name, program, .. }| Some((name.as_str(), program.as_ref()?)))
}

fn at_fault(name: &str, program: &ProgramConfig, what: &dyn Display) -> ConfigError {
    ConfigError::at(program.location.clone(), format!("kinds.{name}"), what.to_string())
}

fn warn_if_missing(name: &str, program: &ProgramConfig) {
    if let Err(missing) = program.options.check() {
        tracing::warn!("kind `{name}`: {missing}; its tasks fail until then");
    }
}

#[cfg(test)]
mod tests {
    use std::env::VarError;

    use super::*;
    use crate::{config::Config, model::LogLevel, task::KindPolicy};

    fn read(text: &str) -> Result<Vec<KindConfig>, String> {
        Config::parse("conf/m.toml", text).map(|config| config.kinds).map_err(|error| error.to_string())
    }

    fn program(kind: &KindConfig) -> &ProgramConfig {
        kind.program.as_ref().unwrap()
    }

    #[test]
    fn a_kind_needs_only_its_command() {
        let kinds = read("[kinds.b]\ncommand = [\"./b\", \"-x\"]\n[kinds.a]\ncommand = [\"a\"]").unwrap();
        assert_eq!(kinds.iter().map(|kind| kind.name.as_str()).collect::<Vec<_>>(), ["b", "a"]);
        assert_eq!(program(&kinds[0]).options.command.program(), "conf/./b");
        let mut expected = ProgramOptions::new(CommandTemplate::parse(&["a"]).unwrap());
        expected.folder = "conf".into();
        assert_eq!(program(&kinds[1]).options, expected);
        assert_eq!(kinds[1].policy, KindPolicy::default());
    }

    #[test]
    fn all_that_can_be_said_of_one() {
        let text = r#"
            [kinds.resize]
            command = ["convert", "--", "{input.file}"]
            description = "Resizes"
            folder = "work"
            pass_environment = ["DISPLAY"]
            success_exit_codes = [0, 3]
            no_retry_exit_codes = [64, 65]
            stop_grace_ms = 1
            leftover_grace_ms = 2
            max_log_bytes = 3
            stderr_level = "WARN"
            max_attempts = 4
            timeout_ms = 5
            input_schema = { type = "object" }
            environment = { B = "hunter2", A = "" }
        "#;
        let kind = read(text).unwrap().remove(0);
        let mut expected = ProgramOptions::new(CommandTemplate::parse(&["convert", "--", "{input.file}"]).unwrap());
        expected.folder = "conf/work".into();
        expected.environment = vec![("B".into(), "hunter2".into()), ("A".into(), "".into())];
        expected.pass_environment = vec!["DISPLAY".into()];
        (expected.success_exit_codes, expected.no_retry_exit_codes) = (vec![0, 3], vec![64, 65]);
        (expected.stop_grace_ms, expected.leftover_grace_ms, expected.max_log_bytes) = (1, 2, 3);
        expected.stderr_level = LogLevel::Warn;
        assert_eq!(program(&kind).options, expected);
        assert!(!format!("{kind:?}").contains("hunter2"));
        assert_eq!((kind.policy.max_attempts, kind.policy.timeout_ms), (Some(4), Some(5)));
        assert_eq!(program(&kind).input_schema.clone().unwrap().as_str(), r#"{"type":"object"}"#);
    }

    #[test]
    fn values_of_the_environment_are_filled_in_and_do_not_show() {
        let text = r#"
            [kinds.a]
            command = ["a", "${TOKEN}"]
            environment.TOKEN = "Bearer ${TOKEN}"
            environment.MODE = "${MODE:-fast}"
            environment.PLAIN = "$${TOKEN} $TOKEN"
        "#;
        let lookup = |name: &str| if name == "TOKEN" { Ok("hunter2".to_owned()) } else { Err(VarError::NotPresent) };
        let config = Config::parse_with("m.toml", text, &lookup).unwrap();
        let options = &program(&config.kinds[0]).options;
        let values: Vec<_> = options.environment.iter().map(|(name, value)| (name.as_str(), value.expose())).collect();
        assert_eq!(values, [("TOKEN", "Bearer hunter2"), ("MODE", "fast"), ("PLAIN", "${TOKEN} $TOKEN")]);
        // An argument can be seen by every user of the machine: nothing is filled in there.
        assert_eq!(options.command, CommandTemplate::parse(&["a", "${TOKEN}"]).unwrap());
        assert!(!format!("{config:?}").contains("hunter2"));

        let error = Config::parse_with("m.toml", text, &|_| Err(VarError::NotPresent)).unwrap_err().to_string();
        let expected =
            "m.toml:4:33: `kinds.a.environment.TOKEN`: needs the environment variable `TOKEN`, which is not set";
        assert!(error.starts_with(expected), "{error}");
        let error = Config::parse_with("m.toml", text, &|_| Ok("hunter2\0".to_owned())).unwrap_err().to_string();
        assert!(
            error.contains("`kinds.a.environment.TOKEN`: cannot hold a NUL") && !error.contains("hunter2"),
            "{error}"
        );
    }

    #[test]
    fn mistakes_are_named_where_they_stand() {
        for (text, expected) in [
            ("[kinds.a]\ncomand = [\"a\"]", "conf/m.toml:2:1: `kinds.a.comand`: unknown key; did you mean `command`?"),
            ("[kinds.a]\ncommand = \"ls\"", "conf/m.toml:2:11: `kinds.a.command`: must be a list of texts"),
            ("[kinds.a]\ncommand = [\"ls\", 1]", "conf/m.toml:2:18: `kinds.a.command`: must be a list of texts"),
            ("[kinds.a]\ncommand = []", "`kinds.a.command`: is empty"),
            ("[kinds.a]\ncommand = [\"a\"]\nstop_grace = 1", "did you mean `stop_grace_ms`?"),
            (
                "[kinds.a]\ncommand = [\"a\"]\nsuccess_exit_codes = [256]",
                "must be a list of whole numbers from 0 to 255",
            ),
            ("[kinds.a]\ncommand = [\"a\"]\nno_retry_exit_codes = [0]", "is also in `success_exit_codes`"),
            ("[kinds.a]\ncommand = [\"a\"]\nstderr_level = \"loud\"", "m.toml:3:16: `kinds.a.stderr_level`: must be"),
            ("[kinds.a]\ncommand = [\"a\"]\nenvironment = { A = 1 }", "`kinds.a.environment.A`: must be a text"),
            ("[kinds.a]\ncommand = [\"a\"]\nenvironment = { \"A=\" = \"\" }", "cannot be the name of a variable"),
            ("[kinds.1]\ncommand = [\"a\"]", "begins with a letter"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
