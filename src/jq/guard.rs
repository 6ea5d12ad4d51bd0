//! Ends filters that do not end by themselves.
//!
//! jaq has no way to be interrupted, so what is compiled has checkpoints in it. A filter can go on for long only by
//! calling definitions, by walking through values (`.[]`) or by `range`: those have one. They are native filters that
//! change nothing, also in paths and updates.

use std::{cell::Cell, time::Duration};

use jaq_core::{
    Exn, Lut, Native, ValX, box_iter,
    load::{
        lex::StrPart,
        parse::{BinaryOp, Def, Pattern, Term},
    },
    native::{Fun, v},
    ops::Math,
    path::{Part, Path},
};
use jaq_json::Val;

use super::Guarded;
use crate::clock::Clock;

/// What filters call the checkpoint. jq has no such name, so nobody writes it by accident.
const CHECKPOINT: &str = "@meanwhile_checkpoint";
const RANGE: &str = "range";
const TIMES: &str = "@meanwhile_times";
/// Stands for the operand in `l *= r`.
const OPERAND: &str = "$@meanwhile_operand";

/// Checkpoints between two looks at the clock.
const CHECKS_PER_LOOK: u32 = 64;
/// Stack a filter may use, in bytes: half of what a thread has by default.
const MAX_STACK_BYTES: usize = 1 << 20;
/// The largest text that `"…" * n` makes, in bytes.
const MAX_TEXT_BYTES: usize = 16 << 20;

/// Ways to be stopped, as jq's exit codes: those no `try` can catch.
pub(super) const OVER_TIME: i32 = 1;
pub(super) const OVER_STACK: i32 = 2;
pub(super) const OVER_TEXT: i32 = 3;

/// One run's limits.
pub(super) struct Guard<'a> {
    pub(super) lut: &'a Lut<Guarded>,
    clock: &'a dyn Clock,
    until: Duration,
    checks: Cell<u32>,
    stack: usize,
}

impl<'a> Guard<'a> {
    /// Until this moment, on [`Clock::elapsed`]. Must be made where the filter is run.
    pub(super) fn new(lut: &'a Lut<Guarded>, clock: &'a dyn Clock, until: Duration) -> Self {
        Self { lut, clock, until, checks: Cell::new(0), stack: stack_address() }
    }

    fn check<'e>(&self) -> Result<(), Exn<'e, Val>> {
        if stack_address().abs_diff(self.stack) > MAX_STACK_BYTES {
            return Err(Exn::halt(OVER_STACK));
        }
        let checks = self.checks.get().wrapping_add(1);
        self.checks.set(checks);
        if checks.is_multiple_of(CHECKS_PER_LOOK) && self.clock.elapsed() >= self.until {
            return Err(Exn::halt(OVER_TIME));
        }
        Ok(())
    }
}

/// About where the stack has come to.
#[inline(never)]
fn stack_address() -> usize {
    let here = 0_u8;
    std::ptr::from_ref(std::hint::black_box(&here)).addr()
}

/// The checkpoint and what replaces natives that could run long.
pub(super) fn funs() -> impl Iterator<Item = Fun<Guarded>> {
    let checkpoint = Native::<Guarded>::new(|cv| box_iter::box_once(cv.0.data().check().map(|()| cv.1)))
        .with_paths(|cv| box_iter::box_once(cv.0.data().check().map(|()| cv.1)))
        .with_update(|cv, update| match cv.0.data().check() {
            Ok(()) => update(cv.1),
            Err(stop) => box_iter::box_once(Err(stop)),
        });
    let range = Native::<Guarded>::new(|mut cv| {
        let by = cv.0.pop_var();
        let to = cv.0.pop_var();
        let from = cv.0.pop_var();
        let guard = *cv.0.data();
        Box::new(range(from, to, by).map(move |value| guard.check().and(value)))
    });
    let times = Native::<Guarded>::new(|mut cv| {
        let right = cv.0.pop_var();
        let left = cv.0.pop_var();
        box_iter::box_once(times(left, right))
    });
    [(CHECKPOINT, v(0), checkpoint), (RANGE, v(3), range), (TIMES, v(2), times)].into_iter()
}

fn range<'e>(from: Val, to: Val, by: Val) -> impl Iterator<Item = ValX<'e, Val>> {
    let zero = Val::from(0_isize);
    let mut next = Some(from);
    std::iter::from_fn(move || {
        let value = next.take()?;
        let within = if by > zero {
            value < to
        } else if by < zero {
            value > to
        } else {
            value != to
        };
        if !within {
            return None;
        }
        match value.clone() + by.clone() {
            Ok(following) => {
                next = Some(following);
                Some(Ok(value))
            }
            Err(error) => Some(Err(error.into())),
        }
    })
}

