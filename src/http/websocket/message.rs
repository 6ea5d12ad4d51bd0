use async_graphql::Request;
use serde_json::{Value, value::RawValue};

/// What a client says, whatever subprotocol it speaks.
#[derive(Debug)]
pub(super) enum ClientMessage {
    /// Begins the connection.
    Init(Option<Value>),
    /// Asks for a sign of life.
    Ping(Option<Box<RawValue>>),
    /// Answers a ping, or says that the client is alive.
    Pong,
    /// Starts an operation.
    Subscribe { id: String, request: Box<Request> },
    /// Ends an operation.
    Complete { id: String },
    /// Ends the connection.
    Terminate,
}
