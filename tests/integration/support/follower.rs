//! A client that follows a task's events over one of the transports and resumes as its stock clients do, however
//! often the connection breaks.

use std::sync::Arc;

use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest};

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

const EVENTS: &str = "subscription($id: ID!, $after: String) { taskEvents(id: $id, after: $after) {
    __typename seq attempt ... on TaskStatusChanged { status } ... on TaskProgressed { percent }
    ... on TaskChunk { index value } ... on TaskGap { from } } }";

/// Everything a task's subscriber saw.
pub(crate) struct Follower {
    pub(crate) transport: Transport,
    pub(crate) url: String,
    pub(crate) task: String,
    pub(crate) record: Vec<Value>,
    cursor: Option<String>,
    /// How often it had to connect.
    pub(crate) connections: usize,
    /// Goes away as soon as it has seen so many events.
    pub(crate) leave_at: Option<usize>,
    /// Gets a permit for each event.
    pub(crate) pace: Option<Arc<Semaphore>>,
}

impl Follower {
    pub(crate) fn new(transport: Transport, url: &str, task: &str) -> Self {
        let (url, task) = (url.to_owned(), task.to_owned());
        Self { transport, url, task, record: Vec::new(), cursor: None, connections: 0, leave_at: None, pace: None }
    }

    /// Follows the task to its end, connecting as often as it takes.
    pub(crate) async fn run(&mut self) {
        while !self.connect_once().await {}
    }

    /// Connects once; whether the stream came to its end.
    pub(crate) async fn connect_once(&mut self) -> bool {
        self.connections += 1;
        let ended = match self.transport {
            Transport::WebSocket => self.over_websocket("graphql-transport-ws", "subscribe").await,
            Transport::LegacyWebSocket => self.over_websocket("graphql-ws", "start").await,
            Transport::Sse => self.over_sse().await,
            Transport::Multipart => self.over_multipart().await,
        };
        ended.unwrap_or(false)
    }

    /// A response; what is no event is the server going away. `None`: this connection is over.
    fn take(&mut self, payload: &Value) -> Option<()> {
        let event = &payload["data"]["taskEvents"];
        if event.is_null() {
            assert_eq!(payload["errors"][0]["extensions"]["code"], "UNAVAILABLE", "{payload}");
            return None;
        }
        self.record.push(event.clone());
        if let Some(pace) = &self.pace {
            pace.add_permits(1);
        }
        self.cursor = Some(payload["extensions"]["cursor"].as_str().unwrap().to_owned());
        (self.leave_at != Some(self.record.len())).then_some(())
    }

    /// As stock clients do: the same id and the same variables again, and the cursor in the payload of
    /// `connection_init`.
    async fn over_websocket(&mut self, protocol: &str, start: &str) -> Option<bool> {
        let mut request = self.url.replacen("http", "ws", 1).into_client_request().unwrap();
        request.headers_mut().insert("sec-websocket-protocol", protocol.parse().unwrap());
        let (mut socket, _) = tokio_tungstenite::connect_async(request).await.ok()?;
        let cursors = self.cursor.as_ref().map_or(json!({}), |cursor| json!({ "1": cursor }));
        let init = json!({ "type": "connection_init", "payload": { "cursors": cursors } });
        let payload = json!({ "query": EVENTS, "variables": { "id": self.task } });
        let subscribe = json!({ "type": start, "id": "1", "payload": payload });
        for message in [init, subscribe] {
            socket.send(Message::text(message.to_string())).await.ok()?;
            if message["type"] == "connection_init" {
                // The acknowledgement.
                socket.next().await?.ok()?.into_text().ok()?;
            }
        }
        while let Message::Text(text) = socket.next().await?.ok()? {
            let message: Value = serde_json::from_str(&text).unwrap();
            match message["type"].as_str().unwrap() {
                "next" | "data" => self.take(&message["payload"])?,
                "complete" => return Some(true),
                "error" => panic!("{message}"),
                _ => {}
            }
        }
        Some(false)
    }

    fn request(&self, accept: &str, after: Option<&str>) -> reqwest::RequestBuilder {
        let variables = json!({ "id": self.task, "after": after });
        let client = reqwest::Client::builder().pool_max_idle_per_host(0).build().unwrap();
        client.post(&self.url).header("accept", accept).json(&json!({ "query": EVENTS, "variables": variables }))
    }

    /// As a browser does: `Last-Event-ID`, and no more after 204.
    async fn over_sse(&mut self) -> Option<bool> {
        let mut request = self.request("text/event-stream", None);
        if let Some(cursor) = &self.cursor {
            request = request.header("last-event-id", cursor);
        }
        let response = request.send().await.ok()?;
        if response.status() == 204 {
            return Some(true);
        }
        assert_eq!(response.status(), 200);
        let mut pieces = Pieces::of(response);
        loop {
            let text = pieces.until("\n\n").await?;
            let field = |name| text.lines().find_map(|line: &str| line.strip_prefix(name));
            match field("event: ") {
                Some("next") => {
                    let payload: Value = serde_json::from_str(field("data: ").unwrap()).unwrap();
                    let id = field("id: ").map(str::to_owned);
                    self.take(&payload)?;
                    assert_eq!(self.cursor, id, "the id is the cursor");
                }
                Some("complete") => return Some(true),
                _ => {}
            }
        }
    }

    /// The cursor as the variable `after`.
    async fn over_multipart(&mut self) -> Option<bool> {
        let accept = "multipart/mixed;boundary=graphql;subscriptionSpec=1.0";
        let request = self.request(accept, self.cursor.as_deref());
        let mut pieces = Pieces::of(request.send().await.ok()?);
        pieces.until("--graphql").await?;
        loop {
            if pieces.begins_with("--").await? {
                return Some(true);
            }
            let part = pieces.until("\r\n--graphql").await?;
            let (_, part) = part.split_once("\r\n\r\n").unwrap();
            let part: Value = serde_json::from_str(part.strip_suffix("\r\n--graphql").unwrap()).unwrap();
            match &part["payload"] {
                Value::Null if part.get("errors").is_some() => self.take(&part)?,
                Value::Null => {}
                payload => self.take(payload)?,
            }
        }
    }
}

/// A body as its bytes come, however they are cut.
struct Pieces {
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
