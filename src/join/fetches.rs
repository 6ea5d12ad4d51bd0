//! Fetching the parts of one request: identical ones once.

use std::{
    collections::HashMap,
    fmt,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use futures::{
    FutureExt, StreamExt,
    future::{BoxFuture, Shared, WeakShared},
};

use super::room::Held;
use crate::{
    error::ErrorCode,
    join::JoinRoom,
    model::Json,
    source::{Args, Gives, Limited, SourceError},
};

/// Rows taken in one go, before others get their turn.
const ROWS_PER_TURN: usize = 128;

type Fetched = Result<Json, SourceError>;
type Fetch = Shared<BoxFuture<'static, Fetched>>;

/// What was fetched, and is being fetched, for one request. Cloning gives another handle to the same.
///
/// A fetch goes on as long as somebody waits for it, and stops with the last one.
#[derive(Clone)]
pub struct Fetches {
    known: Arc<Known>,
    /// Of the values, until the request is over.
    held: Arc<Held>,
}

/// Of a request whose values nobody counts.
impl Default for Fetches {
    fn default() -> Self {
        Self { known: Arc::default(), held: Arc::new(Held::of(None)) }
    }
}

#[derive(Default)]
struct Known(Mutex<HashMap<Key, Entry>>);

impl Known {
    /// Nothing here panics while it holds the lock.
    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What makes two parts identical.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    source: Arc<str>,
    /// With defaults, in the order of their definitions.
    args: Json,
    gives: Gives,
    max_bytes: usize,
}

enum Entry {
    UnderWay(WeakShared<BoxFuture<'static, Fetched>>),
    Done(Fetched),
}

impl fmt::Debug for Fetches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fetches").field("known", &self.known.lock().len()).finish()
    }
}

impl Fetches {
    /// Of a request whose values have to fit in this room, beside those of all others, until its last handle is dropped.
    pub fn within(room: &JoinRoom) -> Self {
        Self { known: Arc::default(), held: Arc::new(Held::of(Some(room.clone()))) }
    }

    /// For the same request, without what was fetched for it already.
    #[must_use]
    pub fn anew(&self) -> Self {
        Self { known: Arc::default(), held: self.held.clone() }
    }

    /// Takes room for a value of so many bytes. The error is for the whole join: `UNAVAILABLE`.
    pub(super) fn hold(&self, bytes: usize) -> Result<(), SourceError> {
        self.held.take(bytes)
    }

    /// What the source gives for these args, in at most `max_bytes` of JSON text; and whether that is somebody else's
    /// fetch, too, who asked before.
    pub(super) fn fetch(&self, source: &Arc<Limited>, args: Args, gives: Gives, max_bytes: usize) -> (Fetch, bool) {
        let args = match source.resolve(args) {
            Ok(args) => args,
            Err(error) => return (futures::future::ready(Err(error)).boxed().shared(), false),
        };
        let key = Key { source: source.info().name.clone(), args: args.to_json(), gives, max_bytes };
        let mut known = self.known.lock();
        match known.get(&key) {
            Some(Entry::Done(fetched)) => {
                return (futures::future::ready(fetched.clone()).boxed().shared(), true);
            }
            Some(Entry::UnderWay(fetch)) => {
                if let Some(fetch) = fetch.upgrade() {
                    return (fetch, true);
                }
            }
            None => {}
        }
        let fetch = fetch_and_note(source.clone(), args, Arc::downgrade(&self.known), key.clone()).boxed().shared();
        if let Some(weak) = fetch.downgrade() {
            known.insert(key, Entry::UnderWay(weak));
        }
        (fetch, false)
    }
}

async fn fetch_and_note(source: Arc<Limited>, args: Args, known: Weak<Known>, key: Key) -> Fetched {
    let (gives, max_bytes) = (key.gives, key.max_bytes);
    let fetched = AssertUnwindSafe(fetch(&source, args, gives, max_bytes)).catch_unwind().await.unwrap_or_else(|_| {
        let message = format!("source `{}` has panicked: see the log", source.info().name);
        Err(SourceError::new(ErrorCode::Internal, message))
    });
    if let Some(known) = known.upgrade() {
        known.lock().insert(key, Entry::Done(fetched.clone()));
    }
    fetched
}

async fn fetch(source: &Limited, args: Args, gives: Gives, max_bytes: usize) -> Fetched {
    let within = |bytes: usize| {
        if bytes <= max_bytes {
            return Ok(());
        }
        Err(SourceError::limit(&source.info().name, "max_part_bytes", format!("{max_bytes} bytes in a join")))
    };
    let mut rows = source.read(args)?;
    if gives == Gives::Value {
        let Some(row) = rows.next().await.transpose()? else { return Ok(Json::null()) };
        within(row.value.len())?;
        return Ok(row.value);
    }
    let mut text = String::from("[");
    let mut count = 0_usize;
    while let Some(row) = rows.next().await.transpose()? {
        if count > 0 {
            text.push(',');
        }
        within(text.len() + row.value.len() + 1)?;
        text.push_str(row.value.as_str());
        count += 1;
        if count.is_multiple_of(ROWS_PER_TURN) {
            tokio::task::yield_now().await;
        }
    }
    text.push(']');
    Ok(Json::trusted(text))
}
