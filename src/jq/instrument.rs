//! Puts checks into filters.
//!
//! A filter can go on for long only by calling definitions, by walking through values (`.[]`, `..`, `reduce`,
//! `foreach`), by `range`, or by many alternatives (`,`): those have a checkpoint. A value can become large only where it
//! is put together or calculated, and deep only where a list or an object is put around it: what comes out there is
//! looked at. Calls of definitions that call themselves, and steps of paths, are counted: they make chains that recurse
//! where nothing can be checked. And natives that walk through a whole value get only what is not too large for that.

use std::cell::RefCell;

use jaq_core::{
    load::{
        lex::StrPart,
        parse::{BinaryOp, Def, Pattern, Term},
    },
    ops::Math,
    path::{Opt, Part, Path},
};

use super::guard::{AGAIN, CHECKPOINT, COSTLY, ITEM, MADE, NESTED, READABLE, SIZED, SOUGHT, TIMES, WEIGHED};

/// The native `indices`; what filters call so is [`indices`].
pub(super) const INDICES: &str = "@meanwhile_indices";

/// Stands for the operand in `l *= r`.
const OPERAND: &str = "$@meanwhile_operand";
const SOUGHT_FOR: &str = "$x";

/// Natives that walk through their whole input, and what they compare it with.
const WALKS: [&str; 11] = [
    "tojson",
    "tobytes",
    "contains",
    "bsearch",
    "has",
    "sort",
    "sort_by",
    "group_by",
    "min_by_or_empty",
    "max_by_or_empty",
    INDICES,
];
/// Natives that can give more than they were given.
const GROWS: [&str; 15] = [
    "ascii_downcase",
    "ascii_upcase",
    "tojson",
    "tobytes",
    "fromjson",
    "explode",
    "implode",
    "escape_sh",
    "escape_html",
    "unescape_html",
    "encode_uri",
    "encode_base64",
    "matches",
    "split_",
    "split_matches",
];

/// Natives that make a pattern ready each time.
const COSTS: [&str; 3] = ["matches", "split_", "split_matches"];

type T<'s> = Term<&'s str>;

/// What was seen of a filter on the way through it.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Its parts, those inside others included.
    pub(super) terms: usize,
    /// How many of them stand inside each other.
    pub(super) nesting: usize,
    level: usize,
    /// The definitions that it calls.
    calls: Vec<String>,
}

thread_local! {
    static SEEN: RefCell<Seen> = RefCell::default();
}

/// What is seen of a filter by `way`, which goes through it.
pub(super) fn seen<R>(way: impl FnOnce() -> R) -> (R, Seen) {
    SEEN.take();
    let result = way();
    (result, SEEN.take())
}

/// The definition with checks: each call is a checkpoint, and so are those in its body. One that calls itself can make a
/// chain without end of what it is given, which recurses where there is no checkpoint: those calls are counted.
pub(super) fn definition(def: Def<&str>) -> Def<&str> {
    let before = SEEN.with_borrow(|seen| seen.calls.len());
    let body = term(def.body);
    let calls_itself = SEEN.with_borrow(|seen| seen.calls[before..].iter().any(|name| name == def.name));
    Def { body: then(call(if calls_itself { AGAIN } else { CHECKPOINT }), body), ..def }
}

/// `def indices($x): …`, which looks for a text or list only where that takes not too long.
pub(super) fn indices<'s>() -> Def<&'s str> {
    let call = |name| Term::Call(name, vec![Term::Var(SOUGHT_FOR)]);
    Def { name: "indices", args: vec![SOUGHT_FOR], body: then(call(SOUGHT), call(INDICES)) }
}

fn call<'s>(name: &'static str) -> T<'s> {
    Term::Call(name, Vec::new())
}

fn then<'s>(left: T<'s>, right: T<'s>) -> T<'s> {
    Term::BinOp(Box::new(left), BinaryOp::Pipe(None), Box::new(right))
}

#[allow(clippy::boxed_local, reason = "terms have boxes inside")]
fn boxed<'s>(inner: Box<T<'s>>) -> Box<T<'s>> {
    Box::new(term(*inner))
}

/// The filter with checks.
fn term<'s>(whole: T<'s>) -> T<'s> {
    SEEN.with_borrow_mut(|seen| {
        seen.terms += 1;
        seen.level += 1;
        seen.nesting = seen.nesting.max(seen.level);
    });
    let checked = checked(whole);
    SEEN.with_borrow_mut(|seen| seen.level -= 1);
    checked
}

fn checked<'s>(whole: T<'s>) -> T<'s> {
    match whole {
        Term::Id | Term::Num(_) | Term::Var(_) | Term::Break(_) | Term::Arr(None) => whole,
        Term::Recurse => then(Term::Recurse, call(CHECKPOINT)),
        Term::Str(format, parts) => text(format, parts),
        Term::Arr(Some(inner)) => {
            let items = then(term(*inner), call(ITEM));
            then(Term::Arr(Some(Box::new(items))), call(NESTED))
        }
        Term::Obj(entries) => {
            let entries = entries.into_iter().map(|(key, value)| (term(key), value.map(term))).collect();
            then(Term::Obj(entries), call(NESTED))
        }
        Term::Neg(inner) => Term::Neg(boxed(inner)),
        Term::BinOp(left, operator, right) => operation(*left, operator, *right),
        Term::Label(name, inner) => Term::Label(name, boxed(inner)),
        Term::Fold(name, source, names, arguments) => {
            // The first is the beginning, the second is run again and again.
            let argument = |(number, argument)| match (number, term(argument)) {
                (1, update) => then(then(call(CHECKPOINT), call(SIZED)), update),
                (_, other) => other,
            };
            let arguments = arguments.into_iter().enumerate().map(argument).collect();
            Term::Fold(name, boxed(source), pattern(names), arguments)
        }
        Term::TryCatch(tried, caught) => Term::TryCatch(boxed(tried), caught.map(boxed)),
        Term::IfThenElse(branches, otherwise) => {
            let branches = branches.into_iter().map(|(test, value)| (term(test), term(value))).collect();
            Term::IfThenElse(branches, otherwise.map(boxed))
        }
        Term::Def(defs, inner) => Term::Def(defs.into_iter().map(definition).collect(), boxed(inner)),
        Term::Call(name, arguments) => called(name, arguments),
        Term::Path(start, Path(parts)) => path(*start, parts),
    }
}

