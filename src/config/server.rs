//! `[server]`.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use super::{ConfigError, access, http, section::Section};
use crate::{as_written::AsWritten, http::HttpOptions};

/// How the server is reached. `[server]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerConfig {
    /// Address and port to listen on; port 0 means any free one. `localhost:8000` is understood too.
    pub listen: AsWritten<SocketAddr>,
    /// How long running work may go on after the first signal to stop, in milliseconds.
    pub shutdown_deadline_ms: u64,
    /// Whether `/` and `/graphiql` show GraphiQL.
    pub graphiql: bool,
    /// A folder that GraphiQL's files are served from; without it the browser loads them from a CDN.
    pub graphiql_assets: Option<AsWritten<PathBuf>>,
    /// A file with the token that clients have to know.
    pub token_file: Option<AsWritten<PathBuf>>,
    /// Whether to listen where other machines can reach it although no token is needed.
    pub insecure: bool,
    /// Limits of the transports, and who gets in.
    pub http: HttpOptions,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8000).into(),
            shutdown_deadline_ms: 10_000,
            graphiql: true,
            graphiql_assets: None,
            token_file: None,
            insecure: false,
            http: HttpOptions::default(),
        }
    }
}

impl ServerConfig {
    pub(super) fn read(mut section: Section<'_>) -> Result<Self, ConfigError> {
        let mut server = Self::default();
        if let Some(listen) = section.filled_text("listen")? {
            let wrong = not_an_address(&listen.value);
            let address = listen.value.try_map(|text| address(&text).ok_or(()));
            server.listen = address.map_err(|()| ConfigError::at(listen.location, section.key("listen"), wrong))?;
        }
        section.number("shutdown_deadline_ms", &mut server.shutdown_deadline_ms, 0..=3_600_000)?;
        section.flag("graphiql", &mut server.graphiql)?;
        server.graphiql_assets = section.path("graphiql_assets")?;
        server.token_file = section.path("token_file")?;
        section.flag("insecure", &mut server.insecure)?;
        access::read(&mut section, &mut server.http.access)?;
        http::read(&mut section, &mut server.http)?;
        section.finish()?;
        Ok(server)
    }
}

/// Reads `127.0.0.1:8000`, `[::1]:8000` or `localhost:8000`.
pub fn parse_listen(text: &str) -> Result<SocketAddr, String> {
    address(text).ok_or_else(|| not_an_address(&text))
}

fn address(text: &str) -> Option<SocketAddr> {
    let numeric = match text.strip_prefix("localhost:") {
        Some(port) => &format!("{}:{port}", Ipv4Addr::LOCALHOST),
        None => text,
    };
    numeric.parse().ok()
}

fn not_an_address(text: &dyn fmt::Debug) -> String {
    format!("must be an address and a port, such as \"127.0.0.1:8000\" or \"0.0.0.0:8000\", not {text:?}")
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
