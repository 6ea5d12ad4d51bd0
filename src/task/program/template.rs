//! A command with places for fields of the input.

use std::{ffi::OsString, fmt, path::Path};

use serde_json::Value;

use super::interpreter;

/// A program and its arguments, of which some take fields of the input: `{input.width}`.
///
/// A field becomes (part of) exactly one argument, whatever it holds: no shell sees it. Text as it is, anything else
/// as JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandTemplate {
    program: String,
    arguments: Vec<Argument>,
}

/// An argument, in pieces.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Argument {
    pieces: Vec<Piece>,
    /// An earlier argument is `--`: what follows is no option, whatever it looks like.
    after_options: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    /// A path into the input.
    Field(Vec<String>),
}

/// What is wrong with a command. The text says what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidCommand(String);

impl fmt::Display for InvalidCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for InvalidCommand {}

const OPEN: &str = "{input";
impl CommandTemplate {
    /// Reads a command: the program, then its arguments.
    pub fn parse<S: AsRef<str>>(command: &[S]) -> Result<Self, InvalidCommand> {
        let command: Vec<&str> = command.iter().map(AsRef::as_ref).collect();
        let [program, rest @ ..] = &command[..] else {
            return Err(InvalidCommand(
                "is empty: it begins with the program, such as [\"python3\", \"work.py\"]".into(),
            ));
        };
        if program.is_empty() || program.contains(OPEN) {
            return Err(InvalidCommand("begins with the program, which no input can choose".into()));
        }
        if command.iter().any(|text| text.contains('\0')) {
            return Err(InvalidCommand("cannot hold a NUL character".into()));
        }
        let mut after_options = false;
        let mut arguments = Vec::with_capacity(rest.len());
        for (at, text) in rest.iter().enumerate() {
            let pieces = pieces(text)?;
            let holds_input = pieces.iter().any(|piece| matches!(piece, Piece::Field(_)));
            if let Some((name, interpreter)) = holds_input.then(|| interpreter::of_code(&command, at + 1)).flatten() {
                return Err(InvalidCommand(format!(
                    "puts the input into code that `{name}` runs, {text:?}, where it could do anything: {}",
                    interpreter.remedy
                )));
            }
            arguments.push(Argument { pieces, after_options });
            after_options |= *text == "--";
        }
        Ok(Self { program: (*program).to_owned(), arguments })
    }

    /// The program.
    pub fn program(&self) -> &str {
        &self.program
    }

    /// The same, where a program that is named by a relative path is meant from this folder.
    #[must_use]
    pub fn beside(mut self, folder: &Path) -> Self {
        if self.program.contains('/') {
            self.program = folder.join(&self.program).to_string_lossy().into_owned();
        }
        self
    }

    /// The command for this input; an error for a field that is missing or cannot be an argument.
    pub(super) fn fill(&self, input: &Value) -> Result<Vec<OsString>, String> {
        let arguments = self.arguments.iter().map(|argument| argument.fill(input).map(OsString::from));
        std::iter::once(Ok(OsString::from(&self.program))).chain(arguments).collect()
    }
}

impl Argument {
    fn fill(&self, input: &Value) -> Result<String, String> {
        let mut text = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(piece) => text.push_str(piece),
                Piece::Field(path) => {
                    let field = field(input, path)?;
                    if text.is_empty() && field.is_option() && !self.after_options {
                        let name = path.join(".");
                        return Err(format!("`{name}` begins with `-`: the program would take it for an option"));
                    }
                    text.push_str(field.as_str());
                }
            }
        }
        if text.contains('\0') {
            return Err("an argument cannot hold a NUL character".to_owned());
        }
        Ok(text)
    }
}

/// A field as an argument.
enum Field<'a> {
    Text(&'a str),
    Other(String),
}

impl Field<'_> {
    fn as_str(&self) -> &str {
        match self {
            Self::Text(text) => text,
            Self::Other(text) => text,
        }
    }

    /// A number below zero is none.
    fn is_option(&self) -> bool {
        matches!(self, Self::Text(text) if text.starts_with('-'))
    }
}

fn field<'a>(input: &'a Value, path: &[String]) -> Result<Field<'a>, String> {
    match path.iter().try_fold(input, |value, key| value.get(key)) {
        None | Some(Value::Null) => Err(format!("`{}` is missing", path.join("."))),
        Some(Value::String(text)) => Ok(Field::Text(text)),
        Some(other) => Ok(Field::Other(other.to_string())),
    }
}

