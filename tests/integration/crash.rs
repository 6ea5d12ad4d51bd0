//! The real program under load, killed at random moments and started again.
//!
//! A dozen kills by default. Hundreds:
//!
//! ```sh
//! MEANWHILE_CRASH_KILLS=300 cargo test --release --test integration crash:: -- --nocapture
//! ```
//!
//! `MEANWHILE_CRASH_SEED` repeats what was drawn in an earlier run (the moments of the kills still differ, because
//! they hang on the machine's timing).

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::{StreamExt, stream};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::support::server::{Server, data, post, subscribe};

const CONFIG: &str = "
[tasks]
concurrency = 24

[sources.rows]
type = \"simulated\"
rows = 20
interval_ms = 2
value = {n = 1}
";

const START: &str = "mutation($input: StartTaskInput!) { startTask(input: $input) { task { id } existed } }";
const EVENTS: &str = "subscription($id: ID!, $after: String) { taskEvents(id: $id, after: $after) {
    __typename seq attempt at cursor
    ... on TaskStatusChanged { status result error { code attempt } runAt }
    ... on TaskProgressed { percent } ... on TaskLogged { message } ... on TaskChunk { index value } } }";

/// Clients that start tasks.
const STARTERS: u64 = 4;
/// Tasks that are followed while the server is killed.
const FOLLOWERS: usize = 16;
/// Longer than any run takes, shorter than anybody's patience.
const PATIENCE: Duration = Duration::from_secs(600);

/// What the clients know: only what the server has acknowledged.
struct Clients {
    /// Where the server is; `None` while it is down.
    url: watch::Receiver<Option<String>>,
    stop: AtomicBool,
    seen: watch::Sender<u64>,
    acknowledged: Mutex<Vec<String>>,
    by_key: Mutex<BTreeMap<String, String>>,
    records: Mutex<BTreeMap<String, Vec<Value>>>,
    keys: AtomicU64,
}

impl Clients {
    /// Waits for the server; `None` when it does not come back.
    async fn url(&self) -> Option<String> {
        self.url.clone().wait_for(Option::is_some).await.ok()?.clone()
    }

