//! Much data, little memory: the real program with a large table. `benches/stream.rs` has a million rows.

use futures::StreamExt;
use serde_json::{Value, json};

use crate::support::{
    server::{Server, data, memory_kib, subscribe},
    table,
};

const ROWS: u64 = 100_000;
/// More than buffers, caches and pages come to, and far less than the rows.
const ROOM_KIB: u64 = 96 << 10;

fn row(n: u64) -> Value {
    let note: String = (n * 7919).to_string().bytes().map(|byte| format!("{byte:02X}")).collect();
    json!({ "id": n, "name": format!("item {n}"), "price": n as f64 * 0.25, "note": note })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_table_passes_by_in_bounded_memory() {
    let folder = tempfile::tempdir().unwrap();
    let config = table::generate(folder.path(), ROWS);
    let server = Server::start(&folder.path().join("data"), Some(&config));
    let start = memory_kib(&server, "VmRSS");
    let document = "subscription { dataStream(source: \"table\") { id value } }";
    let mut rows = subscribe(server.url(), document, json!({})).await.unwrap();
    let mut seen = 0;
    while let Some(chunk) = rows.next().await {
        let chunk = chunk.unwrap()["data"]["dataStream"].take();
        assert_eq!(chunk["id"], json!(seen));
        seen += 1;
        assert_eq!(chunk["value"], row(seen));
    }
    assert_eq!(seen, ROWS);
    bounded(&server, start);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_table_is_collected_in_bounded_memory_and_read_back_whole() {
    let folder = tempfile::tempdir().unwrap();
    let config = table::generate(folder.path(), ROWS);
    let server = Server::start(&folder.path().join("data"), Some(&config));
    let start = memory_kib(&server, "VmRSS");
    let document = "mutation { startTask(input: { kind: \"collect\", input: {source: \"table\"} }) { task { id } } }";
    let id = data(server.url(), document, json!({})).await["startTask"]["task"]["id"].clone();
    let document = "subscription($id: ID!) { taskEvents(id: $id) { seq ... on TaskStatusChanged { status result }
        ... on TaskChunk { index value } } }";
    let mut events = subscribe(server.url(), document, json!({ "id": id })).await.unwrap();
    let (mut seq, mut chunks, mut last) = (0, 0, Value::Null);
    while let Some(event) = events.next().await {
        last = event.unwrap()["data"]["taskEvents"].take();
        seq += 1;
        assert_eq!(last["seq"], json!(seq));
        if let Some(index) = last["index"].as_u64() {
            assert_eq!(index, chunks);
            chunks += 1;
            assert_eq!(last["value"], row(chunks));
        }
    }
    assert_eq!((&last["status"], chunks), (&json!("COMPLETED"), ROWS));
    bounded(&server, start);
}

/// Where the system does not tell, nothing is held.
fn bounded(server: &Server, start: u64) {
    let (peak, end) = (memory_kib(server, "VmHWM"), memory_kib(server, "VmRSS"));
    println!("resident memory in KiB: start {start}, peak {peak}, end {end}");
    assert!(peak < start + ROOM_KIB, "resident memory grew from {start} to {peak} KiB");
}
