//! The messages of the subprotocol `graphql-transport-ws`, as text.

use serde_json::value::RawValue;
use tungstenite::Utf8Bytes;

use super::{
    close::CloseReason,
    envelope::{Envelope, framed},
    message::ClientMessage,
};
use crate::http::operation::Outcome;

/// Its name in `Sec-WebSocket-Protocol`.
pub(super) const NAME: &str = "graphql-transport-ws";

/// Reads a client's message.
pub(super) fn decode(text: &str) -> Result<ClientMessage, CloseReason> {
    let envelope = Envelope::read(text)?;
    Ok(match envelope.message_type()? {
        "connection_init" => ClientMessage::Init(envelope.object()?),
        "ping" => {
            envelope.object()?;
            ClientMessage::Ping(envelope.payload().map(ToOwned::to_owned))
        }
        "pong" => ClientMessage::Pong,
        "subscribe" => {
            let request = envelope.request()?;
            ClientMessage::Subscribe { id: envelope.id()?, request }
        }
        "complete" => ClientMessage::Complete { id: envelope.id()? },
        _ => return Err(CloseReason::BadMessage("unknown `type`".to_owned())),
    })
}

pub(super) fn pong(payload: Option<&RawValue>) -> Utf8Bytes {
    match payload {
        None => Utf8Bytes::from_static(r#"{"type":"pong"}"#),
        Some(payload) => format!(r#"{{"type":"pong","payload":{payload}}}"#).into(),
    }
}

/// A response, or the errors for which there is none. `id` is JSON text already.
pub(super) fn outcome(id: &str, outcome: &Outcome) -> serde_json::Result<Utf8Bytes> {
    match outcome {
        Outcome::Next(_) | Outcome::Rendered(_) => {
            framed(id, "next", outcome.json_bytes(), |text| outcome.write_to(text))
        }
        Outcome::RequestError(response) => {
            framed(id, "error", outcome.json_bytes(), |text| serde_json::to_writer(text, &response.errors))
        }
    }
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