fn pieces(text: &str) -> Result<Vec<Piece>, InvalidCommand> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some((before, placeholder)) = rest.split_once(OPEN) {
        let is_name =
            |name: &str| !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-'));
        let parsed = placeholder.split_once('}').and_then(|(path, after)| {
            let path: Vec<String> = path.strip_prefix('.')?.split('.').map(str::to_owned).collect();
            path.iter().all(|name| is_name(name)).then_some((path, after))
        });
        let Some((path, after)) = parsed else {
            return Err(InvalidCommand(format!(
                "has {OPEN}… in {text:?}: a field of the input is written {{input.FIELD}}"
            )));
        };
        if !before.is_empty() {
            pieces.push(Piece::Text(before.to_owned()));
        }
        pieces.push(Piece::Field(path));
        rest = after;
    }
    if !rest.is_empty() {
        pieces.push(Piece::Text(rest.to_owned()));
    }
    Ok(pieces)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fill(command: &[&str], input: &Value) -> Result<Vec<String>, String> {
        let filled = CommandTemplate::parse(command).unwrap().fill(input)?;
        Ok(filled.into_iter().map(|text| text.into_string().unwrap()).collect())
    }

    #[test]
    fn a_field_is_one_argument_whatever_it_holds() {
        let input = json!({ "file": "a b; rm -rf * $(x) {input.file}", "size": { "w": 20, "neg": -5 }, "on": true });
        let command =
            ["convert", "{input.file}", "--size={input.size.w}x{input.size.neg}", "{input.size.neg}", "{print $1}"];
        let expected = ["convert", "a b; rm -rf * $(x) {input.file}", "--size=20x-5", "-5", "{print $1}"];
        assert_eq!(fill(&command, &input).unwrap(), expected);
        assert_eq!(fill(&["p", "{input.size}"], &input).unwrap()[1], r#"{"w":20,"neg":-5}"#);
    }

    #[test]
    fn what_is_missing_is_named() {
        for input in [json!({}), json!({"a": null}), json!({"a": {"c": 1}}), json!(7), json!(null)] {
            assert_eq!(fill(&["p", "{input.a.b}"], &input), Err("`a.b` is missing".to_owned()), "{input}");
        }
    }

    #[test]
    fn an_input_cannot_become_an_option() {
        let input = json!({ "file": "--output=/etc/passwd" });
        assert!(fill(&["p", "{input.file}"], &input).unwrap_err().contains("`file` begins with `-`"));
        assert!(fill(&["p", "--", "{input.file}"], &input).is_ok());
        assert!(fill(&["p", "in={input.file}"], &input).is_ok());
        assert!(fill(&["p", "{input.file}"], &json!({ "file": "a\0b" })).unwrap_err().contains("NUL"));
    }

    #[test]
    fn a_command_that_cannot_be_right_is_refused() {
        let none: [&str; 0] = [];
        assert!(CommandTemplate::parse(&none).is_err());
        for command in [
            &["{input.program}"][..],
            &[""],
            &["p", "{input}"],
            &["p", "{input.a"],
            &["p", "{input.a..b}"],
            &["p", "a\0"],
            &["/bin/sh", "-c", "ls {input.folder}"],
            &["bash", "-euc", "ls {input.folder}"],
        ] {
            assert!(CommandTemplate::parse(command).is_err(), "{command:?}");
        }
        for (command, remedy) in [
            (["sh", "-c", "ls {input.folder}"], "write \"$1\""),
            (["python3", "-c", "print('{input.x}')"], "sys.argv[1]"),
            (["/usr/bin/awk", "BEGIN { print \"{input.x}\" }", "file"], "\"-v\""),
        ] {
            let message = CommandTemplate::parse(&command).unwrap_err().to_string();
            let name = command[0].rsplit('/').next().unwrap();
            assert!(message.contains(&format!("`{name}`")) && message.contains(remedy), "{message}");
        }
        assert!(CommandTemplate::parse(&["sh", "-c", "ls \"$1\"", "--", "{input.folder}"]).is_ok());
    }

    #[test]
    fn a_relative_path_is_meant_from_the_folder() {
        let program = |program: &str| {
            CommandTemplate::parse(&[program]).unwrap().beside(Path::new("/etc/m")).program().to_owned()
        };
        assert_eq!(program("./run.sh"), "/etc/m/./run.sh");
        assert_eq!(program("/bin/sh"), "/bin/sh");
        assert_eq!(program("sh"), "sh");
    }
}
