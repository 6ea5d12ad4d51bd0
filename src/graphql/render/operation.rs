//! Which operations are the same.

use async_graphql::{
    Request, Value,
    parser::types::{ExecutableDocument, OperationDefinition, OperationType, Selection},
};

/// The root fields whose responses are shared.
const SHARED: [&str; 2] = ["taskEvents", "taskProgress"];

/// A subscription whose responses can be shared.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Operation {
    /// Equal for operations that show every event alike.
    pub(super) key: String,
    /// The root's `after`.
    pub(super) after: Option<String>,
}

impl Operation {
    /// `None` when this is no subscription to a task, or one whose root is not plain: then the engine does it all.
    pub(super) fn of(request: &mut Request) -> Option<Self> {
        let name = request.operation_name.clone();
        let document = request.parsed_query().ok()?;
        let operation = find(document, name.as_deref())?;
        let [root] = operation.selection_set.node.items.as_slice() else { return None };
        let Selection::Field(root) = &root.node else { return None };
        let shared = operation.ty == OperationType::Subscription
            && operation.directives.is_empty()
            && root.node.directives.is_empty()
            && SHARED.contains(&root.node.name.node.as_str());
        if !shared {
            return None;
        }
        let mut variable = None;
        let mut after = match root.node.get_argument("after").map(|value| &value.node) {
            None => None,
            Some(value) => match value.clone().into_const() {
                Some(Value::Null) => None,
                Some(Value::String(text)) => Some(text),
                // Not a text: the engine says so.
                Some(_) => return None,
                None => {
                    let async_graphql_value::Value::Variable(name) = value else { return None };
                    variable = Some(name.clone());
                    let definition = operation.variable_definitions.iter().find(|def| def.node.name.node == *name)?;
                    match definition.node.default_value() {
                        Some(Value::String(text)) => Some(text.clone()),
                        _ => None,
                    }
                }
            },
        };
        let mut variables = Vec::with_capacity(request.variables.len());
        for (name, value) in request.variables.iter() {
            if Some(name) != variable.as_ref() {
                variables.push((name, value));
                continue;
            }
            after = match value {
                Value::Null => None,
                Value::String(text) => Some(text.clone()),
                _ => return None,
            };
            // Where to begin is left out, but not whether it is said: a variable that must be is the engine's to check.
            variables.push((name, if after.is_some() { &Value::Boolean(true) } else { &Value::Null }));
        }
        let key = serde_json::to_string(&(name, &request.query, variables)).ok()?;
        Some(Self { key, after })
    }
}

/// The operation that would run.
fn find<'a>(document: &'a ExecutableDocument, name: Option<&str>) -> Option<&'a OperationDefinition> {
    let mut operations = document.operations.iter();
    let found = match name {
        Some(name) => operations.find(|(own, _)| own.is_some_and(|own| own == name)),
        None => operations.next().filter(|_| operations.next().is_none()),
    };
    found.map(|(_, operation)| &operation.node)
}

#[cfg(test)]
mod tests {
    use async_graphql::Variables;
    use serde_json::{Value as Json, json};

    use super::*;

    fn operation(document: &str, variables: Json) -> Option<Operation> {
        Operation::of(&mut Request::new(document).variables(Variables::from_json(variables)))
    }

    const DOCUMENT: &str = "subscription($id: ID!, $after: String) { taskEvents(id: $id, after: $after) { seq } }";

    #[test]
    fn where_to_begin_makes_no_other_operation() {
        let first = operation(DOCUMENT, json!({ "id": "t", "after": "a" })).unwrap();
        let second = operation(DOCUMENT, json!({ "id": "t", "after": "b" })).unwrap();
        assert_eq!(first.key, second.key);
        assert_eq!((first.after.as_deref(), second.after.as_deref()), (Some("a"), Some("b")));
    }

    #[test]
    fn another_task_document_or_name_is_another_operation() {
        let key = |document, variables| operation(document, variables).unwrap().key;
        let first = key(DOCUMENT, json!({ "id": "t" }));
        assert_ne!(first, key(DOCUMENT, json!({ "id": "u" })));
        assert_ne!(first, key(&DOCUMENT.replace("seq", "at"), json!({ "id": "t" })));
    }

    #[test]
    fn a_default_is_where_to_begin_unless_the_client_says_otherwise() {
        let document = DOCUMENT.replace("String", "String = \"d\"");
        assert_eq!(operation(&document, json!({ "id": "t" })).unwrap().after.as_deref(), Some("d"));
        assert_eq!(operation(&document, json!({ "id": "t", "after": "a" })).unwrap().after.as_deref(), Some("a"));
        assert_eq!(operation(&document, json!({ "id": "t", "after": null })).unwrap().after, None);
    }

    #[test]
    fn what_the_engine_has_to_judge_is_left_to_it() {
        for document in [
            "{ kinds { name } }",
            "subscription { tasksChanged { change } }",
            "subscription { taskEvents(id: 1) @skip(if: true) { seq } }",
            "subscription { ...F } fragment F on Subscription { taskEvents(id: 1) { seq } }",
            "subscription { taskEvents(id: 1, after: 5) { seq } }",
            "subscription A { taskEvents(id: 1) { seq } } subscription B { taskEvents(id: 1) { at } }",
            "subscription {",
        ] {
            assert_eq!(operation(document, json!({})), None, "{document}");
        }
        assert_eq!(operation(DOCUMENT, json!({ "id": "t", "after": 5 })), None);
    }
}
