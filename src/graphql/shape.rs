//! Limits on what a document asks for, checked after it is parsed and before anything looks at it in depth.
//!
//! Fragments count wherever they are spread, but are looked at once: a short document that doubles itself again and
//! again is found out in no time.

use std::collections::HashMap;

use async_graphql::{
    Name, Positioned,
    parser::types::{Directive, ExecutableDocument, Field, OperationType, Selection, SelectionSet},
};
use async_graphql_value::{ConstValue, Value};

use super::limits::DocumentLimits;
use crate::error::{Error, ErrorCode};

/// Arguments that say how many entries of a list there are to be.
const COUNTS: [&str; 2] = ["first", "last"];
/// The fields of a page that lead to its entries.
const ENTRIES: [&str; 2] = ["nodes", "edges"];
/// The fields that the schema is asked for with.
const INTROSPECTION: [&str; 2] = ["__schema", "__type"];
/// What is a list there. Types lead to types: a few of these inside each other are more than anybody has room for.
const INTROSPECTION_LISTS: [&str; 8] =
    ["types", "fields", "inputFields", "interfaces", "possibleTypes", "enumValues", "args", "directives"];
/// What such a list counts as.
const INTROSPECTION_ENTRIES: u64 = 10;
/// Selections and fragments inside each other, however little is in them: looking at them takes stack.
pub(super) const MAX_NESTING: usize = 256;

/// Whole numbers among a request's variables.
pub(super) type Numbers = HashMap<Name, u64>;

/// Whether what is asked for is within the limits; the error names one that it is over.
pub(super) fn check(document: &ExecutableDocument, numbers: &Numbers, limits: &DocumentLimits) -> Result<(), Error> {
    let numbers = with_defaults(document, numbers);
    let mut measure =
        Measure { document, numbers: &numbers, limits, fragments: HashMap::new(), directives: 0, nesting: 0 };
    for (_, operation) in document.operations.iter() {
        let operation = &operation.node;
        measure.add_directives(&operation.directives)?;
        let within = if operation.ty == OperationType::Subscription { Within::Stream } else { Within::Data };
        let size = measure.selections(&operation.selection_set.node, within)?;
        let over = |size: u64, limit: u64, name: &'static str, what: &str| match size > limit {
            true => Err(Error::limit(name, format!("{limit} {what}"))),
            false => Ok(()),
        };
        over(size.fields, as_u64(limits.max_root_fields), "max_root_fields", "fields at the root")?;
        over(size.aliases, as_u64(limits.max_aliases), "max_aliases", "aliases")?;
        over(size.depth, as_u64(limits.max_depth), "max_depth", "fields inside each other")?;
        let what = "fields, those of an entry counted as often as `first` or `last` says";
        over(size.complexity, limits.max_complexity, "max_complexity", what)?;
    }
    Ok(())
}

/// The numbers, and those that stand in the document for variables that are not given.
fn with_defaults(document: &ExecutableDocument, given: &Numbers) -> Numbers {
    let mut numbers = Numbers::new();
    for variable in document.operations.iter().flat_map(|(_, operation)| &operation.node.variable_definitions) {
        if let Some(ConstValue::Number(number)) = variable.node.default_value.as_ref().map(|value| &value.node) {
            let known = numbers.entry(variable.node.name.node.clone()).or_default();
            *known = number.as_u64().unwrap_or(0).max(*known);
        }
    }
    numbers.extend(given.iter().map(|(name, number)| (name.clone(), *number)));
    numbers
}

fn as_u64(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

/// Where selections stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Within {
    /// At a subscription's root: entries come one by one, and are not one answer.
    Stream,
    Introspection,
    Data,
}

/// How much some selections are.
#[derive(Debug, Clone, Copy, Default)]
struct Size {
    /// Those on this level.
    fields: u64,
    aliases: u64,
    depth: u64,
    complexity: u64,
    /// There are entries of a list among them.
    has_entries: bool,
}

impl Size {
    fn add(&mut self, more: Self) {
        self.fields = self.fields.saturating_add(more.fields);
        self.aliases = self.aliases.saturating_add(more.aliases);
        self.depth = self.depth.max(more.depth);
        self.complexity = self.complexity.saturating_add(more.complexity);
        self.has_entries |= more.has_entries;
    }
}

struct Measure<'a> {
    document: &'a ExecutableDocument,
    numbers: &'a Numbers,
    limits: &'a DocumentLimits,
    /// `None`: is being looked at.
    fragments: HashMap<&'a Name, Option<Size>>,
    directives: usize,
    nesting: usize,
}

