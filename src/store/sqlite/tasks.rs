//! Reading tasks: one, some, a page, how many.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension, params};

use super::{
    codec::{self, TASK_COLUMNS},
    readers::ReadTrouble,
    writer::Trouble,
};
use crate::{
    model::{Task, TaskId, TaskStatus},
    store::{MAX_TASKS_BYTES, Order, StoreError, TaskFilter, TaskPage, TaskQuery},
};

fn get(connection: &Connection, id: TaskId) -> rusqlite::Result<Option<Task>> {
    connection
        .prepare_cached(&format!("SELECT {TASK_COLUMNS} FROM task WHERE id = ?1"))?
        .query_row([id.as_i64()], codec::task)
        .optional()
}

/// One task, which must be there.
pub(super) fn one(connection: &Connection, id: TaskId) -> Result<Task, Trouble> {
    Ok(get(connection, id)?.ok_or(StoreError::NotFound(id))?)
}

/// The first of these tasks.
pub(super) fn some(connection: &Connection, ids: &[TaskId]) -> Result<Vec<Option<Task>>, ReadTrouble> {
    let mut tasks = Vec::with_capacity(ids.len());
    let mut bytes = 0;
    for id in ids {
        let task = get(connection, *id)?;
        bytes += task.as_ref().map_or(0, Task::weight_bytes);
        if bytes > MAX_TASKS_BYTES && !tasks.is_empty() {
            break;
        }
        tasks.push(task);
    }
    Ok(tasks)
}

/// A page of tasks.
pub(super) fn page(connection: &Connection, query: &TaskQuery) -> Result<TaskPage, ReadTrouble> {
    let selection = Selection::new(connection, query)?;
    let ids = selection.ids(query.order, query.limit.saturating_add(1))?;
    let mut tasks = Vec::with_capacity(ids.len().min(query.limit));
    let mut bytes = 0;
    for id in &ids {
        if tasks.len() == query.limit || (bytes > query.limit_bytes && !tasks.is_empty()) {
            return Ok(TaskPage { tasks, has_more: true });
        }
        let Some(task) = get(connection, TaskId::from_i64(*id))? else { continue };
        bytes += task.weight_bytes();
        tasks.push(task);
    }
    Ok(TaskPage { tasks, has_more: false })
}

/// How many tasks fit, at most `cap`.
pub(super) fn count(connection: &Connection, filter: &TaskFilter, cap: u64) -> Result<u64, ReadTrouble> {
    let query = TaskQuery { filter: filter.clone(), ..TaskQuery::default() };
    Ok(Selection::new(connection, &query)?.count(cap)?)
}

/// A filter as ranges of an index: between two ids, for each kind and status.
struct Selection<'a> {
    connection: &'a Connection,
    above: i64,
    below: i64,
    /// `None`: of any kind and in any status.
    groups: Option<Vec<(i64, i64)>>,
    tags: &'a [String],
}

