//! Subscriptions in parts: Apollo's protocol, `multipart/mixed; subscriptionSpec=1.0`.
//!
//! A part is `{"payload": …}`. The boundary that begins the next one is sent right behind it: clients show a part
//! when they see that it has ended.

use std::time::Duration;

use serde_json::json;

use super::{
    operation::{Outcome, failure},
    stream::{Framing, StreamOptions},
};
use crate::error::{Error, ErrorCode};

const BOUNDARY: &[u8] = b"--graphql";
const PART: &[u8] = b"\r\nContent-Type: application/json\r\n\r\n";
const LINE_END: &[u8] = b"\r\n";

/// Writes parts.
pub(super) struct Multipart {
    heartbeat: Duration,
}

impl Multipart {
    pub(super) fn new(options: &StreamOptions) -> Self {
        Self { heartbeat: Duration::from_millis(options.multipart_heartbeat_ms) }
    }
}

/// A part, which stands behind a boundary, and the boundary behind it.
fn part(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>) -> serde_json::Result<()>) -> serde_json::Result<()> {
    out.extend_from_slice(PART);
    write(out)?;
    out.extend_from_slice(LINE_END);
    out.extend_from_slice(BOUNDARY);
    Ok(())
}

impl Framing for Multipart {
    const CONTENT_TYPE: &'static str = "multipart/mixed; boundary=\"graphql\"; subscriptionSpec=\"1.0\"";

    fn heartbeat_interval(&self) -> Duration {
        self.heartbeat
    }

    fn begin(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(BOUNDARY);
    }

    fn outcome(&self, out: &mut Vec<u8>, outcome: &Outcome) -> serde_json::Result<()> {
        part(out, |out| {
            if let Outcome::RequestError(response) = outcome {
                out.extend_from_slice(b"{\"payload\":null,\"errors\":");
                serde_json::to_writer(&mut *out, &response.errors)?;
            } else {
                out.extend_from_slice(b"{\"payload\":");
                outcome.write_to(out)?;
            }
            out.push(b'}');
            Ok(())
        })
    }

    fn heartbeat(&self, out: &mut Vec<u8>) {
        let _ = part(out, |out| {
            out.extend_from_slice(b"{}");
            Ok(())
        });
    }

    fn complete(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"--\r\n");
    }

    /// An error: the mere end would be the operation's to its clients.
    fn interrupted(&self, out: &mut Vec<u8>) {
        let error =
            Error::new(ErrorCode::Unavailable, "the server is stopping: subscribe again, after the last cursor");
        let errors = json!({ "payload": null, "errors": failure(error).errors }).to_string();
        let _ = part(out, |out| {
            out.extend_from_slice(errors.as_bytes());
            Ok(())
        });
        self.complete(out);
    }
}
