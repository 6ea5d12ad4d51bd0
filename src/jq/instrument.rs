//! Puts checks into filters.
//!
//! A filter can go on for long only by calling definitions, by walking through values (`.[]`, `..`, `reduce`,
//! `foreach`), by `range`, or by many alternatives (`,`): those have a checkpoint. A value can become large only where it
//! is put together or calculated, and deep only where a list or an object is put around it: what comes out there is
//! looked at. Calls of definitions that call themselves, and steps of paths, are counted: they make chains that recurse
//! where nothing can be checked. And natives that walk through a whole value get only what is not too large for that.

use jaq_core::{
    load::{
        lex::StrPart,
        parse::{BinaryOp, Def, Pattern, Term},
    },
    ops::Math,
    path::{Opt, Part, Path},
};

use super::{
    guard::{
        AGAIN, CHANGED, CHECKPOINT, FRESH, INDEX, ITEM, MADE, NESTED, PATTERN, PIECE, READ, READABLE, SIZED, SOUGHT,
        SPREAD, WEIGHED,
    },
    natives::{DIVIDED, MINUS, PLUS, TIMES},
};

/// The native `indices`; what filters call so is [`indices`].
pub(super) const INDICES: &str = "@meanwhile_indices";

/// Stands for the operand in `l *= r`.
const OPERAND: &str = "$@meanwhile_operand";
const SOUGHT_FOR: &str = "$x";

/// Natives that walk through their whole input, and what they compare it with.
const WALKS: [&str; 6] = ["tojson", "tobytes", "contains", "bsearch", "has", INDICES];
/// Natives that look at all of their input, but not at what is inside its items.
const READS: [&str; 22] = [
    "length",
    "utf8bytelength",
    "startswith",
    "endswith",
    "ltrimstr",
    "rtrimstr",
    "trim",
    "ltrim",
    "rtrim",
    "ascii_downcase",
    "ascii_upcase",
    "fromjson",
    "implode",
    "escape_sh",
    "escape_html",
    "unescape_html",
    "encode_uri",
    "decode_uri",
    "encode_base64",
    "decode_base64",
    "strptime",
    "fromdateiso8601",
];
/// Natives that give a list with something for each part of their input.
const SPREADS: [&str; 4] = ["explode", "reverse", "keys_unsorted", "key_values"];
/// Natives that make a text of their own, or what can be larger than what they were given.
const GROWS: [&str; 14] = [
    "ascii_downcase",
    "ascii_upcase",
    "tojson",
    "tobytes",
    "fromjson",
    "implode",
    "escape_sh",
    "escape_html",
    "unescape_html",
    "encode_uri",
    "decode_uri",
    "encode_base64",
    "decode_base64",
    "strftime",
];
/// Natives that can give a new list of what they were given.
const COPIES: [&str; 2] = ["path", "path_value"];

type T<'s> = Term<&'s str>;

/// What was seen of a filter on the way through it.
#[derive(Debug, Default)]
pub(super) struct Seen<'s> {
    /// Its parts, those inside others included.
    pub(super) terms: usize,
    /// How many of them stand inside each other.
    pub(super) nesting: usize,
    level: usize,
    /// The definitions that it calls.
    calls: Vec<&'s str>,
}

