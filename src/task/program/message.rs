//! What a line on a program's stdout means.

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::model::{Json, LogLevel, Progress};

/// What a program has to say, in one line.
#[derive(Debug, PartialEq)]
pub(super) enum Meaning {
    /// No message: a line for people.
    Text,
    /// What it means, in this order.
    Messages(Vec<Message>),
    /// A message that cannot be understood, and why.
    Malformed(String),
}

/// A message of a program.
#[derive(Debug, PartialEq)]
pub(super) enum Message {
    /// `{"log": "text"}` or `{"log": {"level": "WARN", "message": "text"}}`.
    Log(LogLevel, String),
    /// `{"progress": 50}` or `{"progress": {"done": 5, "total": 10, "message": "text"}}`, or with `percent`.
    Progress(Progress),
    /// `{"chunk": …}`: any value.
    Chunk(Json),
    /// `{"result": …}`: any value; the last one counts.
    Result(Json),
}

#[derive(Deserialize)]
struct Object<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    log: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    progress: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    chunk: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    result: Option<&'a RawValue>,
}

/// A `null` that is there is a value like any other.
fn present<'de: 'a, 'a, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'a RawValue>, D::Error> {
    <&'a RawValue>::deserialize(deserializer).map(Some)
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Log {
    Text(String),
    Entry {
        #[serde(default = "info")]
        level: LogLevel,
        message: String,
    },
}

fn info() -> LogLevel {
    LogLevel::Info
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Report {
    Percent(f64),
    Of { percent: Option<f64>, done: Option<f64>, total: Option<f64>, message: Option<String> },
}

impl From<Report> for Progress {
    fn from(report: Report) -> Self {
        match report {
            Report::Percent(percent) => Self::percent(percent),
            Report::Of { percent, done, total, message } => {
                let mut progress = match (done, total) {
                    (Some(done), Some(total)) => Self::of(done, total),
                    (Some(done), None) => Self::count(done),
                    _ => Self::default(),
                };
                if let Some(percent) = percent {
                    progress.percent = Self::percent(percent).percent;
                }
                progress.message = message;
                progress
            }
        }
    }
}

impl Meaning {
    /// What this line of stdout means.
    pub(super) fn of(line: &str) -> Self {
        if !line.trim_start().starts_with('{') {
            return Self::Text;
        }
        // Two keys of one name, and what is no JSON object, are no messages.
        let Ok(object) = serde_json::from_str::<Object<'_>>(line) else { return Self::Text };
        match object.messages() {
            Err(message) => Self::Malformed(message),
            Ok(messages) if messages.is_empty() => Self::Text,
            Ok(messages) => Self::Messages(messages),
        }
    }
}

impl Object<'_> {
    fn messages(self) -> Result<Vec<Message>, String> {
        const LOG: &str =
            "`log` is a text, or {\"level\": \"DEBUG\", \"INFO\", \"WARN\" or \"ERROR\", \"message\": a text}";
        const PROGRESS: &str =
            "`progress` is a percentage, or has some of `percent`, `done`, `total` (numbers) and `message` (a text)";
        let mut messages = Vec::new();
        if let Some(log) = self.log {
            let (level, message) = match serde_json::from_str(log.get()).map_err(|_| LOG)? {
                Log::Text(message) => (info(), message),
                Log::Entry { level, message } => (level, message),
            };
            messages.push(Message::Log(level, message));
        }
        if let Some(progress) = self.progress {
            let report: Report = serde_json::from_str(progress.get()).map_err(|_| PROGRESS)?;
            messages.push(Message::Progress(report.into()));
        }
        for (name, value, message) in
            [("chunk", self.chunk, Message::Chunk as fn(Json) -> Message), ("result", self.result, Message::Result)]
        {
            let Some(value) = value else { continue };
            let value = Json::parse_readable(value.get());
            messages.push(message(value.map_err(|error| format!("`{name}` cannot be read by every client: {error}"))?));
        }
        Ok(messages)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(line: &str) -> Vec<Message> {
        match Meaning::of(line) {
            Meaning::Messages(messages) => messages,
            other => panic!("{line} means {other:?}"),
        }
    }

    #[test]
    fn each_key_means_something() {
        assert_eq!(messages(r#"{"progress": 42}"#), [Message::Progress(Progress::percent(42.0))]);
        let of = Progress::of(3.0, 4.0).message("resizing");
        assert_eq!(
            messages(r#" {"progress": {"done": 3, "total": 4, "message": "resizing"}} "#),
            [Message::Progress(of)]
        );
        assert_eq!(
            messages(r#"{"chunk": [1, {"b": 1, "a": 2}]}"#),
            [Message::Chunk(Json::parse(r#"[1, {"b": 1, "a": 2}]"#).unwrap())]
        );
        assert_eq!(messages(r#"{"log": "so"}"#), [Message::Log(LogLevel::Info, "so".into())]);
        let warning = r#"{"log": {"level": "WARN", "message": "odd"}}"#;
        assert_eq!(messages(warning), [Message::Log(LogLevel::Warn, "odd".into())]);
        assert_eq!(messages(r#"{"result": null}"#), [Message::Result(Json::null())]);
        assert_eq!(messages(r#"{"result": 1, "x": 2, "progress": 99, "log": "l"}"#).len(), 3);
    }

    #[test]
    fn any_other_line_is_text() {
        for line in ["", "hello", "42", "{", "{}", "[1]", r#"{"msg": "a logger's line"}"#, r#"{"progress": 1"#, "{a}"] {
            assert_eq!(Meaning::of(line), Meaning::Text, "{line}");
        }
    }

    #[test]
    fn a_message_that_makes_no_sense_says_why() {
        for line in [r#"{"progress": "much"}"#, r#"{"progress": null}"#, r#"{"log": {"level": "LOUD", "message": ""}}"#]
        {
            assert!(matches!(Meaning::of(line), Meaning::Malformed(_)), "{line}");
        }
    }

    #[test]
    fn a_value_that_only_some_readers_take_is_no_message() {
        let deep = "[".repeat(1000) + &"]".repeat(1000);
        for value in [r#""\ud800""#, r#"{"\udc00x": 1}"#, "[1e999]", &deep] {
            for key in ["chunk", "result"] {
                let line = format!(r#"{{"{key}": {value}}}"#);
                let Meaning::Malformed(why) = Meaning::of(&line) else { panic!("{key}: {value}") };
                assert!(why.contains(key) && why.contains("column"), "{why}");
            }
        }
        let sound = r#"{"a": ["\ud83d\ude00\u0000", -0.5e-300, 123456789012345678901234567890, true, null]}"#;
        assert_eq!(messages(&format!(r#"{{"chunk": {sound}}}"#)), [Message::Chunk(Json::parse(sound).unwrap())]);
    }

    #[test]
    fn a_percentage_wins_over_what_done_and_total_make() {
        let progress = messages(r#"{"progress": {"percent": 250, "done": 1, "total": 4}}"#);
        let Message::Progress(progress) = &progress[0] else { panic!("{progress:?}") };
        assert_eq!((progress.percent, progress.done), (100.0, Some(1.0)));
    }
}
