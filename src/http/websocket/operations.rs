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
///
/// One that is alone, which is what most are, wakes the connection directly and is asked whenever that is polled.
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
        self.ids.len() > 1 && !self.wakes.is_empty()
    }

    /// Adds one whose id is free.
    pub(super) fn insert(&mut self, id: String, json_id: Box<str>, operation: Operation) {
        let index = self.free.pop().unwrap_or_else(|| {
            self.running.push(None);
            self.running.len() - 1
        });
        self.answers += usize::from(!operation.is_subscription());
        if self.ids.len() == 1 {
            // It is alone no longer: from now on it has to say that it is the one who woke.
            self.running.iter().flatten().for_each(|running| running.waker.wake_by_ref());
        }
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

    /// Hands what the next one has that has something to `answer`; `None`: none has. `task` is the connection's.
    pub(super) fn next<T>(&mut self, task: &Waker, answer: impl FnOnce(Turn<'_>) -> T) -> Option<T> {
        if self.ids.len() == 1 {
            let index = self.running.iter().position(Option::is_some)?;
            return self.ask(index, Some(task), answer).map(|(answered, _)| answered);
        }
        let mut answer = Some(answer);
        while let Some(slot) = self.wakes.pop() {
            let answer = |turn: Turn<'_>| answer.take().map(|answer| answer(turn));
            // The slot of one that was dropped, or already another's: polling that once too often does no harm.
            let Some((answered, goes_on)) = self.ask(slot.index, None, answer) else { continue };
            if goes_on {
                self.wakes.push(slot);
            }
            return answered;
        }
        None
    }

    /// Asks one, which wakes `task`, or its slot. Hands what it has to `answer`; whether it goes on.
    fn ask<T>(&mut self, index: usize, task: Option<&Waker>, answer: impl FnOnce(Turn<'_>) -> T) -> Option<(T, bool)> {
        let running = self.running.get_mut(index)?.as_mut()?;
        let mut cx = Context::from_waker(task.unwrap_or(&running.waker));
        let Poll::Ready(polled) = Pin::new(&mut running.operation).poll_next(&mut cx) else { return None };
        let goes_on = matches!(polled, Some(Outcome::Next(_) | Outcome::Rendered(_)));
        let answered = answer(match polled {
            Some(outcome) => Turn::Outcome(&running.json_id, outcome),
            None => Turn::End(&running.json_id),
        });
        if !goes_on {
            let id = running.id.clone();
            self.remove(&id);
        }
        Some((answered, goes_on))
    }
}
