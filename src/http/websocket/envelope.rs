//! What the messages of both subprotocols look like.

use async_graphql::Request;
use serde::{Deserialize, ser::Error};
use serde_json::{Value, value::RawValue};
use tungstenite::Utf8Bytes;

use super::close::CloseReason;
use crate::http::params;

/// A message, its payload not read yet.
#[derive(Deserialize)]
pub(super) struct Envelope<'a> {
    #[serde(rename = "type", default)]
    message_type: Option<String>,
    #[serde(default)]
    id: Option<String>,
    #[serde(borrow, default)]
    payload: Option<&'a RawValue>,
}

fn bad(what: &str) -> CloseReason {
    CloseReason::BadMessage(what.to_owned())
}

impl<'a> Envelope<'a> {
    pub(super) fn read(text: &'a str) -> Result<Self, CloseReason> {
        if !text.trim_start().starts_with('{') {
            return Err(bad("a JSON object is expected"));
        }
        serde_json::from_str(text).map_err(|error| CloseReason::BadMessage(error.to_string()))
    }

    pub(super) fn message_type(&self) -> Result<&str, CloseReason> {
        self.message_type.as_deref().ok_or_else(|| bad("`type` is missing"))
    }

    pub(super) fn id(&self) -> Result<String, CloseReason> {
        self.id.clone().filter(|id| !id.is_empty()).ok_or_else(|| bad("`id` is missing"))
    }

    pub(super) fn payload(&self) -> Option<&'a RawValue> {
        self.payload
    }

    /// The payload, which may be missing, and is an object otherwise.
    pub(super) fn object(&self) -> Result<Option<Value>, CloseReason> {
        let Some(payload) = self.payload else { return Ok(None) };
        match serde_json::from_str(payload.get()) {
            Ok(value @ Value::Object(_)) => Ok(Some(value)),
            Ok(_) => Err(bad("`payload` must be an object")),
            Err(error) => Err(CloseReason::BadMessage(error.to_string())),
        }
    }

    /// The payload, which is an operation to start.
    pub(super) fn request(&self) -> Result<Box<Request>, CloseReason> {
        let payload = self.payload.ok_or_else(|| bad("`payload` is missing"))?;
        params::read_json(payload).map(Box::new).map_err(CloseReason::BadMessage)
    }
}

/// What a message has beside its id, type and payload.
const FRAME_BYTES: usize = r#"{"id":,"type":"","payload":}"#.len();

/// A message of an operation. `id` is JSON text already, and so is what `payload` writes: `payload_bytes`, as far as
/// that is known.
pub(super) fn framed(
    id: &str,
    message_type: &str,
    payload_bytes: usize,
    payload: impl FnOnce(&mut Vec<u8>) -> serde_json::Result<()>,
) -> serde_json::Result<Utf8Bytes> {
    let mut text = Vec::with_capacity(id.len() + message_type.len() + payload_bytes + FRAME_BYTES);
    for piece in [r#"{"id":"#, id, r#","type":""#, message_type, r#"","payload":"#] {
        text.extend_from_slice(piece.as_bytes());
    }
    payload(&mut text)?;
    text.push(b'}');
    Utf8Bytes::try_from(text).map_err(serde_json::Error::custom)
}
