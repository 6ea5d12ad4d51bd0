//! Reading tasks: one, some, a page, how many.

use rusqlite::{Connection, OptionalExtension};

use super::{
    codec::{self, TASK_COLUMNS},
    readers::ReadTrouble,
    selection::{Searched, Selection},
    writer::Trouble,
};
use crate::{
    model::{Task, TaskId},
    store::{MAX_TASKS_BYTES, StoreError, TaskFilter, TaskPage, TaskQuery},
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
pub(super) fn page(connection: &Connection, query: &TaskQuery, max_lookups: u64) -> Result<TaskPage, ReadTrouble> {
    let selection = Selection::new(connection, query, max_lookups)?;
    let mut ids = Vec::new();
    // One more than wanted: whether there is more.
    let searched = selection.search(query.order, |id| {
        ids.push(id);
        ids.len() <= query.limit
    })?;
    let mut page = TaskPage::default();
    let mut bytes = 0;
    for id in &ids {
        if page.tasks.len() == query.limit || (bytes > query.limit_bytes && !page.tasks.is_empty()) {
            page.has_more = true;
            return Ok(page);
        }
        let Some(task) = get(connection, TaskId::from_i64(*id))? else { continue };
        bytes += task.weight_bytes();
        page.tasks.push(task);
    }
    if let Searched::Until(id) = searched {
        page.has_more = true;
        page.searched_until = Some(TaskId::from_i64(id));
    }
    Ok(page)
}

/// How many tasks fit, at most `cap`.
pub(super) fn count(
    connection: &Connection,
    filter: &TaskFilter,
    cap: u64,
    max_lookups: u64,
) -> Result<u64, ReadTrouble> {
    let query = TaskQuery { filter: filter.clone(), ..TaskQuery::default() };
    match Selection::new(connection, &query, max_lookups)?.count(cap)? {
        (found, Searched::All) => Ok(found),
        (_, Searched::Until(_)) => Err(StoreError::TooBroad(max_lookups).into()),
    }
}