/// The definition with checks: each call is a checkpoint, and so are those in its body. One that calls itself can make a
/// chain without end of what it is given, which recurses where there is no checkpoint: those calls are counted.
pub(super) fn definition<'s>(def: Def<&'s str>, seen: &mut Seen<'s>) -> Def<&'s str> {
    let before = seen.calls.len();
    let body = term(def.body, seen);
    let calls_itself = seen.calls[before..].contains(&def.name);
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
fn boxed<'s>(inner: Box<T<'s>>, seen: &mut Seen<'s>) -> Box<T<'s>> {
    Box::new(term(*inner, seen))
}

/// The filter with checks.
fn term<'s>(whole: T<'s>, seen: &mut Seen<'s>) -> T<'s> {
    seen.terms += 1;
    seen.level += 1;
    seen.nesting = seen.nesting.max(seen.level);
    let checked = checked(whole, seen);
    seen.level -= 1;
    checked
}

fn checked<'s>(whole: T<'s>, seen: &mut Seen<'s>) -> T<'s> {
    match whole {
        Term::Id | Term::Num(_) | Term::Var(_) | Term::Break(_) | Term::Arr(None) => whole,
        Term::Recurse => then(Term::Recurse, call(CHECKPOINT)),
        Term::Str(format, parts) => text(format, parts, seen),
        Term::Arr(Some(inner)) => {
            let items = then(term(*inner, seen), call(ITEM));
            then(Term::Arr(Some(Box::new(items))), call(NESTED))
        }
        Term::Obj(entries) => {
            let entry = |(key, value): (T<'s>, Option<T<'s>>)| {
                let key = term(key, seen);
                (key, value.map(|value| term(value, seen)))
            };
            then(Term::Obj(entries.into_iter().map(entry).collect()), call(NESTED))
        }
        Term::Neg(inner) => Term::Neg(boxed(inner, seen)),
        Term::BinOp(left, operator, right) => operation(*left, operator, *right, seen),
        Term::Label(name, inner) => Term::Label(name, boxed(inner, seen)),
        Term::Fold(name, source, names, arguments) => {
            let source = boxed(source, seen);
            let names = pattern(names, seen);
            // The first is the beginning, the second is run again and again.
            let argument = |(number, argument)| match (number, term(argument, seen)) {
                (1, update) => then(then(call(CHECKPOINT), call(SIZED)), update),
                (_, other) => other,
            };
            let arguments = arguments.into_iter().enumerate().map(argument).collect();
            Term::Fold(name, source, names, arguments)
        }
        Term::TryCatch(tried, caught) => {
            let tried = boxed(tried, seen);
            Term::TryCatch(tried, caught.map(|caught| boxed(caught, seen)))
        }
        Term::IfThenElse(branches, otherwise) => {
            let branch = |(test, value)| {
                let test = term(test, seen);
                (test, term(value, seen))
            };
            let branches = branches.into_iter().map(branch).collect();
            Term::IfThenElse(branches, otherwise.map(|otherwise| boxed(otherwise, seen)))
        }
        Term::Def(defs, inner) => {
            let defs = defs.into_iter().map(|def| definition(def, seen)).collect();
            Term::Def(defs, boxed(inner, seen))
        }
        Term::Call(name, arguments) => called(name, arguments, seen),
        Term::Path(start, Path(parts)) => path(*start, parts, seen),
    }
}

fn text<'s>(format: Option<&'s str>, parts: Vec<StrPart<&'s str, T<'s>>>, seen: &mut Seen<'s>) -> T<'s> {
    if !parts.iter().any(|part| matches!(part, StrPart::Term(_))) {
        return Term::Str(format, parts);
    }
    let part = |part| match part {
        StrPart::Term(inner) => StrPart::Term(then(term(inner, seen), call(PIECE))),
        other => other,
    };
    then(Term::Str(format, parts.into_iter().map(part).collect()), call(SIZED))
}

fn operation<'s>(left: T<'s>, operator: BinaryOp<&'s str>, right: T<'s>, seen: &mut Seen<'s>) -> T<'s> {
    let plain = |left, operator, right| Term::BinOp(Box::new(left), operator, Box::new(right));
    match operator {
        // With a number nothing can come out but a number.
        BinaryOp::Math(math) if math != Math::Mul && (is_number(&left) || is_number(&right)) => {
            let left = term(left, seen);
            then(plain(left, operator, term(right, seen)), call(SIZED))
        }
        BinaryOp::Math(math) => {
            let (left, right) = (term(left, seen), term(right, seen));
            match native(math) {
                Some(native) => Term::Call(native, vec![left, right]),
                None => then(plain(left, operator, right), call(SIZED)),
            }
        }
        BinaryOp::UpdateMath(math) => {
            let number = math != Math::Mul && is_number(&right);
            let (left, right) = (term(left, seen), term(right, seen));
            let update = match native(math).filter(|_| !number) {
                Some(native) => {
                    let result = Term::Call(native, vec![Term::Id, Term::Var(OPERAND)]);
                    let update = plain(left, BinaryOp::Update, result);
                    plain(right, BinaryOp::Pipe(Some(Pattern::Var(OPERAND))), update)
                }
                None => plain(left, operator, right),
            };
            then(call(CHANGED), update)
        }
        BinaryOp::Update | BinaryOp::UpdateAlt | BinaryOp::Assign => {
            let left = term(left, seen);
            then(call(CHANGED), plain(left, operator, term(right, seen)))
        }
        BinaryOp::Cmp(_) if is_small(&left) || is_small(&right) => {
            let left = term(left, seen);
            plain(left, operator, term(right, seen))
        }
        BinaryOp::Cmp(_) => {
            let left = weighed(left, seen);
            plain(left, operator, weighed(right, seen))
        }
        BinaryOp::Comma => {
            let left = term(left, seen);
            plain(left, operator, then(call(CHECKPOINT), term(right, seen)))
        }
        BinaryOp::Pipe(Some(names)) => {
            let (left, names) = (term(left, seen), pattern(names, seen));
            plain(left, BinaryOp::Pipe(Some(names)), term(right, seen))
        }
        other => {
            let left = term(left, seen);
            plain(left, other, term(right, seen))
        }
    }
}

/// The native that stands for an operator whose result can be large; that of a remainder cannot.
fn native(math: Math) -> Option<&'static str> {
    match math {
        Math::Add => Some(PLUS),
        Math::Sub => Some(MINUS),
        Math::Mul => Some(TIMES),
        Math::Div => Some(DIVIDED),
        Math::Rem => None,
    }
}