/// `left * right`, which for a text and a number is the text so many times.
fn times<'e>(left: Val, right: Val) -> ValX<'e, Val> {
    let bytes = match (&left, &right) {
        (Val::TStr(text) | Val::BStr(text), Val::Num(times)) | (Val::Num(times), Val::TStr(text) | Val::BStr(text)) => {
            text.len().saturating_mul(times.as_isize().map_or(usize::MAX, |times| usize::try_from(times).unwrap_or(0)))
        }
        _ => 0,
    };
    if bytes > MAX_TEXT_BYTES {
        return Err(Exn::halt(OVER_TEXT));
    }
    (left * right).map_err(Exn::from)
}

type T<'s> = Term<&'s str>;

/// The definition with checkpoints: each call is one, and all in its body.
pub(super) fn definition(def: Def<&str>) -> Def<&str> {
    Def { body: then(checkpoint(), term(def.body)), ..def }
}

fn checkpoint<'s>() -> T<'s> {
    Term::Call(CHECKPOINT, Vec::new())
}

fn then<'s>(left: T<'s>, right: T<'s>) -> T<'s> {
    Term::BinOp(Box::new(left), BinaryOp::Pipe(None), Box::new(right))
}

#[allow(clippy::boxed_local, reason = "terms have boxes inside")]
fn boxed<'s>(inner: Box<T<'s>>) -> Box<T<'s>> {
    Box::new(term(*inner))
}

fn all<'s>(terms: Vec<T<'s>>) -> Vec<T<'s>> {
    terms.into_iter().map(term).collect()
}

/// The filter with checkpoints.
pub(super) fn term<'s>(whole: T<'s>) -> T<'s> {
    match whole {
        Term::Id | Term::Recurse | Term::Num(_) | Term::Var(_) | Term::Break(_) | Term::Arr(None) => whole,
        Term::Str(format, parts) => {
            let part = |part| match part {
                StrPart::Term(inner) => StrPart::Term(term(inner)),
                other => other,
            };
            Term::Str(format, parts.into_iter().map(part).collect())
        }
        Term::Arr(Some(inner)) => Term::Arr(Some(boxed(inner))),
        Term::Obj(entries) => Term::Obj(entries.into_iter().map(|(key, value)| (term(key), value.map(term))).collect()),
        Term::Neg(inner) => Term::Neg(boxed(inner)),
        Term::BinOp(left, BinaryOp::Math(Math::Mul), right) => Term::Call(TIMES, vec![term(*left), term(*right)]),
        Term::BinOp(left, BinaryOp::UpdateMath(Math::Mul), right) => {
            let product = Term::Call(TIMES, vec![Term::Id, Term::Var(OPERAND)]);
            let update = Term::BinOp(boxed(left), BinaryOp::Update, Box::new(product));
            Term::BinOp(boxed(right), BinaryOp::Pipe(Some(Pattern::Var(OPERAND))), Box::new(update))
        }
        Term::BinOp(left, operator, right) => {
            let operator = match operator {
                BinaryOp::Pipe(Some(names)) => BinaryOp::Pipe(Some(pattern(names))),
                other => other,
            };
            Term::BinOp(boxed(left), operator, boxed(right))
        }
        Term::Label(name, inner) => Term::Label(name, boxed(inner)),
        Term::Fold(name, source, names, arguments) => Term::Fold(name, boxed(source), pattern(names), all(arguments)),
        Term::TryCatch(tried, caught) => Term::TryCatch(boxed(tried), caught.map(boxed)),
        Term::IfThenElse(branches, otherwise) => {
            let branches = branches.into_iter().map(|(test, value)| (term(test), term(value))).collect();
            Term::IfThenElse(branches, otherwise.map(boxed))
        }
        Term::Def(defs, inner) => Term::Def(defs.into_iter().map(definition).collect(), boxed(inner)),
        Term::Call(name, arguments) => Term::Call(name, all(arguments)),
        Term::Path(start, Path(parts)) => path(*start, parts),
    }
}

fn path<'s>(start: T<'s>, parts: Vec<(Part<T<'s>>, jaq_core::path::Opt)>) -> T<'s> {
    let walks = parts.iter().any(|(part, _)| matches!(part, Part::Range(None, None)));
    let part = |(part, optional)| {
        let part = match part {
            Part::Index(index) => Part::Index(term(index)),
            Part::Range(from, until) => Part::Range(from.map(term), until.map(term)),
        };
        (part, optional)
    };
    let path = Term::Path(Box::new(term(start)), Path(parts.into_iter().map(part).collect()));
    if walks { then(path, checkpoint()) } else { path }
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
