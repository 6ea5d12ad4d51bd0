//! What `[server]` says about the transports, `[server.streams]` and `[server.websocket]`.

use super::{ConfigError, section::Section};
use crate::http::{HttpOptions, StreamOptions, websocket::WebsocketOptions};

/// Limits of the transports: the fields of [`HttpOptions`], by their names. Those of documents are the API's.
pub(super) fn read(section: &mut Section<'_>, http: &mut HttpOptions) -> Result<(), ConfigError> {
    section.number("max_body_bytes", &mut http.max_body_bytes, 1024..=1 << 30)?;
    section.number("max_batch_requests", &mut http.max_batch_requests, 1..=10_000)?;
    section.number("request_timeout_ms", &mut http.request_timeout_ms, 1..=3_600_000)?;
    let sockets = &mut http.sockets;
    section.number("max_sockets", &mut sockets.max_sockets, 1..=10_000_000)?;
    section.number("head_timeout_ms", &mut sockets.head_timeout_ms, 1..=3_600_000)?;
    section.number("write_timeout_ms", &mut sockets.write_timeout_ms, 1..=3_600_000)?;
    read_streams(section.section("streams")?, &mut http.streams)?;
    read_websocket(section.section("websocket")?, &mut http.websocket)
}

fn read_streams(mut section: Section<'_>, streams: &mut StreamOptions) -> Result<(), ConfigError> {
    section.number("max_streams", &mut streams.max_streams, 1..=10_000_000)?;
    // The protocol asks for a sign of life each 12 s.
    section.number("sse_heartbeat_ms", &mut streams.sse_heartbeat_ms, 100..=12_000)?;
    section.number("sse_retry_ms", &mut streams.sse_retry_ms, 1..=3_600_000)?;
    section.number("multipart_heartbeat_ms", &mut streams.multipart_heartbeat_ms, 100..=60_000)?;
    section.finish()
}

fn read_websocket(mut section: Section<'_>, websocket: &mut WebsocketOptions) -> Result<(), ConfigError> {
    section.number("max_connections", &mut websocket.max_connections, 1..=10_000_000)?;
    section.number("init_timeout_ms", &mut websocket.init_timeout_ms, 1..=3_600_000)?;
    section.number("ping_interval_ms", &mut websocket.ping_interval_ms, 1..=3_600_000)?;
    section.number("pong_timeout_ms", &mut websocket.pong_timeout_ms, 1..=3_600_000)?;
    section.number("write_timeout_ms", &mut websocket.write_timeout_ms, 1..=3_600_000)?;
    section.number("max_message_bytes", &mut websocket.max_message_bytes, 1024..=1 << 30)?;
    section.number("max_messages_per_second", &mut websocket.max_messages_per_second, 1..=1_000_000)?;
    section.number("max_operations", &mut websocket.max_operations, 1..=100_000)?;
    section.finish()
}
