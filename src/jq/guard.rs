//! One run's limits, and the native filters that keep to them.
//!
//! jaq has no way to be interrupted and knows no limits, so what is compiled has checks in it (`instrument` puts them
//! there): native filters that change nothing and give their input on, also in paths and updates.

use std::{
    cell::Cell,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use jaq_core::{
    Exn, Lut, Native, box_iter,
    native::{Fun, v},
};
use jaq_json::{Num, Rc, Val};

use super::{
    Guarded,
    weigh::{self, Heavy, Weight},
};
use crate::clock::Clock;

/// What filters call the checks. jq has no such names, so nobody writes them by accident.
pub(super) const CHECKPOINT: &str = "@meanwhile_checkpoint";
/// The same where a definition begins that calls itself.
pub(super) const AGAIN: &str = "@meanwhile_again";
/// Whether a value is not too large.
pub(super) const SIZED: &str = "@meanwhile_sized";
/// The same of one that was just made, and counts it.
pub(super) const MADE: &str = "@meanwhile_made";
/// The same of one that stands around others, and whether it is not too deep.
pub(super) const NESTED: &str = "@meanwhile_nested";
/// Counts an item of a list that is being made.
pub(super) const ITEM: &str = "@meanwhile_item";
/// Counts what a native looks at as time.
pub(super) const READ: &str = "@meanwhile_read";
/// Counts the list that a native makes, which has something for each part of what it is given.
pub(super) const SPREAD: &str = "@meanwhile_spread";
/// Whether a list or text is not too large, and counts it if nobody else has it: then it was just made.
pub(super) const FRESH: &str = "@meanwhile_fresh";
/// Counts a piece of a text that is put together.
pub(super) const PIECE: &str = "@meanwhile_piece";
/// Counts the copy that is made of what is changed, when somebody else has it too.
pub(super) const CHANGED: &str = "@meanwhile_changed";
/// Whether what stands in `.[ ]` is no long list, which would be looked for.
pub(super) const INDEX: &str = "@meanwhile_index";
/// Whether a pattern is not too long.
pub(super) const PATTERN: &str = "@meanwhile_pattern";
/// Whether a value that is to be walked through as a whole, away from checkpoints, is not too large for that.
pub(super) const WEIGHED: &str = "@meanwhile_weighed";
/// Whether a text may be read as JSON.
pub(super) const READABLE: &str = "@meanwhile_readable";
/// Whether looking for the variable in the input takes not too long.
pub(super) const SOUGHT: &str = "@meanwhile_sought";

/// Steps between two looks at the clock.
const STEPS_PER_LOOK: u64 = 64;
/// What reading, comparing or copying so many bytes counts for is one step.
const BYTES_PER_STEP: usize = 1024;
/// Stack a filter may use, in bytes: half of what a thread has by default.
const MAX_STACK_BYTES: usize = 1 << 20;
/// The same in a brief run, which is on a stack that others use.
const BRIEF_STACK_BYTES: usize = 128 << 10;
/// The stack of the thread that a filter is run on, in bytes; only what is used of it takes memory. Chains of what
/// recursive definitions were given recurse where no check is.
pub(super) const STACK_BYTES: usize = if cfg!(debug_assertions) { 2 << 30 } else { 512 << 20 };
/// Calls of definitions that call themselves, and steps of paths.
pub(super) const MAX_CALLS: usize = 100_000;
/// The same times the parts of the filter's text: each call can add all of them to a chain.
const MAX_CHAINED: usize = 2_000_000;
/// Steps of a brief run.
const BRIEF_STEPS: u64 = 256;
/// The largest value in a brief run, in bytes.
const BRIEF_ROOM_BYTES: usize = 64 << 10;
/// Brackets inside each other in a value, in about: whatever reads, compares or drops a value recurses.
pub(super) const MAX_NESTING: usize = 256;
/// Of the lists and objects that a filter makes, every so many-th is looked at for its depth: a value cannot become
/// much deeper than allowed without being looked at, and most filters do not notice.
const NESTED_PER_LOOK: u32 = 16;
/// Those that are made first are not looked at: each makes a value deeper by one at most.
const NESTED_FREELY: u32 = 256;
/// The digits of a number: those who read, write and multiply longer ones take long.
pub(super) const MAX_DIGITS: usize = 1000;
/// The largest value that a filter may make, in bytes, unless it is given much.
const MIN_ROOM_BYTES: usize = 16 << 20;
/// How many times as large as what the filter is given, or may give, a value may become.
const ROOM_FACTOR: usize = 4;
/// How many times as large as one value may be all may be together that a filter makes.
const ALL_FACTOR: usize = 16;
/// What an item of a list, and an entry of an object, take in memory, in bytes, about.
pub(super) const ITEM_BYTES: usize = 16;
pub(super) const ENTRY_BYTES: usize = 64;
/// What a list or an object takes in memory beside that, and a text beside its bytes, in bytes, about.
pub(super) const CONTAINER_BYTES: usize = 96;
/// All that is compared, in bytes, where a text or list is looked for in another.
const MAX_SOUGHT_BYTES: usize = 256 << 20;
/// The longest list that can be looked for with `.[ ]`, as bytes of JSON text.
const MAX_INDEX_BYTES: usize = 64;
/// The longest pattern, in bytes.
pub(super) const MAX_PATTERN_BYTES: usize = 16 << 10;

/// Ways to be stopped, as jq's exit codes: those no `try` can catch.
pub(super) const OVER_TIME: i32 = 1;
pub(super) const OVER_STACK: i32 = 2;
pub(super) const OVER_ROOM: i32 = 3;
pub(super) const OVER_DEPTH: i32 = 4;
pub(super) const OVER_DIGITS: i32 = 5;
pub(super) const OVER_SOUGHT: i32 = 6;
pub(super) const OVER_STEPS: i32 = 7;
pub(super) const OVER_CALLS: i32 = 8;
pub(super) const OVER_PATTERN: i32 = 9;

/// One run's limits.
pub(super) struct Guard<'a> {
    pub(super) lut: &'a Lut<Guarded>,
    time: Option<Time<'a>>,
    /// Steps that may still be done.
    steps: Cell<u64>,
    /// And until the next look at the clock.
    steps_to_look: Cell<u64>,
    /// The largest value, in bytes.
    room: usize,
    /// What may still be made, in bytes.
    left: Cell<usize>,
    nested: Cell<u32>,
    /// Calls that may still be made.
    calls: Cell<usize>,
    stack: usize,
    max_stack: usize,
}

