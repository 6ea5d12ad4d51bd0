//! A new configuration file, and checking one without starting the server.

use std::{
    fs::OpenOptions,
    io::{self, Write},
    path::Path,
    sync::Arc,
};

use rand::rngs::StdRng;

use super::{Config, ConfigError, build_joins, build_sources, kinds::check_known, programs::check_programs};
use crate::{clock::Clock, source::ThisServer, task::jobs};

/// What a new configuration file has in it.
const TEMPLATE: &str = include_str!("template.toml");

/// Writes a commented configuration file. One that is there is left alone: that is an error.
pub fn write_template(file: &Path) -> io::Result<()> {
    OpenOptions::new().write(true).create_new(true).open(file)?.write_all(TEMPLATE.as_bytes())
}

/// Checks all that can be checked without starting: also filters, the files of SQL sources, the kinds and the server's
/// token. Says what there is.
pub fn check(config: &Config, clock: &Arc<dyn Clock>, random: &mut StdRng) -> Result<String, ConfigError> {
    config.server.access()?;
    let sources = build_sources(config, &ThisServer::default(), clock, random)?;
    build_joins(config, &sources)?;
    check_programs(config)?;
    let programs = config.kinds.iter().filter(|kind| kind.program.is_some()).map(|kind| kind.name.as_str());
    let mut known: Vec<&str> = programs.chain(jobs::NAMES).collect();
    known.sort_unstable();
    check_known(config, &known)?;
    let count = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    let (sources, joins) = (count(config.sources.len(), "source"), count(config.joins.len(), "join"));
    Ok(format!("{sources}, {joins}, {}", count(config.kinds.len(), "kind")))
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, env::VarError};

    use rand::SeedableRng;

    use super::*;
    use crate::{
        clock::ManualClock,
        config::{KindConfig, StoreConfig},
        task::{KindPolicy, RetentionOptions, TaskOptions, program::ProgramOptions},
    };

    fn check_text(text: &str) -> Result<String, ConfigError> {
        let config = Config::parse_with("meanwhile.toml", text, &|_| Err(VarError::NotPresent))?;
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(chrono::DateTime::UNIX_EPOCH));
        check(&config, &clock, &mut StdRng::seed_from_u64(1))
    }

    #[test]
    fn the_template_is_valid_as_it_stands_and_starts_something() {
        assert_eq!(check_text(TEMPLATE).unwrap(), "3 sources, 1 join, 0 kinds");
    }

    #[test]
    fn its_defaults_are_the_defaults_and_its_examples_are_valid() {
        let is_key = |line: &str| {
            let key = line.split_once(" = ").map_or("", |(key, _)| key);
            line.starts_with('[')
                || (!key.is_empty() && key.chars().all(|c| c.is_ascii_lowercase() || "_.".contains(c)))
        };
        let choices = ["# random", "# fail", "# graphiql", "# token_file"];
        let uncomment = |line: &str| match line.strip_prefix("# ") {
            Some(rest) if is_key(rest) && !choices.iter().any(|choice| line.starts_with(choice)) => format!("{rest}\n"),
            _ => format!("{line}\n"),
        };
        let text: String = TEMPLATE.lines().map(uncomment).collect();
        assert!(text.lines().filter(|line| line.starts_with('#')).count() + 30 < TEMPLATE.matches("\n#").count());
        assert_eq!(check_text(&text).unwrap(), "5 sources, 1 join, 1 kind");

        let (plain, written) = [TEMPLATE, &text]
            .map(|text| Config::parse_with("meanwhile.toml", text, &|_| Err(VarError::NotPresent)).unwrap())
            .into();
        assert_eq!(written.server, plain.server);
        // The default is meant from the folder the program is started in, what is written from the file's.
        assert!(plain.store.data.expose().ends_with(written.store.data.expose()));
        let (data, max_database_bytes) = (plain.store.data.clone(), None);
        assert_eq!(StoreConfig { data, max_database_bytes, ..written.store }, plain.store);
        let retention = RetentionOptions { keep_tasks_ms: None, keep_events_ms: None, ..written.tasks.retention };
        assert_eq!(TaskOptions { retention, kinds: BTreeMap::new(), ..written.tasks }, plain.tasks);
        is_of_defaults(&written.kinds[0], &plain.tasks);
        assert_eq!((&written.journal, &written.api), (&plain.journal, &plain.api));
        let limits = |config: &Config| {
            let definition = &config.joins[0].definition;
            (definition.limits.clone(), definition.filters.clone())
        };
        assert_eq!(limits(&written), limits(&plain));
    }

    /// What the template says of a kind is what holds without it, where there is a default.
    fn is_of_defaults(kind: &KindConfig, tasks: &TaskOptions) {
        let options = &kind.program.as_ref().unwrap().options;
        let defaults = ProgramOptions::new(options.command.clone());
        let expected = KindPolicy {
            max_attempts: Some(tasks.max_attempts),
            max_lost: Some(tasks.max_lost),
            retry_backoff_ms: Some(tasks.retry_backoff_ms),
            max_retry_backoff_ms: Some(tasks.max_retry_backoff_ms),
            cancel_grace_ms: Some(defaults.cancel_grace_ms()),
            concurrency_per_key: Some(tasks.concurrency_per_key),
            ..kind.policy
        };
        assert_eq!(kind.policy, expected);
        let (folder, environment) = (options.folder.clone(), options.environment.clone());
        let no_retry_exit_codes = options.no_retry_exit_codes.clone();
        assert_eq!(options, &ProgramOptions { folder, environment, no_retry_exit_codes, ..defaults });
    }

    /// The part of the template that begins with this header, up to the next one.
    fn part(header: &str) -> String {
        let is_header = |line: &str| line.starts_with('[') || line.starts_with("# [");
        let mut lines = TEMPLATE.lines().skip_while(|line| line.trim_start_matches("# ") != header);
        let header = lines.next();
        header.into_iter().chain(lines.take_while(|line| !is_header(line))).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn every_key_that_is_read_stands_in_it() {
        let sources = &TEMPLATE[TEMPLATE.find("# Sources:").unwrap()..];
        let simulated = "[sources.user]\ntype = \"simulated\"";
        let sql = "[sources.a]\ntype = \"sql\"\nfile = \"a\"\nquery = \"SELECT 1\"";
        let store = "[sources.a]\ntype = \"store\"\nfigures = \"counts\"";
        let mut keys = 0;
        for (given, stands) in [
            ("[server]", TEMPLATE[..TEMPLATE.find("[store]").unwrap()].to_owned()),
            ("[server.cors]", part("[server.cors]")),
            ("[server.streams]", part("[server.streams]")),
            ("[server.websocket]", part("[server.websocket]")),
            ("[store]", part("[store]")),
            ("[tasks]", part("[tasks]")),
            ("[kinds.resize]\ncommand = [\"a\"]", part("[kinds.resize]")),
            ("[retention]", part("[retention]")),
            ("[journal]", part("[journal]")),
            ("[api]", part("[api]")),
            (simulated, sources.to_owned()),
            (sql, sources.to_owned()),
            (store, sources.to_owned()),
            ("[sources.a]\ntype = \"http\"\nurl = \"/a\"", sources.to_owned()),
            ("[joins.a]\nparts.b.source = \"c\"", part("[joins.overview]")),
            ("[joins.a.parts.b]\nsource = \"c\"", part("[joins.overview.parts.user]")),
        ] {
            // The error for a key that is like no other names all.
            let error =
                Config::parse_with("m.toml", &format!("{given}\nqqqqqqqqqq = 1"), &|_| Err(VarError::NotPresent))
                    .unwrap_err();
            let known = error.message.split_once("known here: ").expect(&error.message).1;
            for key in known.split(", ") {
                let is_key = |line: &str| {
                    let rest = line.trim_start_matches(['#', ' ']).strip_prefix(key);
                    rest.is_some_and(|rest| rest.starts_with(" = ") || rest.starts_with('.'))
                };
                let is_table = |line: &str| {
                    line.starts_with('[') && (line.contains(&format!(".{key}.")) || line.ends_with(&format!(".{key}]")))
                };
                let is_there = stands.lines().any(is_key)
                    || stands.contains(&format!("`{key} = "))
                    || TEMPLATE.lines().any(is_table);
                assert!(is_there, "{given}: `{key}` is not in the template");
                keys += 1;
            }
        }
        assert!(keys > 120, "{keys}");
    }

    #[test]
    fn every_number_in_it_is_one_that_is_read() {
        let parse = |text: &str| Config::parse_with("meanwhile.toml", text, &|_| Err(VarError::NotPresent));
        let template = TEMPLATE.replace("\n# [kinds.", "\n[kinds.").replace("\n# command", "\ncommand");
        let plain = parse(&template).unwrap();
        let end = template.find("# Sources:").unwrap();
        let mut numbers = 0;
        for line in template[..end].lines() {
            let Some((key, rest)) = line.strip_prefix("# ").and_then(|line| line.split_once(" = ")) else { continue };
            let Some(Ok(number)) = rest.split_whitespace().next().map(str::parse::<u64>) else { continue };
            let other = template.replacen(line, &format!("{key} = {}", number + 1), 1);
            assert_ne!(parse(&other).unwrap(), plain, "{line}");
            numbers += 1;
        }
        assert!(numbers > 80, "{numbers}");
    }

    #[test]
    fn a_file_that_is_there_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("meanwhile.toml");
        write_template(&file).unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), TEMPLATE);
        std::fs::write(&file, "mine").unwrap();
        assert_eq!(write_template(&file).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "mine");
    }
}
