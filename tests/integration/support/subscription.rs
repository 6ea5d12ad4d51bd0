//! One subscription over any of the transports, as its stock clients speak it.

use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream,
    tungstenite::{Message, client::IntoClientRequest},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    WebSocket,
    LegacyWebSocket,
    Sse,
    Multipart,
}

impl Transport {
    pub(crate) const ALL: [Self; 4] = [Self::WebSocket, Self::LegacyWebSocket, Self::Sse, Self::Multipart];
}

/// What the server says about it.
#[derive(Debug, PartialEq)]
pub(crate) enum Said {
    /// A response.
    Next(Value),
    /// Its errors: there was no execution, or the server goes away.
    Refused(Value),
    /// It has ended.
    Complete,
}

/// A connection with one subscription.
pub(crate) enum Subscription {
    WebSocket(Box<WebSocketStream<MaybeTlsStream<TcpStream>>>),
    Sse(Pieces),
    Multipart(Pieces),
    /// There is nothing more to say: 204.
    Over,
}

/// The id of the operation.
const ID: &str = "1";

impl Subscription {
    /// Connects and subscribes, after a cursor that stands where the transport's clients put it: in the payload of
    /// `connection_init`, in `Last-Event-ID`, in the variable `after`. `None`: the connection broke.
    pub(crate) async fn open(
        transport: Transport,
        url: &str,
        query: &str,
        mut variables: Value,
        cursor: Option<&str>,
    ) -> Option<Self> {
        if let (Transport::Multipart, Some(cursor)) = (transport, cursor) {
            variables["after"] = json!(cursor);
        }
        let payload = json!({ "query": query, "variables": variables });
        match transport {
            Transport::WebSocket => websocket(url, "graphql-transport-ws", "subscribe", &payload, cursor).await,
            Transport::LegacyWebSocket => websocket(url, "graphql-ws", "start", &payload, cursor).await,
            Transport::Sse => {
                let response = post(url, "text/event-stream", &payload, cursor).await?;
                if response.status() == 204 {
                    return Some(Self::Over);
                }
                assert_eq!(response.status(), 200);
                Some(Self::Sse(Pieces::of(response)))
            }
            Transport::Multipart => {
                let accept = "multipart/mixed;boundary=graphql;subscriptionSpec=1.0";
                let mut pieces = Pieces::of(post(url, accept, &payload, None).await?);
                pieces.until("--graphql").await?;
                Some(Self::Multipart(pieces))
            }
        }
    }

    /// What comes next; `None`: the connection broke.
    pub(crate) async fn next(&mut self) -> Option<Said> {
        match self {
            Self::WebSocket(socket) => next_message(socket).await,
            Self::Sse(pieces) => next_event(pieces).await,
            Self::Multipart(pieces) => next_part(pieces).await,
            Self::Over => Some(Said::Complete),
        }
    }

    /// All that comes, to its end; it must not break.
    pub(crate) async fn rest(mut self) -> Vec<Said> {
        let mut rest = Vec::new();
        loop {
            match self.next().await.expect("the connection holds") {
                Said::Complete => return rest,
                // Over a WebSocket nothing follows.
                Said::Refused(errors) => {
                    rest.push(Said::Refused(errors));
                    return rest;
                }
                said @ Said::Next(_) => rest.push(said),
            }
        }
    }
}

async fn websocket(
    url: &str,
    protocol: &str,
    start: &str,
    payload: &Value,
    cursor: Option<&str>,
) -> Option<Subscription> {
    let mut request = url.replacen("http", "ws", 1).into_client_request().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", protocol.parse().unwrap());
    let (mut socket, _) = tokio_tungstenite::connect_async(request).await.ok()?;
    let cursors = cursor.map_or(json!({}), |cursor| json!({ ID: cursor }));
    let init = json!({ "type": "connection_init", "payload": { "cursors": cursors } });
    socket.send(Message::text(init.to_string())).await.ok()?;
    // The acknowledgement.
    socket.next().await?.ok()?.into_text().ok()?;
    let subscribe = json!({ "type": start, "id": ID, "payload": payload });
    socket.send(Message::text(subscribe.to_string())).await.ok()?;
    Some(Subscription::WebSocket(Box::new(socket)))
}

