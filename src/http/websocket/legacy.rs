//! The messages of the older subprotocol `graphql-ws` (of the package subscriptions-transport-ws), as text.

use serde_json::{Value, json};
use tungstenite::Utf8Bytes;

use super::{
    close::CloseReason,
    envelope::{Envelope, framed},
    message::ClientMessage,
};
use crate::http::operation::Outcome;

/// Its name in `Sec-WebSocket-Protocol`.
pub(super) const NAME: &str = "graphql-ws";

/// Reads a client's message.
pub(super) fn decode(text: &str) -> Result<ClientMessage, CloseReason> {
    let envelope = Envelope::read(text)?;
    Ok(match envelope.message_type()? {
        "connection_init" => ClientMessage::Init(envelope.object()?),
        "connection_terminate" => ClientMessage::Terminate,
        "start" => ClientMessage::Subscribe { id: envelope.id()?, request: envelope.request()? },
        "stop" => ClientMessage::Complete { id: envelope.id()? },
        _ => return Err(CloseReason::BadMessage("unknown `type`".to_owned())),
    })
}

pub(super) fn keep_alive() -> Utf8Bytes {
    Utf8Bytes::from_static(r#"{"type":"ka"}"#)
}

/// Why a connection is not admitted; the end of the connection follows.
pub(super) fn connection_error(reason: &CloseReason) -> Utf8Bytes {
    json!({ "type": "connection_error", "payload": { "message": reason.text() } }).to_string().into()
}

/// A response, or the errors for which there is none. `id` is JSON text already.
pub(super) fn outcome(id: &str, outcome: &Outcome) -> serde_json::Result<Utf8Bytes> {
    match outcome {
        Outcome::Next(_) | Outcome::Rendered(_) => {
            framed(id, "data", outcome.json_bytes(), |text| outcome.write_to(text))
        }
        // Some clients look for the first one, some for all.
        Outcome::RequestError(response) => framed(id, "error", outcome.json_bytes(), |text| {
            let mut payload = serde_json::to_value(response.errors.first())?;
            if let Value::Object(first) = &mut payload {
                first.insert("errors".to_owned(), serde_json::to_value(&response.errors)?);
            }
            serde_json::to_writer(text, &payload)
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_of_a_client_is_read() {
        let init = decode(r#"{"type":"connection_init","payload":{"a":1}}"#).unwrap();
        assert!(matches!(init, ClientMessage::Init(Some(payload)) if payload["a"] == 1));
        assert!(matches!(decode(r#"{"type":"connection_terminate"}"#).unwrap(), ClientMessage::Terminate));
        assert!(matches!(decode(r#"{"type":"stop","id":"1"}"#).unwrap(), ClientMessage::Complete { id } if id == "1"));
        let start = decode(r#"{"id":"x","type":"start","payload":{"query":"{a}"}}"#).unwrap();
        assert!(matches!(start, ClientMessage::Subscribe { id, request } if id == "x" && request.query == "{a}"));
    }

    #[test]
    fn messages_of_the_newer_subprotocol_are_unknown() {
        for text in [r#"{"type":"subscribe","id":"1","payload":{"query":"{a}"}}"#, r#"{"type":"ping"}"#] {
            let Err(CloseReason::BadMessage(said)) = decode(text) else { panic!("{text} was read") };
            assert_eq!(said, "unknown `type`");
        }
    }
}
