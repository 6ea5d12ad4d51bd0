//! The real program as a child process, and clients of it.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::LazyLock,
};

use futures::{SinkExt, Stream, StreamExt, stream};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{self, Message, client::IntoClientRequest};

/// A running server; ended when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    url: String,
}

impl Server {
    /// Starts the program on any free port, and waits until it says where it listens.
    pub(crate) fn start(data: &Path, config: Option<&Path>) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_meanwhile"));
        command.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(data);
        if let Some(config) = config {
            command.arg("--config").arg(config);
        }
        Self::spawn(&mut command)
    }

    /// Starts a server by this command, and waits until it says where it listens.
    pub(crate) fn spawn(command: &mut Command) -> Self {
        Self::spawn_with_log(command, "error", Stdio::inherit())
    }

    /// The same, with so much of a log, and there.
    pub(crate) fn spawn_with_log(command: &mut Command, level: &str, log: Stdio) -> Self {
        for variable in ["LISTEN", "DATA", "CONFIG", "GRAPHIQL_ASSETS", "TOKEN", "TOKEN_FILE"] {
            command.env_remove(format!("MEANWHILE_{variable}"));
        }
        let mut child = command.env("MEANWHILE_LOG", level).stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let url = lines
            .by_ref()
            .map(Result::unwrap)
            .find_map(|line| line.split_whitespace().find(|word| word.ends_with("/graphql")).map(str::to_owned))
            .expect("the server says where it listens");
        // Whatever it prints later is read, so that it never waits for us.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, url }
    }

    /// Where its API is.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Waits until it has ended by itself; its exit code.
    pub(crate) async fn ended(mut self) -> Option<i32> {
        tokio::task::spawn_blocking(move || self.child.wait().unwrap().code()).await.unwrap()
    }

    /// SIGKILL: it ends without a word.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Server {
    /// Waits until it has ended.
    #[allow(dead_code, reason = "not for the benches")]
    pub(crate) fn wait(mut self) {
        self.child.wait().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A client.
pub(crate) fn client() -> reqwest::Client {
    reqwest::Client::new()
}

/// Sends an operation by POST. The error: the server could not be reached or went away; nobody knows what it did.
pub(crate) async fn post(url: &str, document: &str, variables: Value) -> Result<Value, reqwest::Error> {
    let body = json!({ "query": document, "variables": variables });
    static CLIENT: LazyLock<reqwest::Client> = LazyLock::new(client);
    CLIENT.post(url).json(&body).send().await?.json().await
}

/// Sends an operation that is expected to succeed; its data.
pub(crate) async fn data(url: &str, document: &str, variables: Value) -> Value {
    let response = post(url, document, variables).await.unwrap();
    assert_eq!(response.get("errors"), None, "{document}");
    response["data"].clone()
}

/// Subscribes over a WebSocket of its own. Gives each response; an error is the last item, and means that the
/// connection broke. Ends when the server says that the operation is complete.
pub(crate) async fn subscribe(
    url: &str,
    document: &str,
    variables: Value,
) -> Result<impl Stream<Item = Result<Value, tungstenite::Error>> + use<>, tungstenite::Error> {
    let mut request = url.replacen("http", "ws", 1).into_client_request()?;
    request.headers_mut().insert("sec-websocket-protocol", "graphql-transport-ws".parse().unwrap());
    let (mut socket, _) = tokio_tungstenite::connect_async(request).await?;
    let message = |value: Value| Message::text(value.to_string());
    socket.send(message(json!({ "type": "connection_init" }))).await?;
    let payload = json!({ "query": document, "variables": variables });
    socket.send(message(json!({ "type": "subscribe", "id": "1", "payload": payload }))).await?;
    let next = |socket: Option<_>| async move {
        let mut socket: tokio_tungstenite::WebSocketStream<_> = socket?;
        loop {
            let text = match socket.next().await {
                None => return Some((Err(tungstenite::Error::ConnectionClosed), None)),
                Some(Err(error)) => return Some((Err(error), None)),
                Some(Ok(Message::Text(text))) => text,
                Some(Ok(Message::Close(_))) => return Some((Err(tungstenite::Error::ConnectionClosed), None)),
                Some(Ok(_)) => continue,
            };
            let mut message: Value = serde_json::from_str(&text).unwrap();
            match message["type"].as_str().unwrap() {
                "next" => return Some((Ok(message["payload"].take()), Some(socket))),
                "complete" => return None,
                "error" => panic!("refused: {}", message["payload"]),
                _ => {}
            }
        }
    };
    Ok(stream::unfold(Some(socket), next).boxed())
}

/// A line of the process's memory figures, in KiB: `VmRSS` is what it has now, `VmHWM` the most it had. 0 where the
/// system does not tell.
pub(crate) fn memory_kib(server: &Server, line: &str) -> u64 {
    let Ok(status) = std::fs::read_to_string(format!("/proc/{}/status", server.child.id())) else { return 0 };
    let figure = status.lines().find_map(|text| text.strip_prefix(line)?.strip_prefix(':')).unwrap();
    figure.trim().trim_end_matches(" kB").parse().unwrap()
}

/// The server's process.
#[allow(dead_code, reason = "for the benches")]
pub(crate) fn process_id(server: &Server) -> u32 {
    server.child.id()
}

/// Sends the server a signal, by its name.
pub(crate) fn signal(server: &Server, name: &str) {
    let sent = Command::new("kill").args(["-s", name, &process_id(server).to_string()]).status().unwrap();
    assert!(sent.success());
}