/// What to walk when tasks are wanted by tag.
enum Walk<'a> {
    /// Nothing fits.
    Nothing,
    /// The tasks with this tag.
    Tag(&'a str),
    /// The tasks of these kinds and statuses.
    Groups(&'a [(i64, i64)]),
}

/// How far tasks are counted to see what is rarest: a walk of so many is quick.
const FEW_TASKS: u64 = 1000;

impl<'a> Selection<'a> {
    fn new(connection: &'a Connection, query: &'a TaskQuery) -> rusqlite::Result<Self> {
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
        Ok(Self { connection, above, below, groups, tags: &filter.tags })
    }

    fn ids(&self, order: Order, limit: usize) -> rusqlite::Result<Vec<i64>> {
        let mut ids = Vec::new();
        let direction = sql_direction(order);
        let sql_limit = i64::try_from(limit).unwrap_or(i64::MAX);
        if !self.tags.is_empty() {
            self.each_tagged(order, |id| {
                ids.push(id);
                ids.len() < limit
            })?;
        } else if let Some(groups) = &self.groups {
            ids = self.ids_in(groups, order, limit)?;
        } else {
            let mut select = self.connection.prepare_cached(&format!(
                "SELECT id FROM task WHERE id > ?1 AND id < ?2 ORDER BY id {direction} LIMIT ?3"
            ))?;
            let rows = select.query_map(params![self.above, self.below, sql_limit], |row| row.get(0))?;
            for id in rows {
                ids.push(id?);
            }
        }
        Ok(ids)
    }

    fn count(&self, cap: u64) -> rusqlite::Result<u64> {
        let mut found = 0;
        if !self.tags.is_empty() {
            self.each_tagged(Order::NewestFirst, |_| {
                found += 1;
                found < cap
            })?;
            return Ok(found.min(cap));
        }
        let all;
        let groups = match &self.groups {
            Some(groups) => groups,
            None => {
                all = groups(self.connection, &TaskFilter::default())?;
                &all
            }
        };
        self.count_groups(groups, cap)
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

    /// What has the fewest tasks: of the tags, and of the kinds and statuses.
    fn walk(&self) -> rusqlite::Result<Walk<'_>> {
        let mut count = self.connection.prepare_cached(
            "SELECT count(*) FROM (SELECT 1 FROM task_tag WHERE tag = ?1 AND task > ?2 AND task < ?3 LIMIT ?4)",
        )?;
        let (mut walk, mut fewest) = (Walk::Nothing, u64::MAX);
        for tag in self.tags {
            let limit = codec::signed(FEW_TASKS);
            let found: i64 = count.query_row(params![tag, self.above, self.below, limit], |row| row.get(0))?;
            if found == 0 {
                return Ok(Walk::Nothing);
            }
            if codec::unsigned(found) < fewest {
                (walk, fewest) = (Walk::Tag(tag), codec::unsigned(found));
            }
        }
        if let Some(groups) = &self.groups {
            let found = self.count_groups(groups, FEW_TASKS)?;
            if found == 0 {
                return Ok(Walk::Nothing);
            }
            if found < fewest {
                walk = Walk::Groups(groups);
            }
        }
        Ok(walk)
    }

    /// Calls `visit` with each id that has all the tags and fits, until it returns false.
    fn each_tagged(&self, order: Order, mut visit: impl FnMut(i64) -> bool) -> rusqlite::Result<()> {
        let first = match self.walk()? {
            Walk::Nothing => return Ok(()),
            Walk::Tag(tag) => tag,
            Walk::Groups(groups) => {
                // Few, so all of them: none is left out at the limit.
                for id in self.ids_in(groups, order, usize::MAX)? {
                    if self.has_tags(id, self.tags)? && !visit(id) {
                        break;
                    }
                }
                return Ok(());
            }
        };
        let others: Vec<String> = self.tags.iter().filter(|tag| *tag != first).cloned().collect();
        let direction = sql_direction(order);
        let mut select = self.connection.prepare_cached(&format!(
            "SELECT task.id, task.kind, task.status FROM task_tag JOIN task ON task.id = task_tag.task \
             WHERE tag = ?1 AND task_tag.task > ?2 AND task_tag.task < ?3 ORDER BY task_tag.task {direction}"
        ))?;
        let mut rows = select.query(params![first, self.above, self.below])?;
        while let Some(row) = rows.next()? {
            let id: i64 = row.get(0)?;
            let group = (row.get(1)?, row.get(2)?);
            if self.groups.as_ref().is_some_and(|groups| !groups.contains(&group)) {
                continue;
            }
            if self.has_tags(id, &others)? && !visit(id) {
                break;
            }
        }
        Ok(())
    }

    fn has_tags(&self, id: i64, tags: &[String]) -> rusqlite::Result<bool> {
        let mut has_tag =
            self.connection.prepare_cached("SELECT EXISTS (SELECT 1 FROM task_tag WHERE tag = ?1 AND task = ?2)")?;
        for tag in tags {
            if !has_tag.query_row(params![tag, id], |row| row.get::<_, bool>(0))? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The tasks of these kinds and statuses, in order.
    fn ids_in(&self, groups: &[(i64, i64)], order: Order, limit: usize) -> rusqlite::Result<Vec<i64>> {
        let mut ids = Vec::new();
        let sql_limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let direction = sql_direction(order);
        let mut select = self.connection.prepare_cached(&format!(
            "SELECT id FROM task INDEXED BY task_list WHERE kind = ?1 AND status = ?2 AND id > ?3 AND id < ?4 \
             ORDER BY id {direction} LIMIT ?5"
        ))?;
        for (kind, status) in groups {
            let rows = select.query_map(params![kind, status, self.above, self.below, sql_limit], |r| r.get(0))?;
            for id in rows {
                ids.push(id?);
            }
        }
        ids.sort_unstable();
        if order == Order::NewestFirst {
            ids.reverse();
        }
        ids.truncate(limit);
        Ok(ids)
    }
}

fn sql_direction(order: Order) -> &'static str {
    match order {
        Order::NewestFirst => "DESC",
        Order::OldestFirst => "ASC",
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
