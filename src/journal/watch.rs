//! Watching one task's progress: the newest state, not every step.

use std::{
    collections::VecDeque,
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use chrono::{DateTime, Utc};
use futures::{FutureExt, Stream, future::BoxFuture};

use super::{FollowError, Journal, Shared, follow::Follower};
use crate::model::{Event, EventBody, Json, Progress, Seq, Task, TaskError, TaskId, TaskStatus};

/// A task's status and progress at one event. Cloning it is cheap.
#[derive(Debug, Clone)]
pub struct Watched(Seen);

#[derive(Debug, Clone)]
enum Seen {
    Present(Arc<Task>),
    /// A status or progress.
    Event(Arc<Event>),
}

const NO_PROGRESS: &Progress = &Progress { percent: 0.0, done: None, total: None, message: None };

impl Watched {
    /// The task.
    pub fn task(&self) -> TaskId {
        match &self.0 {
            Seen::Present(task) => task.id,
            Seen::Event(event) => event.task,
        }
    }

    /// `seq` of the event.
    pub fn seq(&self) -> Seq {
        match &self.0 {
            Seen::Present(task) => task.head,
            Seen::Event(event) => event.seq,
        }
    }

    /// The status.
    pub fn status(&self) -> TaskStatus {
        match &self.0 {
            Seen::Present(task) => task.status,
            Seen::Event(event) => match &event.body {
                EventBody::Status(change) => change.status,
                _ => TaskStatus::Running,
            },
        }
    }

    /// How far the attempt had come.
    pub fn progress(&self) -> &Progress {
        match &self.0 {
            Seen::Present(task) => &task.progress,
            Seen::Event(event) => match &event.body {
                EventBody::Status(change) => &change.progress,
                EventBody::Progress(progress) => progress,
                _ => NO_PROGRESS,
            },
        }
    }

    /// The attempt.
    pub fn attempt(&self) -> u32 {
        match &self.0 {
            Seen::Present(task) => task.attempt,
            Seen::Event(event) => event.attempt,
        }
    }

    /// The result, on completion.
    pub fn result(&self) -> Option<&Json> {
        match &self.0 {
            Seen::Present(task) => task.result.as_ref(),
            Seen::Event(event) => match &event.body {
                EventBody::Status(change) => change.result.as_ref(),
                _ => None,
            },
        }
    }

    /// Why the last attempt ended badly, when this says that it did.
    pub fn error(&self) -> Option<&TaskError> {
        match &self.0 {
            // While it runs again, what ended an earlier attempt is history.
            Seen::Present(task) => task.error.as_ref().filter(|_| task.status != TaskStatus::Running),
            Seen::Event(event) => match &event.body {
                EventBody::Status(change) => change.error.as_ref(),
                _ => None,
            },
        }
    }

    /// When that was so.
    pub fn at(&self) -> DateTime<Utc> {
        match &self.0 {
            Seen::Present(task) => {
                let newest = [task.completed_at, task.progress_at, task.started_at].into_iter().flatten().max();
                newest.unwrap_or_else(|| task.created_at())
            }
            Seen::Event(event) => event.at,
        }
    }
}

impl Journal {
    /// The present state of a task and then each newer one: every change of status, and of the progress in between
    /// only the newest of what is ready. With `after`, what happened up to that event is not repeated. Ends after the
    /// terminal status.
    pub fn watch(&self, task: TaskId, after: Option<Seq>) -> Watch {
        let shared = self.shared.clone();
        Watch(match after {
            Some(after) => State::Following(Follower::new(shared, task, after)),
            None => {
                let store = shared.store.clone();
                let present = async move {
                    let found = store.tasks(vec![task]).await?.pop().flatten();
                    found.ok_or(FollowError::NotFound(task))
                };
                State::Beginning { shared, present: present.boxed() }
            }
        })
    }
}

/// The stream of [`Journal::watch`].
pub struct Watch(State);

enum State {
    Beginning { shared: Arc<Shared>, present: BoxFuture<'static, Result<Task, FollowError>> },
    Following(Follower),
    Ended,
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            State::Beginning { .. } => f.write_str("Watch(beginning)"),
            State::Following(follower) => f.debug_tuple("Watch").field(follower).finish(),
            State::Ended => f.write_str("Watch(ended)"),
        }
    }
}

impl Stream for Watch {
    type Item = Result<Watched, FollowError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match &mut self.0 {
            State::Beginning { shared, present } => {
                let present = ready!(present.poll_unpin(cx));
                let shared = shared.clone();
                self.0 = match &present {
                    Ok(task) => State::Following(Follower::new(shared, task.id, task.head)),
                    Err(_) => State::Ended,
                };
                Poll::Ready(Some(present.map(|task| Watched(Seen::Present(Arc::new(task))))))
            }
            State::Following(follower) => loop {
                if let Some(event) = follower.take() {
                    return Poll::Ready(Some(Ok(Watched(Seen::Event(event)))));
                }
                match ready!(follower.poll_page(cx)) {
                    Ok(true) => follower.skim(newest),
                    Ok(false) => return Poll::Ready(None),
                    Err(error) => return Poll::Ready(Some(Err(error))),
                }
            },
            State::Ended => Poll::Ready(None),
        }
    }
}

/// Keeps every status, and the progress that nothing in the page supersedes: the next status tells the progress, too.
fn newest(page: &mut VecDeque<Arc<Event>>) {
    let is_status = |event: &Event| matches!(event.body, EventBody::Status(_));
    let shows = |event: &Event| is_status(event) || matches!(event.body, EventBody::Progress(_));
    let last = page.iter().rfind(|event| shows(event)).map(|event| event.seq);
    page.retain(|event| is_status(event) || last == Some(event.seq));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{LogLevel, StatusChange};

    fn event(seq: Seq, body: EventBody) -> Arc<Event> {
        Arc::new(Event { task: TaskId::from_i64(1), seq, attempt: 1, at: DateTime::UNIX_EPOCH, body })
    }

    fn status(seq: Seq, status: TaskStatus) -> Arc<Event> {
        let change = StatusChange { status, progress: Progress::default(), result: None, error: None, run_at: None };
        event(seq, EventBody::Status(change))
    }

    fn progress(seq: Seq) -> Arc<Event> {
        event(seq, EventBody::Progress(Progress::percent(50.0)))
    }

    fn line(seq: Seq) -> Arc<Event> {
        event(seq, EventBody::Log { level: LogLevel::Info, message: "line".into() })
    }

    fn seqs(page: impl IntoIterator<Item = Arc<Event>>) -> Vec<Seq> {
        let mut page = page.into_iter().collect();
        newest(&mut page);
        page.iter().map(|event| event.seq).collect()
    }

    #[test]
    fn superseded_progress_is_skipped_and_no_status_is() {
        let page = [
            status(1, TaskStatus::Pending),
            status(2, TaskStatus::Running),
            progress(3),
            progress(4),
            status(5, TaskStatus::Pending),
            status(6, TaskStatus::Running),
            progress(7),
            progress(8),
            line(9),
        ];
        assert_eq!(seqs(page), [1, 2, 5, 6, 8]);
        assert_eq!(seqs([progress(1), status(2, TaskStatus::Completed)]), [2]);
        assert_eq!(seqs([line(1)]), [0; 0]);
    }
}
