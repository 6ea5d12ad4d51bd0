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
    /// A message that cannot be understood: why, and what is lost with it.
    Malformed(String, Option<Lost>),
}

/// What the task would miss without anyone noticing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lost {
    Chunk,
    Result,
}

impl Lost {
    /// The key that it was under.
    pub(super) fn key(self) -> &'static str {
        match self {
            Self::Chunk => "chunk",
            Self::Result => "result",
        }
    }
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
        match serde_json::from_str::<Object<'_>>(line) {
            Ok(object) => object.meaning(),
            // Two keys of one name, and what is no JSON object, are no messages, unless they were meant so.
            Err(error) => match meant(line) {
                Some(lost) => Self::Malformed(format!("it is not JSON as it should be: {error}"), Some(lost)),
                None => Self::Text,
            },
        }
    }

    /// What a line means that is not valid UTF-8, and was made so: nothing of value is taken from it.
    pub(super) fn of_altered(line: &str) -> Self {
        const WHY: &str = "it is not valid UTF-8";
        match Self::of(line) {
            Self::Messages(messages) => {
                let lost = messages.iter().filter_map(Message::lost).next_back();
                lost.map_or(Self::Text, |lost| Self::Malformed(WHY.to_owned(), Some(lost)))
            }
            Self::Malformed(_, Some(lost)) => Self::Malformed(WHY.to_owned(), Some(lost)),
            Self::Malformed(_, None) | Self::Text => Self::Text,
        }
    }
}

/// What a line was meant to be that is no JSON object: by its first key.
fn meant(line: &str) -> Option<Lost> {
    let rest = line.trim_start().strip_prefix('{')?.trim_start().strip_prefix('"')?;
    [Lost::Chunk, Lost::Result].into_iter().find(|lost| {
        let after = rest.strip_prefix(lost.key()).and_then(|rest| rest.strip_prefix('"'));
        after.is_some_and(|rest| rest.trim_start().starts_with(':'))
    })
}

impl Message {
    fn lost(&self) -> Option<Lost> {
        match self {
            Self::Chunk(_) => Some(Lost::Chunk),
            Self::Result(_) => Some(Lost::Result),
            Self::Log(..) | Self::Progress(_) => None,
        }
    }
}

impl Object<'_> {
    fn meaning(self) -> Meaning {
        // The result counts for more: with it the task would have ended.
        let lost = self.result.map(|_| Lost::Result).or(self.chunk.map(|_| Lost::Chunk));
        match self.messages() {
            Err(why) => Meaning::Malformed(why, lost),
            Ok(messages) if messages.is_empty() => Meaning::Text,
            Ok(messages) => Meaning::Messages(messages),
        }
    }

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
            assert!(matches!(Meaning::of(line), Meaning::Malformed(_, None)), "{line}");
        }
    }

    #[test]
    fn a_value_that_only_some_readers_take_is_no_message() {
        let deep = "[".repeat(1000) + &"]".repeat(1000);
        for value in [r#""\ud800""#, r#"{"\udc00x": 1}"#, "[1e999]", &deep] {
            for key in ["chunk", "result"] {
                let line = format!(r#"{{"{key}": {value}}}"#);
                let Meaning::Malformed(why, Some(lost)) = Meaning::of(&line) else { panic!("{key}: {value}") };
                assert!(lost.key() == key && why.contains(key) && why.contains("column"), "{why}");
            }
        }
        let sound = r#"{"a": ["\ud83d\ude00\u0000", -0.5e-300, 123456789012345678901234567890, true, null]}"#;
        assert_eq!(messages(&format!(r#"{{"chunk": {sound}}}"#)), [Message::Chunk(Json::parse(sound).unwrap())]);
    }

    #[test]
    fn what_was_meant_as_a_result_or_a_chunk_and_is_none_is_lost() {
        let lost = |meaning| match meaning {
            Meaning::Malformed(_, lost) => lost,
            other => panic!("{other:?}"),
        };
        for line in [r#"{"result": NaN}"#, r#" { "result" :"#, r#"{"result": 1, "result": 2}"#, r#"{"result": 1} x"#] {
            assert_eq!(lost(Meaning::of(line)), Some(Lost::Result), "{line}");
        }
        assert_eq!(lost(Meaning::of(r#"{"chunk": Infinity}"#)), Some(Lost::Chunk));
        assert_eq!(lost(Meaning::of(r#"{"chunk": 1, "result": 2, "progress": "much"}"#)), Some(Lost::Result));
        for line in [r#"{"results": NaN}"#, r#"{"result"}"#, r#"{"x": 1, "result": NaN}"#, r#"{"a": "result": "#] {
            assert_eq!(Meaning::of(line), Meaning::Text, "{line}");
        }
        assert_eq!(lost(Meaning::of_altered(r#"{"progress": 1, "result": "?"}"#)), Some(Lost::Result));
        assert_eq!(Meaning::of_altered(r#"{"progress": 1}"#), Meaning::Text);
        assert_eq!(Meaning::of_altered("a ? b"), Meaning::Text);
    }

    #[test]
    fn a_percentage_wins_over_what_done_and_total_make() {
        let progress = messages(r#"{"progress": {"percent": 250, "done": 1, "total": 4}}"#);
        let Message::Progress(progress) = &progress[0] else { panic!("{progress:?}") };
        assert_eq!((progress.percent, progress.done), (100.0, Some(1.0)));
    }
}
