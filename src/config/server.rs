//! `[server]` and `[server.websocket]`.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use super::{ConfigError, section::Section};

/// How the server is reached. `[server]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerConfig {
    /// Address and port to listen on; port 0 means any free one. `localhost:8000` is understood too.
    pub listen: SocketAddr,
    /// The largest HTTP request body, in bytes.
    pub max_body_bytes: usize,
    /// How long running work may go on after the first signal to stop, in milliseconds.
    pub shutdown_deadline_ms: u64,
    /// Whether `/` and `/graphiql` show GraphiQL.
    pub graphiql: bool,
    /// A folder that GraphiQL's files are served from; without it the browser loads them from a CDN.
    pub graphiql_assets: Option<PathBuf>,
    /// WebSocket connections.
    pub websocket: WebsocketConfig,
}

/// WebSocket connections. `[server.websocket]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebsocketConfig {
    /// How long a client may take from connecting to `connection_init`, in milliseconds.
    pub init_timeout_ms: u64,
    /// How long a connection is silent before the server pings it, in milliseconds.
    pub ping_interval_ms: u64,
    /// How long the answer to a ping may take until the connection counts as lost, in milliseconds.
    pub pong_timeout_ms: u64,
    /// How long a client may take to read what was sent until the connection counts as lost, in milliseconds.
    pub write_timeout_ms: u64,
    /// The largest message of a client, in bytes.
    pub max_message_bytes: usize,
    /// Operations that may be under way at the same time on one connection.
    pub max_operations: usize,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8000),
            max_body_bytes: 4 << 20,
            shutdown_deadline_ms: 10_000,
            graphiql: true,
            graphiql_assets: None,
            websocket: WebsocketConfig::default(),
        }
    }
}

impl Default for WebsocketConfig {
    fn default() -> Self {
        Self {
            init_timeout_ms: 3_000,
            ping_interval_ms: 12_000,
            pong_timeout_ms: 12_000,
            write_timeout_ms: 30_000,
            max_message_bytes: 1 << 20,
            max_operations: 100,
        }
    }
}

impl ServerConfig {
    pub(super) fn read(mut section: Section<'_>) -> Result<Self, ConfigError> {
        let mut server = Self::default();
        if let Some(listen) = section.text("listen")? {
            server.listen = parse_listen(&listen.value)
                .map_err(|what| ConfigError::at(listen.location, section.key("listen"), what))?;
        }
        section.number("max_body_bytes", &mut server.max_body_bytes, 1024..=1 << 30)?;
        section.number("shutdown_deadline_ms", &mut server.shutdown_deadline_ms, 0..=3_600_000)?;
        section.flag("graphiql", &mut server.graphiql)?;
        server.graphiql_assets = section.path("graphiql_assets")?;
        server.websocket = WebsocketConfig::read(section.section("websocket")?)?;
        section.finish()?;
        Ok(server)
    }
}

impl WebsocketConfig {
    fn read(mut section: Section<'_>) -> Result<Self, ConfigError> {
        let mut websocket = Self::default();
        section.number("init_timeout_ms", &mut websocket.init_timeout_ms, 1..=3_600_000)?;
        section.number("ping_interval_ms", &mut websocket.ping_interval_ms, 1..=3_600_000)?;
        section.number("pong_timeout_ms", &mut websocket.pong_timeout_ms, 1..=3_600_000)?;
        section.number("write_timeout_ms", &mut websocket.write_timeout_ms, 1..=3_600_000)?;
        section.number("max_message_bytes", &mut websocket.max_message_bytes, 1024..=1 << 30)?;
        section.number("max_operations", &mut websocket.max_operations, 1..=100_000)?;
        section.finish()?;
        Ok(websocket)
    }
}

/// Reads `127.0.0.1:8000`, `[::1]:8000` or `localhost:8000`.
pub fn parse_listen(text: &str) -> Result<SocketAddr, String> {
    let numeric = match text.strip_prefix("localhost:") {
        Some(port) => &format!("{}:{port}", Ipv4Addr::LOCALHOST),
        None => text,
    };
    numeric.parse().map_err(|_| {
        format!("must be an address and a port, such as \"127.0.0.1:8000\" or \"0.0.0.0:8000\", not {text:?}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_needs_its_port() {
        assert_eq!(parse_listen("localhost:0").unwrap().to_string(), "127.0.0.1:0");
        assert_eq!(parse_listen("[::1]:8000").unwrap().to_string(), "[::1]:8000");
        for text in ["8000", ":8000", "localhost", "example.com:80", "127.0.0.1:99999", ""] {
            assert!(parse_listen(text).unwrap_err().contains("127.0.0.1:8000"), "{text}");
        }
    }
}
