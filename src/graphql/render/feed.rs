//! How a resolver gets its events from a renderer, one at a time.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Poll, Waker},
};

use async_graphql::Context;
use futures::{Stream, stream};

use crate::{
    graphql::{event::TaskEvent, subscription::TaskProgress},
    model::{Event, EventType, TaskId},
};

/// What a subscription asks for, as its resolver has read it from the arguments.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::graphql) enum Wanted {
    /// `taskEvents`: events of these types; empty: of all.
    Events { task: TaskId, types: Vec<EventType> },
    /// `taskProgress`.
    Progress { task: TaskId },
}

impl Wanted {
    /// Of which task.
    pub(super) const fn task(&self) -> TaskId {
        match self {
            Self::Events { task, .. } | Self::Progress { task } => *task,
        }
    }

    /// Whether this event is one of them.
    pub(super) fn includes(&self, event: &Event) -> bool {
        match self {
            Self::Events { types, .. } => types.is_empty() || types.contains(&event.body.event_type()),
            Self::Progress { .. } => true,
        }
    }
}

/// One thing to render.
#[derive(Debug)]
pub(in crate::graphql) enum Item {
    /// For `taskEvents`.
    Event(TaskEvent),
    /// For `taskProgress`.
    Progress(TaskProgress),
}

/// Put into a request's data: its resolver says here what is wanted, and takes from here what to show.
#[derive(Debug, Clone, Default)]
pub(in crate::graphql) struct Feed(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    wanted: Option<Wanted>,
    item: Option<Item>,
    waker: Option<Waker>,
}

impl Feed {
    /// The feed of this request, if a renderer makes it.
    pub(in crate::graphql) fn of<'a>(ctx: &Context<'a>) -> Option<&'a Self> {
        ctx.data_opt()
    }

    /// The resolver's side: says what is wanted, and gives what comes.
    pub(in crate::graphql) fn take(&self, wanted: Wanted) -> impl Stream<Item = Item> + use<> {
        self.lock().wanted = Some(wanted);
        let feed = self.clone();
        stream::poll_fn(move |cx| {
            let mut state = feed.lock();
            match state.item.take() {
                Some(item) => Poll::Ready(Some(item)),
                None => {
                    state.waker = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        })
    }

    /// What the resolver wants, once it has run.
    pub(super) fn wanted(&self) -> Option<Wanted> {
        self.lock().wanted.clone()
    }

    /// Puts in what is to be rendered next.
    pub(super) fn put(&self, item: Item) {
        let waker = {
            let mut state = self.lock();
            state.item = Some(item);
            state.waker.take()
        };
        // The engine looks only at streams that were woken.
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
