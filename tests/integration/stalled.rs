//! Readers that do not read, beside many that do.
//!
//! ```sh
//! MEANWHILE_READERS=1000 cargo test --release --test integration stalled:: -- --nocapture
//! ```

use std::{fs, net::SocketAddr, time::Duration};

use futures::StreamExt;
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt, net::TcpSocket, net::TcpStream};

use crate::support::{
    server::{Server, data, memory_kib, subscribe},
    socket::Socket,
};

/// Rows of 10 kB, as fast as they are taken.
const CONFIG: &str = "[sources.hose]\ntype = \"simulated\"\nrows = 10000000\nvalue = \"VALUE\"\n";
const STREAM: &str = "subscription { dataStream(source: \"hose\") { value } }";
const PROGRESS: &str = "subscription($id: ID!) { taskProgress(id: $id) { status percent at } }";
/// What all that is kept for those who do not read may take, beside what the system keeps.
const ALLOWED_KIB: u64 = 16 << 10;

async fn narrow(address: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(address).await.unwrap()
}

/// Subscribers of one task see it to its end; how late its events were at most, and for one in a hundred.
async fn watch_a_task(url: &str, readers: usize) -> (i64, i64) {
    let start =
        "mutation { startTask(input: { kind: \"simulate\", input: { steps: 10, stepMs: 30 } }) { task { id } } }";
    let id = data(url, start, Value::Null).await["startTask"]["task"]["id"].clone();
    let read = |_| {
        let (url, id) = (url.to_owned(), id.clone());
        tokio::spawn(async move {
            let mut delays = Vec::new();
            let mut states = subscribe(&url, PROGRESS, json!({ "id": id })).await.unwrap();
            // The first shows how it stands, whenever that came about.
            states.next().await.unwrap().unwrap();
            let mut last = Value::Null;
            while let Some(state) = states.next().await {
                let state = state.unwrap()["data"]["taskProgress"].take();
                let at = chrono::DateTime::parse_from_rfc3339(state["at"].as_str().unwrap()).unwrap();
                delays.push(now_ms() - at.timestamp_millis());
                last = state["status"].clone();
            }
            (last, delays)
        })
    };
    let mut delays = Vec::new();
    for reader in futures::future::join_all((0..readers).map(read)).await {
        let (last, mut seen) = reader.unwrap();
        assert!(last == "COMPLETED" || seen.is_empty(), "{last}");
        delays.append(&mut seen);
    }
    delays.sort_unstable();
    (delays.last().copied().unwrap_or(0), delays.get(delays.len() * 99 / 100).copied().unwrap_or(0))
}

#[allow(clippy::disallowed_methods, reason = "compared with the server's time")]
fn now_ms() -> i64 {
    chrono::Utc::now().timestamp_millis()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stalled_readers_cost_little_memory_and_the_others_see_everything() {
    let readers = std::env::var("MEANWHILE_READERS").map_or(50, |text| text.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("meanwhile.toml");
    fs::write(&config, CONFIG.replace("VALUE", &"x".repeat(10_000))).unwrap();
    let server = Server::start(&folder.path().join("data"), Some(&config));
    let address: SocketAddr = server.url().trim_start_matches("http://").trim_end_matches("/graphql").parse().unwrap();
    // What comes once is not counted.
    watch_a_task(server.url(), readers).await;
    let (alone, alone_most) = (watch_a_task(server.url(), readers).await, memory_kib(&server, "VmRSS"));

    let mut socket = Socket::over(narrow(address).await, "graphql-transport-ws").await;
    socket.init(Value::Null).await;
    socket.subscribe("1", STREAM).await;
    let mut http = Vec::new();
    for accept in ["text/event-stream", "multipart/mixed;subscriptionSpec=1.0"] {
        let body = json!({ "query": STREAM }).to_string();
        let head = format!(
            "POST /graphql HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nAccept: {accept}\r\n\
             Content-Length: {}\r\n\r\n",
            body.len()
        );
        let mut stream = narrow(address).await;
        stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
        http.push(stream);
    }
    for stream in &http {
        tokio::time::timeout(Duration::from_secs(60), stream.readable()).await.expect("an answer begins").unwrap();
    }
    let (beside, beside_most) = (watch_a_task(server.url(), readers).await, memory_kib(&server, "VmRSS"));
    println!(
        "{readers} readers: latest {} ms, p99 {} ms, {alone_most} KiB; beside stalled ones {} ms, {} ms, {beside_most} KiB",
        alone.0, alone.1, beside.0, beside.1
    );
    assert!(beside_most < alone_most + ALLOWED_KIB, "{alone_most} KiB became {beside_most} KiB");
    drop((socket, http));
}
