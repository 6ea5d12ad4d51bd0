//! Sorting within the limits of a run: the natives of jaq cannot be stopped.

use std::cmp::Ordering;

use jaq_core::{
    Bind, Cv, Error, Exn, Native, ValX, box_iter,
    native::{Fun, v},
};
use jaq_json::Val;

use super::{
    Guarded,
    guard::{Check, ENTRY_BYTES, Guard},
};

type Stop<'e> = Exn<'e, Val>;

pub(super) fn funs() -> impl Iterator<Item = Fun<Guarded>> {
    let by = || [Bind::Fun(())].into();
    let sort = Native::<Guarded>::new(|cv| {
        let guard = *cv.0.data();
        let sorted = items(cv.1).map_err(Exn::from).and_then(|items| sorted(guard, &items));
        box_iter::box_once(sorted.map(|items| items.into_iter().collect()))
    });
    let sort_by = Native::<Guarded>::new(|cv| {
        let sorted = sorted_with_keys(cv).map(|keyed| keyed.into_iter().map(|keyed| keyed.item).collect());
        box_iter::box_once(sorted)
    });
    let group_by = Native::<Guarded>::new(|cv| {
        let guard = *cv.0.data();
        box_iter::box_once(sorted_with_keys(cv).and_then(|keyed| grouped(guard, keyed)))
    });
    let min_by = Native::<Guarded>::new(|cv| Box::new(extreme(cv, Ordering::is_lt).transpose().into_iter()));
    let max_by = Native::<Guarded>::new(|cv| Box::new(extreme(cv, Ordering::is_ge).transpose().into_iter()));
    [
        ("sort", v(0), sort),
        ("sort_by", by(), sort_by),
        ("group_by", by(), group_by),
        ("min_by_or_empty", by(), min_by),
        ("max_by_or_empty", by(), max_by),
    ]
    .into_iter()
}

/// These values in order.
pub(super) fn sorted<'e>(guard: &Guard<'_>, items: &[Val]) -> Result<Vec<Val>, Stop<'e>> {
    let keyed =
        items.iter().map(|item| Keyed::new(guard, vec![item.clone()], item.clone())).collect::<Result<_, _>>()?;
    Ok(merge_sorted(guard, keyed)?.into_iter().map(|keyed| keyed.item).collect())
}

/// An item with what it is sorted by.
struct Keyed {
    keys: Vec<Val>,
    /// What comparing them takes at most, in bytes.
    bytes: usize,
    item: Val,
}

impl Keyed {
    fn new<'e>(guard: &Guard<'_>, keys: Vec<Val>, item: Val) -> Result<Self, Stop<'e>> {
        guard.check()?;
        guard.spend(ENTRY_BYTES)?;
        let mut bytes: usize = 0;
        for key in &keys {
            bytes = bytes.saturating_add(guard.weight(key)?.bytes());
        }
        Ok(Self { keys, bytes, item })
    }

    /// May be compared with the other.
    fn may_meet<'e>(&self, guard: &Guard<'_>, other: &Self) -> Check<'e> {
        guard.check()?;
        guard.work(self.bytes.min(other.bytes))
    }
}

/// Equal ones keep their order.
fn merge_sorted<'e>(guard: &Guard<'_>, mut left: Vec<Keyed>) -> Result<Vec<Keyed>, Stop<'e>> {
    if left.len() < 2 {
        return Ok(left);
    }
    let right = left.split_off(left.len() / 2);
    let (left, right) = (merge_sorted(guard, left)?, merge_sorted(guard, right)?);
    let mut merged = Vec::with_capacity(left.len() + right.len());
    let (mut left, mut right) = (left.into_iter().peekable(), right.into_iter().peekable());
    while let (Some(first), Some(second)) = (left.peek(), right.peek()) {
        first.may_meet(guard, second)?;
        let next = if first.keys <= second.keys { left.next() } else { right.next() };
        merged.extend(next);
    }
    merged.extend(left);
    merged.extend(right);
    Ok(merged)
}

/// The items of the list that the filter is given, each with what its argument gives for it.
fn with_keys<'a>(mut cv: Cv<'a, Guarded>) -> Result<Vec<Keyed>, Stop<'a>> {
    let guard = *cv.0.data();
    let (key, context) = cv.0.pop_fun();
    let keyed = |item: Val| {
        let keys = key.run((context.clone(), item.clone())).collect::<Result<_, _>>()?;
        Keyed::new(guard, keys, item)
    };
    items(cv.1)?.into_iter().map(keyed).collect()
}

fn sorted_with_keys<'a>(cv: Cv<'a, Guarded>) -> Result<Vec<Keyed>, Stop<'a>> {
    let guard = *cv.0.data();
    merge_sorted(guard, with_keys(cv)?)
}

fn grouped<'e>(guard: &Guard<'_>, keyed: Vec<Keyed>) -> ValX<'e, Val> {
    let mut groups: Vec<Vec<Val>> = Vec::new();
    let mut last: Option<Keyed> = None;
    for keyed in keyed {
        let belongs = match &last {
            Some(last) => {
                last.may_meet(guard, &keyed)?;
                last.keys == keyed.keys
            }
            None => false,
        };
        let item = keyed.item.clone();
        match groups.last_mut() {
            Some(group) if belongs => group.push(item),
            _ => {
                guard.spend(ENTRY_BYTES)?;
                groups.push(vec![item]);
            }
        }
        last = Some(keyed);
    }
    Ok(groups.into_iter().map(Val::from_iter).collect())
}

/// The item whose keys stand so to those of every item before it.
fn extreme<'a>(cv: Cv<'a, Guarded>, replaces: fn(Ordering) -> bool) -> Result<Option<Val>, Stop<'a>> {
    let guard = *cv.0.data();
    let mut keyed = with_keys(cv)?.into_iter();
    let Some(mut found) = keyed.next() else { return Ok(None) };
    for next in keyed {
        next.may_meet(guard, &found)?;
        if replaces(next.keys.cmp(&found.keys)) {
            found = next;
        }
    }
    Ok(Some(found.item))
}

fn items(value: Val) -> Result<Vec<Val>, Error<Val>> {
    match value {
        Val::Arr(items) => Ok(jaq_json::Rc::unwrap_or_clone(items)),
        other => Err(Error::typ(other, "array")),
    }
}
