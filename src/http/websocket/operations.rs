use std::{
    collections::HashMap,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use futures::Stream;

use super::wake::Wakes;
use crate::http::operation::{Operation, Outcome};

/// The operations under way on a connection, by their ids. Polled in turn: one that always has something leaves
/// every other its place.
#[derive(Default)]
pub(super) struct Operations {
    ids: HashMap<Box<str>, usize>,
    running: Vec<Option<Running>>,
    free: Vec<usize>,
    wakes: Wakes,
    /// Of those running, how many are queries and mutations.
    answers: usize,
}

struct Running {
    id: Box<str>,
    /// The id as JSON text.
    json_id: Box<str>,
    operation: Operation,
    waker: Waker,
}

/// What an operation has: an outcome, or its end. With the operation's id as JSON text.
pub(super) enum Turn<'a> {
    Outcome(&'a str, Outcome),
    End(&'a str),
}

impl Drop for Operations {
    fn drop(&mut self) {
        self.wakes.close();
    }
}

impl Operations {
    /// Who has something, operations and others.
    pub(super) fn wakes(&self) -> &Wakes {
        &self.wakes
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
        !self.wakes.is_empty()
    }

    /// Adds one whose id is free.
    pub(super) fn insert(&mut self, id: String, json_id: Box<str>, operation: Operation) {
        let index = self.free.pop().unwrap_or_else(|| {
            self.running.push(None);
            self.running.len() - 1
        });
        self.answers += usize::from(!operation.is_subscription());
        let (id, waker) = (id.into_boxed_str(), self.wakes.add(index));
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

    /// Hands what the next one has that has something to `answer`; `None`: none has.
    pub(super) fn next<T>(&mut self, answer: impl FnOnce(Turn<'_>) -> T) -> Option<T> {
        while let Some(slot) = self.wakes.pop() {
            // The slot of one that was dropped, or already another's: polling that once too often does no harm.
            let Some(Some(running)) = self.running.get_mut(slot.index) else { continue };
            let mut cx = Context::from_waker(&running.waker);
            let Poll::Ready(polled) = Pin::new(&mut running.operation).poll_next(&mut cx) else { continue };
            let last = !matches!(polled, Some(Outcome::Next(_) | Outcome::Rendered(_)));
            let answered = answer(match polled {
                Some(outcome) => Turn::Outcome(&running.json_id, outcome),
                None => Turn::End(&running.json_id),
            });
            if last {
                let id = running.id.clone();
                self.remove(&id);
            } else {
                self.wakes.push(slot);
            }
            return Some(answered);
        }
        None
    }
}
