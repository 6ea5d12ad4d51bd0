//! A generated SQLite table through `dataStream` and through a task of kind `collect`: rows per second, and the
//! server's resident memory at the start, at the peak and at the end. The real program, over real sockets.
//!
//! `cargo bench --bench stream [-- ROWS]`; a million rows when nothing is said.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a bench stops where something is wrong")]

#[path = "../tests/integration/support/server.rs"]
#[allow(dead_code, unreachable_pub, reason = "what the tests share")]
mod server;
#[path = "../tests/integration/support/table.rs"]
mod table;

use std::{fs, time::Instant};

use futures::StreamExt;
use serde_json::{Value, json};
use server::{Server, data, memory_kib, subscribe};

#[tokio::main]
async fn main() {
    let rows: u64 = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(1_000_000);
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let config = table::generate(folder.path(), rows);
    let bytes = fs::metadata(folder.path().join("table.sqlite")).unwrap().len();
    println!("{rows} rows, {:.0} MB of SQLite", bytes as f64 / 1e6);
    // One server for each: the peak is its own.
    for way in ["dataStream", "collect", "collect, then taskEvents"] {
        let server = Server::start(&folder.path().join(way), Some(&config));
        let start = memory_kib(&server, "VmRSS");
        let begin = Instant::now();
        let seen = match way {
            "dataStream" => {
                let document = "subscription { dataStream(source: \"table\") { id value } }";
                drain(server.url(), document, json!({}), "dataStream").await
            }
            _ => collect(server.url(), way != "collect").await,
        };
        let elapsed = begin.elapsed();
        assert!(seen >= rows, "{seen} of {rows} rows");
        println!(
            "{way:<28} {:>9.0} rows/s; resident memory in MiB: start {:.1}, peak {:.1}, end {:.1}",
            rows as f64 / elapsed.as_secs_f64(),
            start as f64 / 1024.0,
            memory_kib(&server, "VmHWM") as f64 / 1024.0,
            memory_kib(&server, "VmRSS") as f64 / 1024.0,
        );
    }
}

/// Runs the task to its end; reads its chunks back if asked to.
async fn collect(url: &str, read_back: bool) -> u64 {
    let start = "mutation { startTask(input: { kind: \"collect\", input: { source: \"table\" } }) { task { id } } }";
    let id = data(url, start, json!({})).await["startTask"]["task"]["id"].clone();
    let progress = "subscription($id: ID!) { taskProgress(id: $id) { status done } }";
    let mut states = subscribe(url, progress, json!({ "id": id })).await.unwrap();
    let mut rows = 0;
    while let Some(state) = states.next().await {
        let state = state.unwrap()["data"]["taskProgress"].clone();
        assert_ne!(state["status"], "FAILED");
        #[allow(clippy::cast_possible_truncation, reason = "a whole number of rows")]
        if let Some(done) = state["done"].as_f64() {
            rows = done as u64;
        }
    }
    if read_back {
        let events = "subscription($id: ID!) { taskEvents(id: $id, types: [CHUNK]) { ... on TaskChunk { value } } }";
        rows = drain(url, events, json!({ "id": id }), "taskEvents").await;
    }
    rows
}

async fn drain(url: &str, document: &str, variables: Value, field: &str) -> u64 {
    let mut items = subscribe(url, document, variables).await.unwrap();
    let mut seen = 0;
    while let Some(item) = items.next().await {
        assert!(!item.unwrap()["data"][field].is_null());
        seen += 1;
    }
    seen
}
