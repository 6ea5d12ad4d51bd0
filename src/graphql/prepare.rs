//! What is done with a document before it is executed.

use std::{any::TypeId, collections::HashSet, sync::Arc};

use async_graphql::{
    Name, Positioned, Request, ServerError, Value,
    parser::types::{DocumentOperations, ExecutableDocument, OperationDefinition, OperationType},
};

use super::{
    join::RequestJoins,
    limits::DocumentLimits,
    shape::{self, Numbers},
    subscription_root,
};
use crate::error::Error;

/// In a request's data: this was done, and this is the operation's type.
struct Prepared(Option<OperationType>);

/// Checks the document's limits, parses it, and brings a subscription into the shape that is executed.
///
/// Returns the type of the operation that will be executed; `None` when the document does not say which one
/// that is, for which execution has the error. Transports ask before they execute, because some serve only
/// some types; asking again costs nothing. An error here is a request error: nothing was executed.
pub fn prepare(request: &mut Request, limits: &DocumentLimits) -> Result<Option<OperationType>, ServerError> {
    let known = request.data.get(&TypeId::of::<Prepared>()).and_then(|known| known.downcast_ref());
    if let Some(Prepared(operation)) = known {
        return Ok(*operation);
    }
    limits.check(&request.query).map_err(limit_error)?;
    let name = request.operation_name.clone();
    let given: HashSet<Name> =
        request.variables.iter().filter(|(_, value)| **value != Value::Null).map(|(name, _)| name.clone()).collect();
    let numbers: Numbers =
        request.variables.iter().filter_map(|(name, value)| Some((name.clone(), number(value)?))).collect();
    let document = request.parsed_query()?;
    shape::check(document, &numbers, limits).map_err(limit_error)?;
    let operation = selected(document, name.as_deref());
    if let Some(operation) = operation {
        has_variables(operation, &given)?;
    }
    let operation_type = operation.map(|operation| operation.node.ty);
    if let Some(document) = subscription_root::write_out(document)? {
        request.set_parsed_query(document);
    }
    request.data.insert(Prepared(operation_type));
    request.data.insert(RequestJoins::default());
    Ok(operation_type)
}

fn number(value: &Value) -> Option<u64> {
    if let Value::Number(number) = value { number.as_u64() } else { None }
}

/// The operation that is meant, as execution finds it.
fn selected<'a>(document: &'a ExecutableDocument, name: Option<&str>) -> Option<&'a Positioned<OperationDefinition>> {
    match (&document.operations, name) {
        (DocumentOperations::Single(operation), None) => Some(operation),
        (DocumentOperations::Multiple(operations), Some(name)) => operations.get(name),
        (DocumentOperations::Multiple(operations), None) if operations.len() == 1 => operations.values().next(),
        _ => None,
    }
}

/// Every variable that must have a value has one. async-graphql notices only when a resolver needs it.
fn has_variables(operation: &Positioned<OperationDefinition>, given: &HashSet<Name>) -> Result<(), ServerError> {
    for Positioned { pos, node: variable } in &operation.node.variable_definitions {
        let name = &variable.name.node;
        if !variable.var_type.node.nullable && variable.default_value.is_none() && !given.contains(name) {
            let message = format!("Variable `${name}` of type `{}` needs a value.", variable.var_type.node);
            return Err(ServerError::new(message, Some(*pos)));
        }
    }
    Ok(())
}

/// Without a position: it is about the whole document.
fn limit_error(error: Error) -> ServerError {
    let mut server_error = ServerError::new(error.to_string(), None);
    server_error.source = Some(Arc::new(error));
    server_error
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prepared(text: &str, name: Option<&str>) -> Result<Option<OperationType>, ServerError> {
        let mut request = Request::new(text);
        request.operation_name = name.map(str::to_owned);
        prepare(&mut request, &DocumentLimits::default())
    }

    #[test]
    fn the_type_is_that_of_the_operation_that_is_meant() {
        let both = "query A { a } mutation B { b }";
        for (text, name, expected) in [
            ("{ a }", None, Some(OperationType::Query)),
            ("mutation { a }", None, Some(OperationType::Mutation)),
            ("subscription S { a }", None, Some(OperationType::Subscription)),
            (both, Some("A"), Some(OperationType::Query)),
            (both, Some("B"), Some(OperationType::Mutation)),
            (both, Some("C"), None),
            (both, None, None),
            ("{ a }", Some("A"), None),
        ] {
            assert_eq!(prepared(text, name), Ok(expected), "{text} {name:?}");
        }
    }

    #[test]
    fn a_variable_without_a_value_is_a_request_error() {
        let check = |text: &str, variables: &str| {
            let mut request = Request::new(text).variables(serde_json::from_str(variables).unwrap());
            prepare(&mut request, &DocumentLimits::default()).map_err(|error| error.message)
        };
        let query = Ok(Some(OperationType::Query));
        for (text, variables, expected) in [
            ("query ($n: Int!) { a(n: $n) }", r#"{"n":1}"#, &query),
            ("query ($n: Int! = 1) { a(n: $n) }", "{}", &query),
            ("query ($n: Int) { a(n: $n) }", "{}", &query),
            (
                "query ($n: [Int!]!) { a(n: $n) }",
                "{}",
                &Err("Variable `$n` of type `[Int!]!` needs a value.".to_owned()),
            ),
            (
                "query ($n: Int!) { a(n: $n) }",
                r#"{"n":null}"#,
                &Err("Variable `$n` of type `Int!` needs a value.".to_owned()),
            ),
        ] {
            assert_eq!(&check(text, variables), expected, "{text} {variables}");
        }
    }

    #[test]
    fn limits_are_checked_before_the_text_is_parsed() {
        let error = prepared(&"[".repeat(1 << 20), None).unwrap_err();
        assert!(error.message.contains("max_document_bytes"), "{error:?}");
        let error = prepared(&"[".repeat(100_000), None).unwrap_err();
        assert!(error.message.contains("max_document_nesting"), "{error:?}");
    }

    #[test]
    fn how_many_entries_a_variable_asks_for_counts() {
        let ask = |n: i32| {
            let text = "query($n: Int) { tasks(first: $n) { nodes { events(first: $n) { nodes { seq } } } } }";
            let mut request = Request::new(text).variables(serde_json::from_str(&format!("{{\"n\":{n}}}")).unwrap());
            prepare(&mut request, &DocumentLimits::default()).map_err(|error| error.message)
        };
        assert_eq!(ask(300), Ok(Some(OperationType::Query)));
        assert!(ask(1000).unwrap_err().contains("max_complexity"));
    }

    #[test]
    fn asking_again_gives_the_same_without_reading_it_again() {
        let mut request = Request::new("subscription { ... { a } }");
        let limits = DocumentLimits::default();
        assert_eq!(prepare(&mut request, &limits), Ok(Some(OperationType::Subscription)));
        let none = DocumentLimits { max_document_bytes: 0, ..limits };
        assert_eq!(prepare(&mut request, &none), Ok(Some(OperationType::Subscription)));
    }
}
