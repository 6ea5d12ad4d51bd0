//! Pages of a task's events.

use std::sync::Arc;

use async_graphql::{Object, SimpleObject, connection::PageInfo};

use super::{
    api::Shared,
    event::{TaskEvent, TaskEventType, TaskGap},
    task_connection::page_size,
};
use crate::{
    error::{Error, ErrorCode},
    journal::EventCursor,
    model::{Event, Seq, Task, TaskId},
    store::EventQuery,
};

/// A page of a task's events, oldest first.
#[derive(Debug)]
pub(super) struct TaskEventConnection {
    generation: u64,
    entries: Vec<Entry>,
    has_previous_page: bool,
    has_next_page: bool,
}

#[derive(Debug)]
enum Entry {
    Event(Arc<Event>),
    Gap { task: TaskId, from: Seq, through: Seq, attempt: u32, at: chrono::DateTime<chrono::Utc> },
}

/// An event in a page.
#[derive(Debug, SimpleObject)]
pub(super) struct TaskEventEdge {
    /// Event cursor of the event: give it as `after` to go on from here.
    cursor: String,
    /// The event.
    node: TaskEvent,
}

/// A page of a task's events, oldest first.
#[Object]
impl TaskEventConnection {
    /// The events, each with its cursor.
    async fn edges(&self) -> Vec<TaskEventEdge> {
        let edge = |node: TaskEvent| TaskEventEdge { cursor: node.event_cursor().to_string(), node };
        self.events().map(edge).collect()
    }

    /// The events.
    async fn nodes(&self) -> Vec<TaskEvent> {
        self.events().collect()
    }

    /// Whether there is more, and where it begins. `endCursor` also resumes a subscription.
    async fn page_info(&self) -> PageInfo {
        let cursor = |event: TaskEvent| event.event_cursor().to_string();
        PageInfo {
            has_previous_page: self.has_previous_page,
            has_next_page: self.has_next_page,
            start_cursor: self.events().next().map(cursor),
            end_cursor: self.events().next_back().map(cursor),
        }
    }
}

impl TaskEventConnection {
    fn events(&self) -> impl DoubleEndedIterator<Item = TaskEvent> {
        self.entries.iter().map(|entry| match entry {
            Entry::Event(event) => TaskEvent::new(self.generation, event.clone()),
            &Entry::Gap { task, from, through, attempt, at } => {
                TaskEvent::Gap(TaskGap { generation: self.generation, task, from, through, attempt, at })
            }
        })
    }
}

/// The events of a task after a cursor. What is no longer stored is one `TaskGap` at the beginning.
pub(super) async fn events_of(
    shared: &Shared,
    task: &Task,
    first: Option<i32>,
    after: Option<String>,
    types: Vec<TaskEventType>,
) -> Result<TaskEventConnection, Error> {
    let generation = shared.manager.journal().generation();
    let limit = page_size("first", first, shared)?;
    let after = match after {
        Some(cursor) => cursor.parse::<EventCursor>()?.seq_in(generation, task.id)?,
        None => 0,
    };
    let types = types.into_iter().map(Into::into).collect();
    // An empty page still has to know where the task stands.
    let query =
        EventQuery { task: task.id, after, limit: limit.max(1), limit_bytes: shared.options.max_page_bytes, types };
    let mut page = shared.manager.store().events(query).await?;
    if after > page.head {
        let message =
            format!("the cursor names event {after} of task {}, whose newest event is {}", task.id, page.head);
        return Err(Error::new(ErrorCode::CursorAhead, message));
    }
    let more = page.has_more || page.events.len() > limit;
    page.events.truncate(limit);
    let mut entries = Vec::with_capacity(page.events.len() + 1);
    if page.pruned_through > after && limit > 0 {
        let next = page.events.first();
        entries.push(Entry::Gap {
            task: task.id,
            from: after + 1,
            through: page.pruned_through,
            attempt: next.map_or(task.attempt, |event| event.attempt),
            at: next.map_or_else(|| task.created_at(), |event| event.at),
        });
    }
    entries.extend(page.events.into_iter().map(Entry::Event));
    Ok(TaskEventConnection { generation, entries, has_previous_page: after > 0, has_next_page: more })
}
