//! GraphQL over server-sent events, in distinct connections mode: each operation is a response of its own.
//!
//! A `next` that shows an event of a task carries its cursor as `id:`. A browser that lost the connection comes again
//! by itself and names the last one in `Last-Event-ID`; that goes on right after it.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderName};

use super::{
    operation::Outcome,
    stream::{Framing, StreamOptions},
};

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// The event cursor that a client goes on after; none is an empty one, too. What cannot be one is one nevertheless: a
/// client that names something must not be taken for one that begins.
pub(super) fn last_event_id(headers: &HeaderMap) -> Option<String> {
    let id = headers.get(LAST_EVENT_ID).filter(|id| !id.is_empty())?;
    Some(String::from_utf8_lossy(id.as_bytes()).into_owned())
}

/// Writes events.
pub(super) struct Sse {
    heartbeat: Duration,
    retry_ms: u64,
}

impl Sse {
    pub(super) fn new(options: &StreamOptions) -> Self {
        Self { heartbeat: Duration::from_millis(options.sse_heartbeat_ms), retry_ms: options.sse_retry_ms }
    }
}

impl Framing for Sse {
    const CONTENT_TYPE: &'static str = "text/event-stream; charset=utf-8";

    fn heartbeat_interval(&self) -> Duration {
        self.heartbeat
    }

    fn begin(&self, out: &mut Vec<u8>) {
        self.heartbeat(out);
        out.extend_from_slice(format!("retry: {}\n\n", self.retry_ms).as_bytes());
    }

    fn outcome(&self, out: &mut Vec<u8>, outcome: &Outcome) -> serde_json::Result<()> {
        out.extend_from_slice(b"event: next\n");
        if let Some(cursor) = outcome.cursor().filter(|cursor| is_id(cursor)) {
            out.extend_from_slice(b"id: ");
            out.extend_from_slice(cursor.as_bytes());
            out.push(b'\n');
        }
        out.extend_from_slice(b"data: ");
        let begin = out.len();
        outcome.write_to(out)?;
        one_line(&mut out[begin..]);
        out.extend_from_slice(b"\n\n");
        Ok(())
    }

    fn heartbeat(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b":\n\n");
    }

    fn complete(&self, out: &mut Vec<u8>) {
        // Without a `data:` line a browser would not tell.
        out.extend_from_slice(b"event: complete\ndata:\n\n");
    }

    /// Without `complete` the response is a lost connection to its clients, who come again.
    fn interrupted(&self, _: &mut Vec<u8>) {}
}

/// Whether it fits into an `id:` line, and into a header.
fn is_id(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// JSON may stand on several lines; an event's data may not. Between JSON's tokens a line's end is a space, and
/// within its strings there is none.
fn one_line(json: &mut [u8]) {
    for byte in json.iter_mut().filter(|byte| matches!(byte, b'\n' | b'\r')) {
        *byte = b' ';
    }
}

#[cfg(test)]
mod tests {
    use async_graphql::Response;

    use super::*;

    fn event(response: Response) -> String {
        let mut out = Vec::new();
        Sse::new(&StreamOptions::default()).outcome(&mut out, &Outcome::Next(Box::new(response))).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn an_event_has_its_cursor_as_id() {
        let mut response = Response::new(async_graphql::Value::from(1));
        assert_eq!(event(Response::new(async_graphql::Value::from(1))), "event: next\ndata: {\"data\":1}\n\n");
        response.extensions.insert("cursor".to_owned(), "abc_-1".into());
        let text = event(response);
        assert!(text.starts_with("event: next\nid: abc_-1\ndata: {\"data\":1,"), "{text}");
    }

    #[test]
    fn what_is_no_cursor_is_no_id() {
        for cursor in ["", "a\nevent: complete", "a b", "ä"] {
            let mut response = Response::new(async_graphql::Value::from(1));
            response.extensions.insert("cursor".to_owned(), cursor.into());
            let text = event(response);
            assert!(!text.contains("id:") && text.lines().count() == 3, "{text}");
        }
    }

    #[test]
    fn json_on_several_lines_becomes_one() {
        let mut json = *b"{\"a\":\r\n1,\n\"b\\n\":2}";
        one_line(&mut json);
        assert_eq!(json, *b"{\"a\":  1, \"b\\n\":2}");
    }
}
