//! One operation's renderer, and finding it.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering},
    },
};

use async_graphql::{Executor, Request, Response};
use axum::body::Bytes;
use futures::{FutureExt, StreamExt, stream::BoxStream};

use super::{Feed, Item, Wanted};
use crate::{error::add_codes, graphql::payload::Payload, journal::EventCursor};

/// Results kept for one operation, at most.
const MAX_KEPT: usize = 256;

/// The renderers of the operations that have subscribers.
#[derive(Debug)]
pub(in crate::graphql) struct Renderers {
    by_key: Mutex<HashMap<Arc<str>, Weak<Renderer>>>,
    budget: Arc<Budget>,
}

/// Bytes of rendered results, of all operations together.
#[derive(Debug)]
struct Budget {
    used: AtomicUsize,
    limit: usize,
}

/// Renders the events of one operation.
pub(super) struct Renderer {
    feed: Feed,
    wanted: Wanted,
    /// A std mutex: rendering never waits.
    state: Mutex<State>,
    budget: Arc<Budget>,
}

struct State {
    engine: BoxStream<'static, Response>,
    /// The newest results, by growing `seq`.
    kept: VecDeque<(u64, Bytes)>,
}

impl fmt::Debug for Renderer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Renderer").field("wanted", &self.wanted).finish_non_exhaustive()
    }
}

impl Renderers {
    /// With room for this many bytes of results.
    pub(in crate::graphql) fn new(limit: usize) -> Self {
        Self { by_key: Mutex::default(), budget: Arc::new(Budget { used: AtomicUsize::new(0), limit }) }
    }

    /// The renderer of this operation: the one that other subscribers use, or a new one. The engine then reads and
    /// checks the request; what it has to say against it is the error.
    pub(super) fn find<E: Executor>(
        self: &Arc<Self>,
        key: &str,
        schema: &E,
        request: impl FnOnce() -> Request,
    ) -> Result<Arc<Renderer>, Box<Response>> {
        if let Some(renderer) = self.lock().get(key).and_then(Weak::upgrade) {
            return Ok(renderer);
        }
        let feed = Feed::default();
        let mut engine = schema.execute_stream(request().data(feed.clone()), None);
        // Without an event it has nothing to give but errors.
        let refused = engine.next().now_or_never();
        let (None, Some(wanted)) = (&refused, feed.wanted()) else {
            let said = refused.flatten().unwrap_or_else(|| {
                Response::from_errors(vec![async_graphql::ServerError::new("the subscription cannot be read", None)])
            });
            return Err(Box::new(said));
        };
        let key: Arc<str> = key.into();
        let state = Mutex::new(State { engine, kept: VecDeque::new() });
        let renderer = Arc::new(Renderer { feed, wanted, state, budget: self.budget.clone() });
        let mut by_key = self.lock();
        if by_key.len() >= 2 * by_key.values().filter(|known| known.strong_count() > 0).count().max(64) {
            by_key.retain(|_, known| known.strong_count() > 0);
        }
        // Somebody may have been quicker.
        if let Some(known) = by_key.get(&key).and_then(Weak::upgrade) {
            return Ok(known);
        }
        by_key.insert(key, Arc::downgrade(&renderer));
        Ok(renderer)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Weak<Renderer>>> {
        self.by_key.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Renderer {
    /// What the operation wants.
    pub(super) fn wanted(&self) -> &Wanted {
        &self.wanted
    }

    /// What subscribers get for the event that `cursor` names: taken from those kept, or rendered. `shared`: every
    /// subscriber gets the same for this event.
    pub(super) fn render(self: &Arc<Self>, cursor: EventCursor, shared: bool, item: impl FnOnce() -> Item) -> Payload {
        let mut state = self.lock();
        if shared && let Ok(place) = state.kept.binary_search_by_key(&cursor.seq, |(seq, _)| *seq) {
            return Payload { json: state.kept[place].1.clone(), cursor: Some(cursor) };
        }
        self.feed.put(item());
        let mut response = match state.engine.next().now_or_never() {
            Some(Some(response)) => response,
            // Its fields resolve without waiting, and its stream does not end.
            _ => Response::from_errors(vec![async_graphql::ServerError::new("the event cannot be shown", None)]),
        };
        add_codes(&mut response);
        let payload = Payload::new(response, Some(cursor));
        // Alone, there is nobody to keep it for. Who replays old events does not push out the newest.
        let newest = state.kept.back().is_none_or(|(seq, _)| *seq < cursor.seq);
        if shared && newest && Arc::strong_count(self) > 1 {
            self.keep(&mut state, cursor.seq, payload.json.clone());
        }
        payload
    }

    fn keep(&self, state: &mut State, seq: u64, json: Bytes) {
        while state.kept.len() >= MAX_KEPT || (self.budget.over(json.len()) && !state.kept.is_empty()) {
            if let Some((_, oldest)) = state.kept.pop_front() {
                self.budget.used.fetch_sub(oldest.len(), Ordering::Relaxed);
            }
        }
        if !self.budget.over(json.len()) {
            self.budget.used.fetch_add(json.len(), Ordering::Relaxed);
            state.kept.push_back((seq, json));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Budget {
    fn over(&self, more: usize) -> bool {
        self.used.load(Ordering::Relaxed).saturating_add(more) > self.limit
    }
}

impl Drop for Renderer {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        let bytes: usize = state.kept.iter().map(|(_, json)| json.len()).sum();
        self.budget.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}
