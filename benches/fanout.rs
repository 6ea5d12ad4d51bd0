//! Many subscribers of one task: server CPU time per delivered event, resident memory per subscription, and the time
//! from the event to the client, beside a minimal axum server that broadcasts the same bytes over WebSockets.
//! Each server is pinned to one core, the clients to another; both run one after the other, in the same run.
//!
//! `cargo bench --bench fanout [-- SUBSCRIBERS [EVENTS [different|burst]]]`; 1,000 subscribers and 200 events when
//! nothing is said. `different`: every subscriber sends another operation, so that nothing can be shared. `burst`: no
//! peer; the rows of a source as a task's events, one by one and then 1,000 at once. Linux only.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a bench stops where something is wrong")]

#[path = "../tests/integration/support/server.rs"]
#[allow(dead_code, unreachable_pub, reason = "what the tests share")]
mod server;

use std::{fs, process::Command, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{
        State, WebSocketUpgrade,
        ws::{Message as Sent, Utf8Bytes},
    },
    response::Response,
    routing::{get, post},
};
use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use server::{Server, data, memory_kib};
use tokio::sync::{Barrier, broadcast};
use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest, protocol::WebSocketConfig};

const SERVER_CORE: &str = "0";
const CLIENT_CORE: &str = "1";
/// Between two events: so long that neither server is busy all the time.
fn interval_ms(subscribers: usize) -> u64 {
    (subscribers as u64 / 20).max(50)
}
/// Ticks of `/proc/PID/stat` in a second.
const TICKS: f64 = 100.0;
const BUFFER: usize = 4 << 10;

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    if std::env::var_os("MEANWHILE_BENCH_PEER").is_some() {
        return runtime().block_on(peer());
    }
    let subscribers: usize = arguments.next().map_or(1000, |argument| argument.parse().unwrap());
    let events: u64 = arguments.next().map_or(200, |argument| argument.parse().unwrap());
    let how = arguments.next();
    let different = how.as_deref() == Some("different");
    let pin = Command::new("taskset").args(["-a", "-p", "-c", CLIENT_CORE, &std::process::id().to_string()]).output();
    assert!(pin.expect("taskset (util-linux) is needed").status.success());
    let what = match how.as_deref() {
        None => "the same operation",
        Some("different") => "different operations",
        Some("burst") => "rows of a source",
        Some(other) => panic!("`{other}` is neither `different` nor `burst`"),
    };
    println!("{subscribers} subscribers, {what}, {events} events, one each {} ms", interval_ms(subscribers));
    println!("{:<12} {:>16} {:>18} {:>12} {:>12}", "", "CPU µs per event", "KiB per subscriber", "p50 ms", "p99 ms");
    let run = |work| runtime().block_on(measure(work, subscribers, events, different));
    if how.as_deref() == Some("burst") {
        let (slow, burst) = (run(Work::Rows), run(Work::Burst));
        println!("{:<12} {:>16.2}", "ratio", burst.cpu_us_per_event / slow.cpu_us_per_event);
        return;
    }
    let (peer, ours) = (run(Work::Peer), run(Work::Steps));
    println!(
        "{:<12} {:>16.2} {:>18.2}",
        "ratio",
        ours.cpu_us_per_event / peer.cpu_us_per_event,
        ours.kib_per_subscriber / peer.kib_per_subscriber
    );
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

/// What is subscribed to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Work {
    /// A plain broadcast.
    Peer,
    /// The progress of a task.
    Steps,
    /// A task's events, one by one.
    Rows,
    /// A task's events, as soon as they can be written.
    Burst,
}

impl Work {
    fn name(self) -> &'static str {
        match self {
            Self::Peer => "broadcast",
            Self::Steps => "Meanwhile",
            Self::Rows => "one by one",
            Self::Burst => "burst",
        }
    }
}

/// Rows of a burst.
const BURST: u64 = 1000;

struct Figures {
    cpu_us_per_event: f64,
    kib_per_subscriber: f64,
}

