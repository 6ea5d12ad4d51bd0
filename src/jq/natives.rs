//! Natives that stand for those of jaq which could take long without a check, or much memory before one.

use jaq_core::{
    Exn, Native, ValX, box_iter,
    native::{Fun, v},
};
use jaq_json::Val;
use memchr::memmem;

use super::{
    Guarded,
    guard::{CONTAINER_BYTES, Guard, bytes, is_shared},
    sort::sorted,
};

pub(super) const PLUS: &str = "@meanwhile_plus";
pub(super) const MINUS: &str = "@meanwhile_minus";
pub(super) const TIMES: &str = "@meanwhile_times";
pub(super) const DIVIDED: &str = "@meanwhile_divided";

/// A native of two values.
macro_rules! binary {
    ($run:ident) => {
        Native::<Guarded>::new(|mut cv| {
            let (right, left, guard) = (cv.0.pop_var(), cv.0.pop_var(), *cv.0.data());
            // Whoever has only these two values can change one instead of copying it.
            drop(cv);
            box_iter::box_once($run(guard, left, right))
        })
    };
}

pub(super) fn funs() -> impl Iterator<Item = Fun<Guarded>> {
    let range = Native::<Guarded>::new(|mut cv| {
        let by = cv.0.pop_var();
        let to = cv.0.pop_var();
        let from = cv.0.pop_var();
        let guard = *cv.0.data();
        Box::new(range(from, to, by).map(move |value| guard.check().and(value)))
    });
    let contains = Native::<Guarded>::new(|mut cv| {
        let other = cv.0.pop_var();
        box_iter::box_once(contains(cv.0.data(), &cv.1, &other).map(Val::from))
    });
    [
        ("range", v(3), range),
        ("contains", v(1), contains),
        (PLUS, v(2), binary!(plus)),
        (MINUS, v(2), binary!(minus)),
        (TIMES, v(2), binary!(times)),
        (DIVIDED, v(2), binary!(divided)),
    ]
    .into_iter()
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

/// `left + right`. A left one that somebody else has is copied; any other grows.
fn plus<'e>(guard: &Guard<'_>, left: Val, right: Val) -> ValX<'e, Val> {
    let copied = if is_shared(&left) { bytes(&left) } else { 0 };
    let made = copied.saturating_add(bytes(&right));
    guard.work(made)?;
    guard.spend(made)?;
    let sum = (left + right).map_err(Exn::from)?;
    guard.sized(&sum)?;
    Ok(sum)
}

/// `left - right`, which for lists is what is in the one and not in the other.
fn minus<'e>(guard: &Guard<'_>, left: Val, right: Val) -> ValX<'e, Val> {
    let (Val::Arr(items), Val::Arr(without)) = (&left, &right) else {
        let difference = (left - right).map_err(Exn::from)?;
        guard.sized(&difference)?;
        return Ok(difference);
    };
    guard.weight(&left)?;
    guard.weight(&right)?;
    let without = sorted(guard, without)?;
    let mut rest = Vec::new();
    for item in items.iter() {
        guard.check()?;
        if without.binary_search(item).is_err() {
            rest.push(item.clone());
        }
    }
    let rest = rest.into_iter().collect();
    guard.made(&rest)?;
    Ok(rest)
}

/// `left * right`, which for a text and a number is the text so many times, and for objects both together.
fn times<'e>(guard: &Guard<'_>, left: Val, right: Val) -> ValX<'e, Val> {
    let bytes = match (&left, &right) {
        (Val::TStr(text) | Val::BStr(text), Val::Num(times)) | (Val::Num(times), Val::TStr(text) | Val::BStr(text)) => {
            text.len().saturating_mul(times.as_isize().map_or(usize::MAX, |times| usize::try_from(times).unwrap_or(0)))
        }
        _ => 0,
    };
    guard.fits(bytes)?;
    if let (Val::Obj(_), Val::Obj(_)) = (&left, &right) {
        // Objects are merged with all that is inside them.
        guard.weight(&left)?;
        guard.weight(&right)?;
    }
    let product = (left * right).map_err(Exn::from)?;
    guard.made(&product)?;
    Ok(product)
}

/// `left / right`, which for texts is the parts of the one between the others.
fn divided<'e>(guard: &Guard<'_>, left: Val, right: Val) -> ValX<'e, Val> {
    let (Val::TStr(text), Val::TStr(between)) = (&left, &right) else {
        return (left / right).map_err(Exn::from);
    };
    guard.work(text.len())?;
    let parts = match between.len() {
        // A part for each character.
        0 => text.len(),
        _ => {
            let mut parts: usize = 1;
            for _ in memmem::find_iter(text, &***between) {
                guard.check()?;
                parts += 1;
            }
            parts
        }
    };
    guard.spend(parts.saturating_mul(CONTAINER_BYTES))?;
    let list = (left / right).map_err(Exn::from)?;
    guard.sized(&list)?;
    Ok(list)
}

/// Whether every part of `other` is in a part of `value`. Neither is too deep.
fn contains<'e>(guard: &Guard<'_>, value: &Val, other: &Val) -> Result<bool, Exn<'e, Val>> {
    guard.check()?;
    match (value, other) {
        (Val::TStr(text), Val::TStr(part)) | (Val::BStr(text), Val::BStr(part)) => {
            guard.work(text.len())?;
            Ok(memmem::find(text, part).is_some())
        }
        (Val::Arr(items), Val::Arr(others)) => every(others.iter(), |other| {
            for item in items.iter() {
                if contains(guard, item, other)? {
                    return Ok(true);
                }
            }
            Ok(false)
        }),
        (Val::Obj(entries), Val::Obj(others)) => every(others.iter(), |(key, other)| match entries.get(key) {
            Some(value) => contains(guard, value, other),
            None => Ok(false),
        }),
        _ => Ok(value == other),
    }
}

fn every<'e, T>(
    mut others: impl Iterator<Item = T>,
    mut is_there: impl FnMut(T) -> Result<bool, Exn<'e, Val>>,
) -> Result<bool, Exn<'e, Val>> {
    others.try_fold(true, |all, other| Ok(all && is_there(other)?))
}
