//! Room for the values of all joins that run at once.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use crate::{error::ErrorCode, source::SourceError};

/// How many bytes of parts' values joins may hold at the same time, all together. Cloning gives another handle to the
/// same room.
#[derive(Debug, Clone)]
pub struct JoinRoom(Arc<Room>);

#[derive(Debug)]
struct Room {
    max_bytes: usize,
    held: AtomicUsize,
}

impl JoinRoom {
    /// Room for so many bytes of JSON text.
    pub fn new(max_bytes: usize) -> Self {
        Self(Arc::new(Room { max_bytes, held: AtomicUsize::new(0) }))
    }

    /// Bytes that are held now.
    pub fn held_bytes(&self) -> usize {
        self.0.held.load(Ordering::Relaxed)
    }
}

/// What somebody holds of a [`JoinRoom`]; given back when it is dropped.
pub(super) struct Held {
    /// `None`: nobody counts.
    room: Option<JoinRoom>,
    bytes: AtomicUsize,
}

impl Held {
    /// Nothing yet.
    pub(super) fn of(room: Option<JoinRoom>) -> Self {
        Self { room, bytes: AtomicUsize::new(0) }
    }

    /// Holds so many bytes more, if there is room for them.
    pub(super) fn take(&self, bytes: usize) -> Result<(), SourceError> {
        let Some(JoinRoom(room)) = &self.room else { return Ok(()) };
        let with_more = |held: usize| held.checked_add(bytes).filter(|held| *held <= room.max_bytes);
        if room.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, with_more).is_err() {
            let message = format!(
                "too many joins hold values now: {} bytes are allowed for all of them (`api.max_join_bytes`); try again",
                room.max_bytes
            );
            return Err(SourceError { code: ErrorCode::Unavailable, message, limit: Some("max_join_bytes") });
        }
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(JoinRoom(room)) = &self.room {
            room.held.fetch_sub(*self.bytes.get_mut(), Ordering::Relaxed);
        }
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}
