//! Where a resumable stream is: what the client brings, and what it is told.

use std::sync::{Arc, Mutex, PoisonError};

use async_graphql::{Context, Response, Value};

use crate::{
    error::Error,
    journal::EventCursor,
    model::{Seq, TaskId},
};

/// An event cursor that the transport brings with a request, beside the operation's variables: from
/// `Last-Event-ID`, or from the payload of `connection_init`. It goes before the `after` argument, because a
/// stock client that reconnects sends its old variables again.
///
/// Put into a request's data; read by the subscriptions that resume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResumeCursor(pub String);

/// The event that a stream goes on after: the transport's cursor, or the `after` argument.
pub(super) fn resume_after(
    brought: Option<&ResumeCursor>,
    after: Option<&str>,
    generation: u64,
    task: TaskId,
) -> Result<Option<Seq>, Error> {
    let Some(cursor) = brought.map(|cursor| cursor.0.as_str()).or(after) else { return Ok(None) };
    cursor.parse::<EventCursor>()?.seq_in(generation, task).map(Some)
}

/// The cursor of the event that a subscription is giving, so that it stands in `extensions.cursor` too: there
/// a client finds it whatever it selected.
///
/// One stream gives one event at a time, and it becomes a response before the next one is asked for.
#[derive(Debug, Clone, Default)]
pub(super) struct Position(Arc<Mutex<Option<EventCursor>>>);

impl Position {
    /// Of this request.
    pub(super) fn of(ctx: &Context<'_>) -> Self {
        ctx.data_opt::<Self>().cloned().unwrap_or_default()
    }

    pub(super) fn set(&self, cursor: EventCursor) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(cursor);
    }

    pub(super) fn tell(&self, response: &mut Response) {
        if let Some(cursor) = self.0.lock().unwrap_or_else(PoisonError::into_inner).take() {
            response.extensions.insert("cursor".to_owned(), Value::String(cursor.to_string()));
        }
    }
}