async fn measure(work: Work, subscribers: usize, events: u64, different: bool) -> Figures {
    let peer = work == Work::Peer;
    let interval_ms = interval_ms(subscribers);
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let server = if peer {
        let mut command = Command::new("taskset");
        command.args(["-c", SERVER_CORE]).arg(std::env::current_exe().unwrap()).env("MEANWHILE_BENCH_PEER", "1");
        Server::spawn(&mut command)
    } else {
        let mut command = Command::new("taskset");
        command.args([
            "-c",
            SERVER_CORE,
            env!("CARGO_BIN_EXE_meanwhile"),
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--data",
        ]);
        let configuration = format!(
            "[tasks]\nconcurrency = 1\n\
             [sources.rows]\ntype = \"simulated\"\nrows = {events}\ninterval_ms = {interval_ms}\n\
             [sources.burst]\ntype = \"simulated\"\nrows = {BURST}\n"
        );
        fs::write(folder.path().join("meanwhile.toml"), configuration).unwrap();
        command.arg(folder.path().join("data")).arg("--config").arg(folder.path().join("meanwhile.toml"));
        Server::spawn(&mut command)
    };
    // The task waits for its place until all have subscribed: another one has it.
    let (kind, input) = match work {
        Work::Peer | Work::Steps => ("simulate", json!({ "steps": events, "stepMs": interval_ms })),
        Work::Rows => ("collect", json!({ "source": "rows" })),
        Work::Burst => ("collect", json!({ "source": "burst" })),
    };
    let (mut blocker, mut id) = (Value::Null, Value::Null);
    if !peer {
        blocker = start(&server, "simulate", json!({ "steps": 1, "stepMs": 3_600_000 })).await;
        id = start(&server, kind, input.clone()).await;
    }
    let idle_kib = memory_kib(&server, "VmRSS");
    let barrier = Arc::new(Barrier::new(subscribers + 1));
    let mut clients = tokio::task::JoinSet::new();
    for number in 0..subscribers {
        let (url, id, barrier) = (server.url().replacen("http", "ws", 1), id.clone(), barrier.clone());
        let alias = if different { format!("own{number}: ") } else { String::new() };
        let (field, selection) = match work {
            Work::Peer | Work::Steps => ("taskProgress", "status percent message at"),
            Work::Rows | Work::Burst => ("taskEvents", "seq at ... on TaskChunk { value }"),
        };
        let document = format!("subscription($id: ID!) {{ {alias}{field}(id: $id) {{ {selection} }} }}");
        let payload = json!({ "query": document, "variables": { "id": id } });
        clients.spawn(subscriber(url, payload, barrier));
        // Not all at the same moment: the listener's queue is bounded.
        if number % 64 == 63 {
            tokio::task::yield_now().await;
        }
    }
    barrier.wait().await;
    let kib_per_subscriber = (memory_kib(&server, "VmRSS") - idle_kib) as f64 / subscribers as f64;
    let before = cpu_seconds(&server);
    if peer {
        reqwest::Client::new().post(server.url()).json(&input).send().await.unwrap();
    } else {
        let cancel = "mutation($id: ID!) { cancelTask(input: { id: $id }) { task { id } } }";
        data(server.url(), cancel, json!({ "id": blocker })).await;
    }
    barrier.wait().await;
    let cpu = cpu_seconds(&server) - before;
    let (mut delivered, mut delays) = (0, Vec::new());
    while let Some(client) = clients.join_next().await {
        let (count, mut seen) = client.unwrap();
        delivered += count;
        delays.append(&mut seen);
    }
    delays.sort_unstable();
    let at = |percent: usize| delays.get(delays.len().saturating_sub(1) * percent / 100).map_or(0.0, |ms| *ms as f64);
    let cpu_us_per_event = cpu * 1e6 / delivered as f64;
    let name = work.name();
    println!("{name:<12} {cpu_us_per_event:>16.2} {kib_per_subscriber:>18.2} {:>12.0} {:>12.0}", at(50), at(99));
    Figures { cpu_us_per_event, kib_per_subscriber }
}

async fn start(server: &Server, kind: &str, input: Value) -> Value {
    let start = "mutation($input: StartTaskInput!) { startTask(input: $input) { task { id } } }";
    data(server.url(), start, json!({ "input": { "kind": kind, "input": input } })).await["startTask"]["task"]["id"]
        .clone()
}

