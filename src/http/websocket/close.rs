use std::borrow::Cow;

use tungstenite::protocol::CloseFrame;

/// The most bytes of a reason that a close frame has room for.
const MAX_REASON_BYTES: usize = 123;

/// Why the server closes a connection. Clients decide by the code whether they connect again: stock ones do after
/// 1012, 1013, 4403 and 4408, and never after the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CloseReason {
    /// 1000: the client asked for it.
    Done,
    /// 1002: the bytes are not the WebSocket protocol.
    Protocol,
    /// 1007: a text message is not UTF-8.
    NotUtf8,
    /// 1009: a message is larger than `max_message_bytes`, which this is.
    MessageTooLarge(usize),
    /// 1012: the server stops or restarts; connect again.
    Restart,
    /// 1013: over the limit named here; connect again later.
    Overload(&'static str),
    /// 4400: a message that is not one of the protocol; what is wrong with it.
    BadMessage(String),
    /// 4401: `subscribe` before the acknowledgement.
    NotAcknowledged,
    /// 4403: `connection_init` was refused, for this reason.
    Forbidden(String),
    /// 4406: none of the client's subprotocols is spoken here.
    NoSubprotocol,
    /// 4408: `connection_init` did not come in time.
    InitTimeout,
    /// 4409: this operation id is already in use.
    DuplicateId(String),
    /// 4429: a second `connection_init`.
    SecondInit,
}

impl CloseReason {
    /// The code of the close frame.
    pub fn code(&self) -> u16 {
        match self {
            Self::Done => 1000,
            Self::Protocol => 1002,
            Self::NotUtf8 => 1007,
            Self::MessageTooLarge(_) => 1009,
            Self::Restart => 1012,
            Self::Overload(_) => 1013,
            Self::BadMessage(_) => 4400,
            Self::NotAcknowledged => 4401,
            Self::Forbidden(_) => 4403,
            Self::NoSubprotocol => 4406,
            Self::InitTimeout => 4408,
            Self::DuplicateId(_) => 4409,
            Self::SecondInit => 4429,
        }
    }

    /// What the close frame says, for people.
    pub fn text(&self) -> Cow<'static, str> {
        match self {
            Self::Done => "".into(),
            Self::Protocol => "WebSocket protocol violated".into(),
            Self::NotUtf8 => "Text must be UTF-8".into(),
            Self::MessageTooLarge(bytes) => format!("Over max_message_bytes, which is {bytes}").into(),
            Self::Restart => "Server is stopping".into(),
            Self::Overload(limit) => format!("Over {limit}, try again later").into(),
            Self::BadMessage(what) => format!("Invalid message: {what}").into(),
            Self::NotAcknowledged => "Unauthorized".into(),
            Self::Forbidden(reason) if reason.is_empty() => "Forbidden".into(),
            Self::Forbidden(reason) => reason.clone().into(),
            Self::NoSubprotocol => "Subprotocol not acceptable".into(),
            Self::InitTimeout => "Connection initialisation timeout".into(),
            Self::DuplicateId(id) => format!("Subscriber for {id} already exists").into(),
            Self::SecondInit => "Too many initialisation requests".into(),
        }
    }

    pub(super) fn frame(&self) -> CloseFrame {
        let text = self.text();
        CloseFrame { code: self.code().into(), reason: (&text[..text.floor_char_boundary(MAX_REASON_BYTES)]).into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let frame = CloseReason::DuplicateId("é".repeat(200)).frame();
        assert_eq!(u16::from(frame.code), 4409);
        assert!(frame.reason.len() <= MAX_REASON_BYTES && frame.reason.ends_with('é'), "{}", frame.reason);
    }
}
