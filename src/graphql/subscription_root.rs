//! The root of a subscription: exactly one field, and no fragments by the time it is executed.
//!
//! The specification allows fragments there, and refuses a second field wherever it stands (5.2.3.1).
//! async-graphql ignores the former and executes the latter, so both are settled here, before it.

use std::mem;

use async_graphql::{
    Name, Positioned, ServerError,
    parser::types::{
        Directive, DocumentOperations, ExecutableDocument, Field, FragmentDefinition, OperationDefinition,
        OperationType, Selection, SelectionSet, TypeCondition,
    },
};

/// The name of the root type, which fragments at the root are on.
const ROOT_TYPE: &str = "Subscription";
/// The most fragments that a root may spread.
const MAX_ROOT_FRAGMENTS: usize = 32;

/// The document with each subscription's root written out as its one field; `None` when it stands so already,
/// or is not valid in a way that validation will find. Fails when there is more than one field.
pub(super) fn write_out(document: &ExecutableDocument) -> Result<Option<ExecutableDocument>, ServerError> {
    let mut roots = Vec::new();
    for (name, operation) in document.operations.iter() {
        if operation.node.ty == OperationType::Subscription {
            let mut root = Root::new(document);
            if root.collect(&operation.node.selection_set.node, &[])? == Sound::No {
                return Ok(None);
            }
            root.has_one_own_field(operation)?;
            roots.push((name.cloned(), root));
        }
    }
    if roots.iter().all(|(_, root)| root.as_written) {
        return Ok(None);
    }
    let mut written = document.clone();
    for (name, root) in roots {
        for fragment in &root.spread {
            written.fragments.remove(fragment.name);
        }
        let operation = match (&mut written.operations, &name) {
            (DocumentOperations::Single(operation), _) => Some(operation),
            (DocumentOperations::Multiple(operations), Some(name)) => operations.get_mut(name),
            (DocumentOperations::Multiple(_), None) => None,
        };
        if let (Some(operation), Some(field)) = (operation, root.field) {
            let position = field.pos;
            operation.node.selection_set.node.items = vec![Positioned::new(Selection::Field(field), position)];
        }
    }
    Ok(Some(written))
}

/// Whether fragments are what they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sound {
    Yes,
    No,
}

/// A root while it is read.
struct Root<'a> {
    document: &'a ExecutableDocument,
    field: Option<Positioned<Field>>,
    /// Only fields were met, and one.
    as_written: bool,
    spread: Vec<Spread<'a>>,
}

struct Spread<'a> {
    name: &'a Name,
    /// It is being read: met again now, it contains itself.
    open: bool,
    conditional: bool,
}

impl<'a> Root<'a> {
    fn new(document: &'a ExecutableDocument) -> Self {
        Self { document, field: None, as_written: true, spread: Vec::new() }
    }

    /// Reads selections; `directives` are those of the fragments around them.
    fn collect(&mut self, set: &'a SelectionSet, directives: &[Positioned<Directive>]) -> Result<Sound, ServerError> {
        for selection in &set.items {
            let own = selection.node.directives();
            let directives: Vec<_> = directives.iter().chain(own).cloned().collect();
            let sound = match &selection.node {
                Selection::Field(field) => {
                    let mut field = field.clone();
                    field.node.directives = directives;
                    self.add(field)?;
                    Sound::Yes
                }
                Selection::InlineFragment(fragment) => {
                    self.as_written = false;
                    match &fragment.node.type_condition {
                        Some(condition) if !is_root(condition) => Sound::No,
                        _ => self.collect(&fragment.node.selection_set.node, &directives)?,
                    }
                }
                Selection::FragmentSpread(spread) => {
                    self.as_written = false;
                    self.spread(&spread.node.fragment_name, &directives)?
                }
            };
            if sound == Sound::No {
                return Ok(Sound::No);
            }
        }
        Ok(Sound::Yes)
    }

