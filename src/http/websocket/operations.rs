use std::{
    collections::HashMap,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use futures::{Stream, task::AtomicWaker};

use super::wake::ReadyQueue;
use crate::http::operation::{Operation, Outcome};

/// The operations under way on a connection, by their ids. Polled in turn: one that always has something leaves
/// every other its place.
#[derive(Default)]
pub(super) struct Operations {
    ids: HashMap<Box<str>, usize>,
    running: Vec<Option<Running>>,
    free: Vec<usize>,
    ready: ReadyQueue,
    /// Of those running, how many are queries and mutations.
    answers: usize,
}

struct Running {
    id: Box<str>,
    /// The id as JSON text.
    json_id: Arc<str>,
    operation: Operation,
    waker: Waker,
}

/// What an operation has: an outcome, or its end. With the operation's id as JSON text.
pub(super) enum Turn {
    Outcome(Arc<str>, Outcome),
    End(Arc<str>),
}

impl Operations {
    /// The task that is woken when one has something.
    pub(super) fn task(&self) -> &Arc<AtomicWaker> {
        self.ready.task()
    }

    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }

    pub(super) fn contains(&self, id: &str) -> bool {
        self.ids.contains_key(id)
    }

    /// Whether a query or a mutation is under way.
    pub(super) fn owe_answers(&self) -> bool {
        self.answers > 0
    }

    /// Whether one may have something now.
    pub(super) fn may_be_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Adds one whose id is free.
    pub(super) fn insert(&mut self, id: String, json_id: Arc<str>, operation: Operation) {
        let index = self.free.pop().unwrap_or_else(|| {
            self.running.push(None);
            self.running.len() - 1
        });
        self.answers += usize::from(!operation.is_subscription());
        let (id, waker) = (id.into_boxed_str(), self.ready.add(index));
        self.ids.insert(id.clone(), index);
        self.running[index] = Some(Running { id, json_id, operation, waker });
    }

    /// Drops one, and with it whatever produces its responses. An unknown id is ignored.
    pub(super) fn remove(&mut self, id: &str) {
        if let Some(index) = self.ids.remove(id)
            && let Some(running) = self.running[index].take()
        {
            self.free.push(index);
            self.answers -= usize::from(!running.operation.is_subscription());
        }
    }

    /// Drops all subscriptions.
    pub(super) fn drop_subscriptions(&mut self) {
        let subscriptions = self.running.iter().flatten().filter(|running| running.operation.is_subscription());
        let ids: Vec<_> = subscriptions.map(|running| running.id.clone()).collect();
        for id in ids {
            self.remove(&id);
        }
    }

    /// What the next one has that has something.
    pub(super) fn next(&mut self) -> Option<Turn> {
        while let Some(slot) = self.ready.pop() {
            // The slot of one that was dropped, or already another's: polling that once too often does no harm.
            let Some(Some(running)) = self.running.get_mut(slot.index) else { continue };
            let mut cx = Context::from_waker(&running.waker);
            let Poll::Ready(polled) = Pin::new(&mut running.operation).poll_next(&mut cx) else { continue };
            let json_id = running.json_id.clone();
            let last = !matches!(polled, Some(Outcome::Next(_) | Outcome::Rendered(_)));
            if last {
                let id = running.id.clone();
                self.remove(&id);
            } else {
                self.ready.push(slot);
            }
            return Some(match polled {
                Some(outcome) => Turn::Outcome(json_id, outcome),
                None => Turn::End(json_id),
            });
        }
        None
    }
}
