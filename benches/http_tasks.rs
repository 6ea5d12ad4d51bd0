//! Tasks per second over HTTP from 64 clients, one by one and in batches: from the first request to the last completion.
//! The real program, over real sockets.
//!
//! `cargo bench --bench http_tasks [-- TASKS]`; 20,000 tasks when nothing is said.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a bench stops where something is wrong")]

#[path = "../tests/integration/support/server.rs"]
#[allow(dead_code, unreachable_pub, reason = "what the tests share")]
mod server;

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use server::{Server, data};

/// Clients, each with one request at a time.
const CLIENTS: usize = 64;
const CONFIG: &str = "[tasks]\nconcurrency = 256\n";
const START: &str = "mutation($tasks: [StartTaskInput!]!) { startTasks(input: { tasks: $tasks }) { tasks { id } } }";

#[tokio::main]
async fn main() {
    let tasks: usize = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(20_000);
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let config = folder.path().join("meanwhile.toml");
    std::fs::write(&config, CONFIG).unwrap();
    println!("{tasks} tasks from {CLIENTS} clients");
    for batch in [1, 10, 100] {
        let server = Server::start(&folder.path().join(batch.to_string()), Some(&config));
        let (started, completed) = run(server.url(), tasks, batch).await;
        let rate = |elapsed: Duration| tasks as f64 / elapsed.as_secs_f64();
        println!("{batch:>4} in a request: {:>8.0} started/s {:>8.0} completed/s", rate(started), rate(completed));
    }
}

/// Until all were acknowledged, and until all were completed.
async fn run(url: &str, tasks: usize, batch: usize) -> (Duration, Duration) {
    let begin = Instant::now();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let url = url.to_owned();
            tokio::spawn(async move {
                let task = json!({ "kind": "simulate", "input": {"steps": 1, "stepMs": 0} });
                let mut left = tasks / CLIENTS + usize::from(client < tasks % CLIENTS);
                while left > 0 {
                    let now = left.min(batch);
                    data(&url, START, json!({ "tasks": vec![task.clone(); now] })).await;
                    left -= now;
                }
            })
        })
        .collect();
    for client in clients {
        client.await.unwrap();
    }
    let started = begin.elapsed();
    let open = "{ tasks(filter: { statuses: [PENDING, RUNNING] }, first: 1) { nodes { id } } }";
    while data(url, open, json!({})).await["tasks"]["nodes"] != Value::Array(Vec::new()) {}
    (started, begin.elapsed())
}