fn weighed<'s>(inner: T<'s>, seen: &mut Seen<'s>) -> T<'s> {
    then(term(inner, seen), call(WEIGHED))
}

fn is_number(term: &T<'_>) -> bool {
    matches!(term, Term::Num(_))
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

fn called<'s>(name: &'s str, arguments: Vec<T<'s>>, seen: &mut Seen<'s>) -> T<'s> {
    seen.calls.push(name);
    let walks = WALKS.contains(&name);
    let argument = |argument| match name {
        "strftime" | "strptime" => then(term(argument, seen), call(PATTERN)),
        _ if walks => weighed(argument, seen),
        _ => term(argument, seen),
    };
    let mut called = Term::Call(name, arguments.into_iter().map(argument).collect());
    let before = [
        (READABLE, name == "fromjson"),
        (SPREAD, SPREADS.contains(&name)),
        (READ, READS.contains(&name)),
        (WEIGHED, walks),
    ];
    for (check, _) in before.into_iter().filter(|(_, applies)| *applies) {
        called = then(call(check), called);
    }
    if GROWS.contains(&name) {
        then(called, call(MADE))
    } else if COPIES.contains(&name) {
        then(called, call(FRESH))
    } else {
        called
    }
}

fn path<'s>(start: T<'s>, parts: Vec<(Part<T<'s>>, Opt)>, seen: &mut Seen<'s>) -> T<'s> {
    let walks = parts.iter().any(|(part, _)| matches!(part, Part::Range(None, None)));
    let copies =
        parts.iter().any(|(part, _)| matches!(part, Part::Range(from, until) if from.is_some() || until.is_some()));
    let start = term(start, seen);
    let part = |(part, optional)| {
        let part = match part {
            Part::Index(index) if is_small(&index) => Part::Index(term(index, seen)),
            Part::Index(index) => Part::Index(then(term(index, seen), call(INDEX))),
            Part::Range(from, until) => {
                let from = from.map(|from| term(from, seen));
                Part::Range(from, until.map(|until| term(until, seen)))
            }
        };
        (part, optional)
    };
    let mut path = Term::Path(Box::new(start), Path(parts.into_iter().map(part).collect()));
    if copies {
        path = then(path, call(FRESH));
    }
    if walks { then(path, call(CHECKPOINT)) } else { path }
}

fn pattern<'s>(names: Pattern<&'s str>, seen: &mut Seen<'s>) -> Pattern<&'s str> {
    match names {
        Pattern::Var(name) => Pattern::Var(name),
        Pattern::Arr(items) => Pattern::Arr(items.into_iter().map(|item| pattern(item, seen)).collect()),
        Pattern::Obj(entries) => {
            let entry = |(key, value)| {
                let key = term(key, seen);
                (key, pattern(value, seen))
            };
            Pattern::Obj(entries.into_iter().map(entry).collect())
        }
    }
}
