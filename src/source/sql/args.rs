//! The args of a query: which it takes, and what is bound to them.

use rusqlite::types::Value as SqlValue;
use serde_json::Value;

use crate::{
    error::ErrorCode,
    source::{ArgDefinition, Args, SourceError},
};

/// Names of the `:name` parameters of a query, in order of appearance, each once.
///
/// SQLite itself tells them only when the query's tables are there; these are known without the file.
pub(super) fn names(query: &str) -> Result<Vec<String>, String> {
    let mut names: Vec<String> = Vec::new();
    let mut rest = query;
    while let Some(first) = rest.chars().next() {
        let after = &rest[first.len_utf8()..];
        rest = match first {
            '\'' | '"' | '`' => skip_past(after, &first.to_string()),
            '[' => skip_past(after, "]"),
            '-' if after.starts_with('-') => skip_past(after, "\n"),
            '/' if after.starts_with('*') => skip_past(&after[1..], "*/"),
            ':' | '@' | '$' | '?' => {
                let name = word(after);
                if first != ':' || name.is_empty() {
                    return Err(format!("has a parameter `{first}{name}`: write parameters as `:name`"));
                }
                if !names.iter().any(|known| known == name) {
                    names.push(name.to_owned());
                }
                &after[name.len()..]
            }
            _ if is_word(first) => &after[word(after).len()..],
            _ => after,
        };
    }
    Ok(names)
}

/// Whether all parameters are defined as args, and all args are parameters.
pub(super) fn check_defined(parameters: &[String], args: &[ArgDefinition]) -> Result<(), String> {
    if let Some(missing) = parameters.iter().find(|name| args.iter().all(|arg| arg.name != **name)) {
        return Err(format!("has a parameter `:{missing}` in its query that is not one of its `args`: add it there"));
    }
    match args.iter().find(|arg| !parameters.contains(&arg.name)) {
        Some(unused) => {
            Err(format!("has an arg `{0}` that is not in its query: write it there as `:{0}`", unused.name))
        }
        None => Ok(()),
    }
}

/// What follows the first `end`; nothing when there is none.
fn skip_past<'a>(text: &'a str, end: &str) -> &'a str {
    text.split_once(end).map_or("", |(_, rest)| rest)
}

fn word(text: &str) -> &str {
    &text[..text.find(|c| !is_word(c)).unwrap_or(text.len())]
}

/// As SQLite has it for identifiers.
fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '$' || !c.is_ascii()
}

/// The values of all args that a query takes, by name.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Values(Vec<(String, SqlValue)>);

impl Values {
    /// Takes these args, each of a type that SQL has.
    pub(super) fn new(source: &str, definitions: &[ArgDefinition], args: &Args) -> Result<Self, SourceError> {
        let value = |ArgDefinition { name, .. }: &ArgDefinition| {
            let refuse = |what: &str| {
                SourceError::new(ErrorCode::InvalidInput, format!("source `{source}`, arg `{name}`: {what}"))
            };
            let value = args.get(name).ok_or_else(|| refuse("it must be given; `null` counts as a value"))?;
            Ok((name.clone(), to_sql(value).map_err(refuse)?))
        };
        definitions.iter().map(value).collect::<Result<_, _>>().map(Self)
    }

    /// The value for a parameter as SQLite names it, with its colon.
    pub(super) fn of_parameter(&self, parameter: &str) -> Option<&SqlValue> {
        let name = parameter.strip_prefix(':')?;
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }
}

fn to_sql(value: &Value) -> Result<SqlValue, &'static str> {
    match value {
        Value::Null => Ok(SqlValue::Null),
        Value::Bool(value) => Ok(SqlValue::Integer(i64::from(*value))),
        Value::String(text) => Ok(SqlValue::Text(text.clone())),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(integer), _) => Ok(SqlValue::Integer(integer)),
            (None, Some(float)) if number.is_f64() => Ok(SqlValue::Real(float)),
            _ => Err("the number is too large: SQL integers have 64 bits, with a sign"),
        },
        Value::Array(_) | Value::Object(_) => {
            Err("must be a text, number, true, false or null; pass lists and objects as JSON text")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{model::Json, source::ArgType};

    fn values(names: &[&str], args: &str) -> Result<Values, SourceError> {
        let definitions: Vec<_> = names.iter().map(|name| ArgDefinition::required(*name, ArgType::Any)).collect();
        let args = Args::from_json(&Json::parse(args).unwrap()).unwrap().resolve("source `orders`", &definitions)?;
        Values::new("orders", &definitions, &args)
    }

    #[test]
    fn parameters_are_found_where_sqlite_finds_them() {
        let queries = [
            "SELECT 1",
            "SELECT :a, :b, :a",
            "SELECT ':no', \":no2\", `:no3`, [:no4], :yes",
            "SELECT 'it''s :no', :yes -- :no\n, :more /* :no */",
            "SELECT 1 /* :no",
            "SELECT 'a' || :größe || x'00'",
            "SELECT a$b, :c FROM (SELECT 1 AS a$b)",
            "SELECT 5-:minus, 1<:less, json('{}')->:path",
            "SELECT '' || :a_1$x",
        ];
        let connection = rusqlite::Connection::open_in_memory().unwrap();
        for query in queries {
            // Those SQLite knows by other names are columns, which do not exist here.
            let query = query.replace("\":no2\", `:no3`, [:no4], ", "");
            let statement = connection.prepare(&query).unwrap();
            let known: Vec<String> = (1..=statement.parameter_count())
                .map(|i| statement.parameter_name(i).unwrap()[1..].to_owned())
                .collect();
            assert_eq!(names(&query).unwrap(), known, "{query}");
        }
        assert_eq!(names("SELECT \":no\", `:no`, [:no], :yes").unwrap(), ["yes"]);
    }

    #[test]
    fn parameters_without_a_name_are_refused() {
        for query in ["SELECT ?", "SELECT ?1", "SELECT @a", "SELECT $a", "SELECT : a"] {
            assert!(names(query).unwrap_err().contains("`:name`"), "{query}");
        }
    }

    #[test]
    fn json_values_become_sql_values() {
        let values = values(&["t", "i", "f", "b", "n"], r#"{"t":"x","i":-3,"f":1.5,"b":true,"n":null}"#).unwrap();
        assert_eq!(values.of_parameter(":t"), Some(&SqlValue::Text("x".into())));
        assert_eq!(values.of_parameter(":i"), Some(&SqlValue::Integer(-3)));
        assert_eq!(values.of_parameter(":f"), Some(&SqlValue::Real(1.5)));
        assert_eq!(values.of_parameter(":b"), Some(&SqlValue::Integer(1)));
        assert_eq!(values.of_parameter(":n"), Some(&SqlValue::Null));
        assert_eq!(values.of_parameter(":other"), None);
    }

    #[test]
    fn what_does_not_fit_names_the_source_and_the_arg() {
        let cases = ["{}", r#"{"id":[1]}"#, r#"{"id":{}}"#, r#"{"id":18446744073709551615}"#, r#"{"id":1,"other":2}"#];
        for args in cases {
            let error = values(&["id"], args).unwrap_err();
            assert_eq!(error.code, ErrorCode::InvalidInput, "{args}");
            assert!(
                error.message.contains("`orders`") && error.message.contains("`id`")
                    || error.message.contains("`other`"),
                "{args}: {error}"
            );
        }
    }
}
