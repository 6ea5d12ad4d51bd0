//! Which tasks fit a filter.
//!
//! A filter asks for several sets of tasks at once: those with a tag, for each tag, and those of some kinds in some
//! statuses. Each set is sorted by id in an index, so its next task from any place on is one look-up. What all sets have
//! in common is found by leaping: each in turn goes to the place that another has reached, and where all meet there is a
//! task that fits. So a list takes as many look-ups as its rarest set has tasks, or fewer, and what lies apart is passed
//! over at once. Only sets that alternate and seldom meet take many; for them there is a limit.

use std::collections::{HashMap, VecDeque};

use rusqlite::{CachedStatement, Connection, params};

use super::codec;
use crate::{
    model::{TaskId, TaskStatus},
    store::{Order, TaskFilter, TaskQuery},
};

/// A filter, between two ids.
pub(super) struct Selection<'a> {
    connection: &'a Connection,
    above: i64,
    below: i64,
    /// Kinds and statuses; `None`: of any kind and in any status.
    groups: Option<Vec<(i64, i64)>>,
    tags: Vec<&'a str>,
    max_lookups: u64,
}

/// How a search ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Searched {
    /// Nothing else fits, or nothing else was wanted.
    All,
    /// It took all its look-ups. What is above this id (below it, when the oldest come first) was looked at.
    Until(i64),
}

impl<'a> Selection<'a> {
    pub(super) fn new(connection: &'a Connection, query: &'a TaskQuery, max_lookups: u64) -> rusqlite::Result<Self> {
        let filter = &query.filter;
        // The id begins with the time of creation, so a span of time is a span of ids.
        let after = filter.created_after.map(|at| TaskId::first_at(at.timestamp_millis() + 1).as_i64() - 1);
        let before = filter.created_before.map(|at| TaskId::first_at(at.timestamp_millis()).as_i64());
        let above = [query.above.map(TaskId::as_i64), after].into_iter().flatten().max().unwrap_or(-1);
        let below = [query.below.map(TaskId::as_i64), before].into_iter().flatten().min().unwrap_or(i64::MAX);
        let groups = if filter.kinds.is_empty() && filter.statuses.is_empty() {
            None
        } else {
            Some(groups(connection, filter)?)
        };
        let mut tags: Vec<&str> = filter.tags.iter().map(String::as_str).collect();
        tags.sort_unstable();
        tags.dedup();
        Ok(Self { connection, above, below, groups, tags, max_lookups })
    }

    /// Calls `visit` with each id that fits, in order, until it returns false.
    pub(super) fn search(&self, order: Order, mut visit: impl FnMut(i64) -> bool) -> rusqlite::Result<Searched> {
        let (begin, step) = match order {
            Order::NewestFirst => (self.below.saturating_sub(1), -1),
            Order::OldestFirst => (self.above.saturating_add(1), 1),
        };
        let mut lookups = Lookups::new(self, order)?;
        let mut sets: Vec<Set> = self.tags.iter().map(|tag| Set(vec![Range::new(Key::Tag(tag))])).collect();
        if let Some(groups) = &self.groups {
            sets.push(Set(groups.iter().map(|group| Range::new(Key::Group(*group))).collect()));
        } else if sets.is_empty() {
            sets.push(Set(vec![Range::new(Key::Any)]));
        }
        let (mut place, mut met) = (begin, 0);
        for turn in (0..sets.len()).cycle() {
            if lookups.made >= self.max_lookups && place != begin {
                return Ok(Searched::Until(place));
            }
            let Some(next) = sets[turn].next(place, &mut lookups)? else { break };
            met = if next == place { met + 1 } else { 1 };
            place = next;
            if met == sets.len() {
                if !visit(place) {
                    break;
                }
                (place, met) = (place + step, 0);
            }
        }
        Ok(Searched::All)
    }

    /// How many fit, at most `cap`.
    pub(super) fn count(&self, cap: u64) -> rusqlite::Result<(u64, Searched)> {
        match (&self.groups, self.tags.as_slice()) {
            // One range of an index, or several without anything in common: counted where they stand.
            (None, []) => {
                Ok((self.count_groups(&groups(self.connection, &TaskFilter::default())?, cap)?, Searched::All))
            }
            (Some(groups), []) => Ok((self.count_groups(groups, cap)?, Searched::All)),
            (None, [tag]) => Ok((self.count_tag(tag, cap)?, Searched::All)),
            _ => {
                let mut found = 0;
                let searched = self.search(Order::NewestFirst, |_| {
                    found += 1;
                    found < cap
                })?;
                Ok((found.min(cap), searched))
            }
        }
    }

    fn count_groups(&self, groups: &[(i64, i64)], cap: u64) -> rusqlite::Result<u64> {
        let mut found = 0;
        let mut select = self.connection.prepare_cached(
            "SELECT count(*) FROM (SELECT 1 FROM task INDEXED BY task_list \
             WHERE kind = ?1 AND status = ?2 AND id > ?3 AND id < ?4 LIMIT ?5)",
        )?;
        for (kind, status) in groups {
            let room = codec::signed(cap - found);
            let more: i64 = select.query_row(params![kind, status, self.above, self.below, room], |row| row.get(0))?;
            found += codec::unsigned(more);
            if found >= cap {
                break;
            }
        }
        Ok(found)
    }

    fn count_tag(&self, tag: &str, cap: u64) -> rusqlite::Result<u64> {
        let mut select = self.connection.prepare_cached(
            "SELECT count(*) FROM (SELECT 1 FROM task_tag WHERE tag = ?1 AND task > ?2 AND task < ?3 LIMIT ?4)",
        )?;
        let found: i64 =
            select.query_row(params![tag, self.above, self.below, codec::signed(cap)], |row| row.get(0))?;
        Ok(codec::unsigned(found))
    }
}