impl<'a> Measure<'a> {
    fn selections(&mut self, set: &'a SelectionSet, within: Within) -> Result<Size, Error> {
        self.nesting += 1;
        if self.nesting > MAX_NESTING {
            let allowed = format!("{} fields inside each other", self.limits.max_depth);
            return Err(Error::limit("max_depth", allowed));
        }
        let mut size = Size::default();
        for selection in &set.items {
            self.add_directives(selection.node.directives())?;
            size.add(match &selection.node {
                Selection::Field(field) => self.field(&field.node, within)?,
                Selection::InlineFragment(fragment) => self.selections(&fragment.node.selection_set.node, within)?,
                Selection::FragmentSpread(spread) => self.fragment(&spread.node.fragment_name.node, within)?,
            });
        }
        self.nesting -= 1;
        Ok(size)
    }

    fn field(&mut self, field: &'a Field, within: Within) -> Result<Size, Error> {
        let name = field.name.node.as_str();
        let below = match within {
            Within::Introspection => within,
            _ if INTROSPECTION.contains(&name) => Within::Introspection,
            Within::Stream | Within::Data => Within::Data,
        };
        if below != within && below == Within::Introspection && !self.limits.introspection {
            let message = "the schema is not told here: `api.introspection` is off";
            return Err(Error::new(ErrorCode::Forbidden, message));
        }
        let inside = self.selections(&field.selection_set.node, below)?;
        let times = match within {
            Within::Stream => 1,
            Within::Introspection if INTROSPECTION_LISTS.contains(&name) => INTROSPECTION_ENTRIES,
            Within::Introspection | Within::Data => self.times(field, inside.has_entries),
        };
        Ok(Size {
            fields: 1,
            aliases: inside.aliases.saturating_add(u64::from(field.alias.is_some())),
            depth: inside.depth.saturating_add(1),
            complexity: inside.complexity.saturating_mul(times).saturating_add(1),
            has_entries: ENTRIES.contains(&name),
        })
    }

    /// How often what is in a field is there, as far as the client says.
    fn times(&self, field: &Field, has_entries: bool) -> u64 {
        let number = |name: &&str| match &field.get_argument(name)?.node {
            Value::Number(number) => number.as_u64(),
            Value::Variable(name) => self.numbers.get(name).copied(),
            _ => None,
        };
        let unsaid = if has_entries { self.limits.page_entries } else { 1 };
        COUNTS.iter().filter_map(number).max().unwrap_or(unsaid).max(1)
    }

    fn fragment(&mut self, name: &'a Name, within: Within) -> Result<Size, Error> {
        match (self.fragments.get(name), self.document.fragments.get(name)) {
            (Some(Some(size)), _) => return Ok(*size),
            (None, Some(fragment)) => {
                self.fragments.insert(name, None);
                self.add_directives(&fragment.node.directives)?;
                let size = self.selections(&fragment.node.selection_set.node, within)?;
                self.fragments.insert(name, Some(size));
                return Ok(size);
            }
            // It contains itself, or is not there: validation says so.
            (Some(None), _) | (None, None) => {}
        }
        Ok(Size { complexity: 1, ..Size::default() })
    }

