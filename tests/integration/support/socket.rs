//! A WebSocket client that does only what it is told.

use std::net::SocketAddr;

use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message, protocol::Role},
};

pub(crate) struct Socket {
    inner: WebSocketStream<TcpStream>,
    /// The subprotocol that the server speaks.
    pub(crate) protocol: Option<String>,
}

impl Socket {
    /// Connects, speaking these subprotocols.
    pub(crate) async fn connect(address: SocketAddr, protocols: &str) -> Self {
        Self::over(TcpStream::connect(address).await.unwrap(), protocols).await
    }

    /// Opens a WebSocket by hand: a client of a library would refuse some of the answers that are tested.
    pub(crate) async fn over(stream: TcpStream, protocols: &str) -> Self {
        Self::with_headers(stream, protocols, "").await
    }

    /// The same, with more headers.
    pub(crate) async fn with_headers(stream: TcpStream, protocols: &str, headers: &str) -> Self {
        Self::open(stream, "/graphql", protocols, headers).await
    }

    /// Connects to another path.
    pub(crate) async fn connect_to(address: SocketAddr, path: &str, protocols: &str) -> Self {
        Self::open(TcpStream::connect(address).await.unwrap(), path, protocols, "").await
    }

    async fn open(mut stream: TcpStream, path: &str, protocols: &str, headers: &str) -> Self {
        let mut head = "HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
            Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            .to_owned();
        if !protocols.is_empty() {
            head += &format!("Sec-WebSocket-Protocol: {protocols}\r\n");
        }
        stream.write_all(format!("GET {path} {head}{headers}\r\n").as_bytes()).await.unwrap();
        let mut answer = String::new();
        while !answer.ends_with("\r\n\r\n") {
            answer.push(stream.read_u8().await.unwrap().into());
        }
        assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
        let protocol = answer.lines().filter_map(|line| line.split_once(": "));
        let protocol = protocol
            .filter(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-protocol"))
            .map(|(_, protocol)| protocol.to_owned())
            .next();
        Self { inner: WebSocketStream::from_raw_socket(stream, Role::Client, None).await, protocol }
    }

    /// Connects and is acknowledged.
    pub(crate) async fn ready(address: SocketAddr) -> Self {
        let mut socket = Self::connect(address, "graphql-transport-ws").await;
        socket.init(Value::Null).await;
        socket
    }

    pub(crate) async fn init(&mut self, payload: Value) {
        self.send(json!({ "type": "connection_init", "payload": payload })).await;
        assert_eq!(self.next().await, json!({ "type": "connection_ack" }));
    }

    pub(crate) async fn send(&mut self, message: Value) {
        self.send_text(message.to_string()).await;
    }

    pub(crate) async fn send_text(&mut self, text: impl Into<String>) {
        self.send_frame(Message::Text(text.into().into())).await;
    }

    pub(crate) async fn send_frame(&mut self, frame: Message) {
        self.inner.send(frame).await.unwrap();
    }

    /// Sends bytes that need not be a frame.
    pub(crate) async fn send_bytes(&mut self, bytes: &[u8]) {
        self.inner.get_mut().write_all(bytes).await.unwrap();
    }

    pub(crate) async fn subscribe(&mut self, id: &str, query: &str) {
        self.send(json!({ "id": id, "type": "subscribe", "payload": { "query": query } })).await;
    }

    pub(crate) async fn complete(&mut self, id: &str) {
        self.send(json!({ "id": id, "type": "complete" })).await;
    }

    /// The next frame of any kind; `None` when there is none any more.
    pub(crate) async fn frame(&mut self) -> Option<Message> {
        self.inner.next().await.and_then(Result::ok)
    }

    /// The next message.
    pub(crate) async fn next(&mut self) -> Value {
        match self.frame().await {
            Some(Message::Text(text)) => serde_json::from_str(&text).unwrap(),
            other => panic!("no message but {other:?}"),
        }
    }

    /// The `data` of the next message, which must be the `next` of this operation.
    pub(crate) async fn data(&mut self, id: &str) -> Value {
        let mut message = self.next().await;
        assert_eq!((&message["type"], &message["id"]), (&json!("next"), &json!(id)), "{message}");
        message["payload"]["data"].take()
    }

    /// Reads until the server closes; its code and reason.
    pub(crate) async fn closed(&mut self) -> (u16, String) {
        loop {
            match self.frame().await {
                Some(Message::Close(Some(frame))) => return (frame.code.into(), frame.reason.to_string()),
                Some(Message::Close(None)) => return (1005, String::new()),
                Some(_) => {}
                None => return (1006, String::new()),
            }
        }
    }

    /// The code with which the server closes, before it says anything else.
    pub(crate) async fn close_code(&mut self) -> u16 {
        match self.frame().await {
            Some(Message::Close(Some(frame))) => frame.code.into(),
            other => panic!("not closed but {other:?}"),
        }
    }

    /// Whether the server has said nothing until it answers a ping sent now.
    pub(crate) async fn is_quiet(&mut self) -> bool {
        self.send(json!({ "type": "ping" })).await;
        self.next().await == json!({ "type": "pong" })
    }

    pub(crate) fn into_stream(self) -> TcpStream {
        self.inner.into_inner()
    }
}
