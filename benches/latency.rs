//! From the acknowledgement of `startTask` to the task's first event at a WebSocket client, on an idle server: p50
//! and p99. The real program, over real sockets.
//!
//! `cargo bench --bench latency [-- TASKS]`; 2,000 tasks when nothing is said.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a bench stops where something is wrong")]

#[path = "../tests/integration/support/server.rs"]
#[allow(dead_code, unreachable_pub, reason = "what the tests share")]
mod server;

use std::time::{Duration, Instant};

use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use server::{Server, data};
use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest};

#[tokio::main]
async fn main() {
    let tasks: usize = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(2000);
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let server = Server::start(&folder.path().join("data"), None);
    let mut request = server.url().replacen("http", "ws", 1).into_client_request().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", "graphql-transport-ws".parse().unwrap());
    let (mut socket, _) = tokio_tungstenite::connect_async(request).await.unwrap();
    let message = |value: Value| Message::text(value.to_string());
    socket.send(message(json!({ "type": "connection_init" }))).await.unwrap();
    socket.next().await.unwrap().unwrap();

    let start = "mutation { startTask(input: { kind: \"simulate\", input: { steps: 1, stepMs: 0 } }) { task { id } } }";
    let events = "subscription($id: ID!) { taskEvents(id: $id) { seq ... on TaskStatusChanged { status } } }";
    let (mut acknowledged, mut first, mut last) = (Vec::new(), Vec::new(), Vec::new());
    for number in 0..tasks {
        let begin = Instant::now();
        let started = data(server.url(), start, json!({})).await;
        acknowledged.push(begin.elapsed());
        let begin = Instant::now();
        let variables = json!({ "id": started["startTask"]["task"]["id"] });
        let payload = json!({ "query": events, "variables": variables });
        let subscribe = json!({ "type": "subscribe", "id": number.to_string(), "payload": payload });
        socket.send(message(subscribe)).await.unwrap();
        let mut seen = 0;
        loop {
            let Message::Text(text) = socket.next().await.unwrap().unwrap() else { continue };
            let message: Value = serde_json::from_str(&text).unwrap();
            match message["type"].as_str().unwrap() {
                "next" if seen == 0 => first.push(begin.elapsed()),
                "complete" => break,
                _ => {}
            }
            seen += 1;
        }
        last.push(begin.elapsed());
    }
    println!("{tasks} tasks, one after another; milliseconds");
    println!("{:<44} {:>8} {:>8}", "", "p50", "p99");
    report("startTask sent → acknowledged (HTTP)", acknowledged);
    report("acknowledged → first event (WebSocket)", first);
    report("acknowledged → completed seen (WebSocket)", last);
}

fn report(name: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |percent: usize| times[(times.len() - 1) * percent / 100].as_secs_f64() * 1000.0;
    println!("{name:<44} {:>8.3} {:>8.3}", at(50), at(99));
}
