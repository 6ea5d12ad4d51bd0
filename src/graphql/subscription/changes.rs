use std::collections::{HashMap, VecDeque};

use async_graphql::{Enum, ID, SimpleObject};
use futures::{Stream, stream};

use crate::{
    error::{Error, ErrorCode},
    graphql::{
        filter::{Move, seen_through},
        task::TaskObject,
    },
    journal::{Changed, Changes},
    model::{Task, TaskId},
    store::TaskFilter,
    task::TaskManager,
};

/// How a task moved, as the watcher's filter sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
pub(super) enum TaskChangeKind {
    /// Live from here on: read the list now. Comes first, and again when changes had to be skipped.
    Sync,
    /// The task fits the filter, and did not before.
    Entered,
    /// The task changed, and fits the filter as before.
    Updated,
    /// The task does not fit the filter any more.
    Left,
    /// The task was deleted.
    Deleted,
}

/// A task moved.
#[derive(Debug, SimpleObject)]
pub(super) struct TaskChange {
    /// How.
    change: TaskChangeKind,
    /// Which task; null with `SYNC`.
    id: Option<ID>,
    /// The task as it stands now, which may be further than this change; null with `SYNC` and `DELETED`.
    task: Option<TaskObject>,
}

impl TaskChange {
    const SYNC: Self = Self { change: TaskChangeKind::Sync, id: None, task: None };
}

impl From<Move> for TaskChangeKind {
    fn from(seen: Move) -> Self {
        match seen {
            Move::Entered => Self::Entered,
            Move::Updated => Self::Updated,
            Move::Left => Self::Left,
            Move::Deleted => Self::Deleted,
        }
    }
}

struct Watcher {
    manager: TaskManager,
    changes: Changes,
    filter: TaskFilter,
    wants_tasks: bool,
    /// What is to be told next, and what after that.
    ready: VecDeque<TaskChange>,
    seen: VecDeque<(TaskId, Move)>,
}

/// The most tasks read at once. They are whole, so the store gives fewer when they are large.
const READ_TASKS: usize = 16;

/// The changes of tasks that fit the filter. Without `wants_tasks` no task is read.
pub(super) fn watch_changes(
    manager: TaskManager,
    filter: TaskFilter,
    wants_tasks: bool,
) -> impl Stream<Item = Result<TaskChange, Error>> + use<> {
    // From before the first `SYNC` is sent: what happens while the client reads the list is told.
    let changes = manager.journal().changes();
    let watcher = Watcher {
        manager,
        changes,
        filter,
        wants_tasks,
        ready: VecDeque::from([TaskChange::SYNC]),
        seen: VecDeque::new(),
    };
    stream::try_unfold(watcher, |mut watcher| async move { Ok(Some((watcher.next().await?, watcher))) })
}

impl Watcher {
    async fn next(&mut self) -> Result<TaskChange, Error> {
        loop {
            if let Some(change) = self.ready.pop_front() {
                return Ok(change);
            }
            if !self.seen.is_empty() {
                self.prepare().await?;
                continue;
            }
            match self.changes.next().await {
                None => return Err(Error::new(ErrorCode::Unavailable, "the server is shutting down: come back soon")),
                Some(Changed::Missed) => return Ok(TaskChange::SYNC),
                Some(Changed::Tasks(changes)) => {
                    let seen: Vec<_> = changes
                        .iter()
                        .filter_map(|change| {
                            Some((change.task, seen_through(&self.filter, change.task, &change.change)?))
                        })
                        .collect();
                    self.seen.extend(newest(seen));
                }
            }
        }
    }

    /// Makes some of what was seen ready.
    async fn prepare(&mut self) -> Result<(), Error> {
        if !self.wants_tasks {
            self.ready.extend(self.seen.drain(..).map(|(id, seen)| change(id, seen, None)));
            return Ok(());
        }
        let mut ids: Vec<TaskId> = Vec::with_capacity(READ_TASKS);
        for (id, _) in self.seen.iter().take(READ_TASKS) {
            if !ids.contains(id) {
                ids.push(*id);
            }
        }
        let tasks = self.manager.get_first(ids.clone()).await?;
        let tasks: HashMap<TaskId, Option<Task>> = ids.into_iter().zip(tasks).collect();
        while let Some((id, seen)) = self.seen.front()
            && let Some(task) = tasks.get(id)
        {
            let task = task.as_ref().filter(|_| *seen != Move::Deleted).cloned();
            self.ready.push_back(change(*id, *seen, task));
            self.seen.pop_front();
        }
        Ok(())
    }
}

fn change(id: TaskId, seen: Move, task: Option<Task>) -> TaskChange {
    TaskChange { change: seen.into(), id: Some(ID(id.to_string())), task: task.map(TaskObject) }
}

/// Leaves out updates that a later update of the same task repeats.
fn newest(seen: Vec<(TaskId, Move)>) -> Vec<(TaskId, Move)> {
    let mut later: HashMap<TaskId, Move> = HashMap::new();
    let mut kept: Vec<_> = seen
        .into_iter()
        .rev()
        .filter(|(id, seen)| later.insert(*id, *seen) != Some(Move::Updated) || *seen != Move::Updated)
        .collect();
    kept.reverse();
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_updates_in_a_row_the_last_is_told() {
        let (a, b) = (TaskId::from_i64(1), TaskId::from_i64(2));
        let seen = vec![
            (a, Move::Entered),
            (a, Move::Updated),
            (b, Move::Updated),
            (a, Move::Updated),
            (a, Move::Left),
            (a, Move::Entered),
        ];
        let expected =
            vec![(a, Move::Entered), (b, Move::Updated), (a, Move::Updated), (a, Move::Left), (a, Move::Entered)];
        assert_eq!(newest(seen), expected);
    }
}