/// Subscribes, waits for the others, counts what comes until the end, and how late it was, in milliseconds.
async fn subscriber(url: String, payload: Value, barrier: Arc<Barrier>) -> (u64, Vec<i64>) {
    let mut request = url.into_client_request().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", "graphql-transport-ws".parse().unwrap());
    let config = WebSocketConfig::default().read_buffer_size(BUFFER).write_buffer_size(0);
    let (mut socket, _) =
        tokio_tungstenite::connect_async_with_config(request, Some(config), true).await.expect("a connection");
    socket.send(Message::text(r#"{"type":"connection_init"}"#)).await.unwrap();
    let subscribe = json!({ "type": "subscribe", "id": "1", "payload": payload });
    socket.send(Message::text(subscribe.to_string())).await.unwrap();
    // Acknowledged, and the present state.
    socket.next().await.unwrap().unwrap();
    socket.next().await.unwrap().unwrap();
    barrier.wait().await;
    let (mut seen, mut delays) = (0, Vec::new());
    while let Some(Ok(Message::Text(text))) = socket.next().await {
        if text.contains(r#""complete""#) {
            break;
        }
        seen += 1;
        if let Some(at) = text.split(r#""at":""#).nth(1).and_then(|rest| rest.split('"').next()) {
            let at = chrono::DateTime::parse_from_rfc3339(at).unwrap();
            delays.push(now_ms() - at.timestamp_millis());
        }
    }
    barrier.wait().await;
    (seen, delays)
}

#[allow(clippy::disallowed_methods, reason = "compared with the server's time")]
fn now_ms() -> i64 {
    chrono::Utc::now().timestamp_millis()
}

/// User and system time of the process so far.
fn cpu_seconds(server: &Server) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", server::process_id(server))).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / TICKS
}

// ---------------------------------------------------------------- the peer

#[derive(Clone)]
struct Peer {
    events: broadcast::Sender<Utf8Bytes>,
}

/// What a subscription costs at least: the same bytes, no task, no journal, no GraphQL.
async fn peer() {
    let peer = Peer { events: broadcast::channel(64).0 };
    let app = Router::new().route("/graphql", get(listen)).route("/graphql", post(go)).with_state(peer);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("http://{}/graphql", listener.local_addr().unwrap());
    axum::serve(listener, app).await.unwrap();
}

fn event(percent: f64) -> Utf8Bytes {
    let at = chrono::DateTime::from_timestamp_millis(now_ms()).unwrap();
    let at = at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
    format!(
        r#"{{"id":"1","type":"next","payload":{{"data":{{"taskProgress":{{"status":"RUNNING","percent":{percent},"message":"step 10 of 200","at":"{at}"}}}},"extensions":{{"cursor":"AX6DWIbO0k9taIHwR3Jw6bMAAAAAAAAADQ"}}}}}}"#
    )
    .into()
}

#[allow(clippy::disallowed_methods, reason = "a bench has the machine's time")]
async fn go(State(peer): State<Peer>, body: axum::Json<Value>) {
    let (steps, interval) = (body["steps"].as_u64().unwrap(), body["stepMs"].as_u64().unwrap());
    tokio::spawn(async move {
        for step in 0..steps {
            tokio::time::sleep(Duration::from_millis(interval)).await;
            let _ = peer.events.send(event(step as f64));
        }
        let _ = peer.events.send(r#"{"id":"1","type":"complete"}"#.into());
    });
}

async fn listen(State(peer): State<Peer>, upgrade: WebSocketUpgrade) -> Response {
    upgrade.protocols(["graphql-transport-ws"]).read_buffer_size(BUFFER).write_buffer_size(0).on_upgrade(
        move |mut socket| async move {
            socket.recv().await;
            let _ = socket.send(Sent::text(r#"{"type":"connection_ack"}"#)).await;
            socket.recv().await;
            let mut events = peer.events.subscribe();
            let _ = socket.send(Sent::Text(event(0.0))).await;
            while let Ok(event) = events.recv().await {
                if socket.send(Sent::Text(event)).await.is_err() {
                    return;
                }
            }
        },
    )
}
