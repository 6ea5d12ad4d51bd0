//! Following one task: replay, then live, in one place, for every reader.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use futures::{Stream, stream};

use super::{
    Journal, Shared,
    live::{Look, Registration},
};
use crate::{
    error::{Error, ErrorCode},
    model::{Event, Seq, TaskId},
    store::{EventQuery, StoreError},
};

/// What a follower is given.
#[derive(Debug, Clone, PartialEq)]
pub enum Followed {
    /// The next event.
    Event(Arc<Event>),
    /// The events `from` to `through` are no longer stored; what follows has `seq` `through + 1`.
    Gap {
        /// The task.
        task: TaskId,
        /// The first one missing.
        from: Seq,
        /// The last one missing.
        through: Seq,
        /// The attempt of the first event after the gap.
        attempt: u32,
        /// The time of the first event after the gap.
        at: DateTime<Utc>,
    },
}

/// Why following ended before the task did.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FollowError {
    /// The task is not there, or not any more.
    #[error("there is no task {0}")]
    NotFound(TaskId),
    /// The cursor names an event that has not happened.
    #[error("the cursor names event {after} of task {task}, whose newest event is {head}")]
    Ahead {
        /// The task.
        task: TaskId,
        /// What the cursor names.
        after: Seq,
        /// The newest event.
        head: Seq,
    },
    /// The store does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<FollowError> for Error {
    fn from(error: FollowError) -> Self {
        let code = match error {
            FollowError::NotFound(_) => ErrorCode::NotFound,
            FollowError::Ahead { .. } => ErrorCode::CursorAhead,
            FollowError::Store(error) => return error.into(),
        };
        Self::new(code, error.to_string())
    }
}

impl Journal {
    /// The events of a task with `seq > after`: those stored, then those that come, each exactly once and
    /// in order, in batches of what is ready. Ends after the event that ends the task. Bounded: a reader
    /// that is slow holds no more than one batch, and finds the rest in the store.
    pub fn follow(&self, task: TaskId, after: Seq) -> impl Stream<Item = Result<Vec<Followed>, FollowError>> + use<> {
        let follower = Follower {
            shared: self.shared.clone(),
            // Before the first read: what is written from here on is either read or signalled.
            registration: self.shared.live.register(task),
            task,
            expected: after.saturating_add(1),
            began: false,
            ended: false,
        };
        stream::try_unfold(
            follower,
            |mut follower| async move { Ok(follower.next().await?.map(|batch| (batch, follower))) },
        )
    }
}

struct Follower {
    shared: Arc<Shared>,
    registration: Registration,
    task: TaskId,
    expected: Seq,
    /// The start was checked against the task's head.
    began: bool,
    ended: bool,
}

impl Follower {
    async fn next(&mut self) -> Result<Option<Vec<Followed>>, FollowError> {
        while !self.ended {
            let live = self.registration.task.clone();
            let moved = live.moved.notified();
            tokio::pin!(moved);
            // Before the look: what comes after it wakes us.
            moved.as_mut().enable();
            match live.look(self.expected, self.shared.options.page_events) {
                Look::Events(events) => return Ok(Some(self.deliver(events))),
                Look::Stored { head } => {
                    let events = self.read(head).await?;
                    if !events.is_empty() {
                        return Ok(Some(self.deliver(events)));
                    }
                }
                // The cursor may come from the store, which is ahead of what memory has heard.
                Look::Ahead { head, .. } if !self.began && self.expected > head + 1 => self.ask().await?,
                Look::Ahead { ended: true, .. } => self.ended = true,
                Look::Ahead { ended: false, .. } => {
                    self.began = true;
                    moved.await;
                }
                Look::Unknown => self.ask().await?,
                Look::Deleted => return Err(FollowError::NotFound(self.task)),
                Look::Closed => return Err(StoreError::Closed.into()),
            }
        }
        Ok(None)
    }

    /// Asks the store where the task stands, once for all who want to know.
    async fn ask(&self) -> Result<(), FollowError> {
        let live = &self.registration.task;
        let _asking = live.asking.lock().await;
        match live.look(self.expected, 0) {
            Look::Unknown => {}
            Look::Ahead { head, .. } if self.expected > head + 1 => {}
            // Another has asked meanwhile.
            _ => return Ok(()),
        }
        let missed = live.missed();
        let task = self.shared.store.tasks(vec![self.task]).await?.pop().flatten();
        let task = task.ok_or(FollowError::NotFound(self.task))?;
        live.learn(missed, task.head, task.status.is_terminal());
        if !self.began && self.expected > task.head + 1 {
            return Err(FollowError::Ahead { task: self.task, after: self.expected - 1, head: task.head });
        }
        Ok(())
    }

    /// Stored events from the expected one on. Pages begin at fixed places, so that all who replay a task
    /// share them; what such a page does not hold (large events, pruned ones) is read directly.
    async fn read(&self, head: Seq) -> Result<Vec<Arc<Event>>, FollowError> {
        let page_events = self.shared.options.page_events as u64;
        let page = (self.expected - 1) / page_events;
        let end = head.min((page + 1) * page_events);
        let store = &self.shared.store;
        let query = |after| EventQuery {
            task: self.task,
            after,
            limit: self.shared.options.page_events,
            limit_bytes: self.shared.options.page_bytes,
            types: Vec::new(),
        };
        let load = async { store.events(query(page * page_events)).await.map(Arc::new) };
        let cached = self.shared.pages.try_get_with((self.task, page, end), load).await.map_err(not_found)?;
        let skip = cached.events.partition_point(|event| event.seq < self.expected);
        let events = &cached.events[skip..];
        if events.first().is_some_and(|event| event.seq == self.expected) {
            return Ok(events.to_vec());
        }
        Ok(store.events(query(self.expected - 1)).await.map_err(|error| not_found(Arc::new(error)))?.events)
    }

    /// Hands out events, with the gap before them if there is one, and moves on.
    fn deliver(&mut self, events: Vec<Arc<Event>>) -> Vec<Followed> {
        self.began = true;
        let mut batch = Vec::with_capacity(events.len() + 1);
        for event in events {
            if event.seq > self.expected {
                batch.push(Followed::Gap {
                    task: self.task,
                    from: self.expected,
                    through: event.seq - 1,
                    attempt: event.attempt,
                    at: event.at,
                });
            }
            debug_assert!(event.seq >= self.expected, "an event comes twice");
            self.expected = event.seq + 1;
            self.ended = event.is_terminal();
            batch.push(Followed::Event(event));
        }
        batch
    }
}

#[allow(clippy::needless_pass_by_value, reason = "the signature that map_err wants")]
fn not_found(error: Arc<StoreError>) -> FollowError {
    match &*error {
        StoreError::NotFound(task) => FollowError::NotFound(*task),
        other => FollowError::Store(other.clone()),
    }
}