/// Ranges of indexes that belong together: what is in any of them.
struct Set<'a>(Vec<Range<'a>>);

impl Set<'_> {
    /// Its nearest id from this place on.
    fn next(&mut self, from: i64, lookups: &mut Lookups<'_>) -> rusqlite::Result<Option<i64>> {
        let mut nearest = None;
        for range in &mut self.0 {
            let next = range.next(from, lookups)?;
            nearest = match (nearest, next) {
                (Some(a), Some(b)) if lookups.is_at_or_beyond(a, b) => Some(b),
                (None, next) => next,
                (nearest, _) => nearest,
            };
        }
        Ok(nearest)
    }
}

/// A range of an index, sorted by id.
struct Range<'a> {
    key: Key<'a>,
    /// What was looked up and is still to come.
    known: VecDeque<i64>,
    /// Nothing comes after that.
    ends: bool,
    /// How many ids the last look-up asked for, and how many of them were gone to one after the other.
    size: usize,
    in_turn: usize,
}

#[derive(Clone, Copy)]
enum Key<'a> {
    /// All tasks.
    Any,
    Tag(&'a str),
    /// A kind and a status.
    Group((i64, i64)),
}

/// The fewest and the most ids that one look-up asks for.
const FEW_IDS: usize = 2;
const MANY_IDS: usize = 64;

impl<'a> Range<'a> {
    fn new(key: Key<'a>) -> Self {
        Self { key, known: VecDeque::new(), ends: false, size: FEW_IDS, in_turn: 0 }
    }

    fn next(&mut self, from: i64, lookups: &mut Lookups<'_>) -> rusqlite::Result<Option<i64>> {
        let passed = self.known.iter().take_while(|id| !lookups.is_at_or_beyond(**id, from)).count();
        self.known.drain(..passed);
        self.in_turn += usize::from(passed == 1);
        if self.known.is_empty() && !self.ends {
            // More at once where one comes after the other, few where most are leapt over.
            self.size = if 2 * self.in_turn >= self.size { (2 * self.size).min(MANY_IDS) } else { FEW_IDS };
            self.in_turn = 0;
            lookups.make(self.key, from, self.size, &mut self.known)?;
            self.ends = self.known.len() < self.size;
        }
        Ok(self.known.front().copied())
    }
}

/// The statements that find the next ids, and how many they looked at.
struct Lookups<'a> {
    any: CachedStatement<'a>,
    tag: CachedStatement<'a>,
    group: CachedStatement<'a>,
    order: Order,
    /// Where the selection ends, in its order.
    end: i64,
    made: u64,
}

impl<'a> Lookups<'a> {
    fn new(selection: &Selection<'a>, order: Order) -> rusqlite::Result<Self> {
        let (range, end) = match order {
            Order::NewestFirst => ("ID <= ?1 AND ID > ?2 ORDER BY ID DESC", selection.above),
            Order::OldestFirst => ("ID >= ?1 AND ID < ?2 ORDER BY ID", selection.below),
        };
        let prepare = |select: &str, id: &str| {
            selection.connection.prepare_cached(&format!("{select} {} LIMIT ?3", range.replace("ID", id)))
        };
        Ok(Self {
            any: prepare("SELECT id FROM task WHERE", "id")?,
            tag: prepare("SELECT task FROM task_tag WHERE tag = ?4 AND", "task")?,
            group: prepare("SELECT id FROM task INDEXED BY task_list WHERE kind = ?4 AND status = ?5 AND", "id")?,
            order,
            end,
            made: 0,
        })
    }

    /// Finds the first ids of a range from this place on.
    fn make(&mut self, key: Key<'_>, from: i64, count: usize, found: &mut VecDeque<i64>) -> rusqlite::Result<()> {
        let limit = codec::signed(count as u64);
        let mut rows = match key {
            Key::Any => self.any.query(params![from, self.end, limit])?,
            Key::Tag(tag) => self.tag.query(params![from, self.end, limit, tag])?,
            Key::Group((kind, status)) => self.group.query(params![from, self.end, limit, kind, status])?,
        };
        while let Some(row) = rows.next()? {
            found.push_back(row.get(0)?);
        }
        self.made += found.len().max(1) as u64;
        Ok(())
    }

    fn is_at_or_beyond(&self, id: i64, place: i64) -> bool {
        match self.order {
            Order::NewestFirst => id <= place,
            Order::OldestFirst => id >= place,
        }
    }
}

/// Every pair of kind and status that the filter admits. There are few kinds.
fn groups(connection: &Connection, filter: &TaskFilter) -> rusqlite::Result<Vec<(i64, i64)>> {
    let mut select = connection.prepare_cached("SELECT name, id FROM kind")?;
    let known: HashMap<String, i64> =
        select.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?;
    let mut kinds: Vec<i64> = match filter.kinds.as_slice() {
        [] => known.into_values().collect(),
        names => names.iter().filter_map(|name| known.get(name).copied()).collect(),
    };
    kinds.sort_unstable();
    kinds.dedup();
    let mut statuses: Vec<i64> = match filter.statuses.as_slice() {
        [] => TaskStatus::ALL.map(TaskStatus::to_i64).to_vec(),
        statuses => statuses.iter().map(|status| status.to_i64()).collect(),
    };
    statuses.sort_unstable();
    statuses.dedup();
    Ok(kinds.iter().flat_map(|kind| statuses.iter().map(move |status| (*kind, *status))).collect())
}
