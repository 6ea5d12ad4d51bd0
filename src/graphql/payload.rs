use async_graphql::Response;
use axum::body::Bytes;
use serde::{Serialize, Serializer, ser::Error};
use serde_json::value::RawValue;

use crate::journal::EventCursor;

/// A response as transports send it: rendered once, however many clients get it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload {
    /// The response, as JSON. Cloning it is cheap.
    pub json: Bytes,
    /// Names the event it shows, in a stream that resumes.
    pub cursor: Option<EventCursor>,
}

impl Payload {
    /// Renders a response. The cursor also goes into its `extensions`, where a client finds it whatever it selected.
    pub(super) fn new(mut response: Response, cursor: Option<EventCursor>) -> Self {
        if let Some(cursor) = cursor {
            response.extensions.insert("cursor".to_owned(), cursor.to_string().into());
        }
        // Values of the engine are JSON.
        let json = serde_json::to_vec(&response).unwrap_or_default();
        Self { json: json.into(), cursor }
    }
}

impl Serialize for Payload {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let raw: &RawValue = serde_json::from_slice(&self.json).map_err(Error::custom)?;
        raw.serialize(serializer)
    }
}
