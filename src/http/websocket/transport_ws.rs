//! The messages of the subprotocol `graphql-transport-ws`, as text.

use axum::extract::ws::Utf8Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{close::CloseReason, message::ClientMessage};
use crate::http::{operation::Outcome, params};

/// Its name in `Sec-WebSocket-Protocol`.
pub(super) const NAME: &str = "graphql-transport-ws";

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(rename = "type", default)]
    message_type: Option<String>,
    #[serde(default)]
    id: Option<String>,
    #[serde(borrow, default)]
    payload: Option<&'a RawValue>,
}

/// Reads a client's message.
pub(super) fn decode(text: &str) -> Result<ClientMessage, CloseReason> {
    let bad = |what: &str| CloseReason::BadMessage(what.to_owned());
    if !text.trim_start().starts_with('{') {
        return Err(bad("a JSON object is expected"));
    }
    let envelope: Envelope<'_> =
        serde_json::from_str(text).map_err(|error| CloseReason::BadMessage(error.to_string()))?;
    let id = || envelope.id.clone().filter(|id| !id.is_empty()).ok_or_else(|| bad("`id` is missing"));
    Ok(match envelope.message_type.as_deref() {
        Some("connection_init") => ClientMessage::Init(object(envelope.payload)?),
        Some("ping") => {
            object(envelope.payload)?;
            ClientMessage::Ping(envelope.payload.map(ToOwned::to_owned))
        }
        Some("pong") => ClientMessage::Pong,
        Some("subscribe") => {
            let payload = envelope.payload.ok_or_else(|| bad("`payload` is missing"))?;
            let request = params::read_json(payload).map_err(CloseReason::BadMessage)?;
            ClientMessage::Subscribe { id: id()?, request: Box::new(request) }
        }
        Some("complete") => ClientMessage::Complete { id: id()? },
        Some(_) => return Err(bad("unknown `type`")),
        None => return Err(bad("`type` is missing")),
    })
}

/// A payload that may be missing, and is an object otherwise.
fn object(payload: Option<&RawValue>) -> Result<Option<serde_json::Value>, CloseReason> {
    let Some(payload) = payload else { return Ok(None) };
    match serde_json::from_str(payload.get()) {
        Ok(value @ serde_json::Value::Object(_)) => Ok(Some(value)),
        Ok(_) => Err(CloseReason::BadMessage("`payload` must be an object".to_owned())),
        Err(error) => Err(CloseReason::BadMessage(error.to_string())),
    }
}

pub(super) fn ack() -> Utf8Bytes {
    Utf8Bytes::from_static(r#"{"type":"connection_ack"}"#)
}

pub(super) fn pong(payload: Option<&RawValue>) -> Utf8Bytes {
    match payload {
        None => Utf8Bytes::from_static(r#"{"type":"pong"}"#),
        Some(payload) => format!(r#"{{"type":"pong","payload":{payload}}}"#).into(),
    }
}

/// `id` is JSON text already.
pub(super) fn complete(id: &str) -> Utf8Bytes {
    format!(r#"{{"id":{id},"type":"complete"}}"#).into()
}

/// A response, or the errors for which there is none. `id` is JSON text already.
pub(super) fn outcome(id: &str, outcome: &Outcome) -> Result<Utf8Bytes, serde_json::Error> {
    let mut text = Vec::with_capacity(id.len() + 256);
    text.extend_from_slice(br#"{"id":"#);
    text.extend_from_slice(id.as_bytes());
    match outcome {
        Outcome::Next(response) => {
            text.extend_from_slice(br#","type":"next","payload":"#);
            serde_json::to_writer(&mut text, response)?;
        }
        Outcome::Rendered(payload) => {
            text.reserve_exact(payload.json.len() + 32);
            text.extend_from_slice(br#","type":"next","payload":"#);
            text.extend_from_slice(&payload.json);
        }
        Outcome::RequestError(response) => {
            text.extend_from_slice(br#","type":"error","payload":"#);
            serde_json::to_writer(&mut text, &response.errors)?;
        }
    }
    text.push(b'}');
    Utf8Bytes::try_from(text).map_err(serde::ser::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_of_a_client_is_read() {
        let init = decode(r#" {"type":"connection_init","payload":{"a":1}}"#).unwrap();
        assert!(matches!(init, ClientMessage::Init(Some(payload)) if payload["a"] == 1));
        assert!(matches!(decode(r#"{"type":"connection_init","payload":null}"#).unwrap(), ClientMessage::Init(None)));
        assert!(matches!(decode(r#"{"type":"ping"}"#).unwrap(), ClientMessage::Ping(None)));
        assert!(matches!(decode(r#"{"type":"pong","payload":{}}"#).unwrap(), ClientMessage::Pong));
        assert!(
            matches!(decode(r#"{"type":"complete","id":"1"}"#).unwrap(), ClientMessage::Complete { id } if id == "1")
        );
        let subscribe = decode(r#"{"id":"x","type":"subscribe","payload":{"query":"{a}"}}"#).unwrap();
        assert!(matches!(subscribe, ClientMessage::Subscribe { id, request } if id == "x" && request.query == "{a}"));
    }

    #[test]
    fn what_is_wrong_with_a_message_is_said() {
        for (text, what) in [
            ("", "JSON object"),
            ("[]", "JSON object"),
            ("{", "EOF"),
            ("{}", "`type` is missing"),
            (r#"{"type":1}"#, "expected a string"),
            (r#"{"type":"start"}"#, "unknown `type`"),
            (r#"{"type":"connection_init","payload":1}"#, "`payload` must be an object"),
            (r#"{"type":"ping","payload":"x"}"#, "`payload` must be an object"),
            (r#"{"type":"complete"}"#, "`id` is missing"),
            (r#"{"type":"complete","id":""}"#, "`id` is missing"),
            (r#"{"type":"complete","id":1}"#, "expected a string"),
            (r#"{"type":"subscribe","id":"1"}"#, "`payload` is missing"),
            (r#"{"type":"subscribe","payload":{"query":"{a}"}}"#, "`id` is missing"),
            (r#"{"type":"subscribe","id":"1","payload":{}}"#, "`query` is missing"),
            (r#"{"type":"subscribe","id":"1","payload":{"query":"{a}","variables":[]}}"#, "`variables` must be"),
        ] {
            let Err(CloseReason::BadMessage(said)) = decode(text) else { panic!("{text} was read") };
            assert!(said.contains(what), "{text}: {said}");
        }
    }
}
