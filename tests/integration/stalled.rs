//! Readers that do not read, beside many that do.
//!
//! ```sh
//! MEANWHILE_READERS=1000 cargo test --release --test integration stalled:: -- --nocapture
//! ```

use std::{fs, net::SocketAddr, sync::Arc, time::Duration};

use futures::StreamExt;
use serde_json::{Value, json};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpSocket, TcpStream},
    sync::Barrier,
};

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

/// What a run showed.
struct Run {
    /// Of all events at all readers, in order, in milliseconds.
    delays: Vec<i64>,
    /// The server's, while all are connected and have seen everything.
    memory_kib: u64,
}

impl Run {
    fn delay(&self, percent: usize) -> i64 {
        self.delays[(self.delays.len() - 1) * percent / 100]
    }
}

/// All readers are there before the task begins, and see it to its end.
async fn watch_a_task(server: &Server, readers: usize) -> Run {
    let url = server.url();
    let start =
        "mutation { startTask(input: { kind: \"simulate\", input: { steps: 10, stepMs: 50 } }) { task { id } } }";
    data(url, "mutation { pauseKind(input: { kind: \"simulate\" }) { kind { name } } }", Value::Null).await;
    let id = data(url, start, Value::Null).await["startTask"]["task"]["id"].clone();
    let together = Arc::new(Barrier::new(readers + 1));
    let read = |_| {
        let (url, id, together) = (url.to_owned(), id.clone(), together.clone());
        tokio::spawn(async move {
            let mut states = subscribe(&url, PROGRESS, json!({ "id": id })).await.unwrap();
            let first = states.next().await.unwrap().unwrap();
            assert_eq!(first["data"]["taskProgress"]["status"], "PENDING");
            together.wait().await;
            let mut delays = Vec::new();
            loop {
                let state = states.next().await.unwrap().unwrap()["data"]["taskProgress"].take();
                let at = chrono::DateTime::parse_from_rfc3339(state["at"].as_str().unwrap()).unwrap();
                delays.push(now_ms() - at.timestamp_millis());
                if state["status"] == "COMPLETED" {
                    break;
                }
            }
            together.wait().await;
            // The server's memory is looked at.
            together.wait().await;
            assert!(states.next().await.is_none());
            delays
        })
    };
    let reading = futures::future::join_all((0..readers).map(read));
    let watching = async {
        together.wait().await;
        data(url, "mutation { resumeKind(input: { kind: \"simulate\" }) { kind { name } } }", Value::Null).await;
        together.wait().await;
        let memory_kib = memory_kib(server, "VmRSS");
        together.wait().await;
        memory_kib
    };
    let (delays, memory_kib) = tokio::join!(reading, watching);
    let mut delays: Vec<i64> = delays.into_iter().flat_map(Result::unwrap).collect();
    delays.sort_unstable();
    Run { delays, memory_kib }
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
    watch_a_task(&server, readers).await;
    let alone = watch_a_task(&server, readers).await;

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
    let beside = watch_a_task(&server, readers).await;
    for (what, run) in [("alone", &alone), ("beside stalled ones", &beside)] {
        println!(
            "{readers} readers {what}: {} events, p50 {} ms, p99 {} ms, latest {} ms, {} KiB",
            run.delays.len(),
            run.delay(50),
            run.delay(99),
            run.delay(100),
            run.memory_kib
        );
    }
    assert!(
        beside.memory_kib < alone.memory_kib + ALLOWED_KIB,
        "{} KiB became {}",
        alone.memory_kib,
        beside.memory_kib
    );
    drop((socket, http));
}
