/// Limits of WebSocket connections. Times are in milliseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebsocketOptions {
    /// Connections that may be open at the same time.
    pub max_connections: usize,
    /// How long a client may take from connecting to `connection_init`.
    pub init_timeout_ms: u64,
    /// How long a connection is silent before the server pings it.
    pub ping_interval_ms: u64,
    /// How long the answer to a ping may take until the connection counts as lost.
    pub pong_timeout_ms: u64,
    /// How long a client may take none of what was sent until the connection counts as lost.
    pub write_timeout_ms: u64,
    /// The largest message of a client, in bytes.
    pub max_message_bytes: usize,
    /// Messages of a client within a second, pings and pongs included.
    pub max_messages_per_second: u32,
    /// Operations that may be under way at the same time on one connection.
    pub max_operations: usize,
}

impl Default for WebsocketOptions {
    fn default() -> Self {
        Self {
            max_connections: 50_000,
            init_timeout_ms: 3_000,
            ping_interval_ms: 12_000,
            pong_timeout_ms: 12_000,
            write_timeout_ms: 30_000,
            max_message_bytes: 1 << 20,
            max_messages_per_second: 1_000,
            max_operations: 100,
        }
    }
}