/// Until when a run may go on.
#[derive(Clone, Copy)]
pub(super) struct Time<'a> {
    pub(super) clock: &'a dyn Clock,
    /// On [`Clock::elapsed`].
    pub(super) until: Duration,
    /// Whether nobody wants the outputs any more.
    pub(super) abandoned: &'a AtomicBool,
}

impl Time<'_> {
    fn is_over(&self) -> bool {
        self.abandoned.load(Ordering::Relaxed) || self.clock.elapsed() >= self.until
    }
}

pub(super) type Check<'e> = Result<(), Exn<'e, Val>>;

impl<'a> Guard<'a> {
    /// `given` is what the filter is given or may give, in bytes. Must be made where the filter is run.
    /// The filter's text has so many `terms`.
    pub(super) fn new(lut: &'a Lut<Guarded>, terms: usize, time: Time<'a>, given: usize) -> Self {
        let room = given.saturating_mul(ROOM_FACTOR).max(MIN_ROOM_BYTES);
        let calls = Cell::new((MAX_CHAINED / terms.max(1)).min(MAX_CALLS));
        Self { time: Some(time), calls, ..Self::within(lut, u64::MAX, room, MAX_STACK_BYTES) }
    }

    /// For a run that ends soon, by itself or by force: it may be where nothing may block.
    pub(super) fn brief(lut: &'a Lut<Guarded>) -> Self {
        Self::within(lut, BRIEF_STEPS, BRIEF_ROOM_BYTES, BRIEF_STACK_BYTES)
    }

    fn within(lut: &'a Lut<Guarded>, steps: u64, room: usize, max_stack: usize) -> Self {
        let left = Cell::new(room.saturating_mul(ALL_FACTOR));
        let (steps, nested, stack) = (Cell::new(steps), Cell::new(0), stack_address());
        let (calls, steps_to_look) = (Cell::new(usize::MAX), Cell::new(STEPS_PER_LOOK));
        Self { lut, time: None, steps, steps_to_look, room, left, nested, calls, stack, max_stack }
    }

    /// A filter may go on.
    pub(super) fn check<'e>(&self) -> Check<'e> {
        self.step(1)
    }

    /// The same, and looks at the clock: before what can take long.
    pub(super) fn look<'e>(&self) -> Check<'e> {
        self.step(STEPS_PER_LOOK)
    }

    /// So many bytes may be looked at.
    pub(super) fn work<'e>(&self, bytes: usize) -> Check<'e> {
        self.step((bytes / BYTES_PER_STEP) as u64)
    }

    /// The same, for what can make a chain longer.
    fn again<'e>(&self) -> Check<'e> {
        let left = self.calls.get().checked_sub(1).ok_or_else(|| Exn::halt(OVER_CALLS))?;
        self.calls.set(left);
        self.check()
    }

