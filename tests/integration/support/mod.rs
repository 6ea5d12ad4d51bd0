//! What the tests share.

pub(crate) mod api;
pub(crate) mod follower;
pub(crate) mod here;
pub(crate) mod peer;
#[cfg(target_os = "linux")]
pub(crate) mod programs;
pub(crate) mod proxy;
pub(crate) mod raw;
pub(crate) mod server;
pub(crate) mod socket;
pub(crate) mod subscription;
pub(crate) mod table;
pub(crate) mod tasks;
pub(crate) mod toy;

use meanwhile::{
    model::{Backoff, Json, NewTask},
    store::{AttemptRef, AttemptWrite, NewEvent},
};

/// A task of this kind, with nothing special about it.
pub(crate) fn new_task(kind: &str) -> NewTask {
    NewTask {
        kind: kind.into(),
        input: Json::parse("{\"n\":1}").unwrap(),
        tags: Vec::new(),
        priority: 0,
        run_at: None,
        idempotency: None,
        max_attempts: 1,
        max_lost: 3,
        timeout_ms: None,
        deadline_ms: None,
        concurrency_key: None,
        backoff: Backoff { first_ms: 1000, max_ms: 600_000 },
    }
}

/// What an attempt writes the `number`-th time.
pub(crate) fn write(by: AttemptRef, number: u64, events: Vec<NewEvent>) -> AttemptWrite {
    AttemptWrite { by, number, events }
}
