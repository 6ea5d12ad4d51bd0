//! An HTTP client that does only what it is told, and shows the bytes as they come.

use std::{collections::HashMap, net::SocketAddr, time::Duration};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};

use super::toy::ToyServer;

/// A response whose body is being read.
pub(crate) struct Raw {
    pub(crate) status: u16,
    /// Names in lower case.
    pub(crate) headers: HashMap<String, String>,
    stream: BufReader<TcpStream>,
    /// What has come of the body and was not read.
    pending: String,
}

impl Raw {
    /// Sends a request by POST.
    pub(crate) async fn post(address: SocketAddr, headers: &str, query: &str) -> Self {
        let body = json!({ "query": query }).to_string();
        let head =
            format!("POST /graphql HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: {}", body.len());
        Self::send(address, &format!("{head}\r\nHost: localhost\r\n{headers}\r\n{body}")).await
    }

    /// Sends a request by GET.
    pub(crate) async fn get(address: SocketAddr, headers: &str, query: &str) -> Self {
        let escaped: String = query.bytes().map(|byte| format!("%{byte:02x}")).collect();
        Self::send(address, &format!("GET /graphql?query={escaped} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n")).await
    }

    /// Sends these bytes.
    pub(crate) async fn send(address: SocketAddr, request: impl AsRef<[u8]>) -> Self {
        Self::over(TcpStream::connect(address).await.unwrap(), request).await
    }

    pub(crate) async fn over(mut stream: TcpStream, request: impl AsRef<[u8]>) -> Self {
        stream.write_all(request.as_ref()).await.unwrap();
        Self::read(BufReader::new(stream)).await
    }

    /// Reads the head of an answer.
    pub(crate) async fn read(mut stream: BufReader<TcpStream>) -> Self {
        let status = line(&mut stream).await.expect("an answer");
        let status = status.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        let mut headers = HashMap::new();
        while let Some((name, value)) = line(&mut stream).await.as_deref().and_then(|line| line.split_once(": ")) {
            headers.insert(name.to_ascii_lowercase(), value.to_owned());
        }
        Self { status, headers, stream, pending: String::new() }
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// The next piece of the body that the server sent in one go; `None` at its proper end. The error: the connection
    /// broke before that.
    pub(crate) async fn piece(&mut self) -> Result<Option<String>, Broken> {
        let size = line(&mut self.stream).await.ok_or(Broken)?;
        let size = usize::from_str_radix(&size, 16).expect("the size of a chunk");
        let mut piece = vec![0; size + 2];
        self.stream.read_exact(&mut piece).await.map_err(|_| Broken)?;
        piece.truncate(size);
        Ok((size > 0).then(|| String::from_utf8(piece).unwrap()))
    }

    /// The body up to and with this text, which must come.
    pub(crate) async fn until(&mut self, end: &str) -> String {
        while !self.pending.contains(end) {
            let piece = self.piece().await;
            self.pending += &piece.unwrap().unwrap_or_else(|| panic!("it ends after {:?}", self.pending));
        }
        let rest = self.pending.split_off(self.pending.find(end).unwrap() + end.len());
        std::mem::replace(&mut self.pending, rest)
    }

    /// The body to its end.
    pub(crate) async fn rest(&mut self) -> String {
        let mut rest = std::mem::take(&mut self.pending);
        while let Some(piece) = self.piece().await.unwrap() {
            rest += &piece;
        }
        rest
    }

    /// The whole body, however its end is told.
    pub(crate) async fn body(&mut self) -> String {
        if self.header("transfer-encoding") == "chunked" {
            return self.rest().await;
        }
        let mut body = Vec::new();
        match self.header("content-length").parse() {
            Ok(length) => {
                body.resize(length, 0);
                self.stream.read_exact(&mut body).await.unwrap();
            }
            Err(_) => drop(self.stream.read_to_end(&mut body).await.unwrap()),
        }
        String::from_utf8(body).unwrap()
    }

    /// The body, which is JSON.
    pub(crate) async fn json(&mut self) -> Value {
        serde_json::from_str(&self.body().await).unwrap()
    }

    /// The answer to the next request that was sent on the same connection.
    pub(crate) async fn next(self) -> Self {
        Self::read(self.stream).await
    }

    /// Whether the connection ends here, and in order: a reset could have overtaken what was said.
    pub(crate) async fn ends(&mut self) -> bool {
        matches!(self.stream.read(&mut [0]).await, Ok(0))
    }

    /// Whether the connection broke, however much still came.
    pub(crate) async fn breaks(&mut self) -> bool {
        loop {
            match self.piece().await {
                Ok(Some(_)) => {}
                Ok(None) => return false,
                Err(Broken) => return true,
            }
        }
    }

    pub(crate) fn into_stream(self) -> TcpStream {
        self.stream.into_inner()
    }
}

/// Reads as slowly as the write deadline allows, several times as long as that.
pub(crate) async fn read_slowly(server: &ToyServer, stream: &mut TcpStream, write_deadline: Duration) {
    let mut read = 0;
    for _ in 0..8 {
        // Until the server could write some more, and waits again.
        while server.clock.next_wake() != Some(write_deadline) {
            read += stream.read(&mut [0; 8192]).await.unwrap();
            assert!(read < 40_000_000, "the deadline stays");
            tokio::task::yield_now().await;
        }
        server.clock.advance(write_deadline - Duration::from_millis(1));
    }
}

/// The connection ended in the middle.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Broken;

/// A line without its end; `None` where there is none.
async fn line(stream: &mut BufReader<TcpStream>) -> Option<String> {
    let mut line = String::new();
    stream.read_line(&mut line).await.ok()?;
    line.strip_suffix("\r\n").map(str::to_owned)
}

/// An event of `text/event-stream`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) name: String,
    pub(crate) id: Option<String>,
    pub(crate) data: Value,
}

impl Event {
    /// The next one, comments left out.
    pub(crate) async fn next(raw: &mut Raw) -> Self {
        loop {
            let text = raw.until("\n\n").await;
            let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            let trimmed = |value: &str| value.strip_prefix(' ').unwrap_or(value).to_owned();
            if let Some(name) = field("event").map(trimmed) {
                let data = trimmed(field("data").expect("data"));
                let data = if data.is_empty() { Value::Null } else { serde_json::from_str(&data).unwrap() };
                return Self { name, id: field("id").map(trimmed), data };
            }
        }
    }

    /// The `data` of the next one, which is a `next`.
    pub(crate) async fn data(raw: &mut Raw) -> Value {
        let mut event = Self::next(raw).await;
        assert_eq!(event.name, "next", "{event:?}");
        event.data["data"].take()
    }
}
