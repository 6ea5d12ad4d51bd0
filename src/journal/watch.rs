//! Watching one task's progress: the newest state, not every step.

use chrono::{DateTime, Utc};
use futures::{Stream, StreamExt, TryStreamExt, stream};

use super::{FollowError, Followed, Journal};
use crate::model::{Event, EventBody, Json, Progress, Seq, Task, TaskError, TaskId, TaskStatus};

/// A task's status and progress at one event.
#[derive(Debug, Clone, PartialEq)]
pub struct Watched {
    /// The task.
    pub task: TaskId,
    /// `seq` of the event.
    pub seq: Seq,
    /// The status.
    pub status: TaskStatus,
    /// How far the attempt had come.
    pub progress: Progress,
    /// The attempt.
    pub attempt: u32,
    /// The result, on completion.
    pub result: Option<Json>,
    /// Why the last attempt ended badly, when this says that it did.
    pub error: Option<TaskError>,
    /// When that was so.
    pub at: DateTime<Utc>,
}

impl Watched {
    fn present(task: Task) -> Self {
        let at = [task.completed_at, task.progress_at, task.started_at].into_iter().flatten().max();
        Self {
            at: at.unwrap_or_else(|| task.created_at()),
            task: task.id,
            seq: task.head,
            status: task.status,
            progress: task.progress,
            attempt: task.attempt,
            result: task.result,
            // While it runs again, what ended an earlier attempt is history.
            error: task.error.filter(|_| task.status != TaskStatus::Running),
        }
    }

    fn at(event: &Event) -> Option<Self> {
        let (status, progress, result, error) = match &event.body {
            EventBody::Status(change) => (change.status, &change.progress, change.result.clone(), change.error.clone()),
            EventBody::Progress(progress) => (TaskStatus::Running, progress, None, None),
            EventBody::Log { .. } | EventBody::Chunk { .. } | EventBody::Cancellation(_) => return None,
        };
        Some(Self {
            task: event.task,
            seq: event.seq,
            status,
            progress: progress.clone(),
            attempt: event.attempt,
            result,
            error,
            at: event.at,
        })
    }
}

impl Journal {
    /// The present state of a task and then each newer one, in batches of what is ready: every change of
    /// status, and of the progress in between only the newest. With `after`, what happened up to that
    /// event is not repeated. Ends after the terminal status.
    pub fn watch(
        &self,
        task: TaskId,
        after: Option<Seq>,
    ) -> impl Stream<Item = Result<Vec<Watched>, FollowError>> + use<> {
        let journal = self.clone();
        let begin = async move {
            let (present, after) = match after {
                Some(after) => (Vec::new(), after),
                None => {
                    let found = journal.shared.store.tasks(vec![task]).await?.pop().flatten();
                    let present = Watched::present(found.ok_or(FollowError::NotFound(task))?);
                    let head = present.seq;
                    (vec![present], head)
                }
            };
            let updates = journal.follow(task, after).map_ok(|batch| newest(&batch));
            Ok::<_, FollowError>(stream::iter([Ok(present)]).chain(updates))
        };
        stream::once(begin).try_flatten().try_filter(|batch| std::future::ready(!batch.is_empty()))
    }
}

/// Every status, and the progress that nothing in the batch supersedes.
fn newest(batch: &[Followed]) -> Vec<Watched> {
    // Mostly one event, and one state: no room for more.
    let mut kept: Vec<Watched> = Vec::with_capacity(usize::from(batch.len() == 1));
    let mut last_is_progress = false;
    for followed in batch {
        let Followed::Event(event) = followed else { continue };
        let Some(watched) = Watched::at(event) else { continue };
        let is_progress = matches!(event.body, EventBody::Progress(_));
        // The next status tells the progress, too.
        if last_is_progress {
            kept.pop();
        }
        last_is_progress = is_progress;
        kept.push(watched);
    }
    kept
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::StatusChange;

    fn event(seq: Seq, body: EventBody) -> Followed {
        let event = Event { task: TaskId::from_i64(1), seq, attempt: 1, at: DateTime::UNIX_EPOCH, body };
        Followed::Event(Arc::new(event))
    }

    fn status(seq: Seq, status: TaskStatus) -> Followed {
        let change = StatusChange { status, progress: Progress::default(), result: None, error: None, run_at: None };
        event(seq, EventBody::Status(change))
    }

    fn progress(seq: Seq) -> Followed {
        event(seq, EventBody::Progress(Progress::percent(50.0)))
    }

    fn seqs(batch: &[Followed]) -> Vec<Seq> {
        newest(batch).iter().map(|watched| watched.seq).collect()
    }

    #[test]
    fn superseded_progress_is_skipped_and_no_status_is() {
        let batch = [
            status(1, TaskStatus::Pending),
            status(2, TaskStatus::Running),
            progress(3),
            progress(4),
            status(5, TaskStatus::Pending),
            status(6, TaskStatus::Running),
            progress(7),
            progress(8),
        ];
        assert_eq!(seqs(&batch), [1, 2, 5, 6, 8]);
    }
}
