//! Which tasks.

use async_graphql::InputObject;

use super::{api::ApiOptions, scalar::DateTime, task::TaskStatus};
use crate::{
    error::Error,
    model,
    store::{self, StatusMove},
};

/// Which tasks: those that fit everything said here.
#[derive(Debug, InputObject)]
pub(super) struct TaskFilter {
    /// Of one of these kinds.
    kinds: Option<Vec<String>>,
    /// In one of these statuses.
    statuses: Option<Vec<TaskStatus>>,
    /// With all of these tags.
    tags: Option<Vec<String>>,
    /// Created after this moment, not at it.
    created_after: Option<DateTime>,
    /// Created before this moment, not at it.
    created_before: Option<DateTime>,
}

impl TaskFilter {
    /// As the store takes it. `LIMIT_EXCEEDED` when a list is too long.
    pub(super) fn into_store(self, options: &ApiOptions) -> Result<store::TaskFilter, Error> {
        let kinds = self.kinds.unwrap_or_default();
        let tags = self.tags.unwrap_or_default();
        if kinds.len().max(tags.len()) > options.max_filter_values {
            return Err(Error::limit("max_filter_values", format_args!("{} values", options.max_filter_values)));
        }
        let mut statuses: Vec<model::TaskStatus> = Vec::new();
        for status in self.statuses.unwrap_or_default() {
            let status = status.into();
            if !statuses.contains(&status) {
                statuses.push(status);
            }
        }
        Ok(store::TaskFilter {
            kinds,
            statuses,
            tags,
            created_after: self.created_after.map(|time| time.0),
            created_before: self.created_before.map(|time| time.0),
        })
    }
}

/// How a task's move looks to somebody who watches the tasks that fit a filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Move {
    /// It fits now, and did not before.
    Entered,
    /// It fitted and fits.
    Updated,
    /// It does not fit any more.
    Left,
    /// It was deleted.
    Deleted,
}

/// `None` when it neither fitted nor fits.
pub(super) fn seen_through(filter: &store::TaskFilter, task: model::TaskId, change: &StatusMove) -> Option<Move> {
    let created = task.created_at();
    let fits_always = (filter.kinds.is_empty() || filter.kinds.iter().any(|kind| **kind == *change.kind))
        && filter.tags.iter().all(|tag| change.tags.contains(tag))
        && filter.created_after.is_none_or(|after| created > after)
        && filter.created_before.is_none_or(|before| created < before);
    let fits = |status: Option<model::TaskStatus>| {
        fits_always && status.is_some_and(|status| filter.statuses.is_empty() || filter.statuses.contains(&status))
    };
    match (fits(change.from), fits(change.to)) {
        (true, false) if change.to.is_none() => Some(Move::Deleted),
        (true, false) => Some(Move::Left),
        (false, true) => Some(Move::Entered),
        (true, true) => Some(Move::Updated),
        (false, false) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{TaskId, TaskStatus as Status};

    fn seen(filter: &store::TaskFilter, from: Option<Status>, to: Option<Status>) -> Option<Move> {
        let change = StatusMove { kind: "k".into(), tags: vec!["a".to_owned(), "b".to_owned()].into(), from, to };
        seen_through(filter, TaskId::first_at(1000), &change)
    }

    #[test]
    fn a_task_enters_moves_within_and_leaves_the_filter() {
        let filter = store::TaskFilter { statuses: vec![Status::Pending, Status::Running], ..Default::default() };
        assert_eq!(seen(&filter, None, Some(Status::Pending)), Some(Move::Entered));
        assert_eq!(seen(&filter, Some(Status::Pending), Some(Status::Running)), Some(Move::Updated));
        assert_eq!(seen(&filter, Some(Status::Running), Some(Status::Failed)), Some(Move::Left));
        assert_eq!(seen(&filter, Some(Status::Pending), None), Some(Move::Deleted));
        assert_eq!(seen(&filter, Some(Status::Failed), None), None);
    }

    #[test]
    fn what_never_fits_is_never_seen() {
        let created = TaskId::first_at(1000).created_at();
        for filter in [
            store::TaskFilter { kinds: vec!["other".into()], ..Default::default() },
            store::TaskFilter { tags: vec!["a".into(), "c".into()], ..Default::default() },
            store::TaskFilter { created_after: Some(created), ..Default::default() },
            store::TaskFilter { created_before: Some(created), ..Default::default() },
        ] {
            assert_eq!(seen(&filter, None, Some(Status::Pending)), None, "{filter:?}");
        }
    }
}
