//! Pages of tasks, as in the Relay specification.

use async_graphql::{Context, Object, SimpleObject, connection::PageInfo};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use super::{api::Shared, task::TaskObject};
use crate::{
    error::Error,
    model::TaskId,
    store::{Order, TaskFilter, TaskQuery},
};

/// What a client asks of a list: the four arguments of the Relay specification.
#[derive(Debug, Default)]
pub(super) struct PageArguments {
    /// At most so many, from the beginning.
    pub(super) first: Option<i32>,
    /// Only what comes after this cursor.
    pub(super) after: Option<String>,
    /// At most so many, from the end.
    pub(super) last: Option<i32>,
    /// Only what comes before this cursor.
    pub(super) before: Option<String>,
}

/// Reads `first` or `last`. `INVALID_INPUT` below 0, `LIMIT_EXCEEDED` above the largest page.
pub(super) fn page_size(name: &str, asked: Option<i32>, shared: &Shared) -> Result<usize, Error> {
    let Some(asked) = asked else { return Ok(shared.options.default_page_size) };
    let size = usize::try_from(asked).map_err(|_| Error::invalid(format!("`{name}` is at least 0, not {asked}")))?;
    if size > shared.options.max_page_size {
        return Err(Error::limit("max_page_size", format_args!("{} in one page", shared.options.max_page_size)));
    }
    Ok(size)
}

/// A page of tasks, newest first.
#[derive(Debug)]
pub(super) struct TaskConnection {
    filter: TaskFilter,
    tasks: Vec<TaskObject>,
    has_previous_page: bool,
    has_next_page: bool,
    /// Where the page begins and ends.
    start: Option<TaskId>,
    end: Option<TaskId>,
}

/// A task in a page.
#[derive(Debug, SimpleObject)]
pub(super) struct TaskEdge {
    /// Page cursor: give it as `after` or `before` to go on from here.
    cursor: String,
    /// The task.
    node: TaskObject,
}

/// A page of tasks, newest first.
#[Object]
impl TaskConnection {
    /// The tasks, each with its page cursor.
    async fn edges(&self) -> Vec<TaskEdge> {
        self.tasks.iter().map(|task| TaskEdge { cursor: page_cursor(task.0.id), node: task.clone() }).collect()
    }

    /// The tasks.
    async fn nodes(&self) -> &[TaskObject] {
        &self.tasks
    }

    /// Whether there is more, and where it begins. Where few tasks fit among very many, a page can have fewer tasks than
    /// asked for, or none, although there are more: go on from its end.
    async fn page_info(&self) -> PageInfo {
        PageInfo {
            has_previous_page: self.has_previous_page,
            has_next_page: self.has_next_page,
            start_cursor: self.start.map(page_cursor),
            end_cursor: self.end.map(page_cursor),
        }
    }

    /// How many tasks fit the filter, on all pages. Counting stops at 10,000 (`max_total_count`): then there may
    /// be more.
    async fn total_count(&self, ctx: &Context<'_>) -> Result<u64, Error> {
        let shared = Shared::of(ctx);
        shared.manager.count(self.filter.clone(), shared.options.max_total_count).await
    }
}

impl TaskConnection {
    /// Reads a page.
    pub(super) async fn read(shared: &Shared, filter: TaskFilter, page: PageArguments) -> Result<Self, Error> {
        if page.first.is_some() && page.last.is_some() {
            return Err(Error::invalid("give `first` or `last`, not both"));
        }
        let below = page.after.as_deref().map(parse_page_cursor).transpose()?;
        let above = page.before.as_deref().map(parse_page_cursor).transpose()?;
        let (order, limit) = match page.last {
            Some(_) => (Order::OldestFirst, page_size("last", page.last, shared)?),
            None => (Order::NewestFirst, page_size("first", page.first, shared)?),
        };
        let limit_bytes = shared.options.max_page_bytes;
        let query = TaskQuery { filter: filter.clone(), below, above, order, limit, limit_bytes };
        let found = shared.manager.list(query).await?;
        // The other way there is what the cursor was taken from.
        let (has_previous_page, has_next_page) = match order {
            Order::NewestFirst => (below.is_some(), found.has_more),
            Order::OldestFirst => (found.has_more, above.is_some()),
        };
        let mut tasks: Vec<_> = found.tasks.into_iter().map(TaskObject).collect();
        if order == Order::OldestFirst {
            tasks.reverse();
        }
        let searched_until = |way| found.searched_until.filter(|_| order == way);
        let start = searched_until(Order::OldestFirst).or(tasks.first().map(|task| task.0.id));
        let end = searched_until(Order::NewestFirst).or(tasks.last().map(|task| task.0.id));
        Ok(Self { filter, tasks, has_previous_page, has_next_page, start, end })
    }
}

/// Marks a page cursor, so that an event cursor is not taken for one.
const PREFIX: &str = "page:";

fn page_cursor(id: TaskId) -> String {
    URL_SAFE_NO_PAD.encode(format!("{PREFIX}{id}"))
}

fn parse_page_cursor(text: &str) -> Result<TaskId, Error> {
    let read = || {
        let text = String::from_utf8(URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
        text.strip_prefix(PREFIX)?.parse().ok()
    };
    read().ok_or_else(|| {
        Error::new(
            crate::error::ErrorCode::CursorInvalid,
            "not a page cursor: use the `cursor` of an edge, or `startCursor` and `endCursor`, unchanged",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_cursor_is_read_back_and_nothing_else_is() {
        let id = TaskId::from_i64(77);
        assert_eq!(parse_page_cursor(&page_cursor(id)), Ok(id));
        for text in ["", "x", "task_000000000002d", "AAAA"] {
            assert!(parse_page_cursor(text).is_err(), "{text}");
        }
    }
}
