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
    use rand::SeedableRng;

    use super::*;
    use crate::clock::ManualClock;

    fn check_text(text: &str) -> Result<String, ConfigError> {
        let config = Config::parse_with("meanwhile.toml", text, &|_| None)?;
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
        assert_eq!(check_text(&text).unwrap(), "5 sources, 1 join, 0 kinds");

        let (plain, written) =
            [TEMPLATE, &text].map(|text| Config::parse_with("meanwhile.toml", text, &|_| None).unwrap()).into();
        assert_eq!(written.server, plain.server);
        // The default is meant from the folder the program is started in, what is written from the file's.
        assert!(plain.store.data.ends_with(&written.store.data));
        assert_eq!(written.tasks, plain.tasks);
        assert_eq!((&written.journal, &written.api), (&plain.journal, &plain.api));
        let limits = |config: &Config| {
            let definition = &config.joins[0].definition;
            (definition.limits.clone(), definition.filters.clone())
        };
        assert_eq!(limits(&written), limits(&plain));
    }

    #[test]
    fn every_number_in_it_is_one_that_is_read() {
        let parse = |text: &str| Config::parse_with("meanwhile.toml", text, &|_| None);
        let plain = parse(TEMPLATE).unwrap();
        let end = TEMPLATE.find("# Sources:").unwrap();
        let mut numbers = 0;
        for line in TEMPLATE[..end].lines() {
            let Some((key, rest)) = line.strip_prefix("# ").and_then(|line| line.split_once(" = ")) else { continue };
            let Some(Ok(number)) = rest.split_whitespace().next().map(str::parse::<u64>) else { continue };
            let other = TEMPLATE.replacen(line, &format!("{key} = {}", number + 1), 1);
            assert_ne!(parse(&other).unwrap(), plain, "{line}");
            numbers += 1;
        }
        assert!(numbers > 35, "{numbers}");
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
