//! GraphQL over WebSocket: the subprotocols `graphql-transport-ws` and, for old clients, `graphql-ws`.
//!
//! `handshake` is how a connection begins and `socket` what is then read from it and written to it. `transport_ws` and
//! `legacy` read and write messages, `connection` is the task of one client, `operations` what it has asked for, `wake`
//! tells it which of them has something.

mod close;
mod connection;
mod envelope;
mod handshake;
mod legacy;
mod message;
mod operations;
mod options;
mod socket;
mod subprotocol;
mod timers;
mod transport_ws;
mod wake;

use std::sync::Arc;

use axum::{extract::Request, response::Response};
use tokio::sync::Semaphore;
use tungstenite::protocol::WebSocketConfig;

pub use self::{close::CloseReason, options::WebsocketOptions};
use self::{
    connection::{Connection, close},
    handshake::Handshake,
    socket::Socket,
};
use super::{
    HttpContext, HttpOptions,
    access::{AccessOptions, Caller},
    operation::Engine,
    refused::Refused,
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
    pub(super) fn upgrade(&self, mut request: Request, caller: Caller) -> Result<Response, Refused> {
        let handshake = Handshake::read(&mut request)?;
        let response = handshake.response();
        let max_message = self.server.options.max_message_bytes;
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER_BYTES)
            .write_buffer_size(WRITE_BUFFER_BYTES)
            .max_message_size(Some(max_message))
            .max_frame_size(Some(max_message));
        let (server, open) = (self.server.clone(), self.server.context.connections.enter());
        let place = self.places.clone().try_acquire_owned();
        tokio::spawn(async move {
            let upgraded = match handshake.connection.await {
                Ok(upgraded) => upgraded,
                Err(error) => return tracing::debug!("a connection broke before it was a WebSocket: {error}"),
            };
            let mut socket = Socket::new(upgraded, config);
            // A reason to close can only be told to a client that is connected.
            match (place, handshake.subprotocol) {
                (Err(_), _) => close(&mut socket, &server, &CloseReason::Overload("max_connections"), true).await,
                (Ok(_), None) => close(&mut socket, &server, &CloseReason::NoSubprotocol, true).await,
                (Ok(_place), Some(spoken)) => Connection::new(socket, spoken, caller, server).run().await,
            }
            drop(open);
        });
        Ok(response)
    }
}
