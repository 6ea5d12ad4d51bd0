use serde_json::value::RawValue;
use tungstenite::Utf8Bytes;

use super::{close::CloseReason, legacy, message::ClientMessage, transport_ws};
use crate::http::operation::Outcome;

/// What is spoken on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Subprotocol {
    /// `graphql-transport-ws`.
    TransportWs,
    /// `graphql-ws`, which came before it.
    Legacy,
}

impl Subprotocol {
    /// Of two that a client speaks the first is spoken.
    pub(super) const ALL: [Self; 2] = [Self::TransportWs, Self::Legacy];

    /// Its name in `Sec-WebSocket-Protocol`.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::TransportWs => transport_ws::NAME,
            Self::Legacy => legacy::NAME,
        }
    }

    /// Reads a client's message.
    pub(super) fn decode(self, text: &str) -> Result<ClientMessage, CloseReason> {
        match self {
            Self::TransportWs => transport_ws::decode(text),
            Self::Legacy => legacy::decode(text),
        }
    }

    /// Clients of the older one send operations without waiting to be acknowledged.
    pub(super) fn awaits_acknowledgement(self) -> bool {
        self == Self::TransportWs
    }

    /// With the older one, who starts an operation with an id in use replaces that.
    pub(super) fn replaces_operations(self) -> bool {
        self == Self::Legacy
    }

    pub(super) fn ack(self) -> Utf8Bytes {
        Utf8Bytes::from_static(r#"{"type":"connection_ack"}"#)
    }

    /// A sign of life, where it is a message.
    pub(super) fn keep_alive(self) -> Option<Utf8Bytes> {
        (self == Self::Legacy).then(legacy::keep_alive)
    }

    /// What is said before a client that is not admitted is sent away.
    pub(super) fn refusal(self, reason: &CloseReason) -> Option<Utf8Bytes> {
        (self == Self::Legacy).then(|| legacy::connection_error(reason))
    }

    pub(super) fn pong(self, payload: Option<&RawValue>) -> Utf8Bytes {
        transport_ws::pong(payload)
    }

    /// `id` is JSON text already.
    pub(super) fn complete(self, id: &str) -> Utf8Bytes {
        format!(r#"{{"id":{id},"type":"complete"}}"#).into()
    }

    /// A response, or the errors for which there is none. `id` is JSON text already.
    pub(super) fn outcome(self, id: &str, outcome: &Outcome) -> serde_json::Result<Utf8Bytes> {
        match self {
            Self::TransportWs => transport_ws::outcome(id, outcome),
            Self::Legacy => legacy::outcome(id, outcome),
        }
    }
}
