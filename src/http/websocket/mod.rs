//! GraphQL over WebSocket: the subprotocol `graphql-transport-ws`.
//!
//! [`transport_ws`](self) reads and writes messages, `connection` is the task of one client, `operations` what it has
//! asked for, `wake` tells it which of them has something.

mod close;
mod connection;
mod message;
mod operations;
mod options;
mod timers;
mod transport_ws;
mod wake;

use std::sync::Arc;

use axum::{
    extract::{FromRequestParts, Request, WebSocketUpgrade},
    response::{IntoResponse, Response},
};
use tokio::sync::Semaphore;

use self::connection::{Connection, close};
pub use self::{close::CloseReason, options::WebsocketOptions};
use super::{HttpContext, operation::Engine};
use crate::graphql::GraphqlService;

/// Bytes read at once. Each connection holds a buffer of this size.
const READ_BUFFER_BYTES: usize = 4 << 10;
/// Bytes that are gathered before they are written. No more than this and one message is ever held: no message is
/// added while the buffer cannot be written.
const WRITE_BUFFER_BYTES: usize = 4 << 10;

/// What all connections share.
struct Server<S> {
    engine: Arc<Engine<S>>,
    options: WebsocketOptions,
    context: HttpContext,
}

/// Accepts connections.
pub(super) struct WebsocketServer<S> {
    server: Arc<Server<S>>,
    places: Arc<Semaphore>,
}

impl<S: GraphqlService> WebsocketServer<S> {
    pub(super) fn new(engine: Arc<Engine<S>>, options: WebsocketOptions, context: HttpContext) -> Self {
        let places = Arc::new(Semaphore::new(options.max_connections.min(Semaphore::MAX_PERMITS)));
        Self { server: Arc::new(Server { engine, options, context }), places }
    }

    /// Answers a request to become a WebSocket.
    pub(super) async fn upgrade(&self, request: Request) -> Response {
        let (mut parts, _) = request.into_parts();
        let upgrade = match WebSocketUpgrade::from_request_parts(&mut parts, &()).await {
            Ok(upgrade) => upgrade,
            Err(rejection) => return rejection.into_response(),
        };
        let max_message = self.server.options.max_message_bytes;
        let upgrade = upgrade
            .protocols([transport_ws::NAME])
            .read_buffer_size(READ_BUFFER_BYTES)
            .write_buffer_size(WRITE_BUFFER_BYTES)
            .max_message_size(max_message)
            .max_frame_size(max_message);
        let spoken = upgrade.selected_protocol().is_some();
        let (server, open) = (self.server.clone(), self.server.context.connections.enter());
        let place = self.places.clone().try_acquire_owned();
        upgrade.on_upgrade(async move |socket| {
            // A reason to close can only be told to a client that is connected.
            match place {
                Err(_) => close(socket, &server, &CloseReason::Overload("max_connections"), true).await,
                Ok(_) if !spoken => close(socket, &server, &CloseReason::NoSubprotocol, true).await,
                Ok(_place) => Connection::new(socket, server).run().await,
            }
            drop(open);
        })
    }
}