    fn spread(&mut self, name: &Positioned<Name>, directives: &[Positioned<Directive>]) -> Result<Sound, ServerError> {
        let Some((name, fragment)) = self.document.fragments.get_key_value(&name.node) else { return Ok(Sound::No) };
        let conditional = !directives.is_empty();
        let Positioned { pos, node: FragmentDefinition { type_condition, selection_set, .. } } = fragment;
        if !is_root(type_condition) {
            return Ok(Sound::No);
        }
        match self.spread.iter().find(|spread| spread.name == name) {
            Some(spread) if spread.open => return Ok(Sound::No),
            // The same fields again, on other conditions.
            Some(spread) if spread.conditional || conditional => return Err(more_than_one(*pos)),
            Some(_) => return Ok(Sound::Yes),
            None => {}
        }
        let index = self.spread.len();
        if index == MAX_ROOT_FRAGMENTS {
            let message = format!("A subscription's root can spread at most {MAX_ROOT_FRAGMENTS} fragments.");
            return Err(ServerError::new(message, Some(*pos)));
        }
        self.spread.push(Spread { name, open: true, conditional });
        let sound = self.collect(&selection_set.node, directives)?;
        self.spread[index].open = false;
        Ok(sound)
    }

    /// Adds a field. The same one again is no second one: what is selected in both is selected.
    fn add(&mut self, mut field: Positioned<Field>) -> Result<(), ServerError> {
        let Some(first) = &mut self.field else {
            self.field = Some(field);
            return Ok(());
        };
        if !same(&first.node, &field.node) {
            return Err(more_than_one(field.pos));
        }
        self.as_written = false;
        first.node.selection_set.node.items.append(&mut mem::take(&mut field.node.selection_set.node.items));
        Ok(())
    }

    fn has_one_own_field(&self, operation: &Positioned<OperationDefinition>) -> Result<(), ServerError> {
        match &self.field {
            Some(field) if !field.node.name.node.starts_with("__") => Ok(()),
            Some(field) => {
                Err(ServerError::new("A subscription's root field cannot be one of introspection.", Some(field.pos)))
            }
            None => Err(more_than_one(operation.pos)),
        }
    }
}

fn more_than_one(position: async_graphql::Pos) -> ServerError {
    ServerError::new("A subscription must select exactly one root field.", Some(position))
}

fn is_root(condition: &Positioned<TypeCondition>) -> bool {
    condition.node.on.node == ROOT_TYPE
}

/// Whether two fields are one: the same name under the same key, with the same arguments and directives.
fn same(first: &Field, second: &Field) -> bool {
    first.response_key().node == second.response_key().node
        && first.name.node == second.name.node
        && same_arguments(&first.arguments, &second.arguments)
        && first.directives.len() == second.directives.len()
        && first.directives.iter().zip(&second.directives).all(|(first, second)| {
            first.node.name.node == second.node.name.node
                && same_arguments(&first.node.arguments, &second.node.arguments)
        })
}

fn same_arguments<V: PartialEq>(
    first: &[(Positioned<Name>, Positioned<V>)],
    second: &[(Positioned<Name>, Positioned<V>)],
) -> bool {
    first.len() == second.len()
        && first
            .iter()
            .zip(second)
            .all(|(first, second)| first.0.node == second.0.node && first.1.node == second.1.node)
}

#[cfg(test)]
mod tests {
    use async_graphql::parser::parse_query;

    use super::*;

    /// The root's selections as they are executed; `None` when they are left as they stand.
    fn root(text: &str) -> Result<Option<Vec<String>>, String> {
        let document = parse_query(text).unwrap();
        let written = write_out(&document).map_err(|error| error.message)?;
        Ok(written.map(|document| {
            let (_, operation) = document.operations.iter().next().unwrap();
            let mut fragments: Vec<String> = document.fragments.keys().map(ToString::to_string).collect();
            fragments.sort_unstable();
            let fields = operation.node.selection_set.node.items.iter().map(|selection| match &selection.node {
                Selection::Field(field) => describe(&field.node),
                other => panic!("{other:?} is not a field"),
            });
            fields.chain(fragments).collect()
        }))
    }