    fn saw_something(&self) {
        self.seen.send_modify(|seen| *seen += 1);
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    fn acknowledge(&self, id: &str) {
        self.acknowledged.lock().unwrap().push(id.to_owned());
        self.saw_something();
    }

    fn any_task(&self, random: &mut StdRng) -> Option<String> {
        let acknowledged = self.acknowledged.lock().unwrap();
        (!acknowledged.is_empty()).then(|| acknowledged[random.random_range(0..acknowledged.len())].clone())
    }

    /// Starts, cancels and retries tasks until told to stop.
    async fn start_tasks(&self, mut random: StdRng) {
        let mut unanswered: Option<Value> = None;
        while !self.stopped() {
            let Some(url) = self.url().await else { return };
            let choice = random.random_range(0..10);
            if let (8, Some(id)) = (choice, self.any_task(&mut random)) {
                let cancel = "mutation($id: ID!) { cancelTask(input: { id: $id }) { task { id } } }";
                // It may have ended: that is a conflict, and no harm.
                let _ = post(&url, cancel, json!({ "id": id })).await;
            } else if let (9, Some(id)) = (choice, self.any_task(&mut random)) {
                let retry = "mutation($id: ID!) { retryTask(input: { id: $id }) { task { id } } }";
                if let Ok(response) = post(&url, retry, json!({ "id": id })).await
                    && let Some(id) = response["data"]["retryTask"]["task"]["id"].as_str()
                {
                    self.acknowledge(id);
                }
            } else {
                let input = unanswered.take().unwrap_or_else(|| self.draw(&mut random));
                match post(&url, START, json!({ "input": input })).await {
                    Ok(response) => {
                        // Only a server that shuts down refuses, and this one is killed.
                        let id = response["data"]["startTask"]["task"]["id"].as_str();
                        let id = id.unwrap_or_else(|| panic!("{response}"));
                        if let Some(key) = input["idempotencyKey"].as_str() {
                            let known = self.by_key.lock().unwrap().insert(key.to_owned(), id.to_owned());
                            assert!(known.is_none_or(|known| known == id), "{key} became two tasks");
                        }
                        self.acknowledge(id);
                    }
                    // Whether it was done nobody knows; with a key it can be asked for again.
                    Err(_) => unanswered = Some(input).filter(|input| input["idempotencyKey"].is_string()),
                }
            }
        }
    }

    fn draw(&self, random: &mut StdRng) -> Value {
        let mut input = match random.random_range(0..4) {
            0 => json!({ "kind": "collect", "input": {"source": "rows"}, "tags": ["rows"] }),
            1 => json!({ "kind": "simulate", "input": {"steps": 3, "stepMs": 2, "fail": true}, "maxAttempts": 2 }),
            _ => {
                json!({ "kind": "simulate", "input": {"steps": 5, "stepMs": 4}, "priority": random.random_range(-3..3) })
            }
        };
        if random.random_bool(0.5) {
            let key = self.keys.fetch_add(1, Ordering::Relaxed);
            input["idempotencyKey"] = json!(format!("key {key}"));
        }
        input
    }

    /// Follows one task after another, each to its end, across all crashes.
    async fn follow_tasks(&self, mut random: StdRng) {
        while !self.stopped() {
            match self.any_task(&mut random) {
                Some(id) if !self.records.lock().unwrap().contains_key(&id) => {
                    // Taken: no other follower begins with it.
                    self.records.lock().unwrap().insert(id.clone(), Vec::new());
                    let Some(record) = self.follow(&id).await else { return };
                    self.records.lock().unwrap().insert(id, record);
                }
                _ => {
                    let mut seen = self.seen.subscribe();
                    // Until there is something new.
                    if seen.changed().await.is_err() {
                        return;
                    }
                }
            }
        }
    }

    /// Every event of a task, in the order in which they came, over as many connections as it takes.
    async fn follow(&self, id: &str) -> Option<Vec<Value>> {
        let mut record: Vec<Value> = Vec::new();
        loop {
            let url = self.url().await?;
            let after = record.last().map_or(Value::Null, |event: &Value| event["cursor"].clone());
            let Ok(mut events) = subscribe(&url, EVENTS, json!({ "id": id, "after": after })).await else {
                tokio::task::yield_now().await;
                continue;
            };
            loop {
                match events.next().await {
                    None => return Some(record),
                    Some(Err(_)) => break,
                    Some(Ok(response)) => {
                        let event = &response["data"]["taskEvents"];
                        // A server that is going down may say so.
                        if event.is_null() {
                            assert_eq!(response["errors"][0]["extensions"]["code"], "UNAVAILABLE", "{response}");
                            break;
                        }
                        record.push(event.clone());
                        self.saw_something();
                    }
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_being_killed_at_any_moment() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let kills = number("MEANWHILE_CRASH_KILLS").unwrap_or(12);
    let seed = number("MEANWHILE_CRASH_SEED").unwrap_or_else(rand::random);
    println!("{kills} kills, MEANWHILE_CRASH_SEED={seed}");
    let test = kill_and_check(kills, seed);
    tokio::time::timeout(PATIENCE * (1 + u32::try_from(kills / 100).unwrap()), test).await.expect("it hangs");
}

async fn kill_and_check(kills: u64, seed: u64) {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("meanwhile.toml");
    fs::write(&config, CONFIG).unwrap();
    let mut random = StdRng::seed_from_u64(seed);
    let (at, url) = watch::channel(None);
    let clients = Arc::new(Clients {
        url,
        stop: AtomicBool::new(false),
        seen: watch::channel(0).0,
        acknowledged: Mutex::default(),
        by_key: Mutex::default(),
        records: Mutex::default(),
        keys: AtomicU64::new(0),
    });
    let mut running = tokio::task::JoinSet::new();
    for number in 0..STARTERS {
        let (clients, random) = (clients.clone(), StdRng::seed_from_u64(seed ^ number));
        running.spawn(async move { clients.start_tasks(random).await });
    }
    for number in 0..FOLLOWERS as u64 {
        let (clients, random) = (clients.clone(), StdRng::seed_from_u64(seed ^ (100 + number)));
        running.spawn(async move { clients.follow_tasks(random).await });
    }

    let mut seen = clients.seen.subscribe();
    for _ in 0..kills {
        let mut server = start(folder.path(), &config).await;
        at.send_replace(Some(server.url().to_owned()));
        let enough = *seen.borrow() + random.random_range(1..200);
        tokio::select! {
            progress = seen.wait_for(|seen| *seen >= enough) => drop(progress.unwrap()),
            // Before they are told to stop, a client only ends by failing.
            Some(ended) = running.join_next() => ended.unwrap(),
        }
        for _ in 0..random.random_range(0..200) {
            tokio::task::yield_now().await;
        }
        at.send_replace(None);
        server.kill();
    }
    let server = start(folder.path(), &config).await;
    at.send_replace(Some(server.url().to_owned()));
    clients.stop.store(true, Ordering::Release);
    clients.saw_something();
    while let Some(ended) = running.join_next().await {
        ended.unwrap();
    }
    let events = check(&clients, server.url()).await;
    let acknowledged = clients.acknowledged.lock().unwrap().len();
    let followed = clients.records.lock().unwrap().len();
    println!("{kills} kills: {acknowledged} tasks acknowledged, {followed} followed throughout, {events} events");
}

async fn start(folder: &Path, config: &Path) -> Server {
    let (data, config) = (folder.join("data"), config.to_owned());
    tokio::task::spawn_blocking(move || Server::start(&data, Some(&config))).await.unwrap()
}

/// Holds what the clients know against the journal. How many events there are.
async fn check(clients: &Clients, url: &str) -> usize {
    let acknowledged = clients.acknowledged.lock().unwrap().clone();
    let records = clients.records.lock().unwrap().clone();
    // Each ends: otherwise its stream does not.
    let journals: Vec<(String, Vec<Value>)> = stream::iter(acknowledged)
        .map(|id| async move { (id.clone(), clients.follow(&id).await.unwrap()) })
        .buffer_unordered(8)
        .collect()
        .await;
    for (id, journal) in &journals {
        let document = "query($id: ID!) { task(id: $id) { status attempt cursor progress { percent } } }";
        let task = data(url, document, json!({ "id": id })).await["task"].clone();
        let last = journal.last().unwrap();
        for field in ["status", "attempt", "cursor"] {
            assert_eq!(task[field], last[field], "{id}: the task and its last event differ");
        }
        if let Some(record) = records.get(id) {
            assert_eq!(record, journal, "{id}: who followed it saw something else");
        }
        check_journal(id, journal);
    }
    journals.iter().map(|(_, journal)| journal.len()).sum()
}

fn check_journal(id: &str, journal: &[Value]) {
    let mut chunks = 0;
    let mut attempt = 0;
    let mut status = "";
    for (place, event) in journal.iter().enumerate() {
        let context = || format!("{id}: {}", serde_json::to_string_pretty(journal).unwrap());
        assert_eq!(event["seq"], json!(place + 1), "a gap or a repetition in {}", context());
        let its_attempt = event["attempt"].as_u64().unwrap();
        assert!(its_attempt >= attempt, "an event of an attempt after a later one began in {}", context());
        attempt = its_attempt;
        match event["__typename"].as_str().unwrap() {
            "TaskStatusChanged" => {
                let next = event["status"].as_str().unwrap();
                let fits = matches!(
                    (status, next),
                    ("", "PENDING")
                        | ("PENDING", "RUNNING" | "CANCELLED")
                        | ("RUNNING", "PENDING" | "COMPLETED" | "FAILED" | "CANCELLED")
                );
                assert!(fits, "{status} became {next} in {}", context());
                status = next;
            }
            "TaskChunk" => {
                assert_eq!(event["index"], json!(chunks), "{}", context());
                chunks += 1;
            }
            _ => {}
        }
        if matches!(status, "COMPLETED" | "FAILED" | "CANCELLED") {
            assert_eq!(place + 1, journal.len(), "the terminal event is not the last of {}", context());
        }
    }
    assert!(matches!(status, "COMPLETED" | "FAILED" | "CANCELLED"), "{id} has not ended");
}