fn text<'s>(format: Option<&'s str>, parts: Vec<StrPart<&'s str, T<'s>>>) -> T<'s> {
    if !parts.iter().any(|part| matches!(part, StrPart::Term(_))) {
        return Term::Str(format, parts);
    }
    let part = |part| match part {
        StrPart::Term(inner) => StrPart::Term(then(term(inner), call(WEIGHED))),
        other => other,
    };
    then(Term::Str(format, parts.into_iter().map(part).collect()), call(MADE))
}

fn operation<'s>(left: T<'s>, operator: BinaryOp<&'s str>, right: T<'s>) -> T<'s> {
    let plain = |left, operator, right| Term::BinOp(Box::new(left), operator, Box::new(right));
    match operator {
        BinaryOp::Math(Math::Mul) => Term::Call(TIMES, vec![term(left), term(right)]),
        BinaryOp::UpdateMath(Math::Mul) => {
            let product = Term::Call(TIMES, vec![Term::Id, Term::Var(OPERAND)]);
            let update = plain(term(left), BinaryOp::Update, product);
            plain(term(right), BinaryOp::Pipe(Some(Pattern::Var(OPERAND))), update)
        }
        // Lists are compared item by item.
        BinaryOp::Math(Math::Sub) => plain(weighed(left), operator, weighed(right)),
        BinaryOp::UpdateMath(Math::Sub) => plain(term(left), operator, weighed(right)),
        // A text is split into a list.
        BinaryOp::Math(Math::Div) => then(plain(term(left), operator, term(right)), call(MADE)),
        BinaryOp::Math(_) => then(plain(term(left), operator, term(right)), call(SIZED)),
        // What comes out is larger by the operand, and the operand of a next round is not larger than that.
        BinaryOp::UpdateMath(_) => plain(term(left), operator, then(term(right), call(SIZED))),
        BinaryOp::Cmp(_) if is_small(&left) || is_small(&right) => plain(term(left), operator, term(right)),
        BinaryOp::Cmp(_) => plain(weighed(left), operator, weighed(right)),
        BinaryOp::Comma => plain(term(left), operator, then(call(CHECKPOINT), term(right))),
        BinaryOp::Pipe(Some(names)) => plain(term(left), BinaryOp::Pipe(Some(pattern(names))), term(right)),
        other => plain(term(left), other, term(right)),
    }
}

fn weighed(inner: T<'_>) -> T<'_> {
    then(term(inner), call(WEIGHED))
}

/// Whether comparing with it ends at once, whatever it is compared with.
fn is_small(term: &T<'_>) -> bool {
    match term {
        Term::Num(_) | Term::Arr(None) | Term::Call("null" | "true" | "false", _) => true,
        Term::Str(None, parts) => !parts.iter().any(|part| matches!(part, StrPart::Term(_))),
        Term::Obj(entries) => entries.is_empty(),
        _ => false,
    }
}

fn called<'s>(name: &'s str, arguments: Vec<T<'s>>) -> T<'s> {
    SEEN.with_borrow_mut(|seen| seen.calls.push(name.to_owned()));
    let (walks, grows) = (WALKS.contains(&name), GROWS.contains(&name));
    let arguments: Vec<_> =
        arguments.into_iter().map(|argument| if walks { weighed(argument) } else { term(argument) }).collect();
    let mut called = Term::Call(name, arguments);
    if name == "fromjson" {
        called = then(call(READABLE), called);
    }
    if COSTS.contains(&name) {
        called = then(call(COSTLY), called);
    }
    if walks {
        called = then(call(WEIGHED), called);
    }
    if grows { then(called, call(MADE)) } else { called }
}

fn path<'s>(start: T<'s>, parts: Vec<(Part<T<'s>>, Opt)>) -> T<'s> {
    let walks = parts.iter().any(|(part, _)| matches!(part, Part::Range(None, None)));
    let part = |(part, optional)| {
        let part = match part {
            Part::Index(index) => Part::Index(term(index)),
            Part::Range(from, until) => Part::Range(from.map(term), until.map(term)),
        };
        (part, optional)
    };
    let path = Term::Path(Box::new(term(start)), Path(parts.into_iter().map(part).collect()));
    if walks { then(path, call(CHECKPOINT)) } else { path }
}

fn pattern(names: Pattern<&str>) -> Pattern<&str> {
    match names {
        Pattern::Var(name) => Pattern::Var(name),
        Pattern::Arr(items) => Pattern::Arr(items.into_iter().map(pattern).collect()),
        Pattern::Obj(entries) => {
            Pattern::Obj(entries.into_iter().map(|(key, value)| (term(key), pattern(value))).collect())
        }
    }
}
