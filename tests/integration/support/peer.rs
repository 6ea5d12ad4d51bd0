//! An HTTP server that does what the path says, also what servers should not do.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Notify,
};

/// A running server; it ends with the test.
#[derive(Clone)]
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    connections: AtomicUsize,
    requests: Mutex<Vec<Request>>,
    left: Notify,
}

/// What was asked.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

impl Peer {
    pub(crate) async fn start() -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    pub(crate) fn on(listener: TcpListener) -> Self {
        let peer = Self { address: listener.local_addr().unwrap(), state: Arc::default() };
        let accepting = peer.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                accepting.state.connections.fetch_add(1, Ordering::Relaxed);
                let peer = accepting.clone();
                tokio::spawn(async move { peer.serve(socket).await });
            }
        });
        peer
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn connections(&self) -> usize {
        self.state.connections.load(Ordering::Relaxed)
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.state.requests.lock().unwrap().clone()
    }

    /// Until a client has closed a connection on which something was outstanding.
    pub(crate) async fn left(&self) {
        self.state.left.notified().await;
    }

    async fn serve(&self, mut socket: TcpStream) {
        let mut answered = 0;
        while let Some(request) = read(&mut socket).await {
            self.state.requests.lock().unwrap().push(request.clone());
            // One that keeps no connection, and does not say so.
            if request.path.starts_with("/forgetful") && answered > 0 {
                return;
            }
            answered += 1;
            if !self.answer(&mut socket, &request).await {
                return;
            }
        }
    }

    /// Whether the connection goes on.
    async fn answer(&self, socket: &mut TcpStream, request: &Request) -> bool {
        let path = request.path.split('?').next().unwrap();
        let words: Vec<&str> = path.trim_start_matches('/').splitn(2, '/').collect();
        match words[..] {
            ["json" | "forgetful", ..] => write(socket, 200, "", r#"{"b": 1.50, "a": [null]}"#).await,
            ["echo", ..] => {
                let asked = json!({ "method": request.method, "path": request.path, "body": request.body });
                write(socket, 200, "", &asked.to_string()).await
            }
            ["text", text] => write(socket, 200, "", text).await,
            ["status", status] => write(socket, status.parse().unwrap(), "", "{\"secret\": 1}").await,
            // /redirect/STATUS/where to
            ["redirect", to] => {
                let (status, to) = to.split_once('/').unwrap();
                let to = if to.starts_with("http") {
                    to.replacen(":/", "://", 1).replace(":///", "://")
                } else {
                    format!("/{to}")
                };
                write(socket, status.parse().unwrap(), &format!("location: {to}\r\n"), "").await
            }
            ["location", ..] => {
                let to = request.path.split_once("to=").unwrap().1;
                write(socket, 302, &format!("location: {to}\r\n"), "").await
            }
            ["loop", ..] => write(socket, 302, "location: /loop\r\n", "").await,
            ["nowhere", ..] => write(socket, 302, "", "").await,
            ["long-location", ..] => {
                let host = "x".repeat(50_000);
                write(socket, 302, &format!("location: http://{host}/\r\n"), "").await
            }
            ["no-content", ..] => socket.write_all(b"HTTP/1.1 204 X\r\n\r\n").await.is_ok(),
            ["byte-order-mark", ..] => write(socket, 200, "", "\u{feff}{\"n\":1}").await,
            ["lone-surrogate", ..] => write(socket, 200, "", r#"["\ud800"]"#).await,
            ["nested", ..] => write(socket, 200, "", &("[".repeat(100_000) + &"]".repeat(100_000))).await,
            ["lines", "long"] => write(socket, 200, "", &format!("1\n\"{}\"\n2\n", "x".repeat(98))).await,
            ["lines", ..] => {
                let lines = "{\"n\":1}\r\n\n  {\"n\":2}\n{\"n\":3}";
                write(socket, 200, "", lines).await
            }
            ["broken-line", ..] => write(socket, 200, "", "{\"n\":1}\n{\"n\":\n{\"n\":3}\n").await,
            ["bytes", count] => {
                write(socket, 200, "", &format!("\"{}\"", "x".repeat(count.parse::<usize>().unwrap() - 2))).await
            }
            ["silence", ..] => {
                self.until_left(socket).await;
                false
            }
            // Hangs up before the answer.
            ["hang-up", ..] => false,
            // Hangs up in the middle of it.
            ["cut", ..] => {
                let _ = socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{\"n\":1}\n{\"n\"").await;
                false
            }
            ["cut-chunks", ..] => {
                let _ = socket
                    .write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n8\r\n{\"n\":1}\n\r\n")
                    .await;
                false
            }
            // One row, then nothing more.
            ["stall", ..] => {
                let _ = socket
                    .write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n8\r\n{\"n\":1}\n\r\n")
                    .await;
                self.until_left(socket).await;
                false
            }
            // Bytes for ever, as fast as they are taken: of one row, in rows, or between rows.
            ["flood", piece] => {
                let piece = match piece {
                    "rows" => "{\"n\":1}\n".repeat(512),
                    "blank-lines" => " \n".repeat(2048),
                    _ => " ".repeat(4096),
                };
                let _ = socket.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await;
                let chunk = format!("{:x}\r\n{piece}\r\n", piece.len());
                while socket.write_all(chunk.as_bytes()).await.is_ok() {}
                self.state.left.notify_one();
                false
            }
            ["says-much", ..] => {
                let _ = socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n{").await;
                self.until_left(socket).await;
                false
            }
            // A head without end: in one answer, or in answers before the answer.
            ["endless-head", piece] => {
                let piece = if piece == "fields" { "x-field: x\r\n" } else { "HTTP/1.1 103 Early Hints\r\n\r\n" };
                if piece.starts_with('x') {
                    let _ = socket.write_all(b"HTTP/1.1 200 OK\r\n").await;
                }
                while socket.write_all(piece.repeat(100).as_bytes()).await.is_ok() {}
                self.state.left.notify_one();
                false
            }
            ["compressed", ..] => write(socket, 200, "content-encoding: gzip\r\n", "\u{1f}\u{8b}").await,
            ["no-http", ..] => {
                let _ = socket.write_all(b"220 smtp.example.com ESMTP\r\n").await;
                false
            }
            _ => write(socket, 404, "", "").await,
        }
    }

    async fn until_left(&self, socket: &mut TcpStream) {
        let mut rest = [0; 64];
        while socket.read(&mut rest).await.is_ok_and(|count| count > 0) {}
        self.state.left.notify_one();
    }
}

async fn write(socket: &mut TcpStream, status: u16, headers: &str, body: &str) -> bool {
    let head = format!("HTTP/1.1 {status} X\r\n{headers}content-length: {}\r\n\r\n", body.len());
    socket.write_all(format!("{head}{body}").as_bytes()).await.is_ok()
}

async fn read(socket: &mut TcpStream) -> Option<Request> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        if socket.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let mut lines = head.split("\r\n");
    let mut first = lines.next()?.split(' ');
    let (method, path) = (first.next()?.to_owned(), first.next()?.to_owned());
    let header = |line: &str| {
        let (name, value) = line.split_once(':').unwrap();
        (name.to_ascii_lowercase(), value.trim().to_owned())
    };
    let mut request = Request { method, path, headers: lines.map(header).collect(), body: String::new() };
    let length = request.header("content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = bytes[end + 4..].to_vec();
    while body.len() < length {
        if socket.read_buf(&mut body).await.ok()? == 0 {
            return None;
        }
    }
    request.body = String::from_utf8(body).unwrap();
    Some(request)
}