    fn step<'e>(&self, steps: u64) -> Check<'e> {
        if stack_address().abs_diff(self.stack) > self.max_stack {
            return Err(Exn::halt(OVER_STACK));
        }
        let left = self.steps.get().checked_sub(steps).ok_or_else(|| Exn::halt(OVER_STEPS))?;
        self.steps.set(left);
        match self.steps_to_look.get().checked_sub(steps) {
            Some(to_look @ 1..) => {
                self.steps_to_look.set(to_look);
                Ok(())
            }
            _ => {
                self.steps_to_look.set(STEPS_PER_LOOK);
                within(!self.is_over(), OVER_TIME)
            }
        }
    }

    fn is_over(&self) -> bool {
        self.time.is_some_and(|time| time.is_over())
    }

    pub(super) fn sized<'e>(&self, value: &Val) -> Check<'e> {
        if let Val::Num(Num::BigInt(number)) = value {
            // A digit has a little more than three bits.
            within(number.bits() <= 4 * MAX_DIGITS as u64, OVER_DIGITS)?;
            return self.spend(bytes(value));
        }
        self.fits(bytes(value))
    }

    pub(super) fn fits<'e>(&self, bytes: usize) -> Check<'e> {
        within(bytes <= self.room, OVER_ROOM)
    }

    pub(super) fn made<'e>(&self, value: &Val) -> Check<'e> {
        self.sized(value)?;
        self.work(bytes(value))?;
        self.spend(bytes(value))
    }

    fn fresh<'e>(&self, value: &Val) -> Check<'e> {
        if is_shared(value) { self.sized(value) } else { self.made(value) }
    }

    fn changed<'e>(&self, value: &Val) -> Check<'e> {
        if !is_shared(value) {
            return Ok(());
        }
        // Copied is what has the part that changes inside it.
        let weight = self.weight(value)?;
        self.work(weight.bytes())?;
        self.spend(weight.values.saturating_mul(ITEM_BYTES))
    }

    fn piece<'e>(&self, value: &Val) -> Check<'e> {
        let bytes = self.weight(value)?.bytes();
        self.work(bytes)?;
        self.spend(bytes)
    }

    fn spread<'e>(&self, value: &Val) -> Check<'e> {
        let bytes = match value {
            Val::TStr(text) => text.len().saturating_mul(ITEM_BYTES),
            Val::Arr(items) => items.len().saturating_mul(CONTAINER_BYTES),
            Val::Obj(entries) => entries.len().saturating_mul(CONTAINER_BYTES),
            _ => 0,
        };
        self.work(bytes)?;
        self.spend(bytes)
    }

    pub(super) fn spend<'e>(&self, bytes: usize) -> Check<'e> {
        let left = self.left.get().checked_sub(bytes).ok_or_else(|| Exn::halt(OVER_ROOM))?;
        self.left.set(left);
        Ok(())
    }

    fn nested<'e>(&self, value: &Val) -> Check<'e> {
        self.sized(value)?;
        if let Val::Obj(_) = value {
            // The items of lists were counted one by one.
            self.spend(bytes(value))?;
        }
        let nested = self.nested.get().saturating_add(1);
        self.nested.set(nested);
        if nested <= NESTED_FREELY || !is_drawn(nested) { Ok(()) } else { self.weigh(value) }
    }

    fn weigh<'e>(&self, value: &Val) -> Check<'e> {
        self.weight(value).map(drop)
    }

    /// How large it is with all inside it, when that is not too large.
    pub(super) fn weight<'e>(&self, value: &Val) -> Result<Weight, Exn<'e, Val>> {
        let weight = weigh::weigh(value, self.room, 2 * MAX_NESTING, || self.is_over()).map_err(|heavy| {
            Exn::halt(match heavy {
                Heavy::Deep => OVER_DEPTH,
                Heavy::Large => OVER_ROOM,
                Heavy::Late => OVER_TIME,
            })
        })?;
        self.work(weight.bytes())?;
        Ok(weight)
    }

    fn readable<'e>(&self, value: &Val) -> Check<'e> {
        let Val::TStr(text) = value else { return Ok(()) };
        let outline = weigh::outline(text);
        within(outline.nesting <= MAX_NESTING, OVER_DEPTH)?;
        within(outline.digits <= MAX_DIGITS, OVER_DIGITS)?;
        let lists = outline.containers.saturating_mul(CONTAINER_BYTES);
        self.spend(lists.saturating_add(outline.separators.saturating_mul(CONTAINER_BYTES / 2)))
    }

    fn sought<'e>(&self, within_this: &Val, sought: &Val) -> Check<'e> {
        let compared = match (within_this, sought) {
            (Val::TStr(x) | Val::BStr(x), Val::TStr(y) | Val::BStr(y)) => x.len().saturating_mul(y.len()),
            (Val::Arr(x), Val::Arr(y)) if !y.is_empty() => {
                // Each comparison of two items takes about as long as that of so many bytes.
                x.len().saturating_mul(self.weight(sought)?.bytes().saturating_mul(ITEM_BYTES))
            }
            _ => 0,
        };
        within(compared <= MAX_SOUGHT_BYTES, OVER_SOUGHT)
    }

