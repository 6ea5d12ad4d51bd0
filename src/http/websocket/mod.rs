//! GraphQL over WebSocket: the subprotocols `graphql-transport-ws` and, for old clients, `graphql-ws`.
//!
//! `transport_ws` and `legacy` read and write messages, `connection` is the task of one client, `operations` what it has
//! asked for, `wake` tells it which of them has something.

mod close;
mod connection;
mod envelope;
mod legacy;
mod message;
mod operations;
mod options;
mod subprotocol;
mod timers;
mod transport_ws;
mod wake;

use std::sync::Arc;

use axum::{
    extract::{FromRequestParts, Request, WebSocketUpgrade},
    response::{IntoResponse, Response},
};
use tokio::sync::Semaphore;

pub use self::{close::CloseReason, options::WebsocketOptions};
use self::{
    connection::{Connection, close},
    subprotocol::Subprotocol,
};
use super::{
    HttpContext, HttpOptions,
    access::{AccessOptions, Caller},
    operation::Engine,
};
use crate::graphql::GraphqlService;

/// Bytes read at once. Each connection holds a buffer of this size.
const READ_BUFFER_BYTES: usize = 4 << 10;
/// Bytes that are gathered before they are written. No more than this and one message is ever held: no message is
/// added while the buffer cannot be written.
const WRITE_BUFFER_BYTES: usize = 4 << 10;

/// What all connections share.
struct Server<S> {
    engine: Arc<Engine<S>>,
    access: AccessOptions,
    options: WebsocketOptions,
    context: HttpContext,
}

/// Accepts connections.
pub(super) struct WebsocketServer<S> {
    server: Arc<Server<S>>,
    places: Arc<Semaphore>,
}

impl<S: GraphqlService> WebsocketServer<S> {
    pub(super) fn new(engine: Arc<Engine<S>>, options: &HttpOptions, context: HttpContext) -> Self {
        let (access, options) = (options.access.clone(), options.websocket.clone());
        let places = Arc::new(Semaphore::new(options.max_connections.min(Semaphore::MAX_PERMITS)));
        Self { server: Arc::new(Server { engine, access, options, context }), places }
    }

    /// Answers a request to become a WebSocket.
    pub(super) async fn upgrade(&self, request: Request, caller: Caller) -> Response {
        let (mut parts, _) = request.into_parts();
        let upgrade = match WebSocketUpgrade::from_request_parts(&mut parts, &()).await {
            Ok(upgrade) => upgrade,
            Err(rejection) => return rejection.into_response(),
        };
        let max_message = self.server.options.max_message_bytes;
        let upgrade = upgrade
            .protocols(subprotocol::NAMES)
            .read_buffer_size(READ_BUFFER_BYTES)
            .write_buffer_size(WRITE_BUFFER_BYTES)
            .max_message_size(max_message)
            .max_frame_size(max_message);
        let spoken = upgrade.selected_protocol().and_then(|name| Subprotocol::named(name.to_str().ok()?));
        let (server, open) = (self.server.clone(), self.server.context.connections.enter());
        let place = self.places.clone().try_acquire_owned();
        upgrade.on_upgrade(async move |socket| {
            // A reason to close can only be told to a client that is connected.
            match (place, spoken) {
                (Err(_), _) => close(socket, &server, &CloseReason::Overload("max_connections"), true).await,
                (Ok(_), None) => close(socket, &server, &CloseReason::NoSubprotocol, true).await,
                (Ok(_place), Some(spoken)) => Connection::new(socket, spoken, caller, server).run().await,
            }
            drop(open);
        })
    }
}