    fn describe(field: &Field) -> String {
        let directives: Vec<_> = field.directives.iter().map(|directive| directive.node.name.node.as_str()).collect();
        let inner = field.selection_set.node.items.len();
        format!("{} {directives:?} {inner}", field.response_key().node)
    }

    #[test]
    fn one_field_is_left_as_it_stands() {
        for text in
            ["subscription { a }", "subscription S($x: Int) { a(x: $x) { b c } }", "query { a b }", "mutation { a b }"]
        {
            assert_eq!(root(text), Ok(None), "{text}");
        }
    }

    #[test]
    fn a_second_field_is_refused_wherever_it_stands() {
        for text in [
            "subscription { a b }",
            "subscription { a x: a }",
            "subscription { a(x: 1) a(x: 2) }",
            "subscription { a @include(if: false) b }",
            "subscription { ... { a b } }",
            "subscription { a ... on Subscription { b } }",
            "subscription { a ...F } fragment F on Subscription { b }",
            "subscription { ...F } fragment F on Subscription { a ...G } fragment G on Subscription { b }",
            "subscription One { a } subscription Two { a b }",
        ] {
            assert_eq!(root(text), Err("A subscription must select exactly one root field.".to_owned()), "{text}");
        }
    }

    #[test]
    fn introspection_cannot_be_subscribed_to() {
        assert!(root("subscription { __typename }").unwrap_err().contains("introspection"));
        assert!(root("subscription { ... { __schema { types { name } } } }").unwrap_err().contains("introspection"));
    }

    #[test]
    fn fragments_are_written_out_with_their_directives() {
        for (text, expected) in [
            ("subscription { ... { a { b } } }", &["a [] 1"][..]),
            ("subscription { ... on Subscription @include(if: true) { a } }", &["a [\"include\"] 0"]),
            ("subscription { ...F } fragment F on Subscription { x: a { b } }", &["x [] 1"]),
            ("subscription { ...F @skip(if: false) } fragment F on Subscription { a }", &["a [\"skip\"] 0"]),
            (
                "subscription { ...F } fragment F on Subscription { ...G } fragment G on Subscription { a { ...H } } \
                 fragment H on A { b }",
                &["a [] 1", "H"],
            ),
        ] {
            assert_eq!(root(text).unwrap().unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn the_same_field_twice_is_one() {
        assert_eq!(root("subscription { a { b } a { c } }").unwrap().unwrap(), ["a [] 2"]);
        let text = "subscription { ...F ...F a(x: 1) { c } } fragment F on Subscription { a(x: 1) { b } }";
        assert_eq!(root(text).unwrap().unwrap(), ["a [] 2"]);
    }

    #[test]
    fn what_validation_refuses_is_left_to_it() {
        for text in [
            "subscription { ...Missing }",
            "subscription { ...F } fragment F on Query { a }",
            "subscription { ... on Task { a } }",
            "subscription { ...F } fragment F on Subscription { a ...F }",
            "subscription { ...F } fragment F on Subscription { ...G } fragment G on Subscription { ...F }",
        ] {
            assert_eq!(root(text), Ok(None), "{text}");
        }
    }

    #[test]
    fn a_long_chain_of_fragments_is_refused() {
        let mut text = "subscription { ...F0 }".to_owned();
        for number in 0..MAX_ROOT_FRAGMENTS {
            text += &format!(" fragment F{number} on Subscription {{ ...F{} }}", number + 1);
        }
        text += &format!(" fragment F{MAX_ROOT_FRAGMENTS} on Subscription {{ a }}");
        assert!(root(&text).unwrap_err().contains("at most 32"));
    }
}