    fn index<'e>(&self, index: &Val) -> Check<'e> {
        match index {
            Val::Arr(_) => within(self.weight(index)?.bytes() <= MAX_INDEX_BYTES, OVER_SOUGHT),
            _ => Ok(()),
        }
    }

    pub(super) fn pattern<'e>(&self, pattern: &Val) -> Check<'e> {
        within(bytes(pattern) <= MAX_PATTERN_BYTES, OVER_PATTERN)
    }
}

/// By a hash, so that no filter is in step with it by chance.
fn is_drawn(number: u32) -> bool {
    (number.wrapping_mul(0x9e37_79b1) >> 16).is_multiple_of(NESTED_PER_LOOK)
}

/// Whether somebody else has the value too, so that changing it copies it. What is copied easily counts as not shared.
pub(super) fn is_shared(value: &Val) -> bool {
    match value {
        Val::Null | Val::Bool(_) | Val::Num(_) => false,
        Val::TStr(text) | Val::BStr(text) => !text.is_unique(),
        Val::Arr(items) => Rc::strong_count(items) > 1,
        Val::Obj(entries) => Rc::strong_count(entries) > 1,
    }
}

/// What the value itself takes in memory, without those inside it, in bytes, about.
pub(super) fn bytes(value: &Val) -> usize {
    match value {
        Val::Num(Num::BigInt(number)) => usize::try_from(number.bits() / 8).unwrap_or(usize::MAX),
        Val::Null | Val::Bool(_) | Val::Num(_) => 0,
        Val::TStr(text) | Val::BStr(text) => text.len(),
        Val::Arr(items) => items.len().saturating_mul(ITEM_BYTES),
        Val::Obj(entries) => entries.len().saturating_mul(ENTRY_BYTES),
    }
}

pub(super) fn within<'e>(fits: bool, over: i32) -> Check<'e> {
    if fits { Ok(()) } else { Err(Exn::halt(over)) }
}

/// About where the stack has come to.
#[inline(never)]
fn stack_address() -> usize {
    let here = 0_u8;
    std::ptr::from_ref(std::hint::black_box(&here)).addr()
}

/// A native filter that gives its input on, or stops.
macro_rules! check {
    (|$guard:ident, $value:ident| $check:expr) => {
        check!(|$guard, $value| $check; in paths $check)
    };
    (|$guard:ident, $value:ident| $check:expr; in paths $in_paths:expr) => {
        Native::<Guarded>::new(|cv| {
            let ($guard, $value) = (*cv.0.data(), &cv.1);
            let checked = $check;
            box_iter::box_once(checked.map(|()| cv.1))
        })
        .with_paths(|cv| {
            let ($guard, $value) = (*cv.0.data(), &cv.1.0);
            let checked = $in_paths;
            box_iter::box_once(checked.map(|()| cv.1))
        })
        .with_update(|cv, update| {
            let ($guard, $value) = (*cv.0.data(), &cv.1);
            match $check {
                Ok(()) => update(cv.1),
                Err(stop) => box_iter::box_once(Err(stop)),
            }
        })
    };
}

/// The checks.
pub(super) fn funs() -> impl Iterator<Item = Fun<Guarded>> {
    let sought = Native::<Guarded>::new(|mut cv| {
        let sought = cv.0.pop_var();
        let checked = cv.0.data().sought(&cv.1, &sought);
        box_iter::box_once(checked.map(|()| cv.1))
    });
    [
        (CHECKPOINT, v(0), check!(|guard, _value| guard.check(); in paths guard.again())),
        (AGAIN, v(0), check!(|guard, _value| guard.again())),
        (SIZED, v(0), check!(|guard, value| guard.sized(value))),
        (MADE, v(0), check!(|guard, value| guard.made(value))),
        (FRESH, v(0), check!(|guard, value| guard.fresh(value))),
        (CHANGED, v(0), check!(|guard, value| guard.changed(value))),
        (NESTED, v(0), check!(|guard, value| guard.nested(value))),
        (ITEM, v(0), check!(|guard, _value| guard.spend(ITEM_BYTES))),
        (PIECE, v(0), check!(|guard, value| guard.piece(value))),
        (READ, v(0), check!(|guard, value| guard.work(bytes(value)))),
        (SPREAD, v(0), check!(|guard, value| guard.spread(value))),
        (WEIGHED, v(0), check!(|guard, value| guard.weigh(value))),
        (READABLE, v(0), check!(|guard, value| guard.readable(value))),
        (INDEX, v(0), check!(|guard, value| guard.index(value))),
        (PATTERN, v(0), check!(|guard, value| guard.pattern(value))),
        (SOUGHT, v(1), sought),
    ]
    .into_iter()
}
