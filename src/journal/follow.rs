//! Following one task: replay, then live, in one place, for every reader.

use std::{
    collections::VecDeque,
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use chrono::{DateTime, Utc};
use futures::{FutureExt, Stream, future::BoxFuture};

use super::{
    Journal, Shared,
    live::{LiveTask, Look, Registration},
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
    /// The events of a task with `seq > after`: those stored, then those that come, each exactly once and in order.
    /// Ends after the event that ends the task. Bounded: a reader that is slow holds no more than one page, and finds
    /// the rest in the store.
    pub fn follow(&self, task: TaskId, after: Seq) -> Follow {
        Follow { follower: Follower::new(self.shared.clone(), task, after) }
    }
}

/// The stream of [`Journal::follow`].
#[derive(Debug)]
pub struct Follow {
    follower: Follower,
}

impl Stream for Follow {
    type Item = Result<Followed, FollowError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let follower = &mut self.follower;
        match ready!(follower.poll_page(cx)) {
            Ok(true) => Poll::Ready(follower.next().map(Ok)),
            Ok(false) => Poll::Ready(None),
            Err(error) => Poll::Ready(Some(Err(error))),
        }
    }
}

/// A place in a task's journal. Polled by hand: with thousands of followers, what an event costs is above all the memory
/// that has to be fetched for each of them, and so this is small, and in one piece.
pub(super) struct Follower {
    shared: Arc<Shared>,
    registration: Registration,
    task: TaskId,
    /// `seq` of the event that is handed out next.
    expected: Seq,
    /// The start was checked against the task's head.
    began: bool,
    ended: bool,
    /// Found, and not handed out yet.
    page: VecDeque<Arc<Event>>,
    /// The store is being asked.
    asking: Option<BoxFuture<'static, Result<Vec<Arc<Event>>, FollowError>>>,
}

/// What a page may keep of the memory it took, in events, once it was handed out.
const KEPT_CAPACITY: usize = 8;

impl fmt::Debug for Follower {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Follower").field("task", &self.task).field("expected", &self.expected).finish_non_exhaustive()
    }
}

impl Follower {
    pub(super) fn new(shared: Arc<Shared>, task: TaskId, after: Seq) -> Self {
        // Before the first look: what is written from here on is either found or signalled.
        let registration = shared.live.register(task);
        Self {
            shared,
            registration,
            task,
            expected: after.saturating_add(1),
            began: false,
            ended: false,
            page: VecDeque::new(),
            asking: None,
        }
    }

    /// Waits until there is something to hand out; `false`: nothing will come any more. After an error there is
    /// nothing more.
    pub(super) fn poll_page(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, FollowError>> {
        while self.page.is_empty() {
            if let Some(asking) = &mut self.asking {
                let answered = ready!(asking.poll_unpin(cx));
                self.asking = None;
                match answered {
                    Ok(events) => self.page = events.into(),
                    Err(error) => return self.fail(error),
                }
                continue;
            }
            if self.ended {
                return Poll::Ready(Ok(false));
            }
            // Before the look: what comes after it wakes us.
            self.registration.wait(cx.waker());
            match self.registration.task.look(self.expected, self.shared.options.page_events, &mut self.page) {
                Look::Events => {}
                Look::Stored { head } => self.asking = Some(self.question().read(head).boxed()),
                // The cursor may come from the store, which is ahead of what memory has heard.
                Look::Ahead { head, .. } if !self.began && self.expected > head + 1 => {
                    self.asking = Some(self.question().ask().boxed());
                }
                Look::Ahead { ended: true, .. } => self.ended = true,
                Look::Ahead { ended: false, .. } => {
                    self.began = true;
                    return Poll::Pending;
                }
                Look::Unknown => self.asking = Some(self.question().ask().boxed()),
                Look::Deleted => return self.fail(FollowError::NotFound(self.task)),
                Look::Closed => return self.fail(StoreError::Closed.into()),
            }
        }
        Poll::Ready(Ok(true))
    }

    fn fail(&mut self, error: FollowError) -> Poll<Result<bool, FollowError>> {
        self.ended = true;
        Poll::Ready(Err(error))
    }

    fn question(&self) -> Question {
        Question {
            shared: self.shared.clone(),
            live: self.registration.task.clone(),
            task: self.task,
            expected: self.expected,
            began: self.began,
        }
    }

    /// Hands out an event of the page, or the gap before it.
    fn next(&mut self) -> Option<Followed> {
        let event = self.page.front()?;
        self.began = true;
        debug_assert!(event.seq >= self.expected, "an event comes twice");
        if event.seq > self.expected {
            let (from, through) = (self.expected, event.seq - 1);
            self.expected = event.seq;
            return Some(Followed::Gap { task: self.task, from, through, attempt: event.attempt, at: event.at });
        }
        let event = self.page.pop_front()?;
        self.passed(&event);
        Some(Followed::Event(event))
    }

    /// Goes through the page, keeping only what `skim` keeps of it, to be [taken](Self::take) from there.
    pub(super) fn skim(&mut self, skim: impl FnOnce(&mut VecDeque<Arc<Event>>)) {
        if let Some(last) = self.page.back().cloned() {
            self.began = true;
            self.passed(&last);
            skim(&mut self.page);
            self.tidy();
        }
    }

    /// Takes what was kept of a page.
    pub(super) fn take(&mut self) -> Option<Arc<Event>> {
        let event = self.page.pop_front();
        self.tidy();
        event
    }

    fn passed(&mut self, event: &Event) {
        self.expected = event.seq + 1;
        self.ended = event.is_terminal();
        self.tidy();
    }

    /// Who waits for the next event holds no memory for many.
    fn tidy(&mut self) {
        if self.page.is_empty() && self.page.capacity() > KEPT_CAPACITY {
            self.page = VecDeque::new();
        }
    }
}

/// What a follower asks the store.
struct Question {
    shared: Arc<Shared>,
    live: Arc<LiveTask>,
    task: TaskId,
    expected: Seq,
    began: bool,
}

impl Question {
    /// Asks the store where the task stands, once for all who want to know. Live memory has the answer.
    async fn ask(self) -> Result<Vec<Arc<Event>>, FollowError> {
        let _asking = self.live.asking.lock().await;
        match self.live.look(self.expected, 0, &mut VecDeque::new()) {
            Look::Unknown => {}
            Look::Ahead { head, .. } if self.expected > head + 1 => {}
            // Another has asked meanwhile.
            _ => return Ok(Vec::new()),
        }
        let missed = self.live.missed();
        let task = self.shared.store.tasks(vec![self.task]).await?.pop().flatten();
        let task = task.ok_or(FollowError::NotFound(self.task))?;
        self.live.learn(missed, task.head, task.status.is_terminal());
        if !self.began && self.expected > task.head + 1 {
            return Err(FollowError::Ahead { task: self.task, after: self.expected - 1, head: task.head });
        }
        Ok(Vec::new())
    }

    /// Stored events from the expected one on. Pages begin at fixed places, so that all who replay a task
    /// share them; what such a page does not hold (large events, pruned ones) is read directly.
    async fn read(self, head: Seq) -> Result<Vec<Arc<Event>>, FollowError> {
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
}

#[allow(clippy::needless_pass_by_value, reason = "the signature that map_err wants")]
fn not_found(error: Arc<StoreError>) -> FollowError {
    match &*error {
        StoreError::NotFound(task) => FollowError::NotFound(*task),
        other => FollowError::Store(other.clone()),
    }
}