async fn next_message(socket: &mut WebSocketStream<MaybeTlsStream<TcpStream>>) -> Option<Said> {
    loop {
        let text = match socket.next().await?.ok()? {
            Message::Text(text) => text,
            Message::Ping(_) => continue,
            _ => return None,
        };
        let mut message: Value = serde_json::from_str(&text).unwrap();
        match message["type"].as_str().unwrap() {
            "next" | "data" => return Some(Said::Next(message["payload"].take())),
            "complete" => return Some(Said::Complete),
            "error" => {
                let errors = message["payload"].take();
                // The older subprotocol gives the first one, and all of them in it.
                let all = errors.get("errors").cloned();
                return Some(Said::Refused(all.unwrap_or(errors)));
            }
            _ => {}
        }
    }
}

async fn post(url: &str, accept: &str, payload: &Value, last_event_id: Option<&str>) -> Option<reqwest::Response> {
    let client = reqwest::Client::builder().pool_max_idle_per_host(0).build().unwrap();
    let mut request = client.post(url).header("accept", accept).json(payload);
    if let Some(id) = last_event_id {
        request = request.header("last-event-id", id);
    }
    request.send().await.ok()
}

async fn next_event(pieces: &mut Pieces) -> Option<Said> {
    loop {
        let text = pieces.until("\n\n").await?;
        let field = |name| text.lines().find_map(|line: &str| line.strip_prefix(name));
        match field("event: ") {
            Some("next") => {
                let payload: Value = serde_json::from_str(field("data: ").unwrap()).unwrap();
                assert_eq!(field("id: "), payload["extensions"]["cursor"].as_str(), "the id is the cursor");
                return Some(match payload.get("data") {
                    None => Said::Refused(payload["errors"].clone()),
                    Some(_) => Said::Next(payload),
                });
            }
            Some("complete") => return Some(Said::Complete),
            Some(other) => panic!("stock clients do not know the event {other}"),
            None => {}
        }
    }
}

async fn next_part(pieces: &mut Pieces) -> Option<Said> {
    loop {
        if pieces.begins_with("--").await? {
            return Some(Said::Complete);
        }
        let part = pieces.until("\r\n--graphql").await?;
        let (_, part) = part.split_once("\r\n\r\n").unwrap();
        let mut part: Value = serde_json::from_str(part.strip_suffix("\r\n--graphql").unwrap()).unwrap();
        match part["payload"].take() {
            Value::Null if part.get("errors").is_some() => return Some(Said::Refused(part["errors"].take())),
            Value::Null => {}
            payload => return Some(Said::Next(payload)),
        }
    }
}

/// A body as its bytes come, however they are cut.
pub(crate) struct Pieces {
    response: reqwest::Response,
    pending: Vec<u8>,
}

impl Pieces {
    fn of(response: reqwest::Response) -> Self {
        Self { response, pending: Vec::new() }
    }

    /// `None`: it broke, or ended, before that.
    async fn until(&mut self, end: &str) -> Option<String> {
        loop {
            if let Some(place) = self.pending.windows(end.len()).position(|window| window == end.as_bytes()) {
                let rest = self.pending.split_off(place + end.len());
                return String::from_utf8(std::mem::replace(&mut self.pending, rest)).ok();
            }
            self.more().await?;
        }
    }

    async fn begins_with(&mut self, begin: &str) -> Option<bool> {
        while self.pending.len() < begin.len() {
            self.more().await?;
        }
        Some(self.pending.starts_with(begin.as_bytes()))
    }

    async fn more(&mut self) -> Option<()> {
        self.pending.extend_from_slice(&self.response.chunk().await.ok()??);
        Some(())
    }
}
