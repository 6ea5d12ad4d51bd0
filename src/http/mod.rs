//! What is served over HTTP: GraphQL on one path, by POST, GET, SSE, multipart and WebSocket; health; GraphiQL.
//!
//! ```text
//! POST, GET --> negotiate (Accept) --> params (what is asked) --> operation --> reply: one piece
//!                                                                          `--> stream: sse, multipart
//! Upgrade ----> websocket: protocol (messages) <--> connection (one task) --> operations
//! ```
//!
//! Any [`GraphqlService`] can be served, also within somebody else's axum application: merge or nest [`routes`], and
//! run it with [`serve`], which is what drops clients that do not read and bounds how many there are.
//! The engine is asked to execute, and nothing else: everything that a client can get wrong on the way there is
//! answered here.

mod access;
mod alarm;
mod connections;
mod cors;
mod endpoint;
pub mod graphiql;
mod health;
mod multipart;
mod negotiate;
mod operation;
mod params;
mod refused;
mod reply;
mod server;
mod socket;
mod sse;
mod stream;
mod token;
pub mod websocket;

use std::{fmt, sync::Arc};

use async_graphql::Data;
use axum::{Router, extract::DefaultBodyLimit, routing::any};
use futures::{FutureExt, future::BoxFuture};
use serde_json::Value;

pub use self::{
    access::AccessOptions,
    connections::Connections,
    health::{HealthCheck, health, not_found},
    server::{SocketOptions, serve},
    stream::StreamOptions,
    token::Token,
};
use self::{endpoint::Endpoint, websocket::WebsocketOptions};
use crate::{
    clock::Clock,
    graphql::{DocumentLimits, GraphqlService},
    shutdown::Shutdown,
};

/// Where GraphQL is served.
pub const GRAPHQL_PATH: &str = "/graphql";

/// Limits of the transports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpOptions {
    /// The largest request body, in bytes.
    pub max_body_bytes: usize,
    /// The most requests in one body.
    pub max_batch_requests: usize,
    /// How long a query or a mutation may take, and a body to arrive, in milliseconds.
    pub request_timeout_ms: u64,
    /// How large a document may be.
    pub document: DocumentLimits,
    /// Connections of any sort.
    pub sockets: SocketOptions,
    /// Who gets in.
    pub access: AccessOptions,
    /// Streams over HTTP.
    pub streams: StreamOptions,
    /// WebSocket connections.
    pub websocket: WebsocketOptions,
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self {
            max_body_bytes: 4 << 20,
            max_batch_requests: 20,
            request_timeout_ms: 60_000,
            document: DocumentLimits::default(),
            sockets: SocketOptions::default(),
            access: AccessOptions::default(),
            streams: StreamOptions::default(),
            websocket: WebsocketOptions::default(),
        }
    }
}

/// Decides about a WebSocket when its `connection_init` has come, by the payload. What it returns is given to
/// every operation of the connection as session data; the error is told to the client (at most 123 bytes of it).
pub type OnConnect = Arc<dyn Fn(Option<Value>) -> BoxFuture<'static, Result<Data, String>> + Send + Sync>;

/// What the transports share with the rest of the process.
#[derive(Clone)]
pub struct HttpContext {
    /// Their time.
    pub clock: Arc<dyn Clock>,
    /// When to stop: softly, connections end when what they were asked has been answered, and streams end at once;
    /// hard, connections end.
    pub shutdown: Shutdown,
    /// Connections that outlive their request, to wait for when stopping.
    pub connections: Connections,
    /// Decides about WebSockets.
    pub on_connect: OnConnect,
}

impl HttpContext {
    /// Admits everybody.
    pub fn new(clock: Arc<dyn Clock>, shutdown: Shutdown) -> Self {
        let on_connect: OnConnect = Arc::new(|_| std::future::ready(Ok(Data::default())).boxed());
        Self { clock, shutdown, connections: Connections::default(), on_connect }
    }
}

impl fmt::Debug for HttpContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpContext").field("connections", &self.connections).finish_non_exhaustive()
    }
}

/// GraphQL at [`GRAPHQL_PATH`], by every transport.
///
/// Errors that the service gives should have their `extensions.code` (see [`crate::error::add_codes`]).
pub fn routes<S: GraphqlService>(service: S, options: HttpOptions, context: HttpContext) -> Router {
    let max_body = DefaultBodyLimit::max(options.max_body_bytes);
    let cors = cors::layer(&options.access.allowed_origins);
    let endpoint = Arc::new(Endpoint::new(service, options, context));
    let route = any(endpoint::serve::<S>).layer(max_body);
    let route = match cors {
        Some(cors) => route.layer(cors),
        None => route,
    };
    Router::new().route(GRAPHQL_PATH, route).with_state(endpoint)
}
