//! How soon a task begins and is seen, on an idle server: p50 and p99. From the acknowledgement of `startTask` to the task's
//! first event at a WebSocket client, with the real program; and from `startTask` to the first line of its handler, with
//! the server in this process, since only there the handler can look at the client's clock. Over real sockets.
//!
//! `cargo bench --bench latency [-- TASKS]`; 2,000 tasks when nothing is said.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a bench stops where something is wrong")]

#[path = "../tests/integration/support/server.rs"]
#[allow(dead_code, unreachable_pub, reason = "what the tests share")]
mod server;

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{SinkExt, StreamExt};
use meanwhile::{
    clock::{Clock, SystemClock},
    graphql::{Api, ApiOptions},
    http::{HttpContext, HttpOptions, routes},
    journal::{Changed, JournalOptions},
    model::TaskStatus,
    shutdown::Shutdown,
    source::Sources,
    store::sqlite::{SqliteOptions, SqliteStore},
    task::{TaskManager, TaskOptions},
};
use serde_json::{Value, json};
use server::{Server, data};
use tokio::{net::TcpListener, sync::mpsc};
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
    drop((socket, server));
    report("startTask sent → handler begins", begins(&folder.path().join("embedded"), tasks).await);
}

/// From before `startTask` is sent to the first line of the handler, each on a server where nothing else goes on.
async fn begins(data_folder: &Path, tasks: usize) -> Vec<Duration> {
    std::fs::create_dir(data_folder).unwrap();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let store = Arc::new(SqliteStore::open(data_folder, &SqliteOptions::default(), clock.clone()).unwrap());
    let (options, journal) = (TaskOptions::default(), JournalOptions::default());
    let manager = TaskManager::open(store, clock.clone(), options, journal, 1).await.unwrap();
    let (begun, mut begins) = mpsc::unbounded_channel();
    let note = move |_ctx, ()| {
        begun.send(Instant::now()).unwrap();
        async { Ok(()) }
    };
    manager.register("note", note).unwrap();
    let api = Api::new(manager.clone(), Sources::new(clock.clone()), ApiOptions::default(), 1);
    let (context, http) = (HttpContext::new(clock, Shutdown::new()), HttpOptions::default());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/graphql", listener.local_addr().unwrap());
    let app = routes(api, http.clone(), context.clone());
    tokio::spawn(async move { meanwhile::http::serve(listener, app, &http.sockets, &context).await });
    let mut changes = manager.journal().changes();
    let mut times = Vec::with_capacity(tasks);
    for _ in 0..tasks {
        let begin = Instant::now();
        data(&url, "mutation { startTask(input: { kind: \"note\" }) { task { id } } }", json!({})).await;
        times.push(begins.recv().await.unwrap() - begin);
        // Until its end is told, the store has something to do.
        let mut ended = false;
        while !ended {
            let Some(Changed::Tasks(changes)) = changes.next().await else { panic!("changes were missed") };
            ended = changes.iter().any(|change| change.change.to == Some(TaskStatus::Completed));
        }
    }
    manager.close(std::future::ready(())).await;
    times
}

fn report(name: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |percent: usize| times[(times.len() - 1) * percent / 100].as_secs_f64() * 1000.0;
    println!("{name:<44} {:>8.3} {:>8.3}", at(50), at(99));
}