    fn add_directives(&mut self, directives: &[Positioned<Directive>]) -> Result<(), Error> {
        self.directives += directives.len();
        if self.directives > self.limits.max_directives {
            return Err(Error::limit("max_directives", format!("{} directives", self.limits.max_directives)));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use async_graphql::parser::parse_query;

    use super::*;

    fn checked(text: &str, limits: &DocumentLimits) -> Result<(), String> {
        let numbers = Numbers::from([(Name::new("n"), 10)]);
        check(&parse_query(text).unwrap(), &numbers, limits).map_err(|error| error.to_string())
    }

    fn limits() -> DocumentLimits {
        DocumentLimits {
            max_depth: 3,
            max_complexity: 20,
            max_aliases: 2,
            max_root_fields: 3,
            max_directives: 2,
            ..DocumentLimits::default()
        }
    }

    #[test]
    fn each_limit_admits_what_is_at_it_and_names_itself_beyond() {
        for (within, beyond, name) in [
            ("{ a { b { c } } }", "{ a { b { c { d } } } }", "max_depth"),
            (
                "{ a { ...F } } fragment F on T { b { c } }",
                "{ a { ...F } } fragment F on T { b { c { d } } }",
                "max_depth",
            ),
            ("{ a(first: 19) { b } }", "{ a(first: 20) { b } }", "max_complexity"),
            ("query($n: Int) { a(last: $n) { b } }", "query($n: Int) { a(last: $n) { b c } }", "max_complexity"),
            (
                "query($m: Int = 10) { a(last: $m) { b } }",
                "query($m: Int = 20) { a(last: $m) { b } }",
                "max_complexity",
            ),
            (
                "query($n: Int = 50) { a(last: $n) { b } }",
                "query($m: Int = 50) { a(last: $m) { b } }",
                "max_complexity",
            ),
            ("{ a(first: 3) { b(first: 5) { c } } }", "{ a(first: 3) { b(first: 6) { c } } }", "max_complexity"),
            ("{ x: a y: b }", "{ x: a y: b { z: c } }", "max_aliases"),
            ("{ ...F ...F } fragment F on T { x: a }", "{ ...F ...F ...F } fragment F on T { x: a }", "max_aliases"),
            ("{ a b c }", "{ a b c d }", "max_root_fields"),
            (
                "{ a ... { b ...F } } fragment F on T { c }",
                "{ a ... { b ...F } d } fragment F on T { c }",
                "max_root_fields",
            ),
            ("query @x { a @y }", "query @x { a @y b { c @z } }", "max_directives"),
        ] {
            assert_eq!(checked(within, &limits()), Ok(()), "{within}");
            let error = checked(beyond, &limits()).unwrap_err();
            assert!(error.contains(name), "{beyond}: {error}");
        }
    }

    #[test]
    fn every_operation_of_a_document_counts() {
        let error = checked("query A { a } query B { a b c d }", &limits()).unwrap_err();
        assert!(error.contains("max_root_fields"), "{error}");
    }

    #[test]
    fn entries_that_come_one_by_one_are_not_counted_together() {
        assert_eq!(checked("subscription { a(first: 1000) { b } }", &limits()), Ok(()));
        assert!(checked("subscription { a { b(first: 1000) { c } } }", &limits()).is_err());
    }

    #[test]
    fn a_page_that_does_not_say_how_many_it_wants_counts_as_what_it_gets() {
        let limits = DocumentLimits { page_entries: 5, ..limits() };
        for (within, beyond) in [
            ("{ a { nodes { b } } }", "{ a { nodes { b c d } } }"),
            ("{ a { edges { b } } }", "{ a { edges { b } nodes { c } } }"),
            ("{ a { ...F } } fragment F on T { nodes { b } }", "{ a { x ...F } } fragment F on T { nodes { b c } }"),
            (
                "{ a(first: 1) { nodes { b(last: 1) { nodes { c } } } } }",
                "{ a { nodes { b(last: 1) { nodes { c } } } } }",
            ),
        ] {
            let limits = DocumentLimits { max_depth: 9, ..limits.clone() };
            assert_eq!(checked(within, &limits), Ok(()), "{within}");
            assert!(checked(beyond, &limits).unwrap_err().contains("max_complexity"), "{beyond}");
        }
    }

    #[test]
    fn lists_of_introspection_count_as_ten_each() {
        assert_eq!(checked("{ __type(name: 1) { fields { name } } }", &limits()), Ok(()));
        let error = checked("{ __type(name: 1) { fields { name type } } }", &limits()).unwrap_err();
        assert!(error.contains("max_complexity"), "{error}");
        // Only there.
        assert_eq!(checked("{ a { fields { name type } } }", &limits()), Ok(()));
    }

    #[test]
    fn the_schema_is_not_told_where_that_is_off() {
        let off = DocumentLimits { introspection: false, ..limits() };
        for asked in [
            "{ __schema { a } }",
            "{ a: __type(name: 1) { a } }",
            "{ ...F } fragment F on T { ... { __schema { a } } }",
        ] {
            assert_eq!(checked(asked, &limits()), Ok(()));
            assert!(checked(asked, &off).unwrap_err().contains("api.introspection"), "{asked}");
        }
        assert_eq!(checked("{ __typename a { __typename } }", &off), Ok(()));
    }

    #[test]
    fn a_document_that_doubles_itself_is_found_out_at_once() {
        let doubling = |last: &str| {
            let mut text = "{ ...F0 }".to_owned();
            for number in 0..60 {
                text += &format!(" fragment F{number} on T {{ ...F{} ...F{} }}", number + 1, number + 1);
            }
            text + last
        };
        let default = DocumentLimits { max_root_fields: usize::MAX, ..DocumentLimits::default() };
        for last in ["fragment F60 on T { a }", "", "fragment F60 on T { ...F0 }"] {
            let error = checked(&doubling(last), &default).unwrap_err();
            assert!(error.contains("max_complexity"), "{error}");
        }
    }

    #[test]
    fn a_long_chain_of_fragments_does_not_take_the_stack() {
        let mut text = "{ ...F0 }".to_owned();
        for number in 0..1500 {
            text += &format!(" fragment F{number} on T {{ ...F{} }}", number + 1);
        }
        assert!(checked(&text, &DocumentLimits::default()).unwrap_err().contains("max_depth"));
    }
}
