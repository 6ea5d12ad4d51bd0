//! The real program under load, killed at random moments and started again: tasks of handlers and of programs, retries,
//! cancels, pauses, deletions, deadlines, retention. What was acknowledged is there, what is seen is in order, nothing of a
//! program outlives its server, and in the end retention leaves nothing behind.
//!
//! A dozen kills by default. Hundreds:
//!
//! ```sh
//! MEANWHILE_CRASH_KILLS=300 cargo test --release --test integration crash:: -- --nocapture
//! ```
//!
//! `MEANWHILE_CRASH_SEED` repeats what was drawn in an earlier run (the moments of the kills still differ, because
//! they hang on the machine's timing).

mod check;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures::{StreamExt, stream};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use tokio::{sync::watch, task::JoinSet};

use self::check::{check_journal, check_limits, is_gap, is_terminal};
use crate::support::server::{Server, data, post, subscribe};

const CONFIG: &str = "
[tasks]
concurrency = 24
retry_backoff_ms = 5
cancel_grace_ms = 50

[kinds.collect]
concurrency = 6

[kinds.program]
command = [\"sh\", \"program.sh\", \"{input.manner}\", \"{input.exit}\"]
no_retry_exit_codes = [99]
stop_grace_ms = 20
leftover_grace_ms = 20
concurrency = 4

[retention]
keep_events_ms = 1500
keep_tasks_ms = 4000
sweep_interval_ms = 100
sweep_slice = 20

[sources.rows]
type = \"simulated\"
rows = 20
interval_ms = 2
value = {n = 1}
";

/// All processes of an attempt hold the lock until the last of them has ended; each chunk says which attempt it is of. What
/// is stubborn leaves a twice detached process behind, and none of them listens to signals.
const PROGRAM: &str = r#"
exec 9>"lock-$MEANWHILE_TASK"
flock -n 9 || exit 99
if [ "$1" = stubborn ]; then
    trap '' TERM HUP
    (setsid sh -c 'sleep 1000 & wait' &)
fi
for number in 1 2 3; do
    echo "{\"chunk\": {\"attempt\": $MEANWHILE_ATTEMPT, \"number\": $number}}"
    sleep 0.02
done
echo "{\"result\": {\"attempt\": $MEANWHILE_ATTEMPT}}"
exit "$2"
"#;
/// What it ends with when a process of an earlier attempt is still there.
const OVERLAP: u64 = 99;

const START: &str =
    "mutation($input: StartTaskInput!) { startTask(input: $input) { task { id kind concurrencyKey } existed } }";
const EVENTS: &str = "subscription($id: ID!, $after: String) { taskEvents(id: $id, after: $after) {
    __typename seq attempt at cursor
    ... on TaskStatusChanged { status result error { code attempt details } runAt }
    ... on TaskProgressed { percent } ... on TaskLogged { message } ... on TaskChunk { index value }
    ... on TaskCancellation { step } ... on TaskGap { from } } }";

/// Clients that start tasks.
const STARTERS: u64 = 4;
/// Tasks that are followed while the server is killed.
const FOLLOWERS: usize = 16;
/// How long an ended task is kept, as configured.
const KEEP_TASKS: Duration = Duration::from_millis(4000);
/// Longer than any run takes, shorter than anybody's patience.
const PATIENCE: Duration = Duration::from_secs(600);

/// What the clients know: only what the server has acknowledged.
struct Clients {
    /// Where the server is; `None` while it is down.
    url: watch::Receiver<Option<String>>,
    stop: AtomicBool,
    seen: watch::Sender<u64>,
    acknowledged: Mutex<Vec<(String, Instant)>>,
    /// Tasks that somebody asked to delete, and those of which it was acknowledged.
    deleted: Mutex<BTreeSet<String>>,
    gone: Mutex<BTreeSet<String>>,
    /// Tasks of which a request to cancel was acknowledged.
    cancelled: Mutex<BTreeSet<String>>,
    by_key: Mutex<BTreeMap<String, String>>,
    /// With which others a task shares its places: its kind and its concurrency key.
    shares: Mutex<BTreeMap<String, (String, Option<String>)>>,
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

    fn acknowledge(&self, task: &Value) {
        let id = task["id"].as_str().unwrap();
        let key = task["concurrencyKey"].as_str().map(str::to_owned);
        self.shares.lock().unwrap().insert(id.to_owned(), (task["kind"].as_str().unwrap().to_owned(), key));
        self.acknowledged.lock().unwrap().push((id.to_owned(), Instant::now()));
        self.saw_something();
    }

    fn any_task(&self, random: &mut StdRng) -> Option<String> {
        let acknowledged = self.acknowledged.lock().unwrap();
        (!acknowledged.is_empty()).then(|| acknowledged[random.random_range(0..acknowledged.len())].0.clone())
    }

    /// Starts, cancels, retries and deletes tasks, and pauses kinds, until told to stop.
    async fn start_tasks(&self, mut random: StdRng) {
        let mut unanswered: Option<Value> = None;
        while !self.stopped() {
            let Some(url) = self.url().await else { return };
            let choice = random.random_range(0..24);
            if let (20 | 21, Some(id)) = (choice, self.any_task(&mut random)) {
                let cancel = "mutation($id: ID!) { cancelTask(input: { id: $id }) { task { id } } }";
                // It may have ended: that is a conflict, and no harm.
                if let Ok(response) = post(&url, cancel, json!({ "id": id })).await
                    && response["data"]["cancelTask"].is_object()
                {
                    self.cancelled.lock().unwrap().insert(id);
                }
            } else if let (19, Some(id)) = (choice, self.any_task(&mut random)) {
                let delete = "mutation($id: ID!) { deleteTask(input: { id: $id }) { id } }";
                self.deleted.lock().unwrap().insert(id.clone());
                // It may not have ended: that is a conflict, and no harm.
                if let Ok(response) = post(&url, delete, json!({ "id": id })).await
                    && response["data"]["deleteTask"].is_object()
                {
                    self.gone.lock().unwrap().insert(id);
                }
            } else if choice == 18 {
                let verb = if random.random_bool(0.3) { "pauseKind" } else { "resumeKind" };
                let document = format!("mutation {{ {verb}(input: {{ kind: \"collect\" }}) {{ kind {{ name }} }} }}");
                let _ = post(&url, &document, json!({})).await;
            } else if let (22 | 23, Some(id)) = (choice, self.any_task(&mut random)) {
                let retry = "mutation($id: ID!) { retryTask(input: { id: $id }) { task { id kind concurrencyKey } } }";
                if let Ok(response) = post(&url, retry, json!({ "id": id })).await
                    && let task = &response["data"]["retryTask"]["task"]
                    && task.is_object()
                {
                    self.acknowledge(task);
                }
            } else {
                let input = unanswered.take().unwrap_or_else(|| self.draw(&mut random));
                match post(&url, START, json!({ "input": input })).await {
                    Ok(response) => {
                        // Only a server that shuts down refuses, and this one is killed.
                        let task = &response["data"]["startTask"]["task"];
                        let id = task["id"].as_str().unwrap_or_else(|| panic!("{response}"));
                        if let Some(key) = input["idempotencyKey"].as_str() {
                            let known = self.by_key.lock().unwrap().insert(key.to_owned(), id.to_owned());
                            assert!(
                                known.is_none_or(|known| known == id || self.may_be_gone(&known)),
                                "{key} became two tasks"
                            );
                        }
                        self.acknowledge(task);
                    }
                    // Whether it was done nobody knows; with a key it can be asked for again.
                    Err(_) => unanswered = Some(input).filter(|input| input["idempotencyKey"].is_string()),
                }
            }
        }
    }

    /// Whether a task may have been deleted, so that its key is free again.
    fn may_be_gone(&self, id: &str) -> bool {
        let acknowledged = self.acknowledged.lock().unwrap();
        let first = acknowledged.iter().find(|(known, _)| known == id);
        self.deleted.lock().unwrap().contains(id) || first.is_none_or(|(_, at)| at.elapsed() >= KEEP_TASKS)
    }

    fn draw(&self, random: &mut StdRng) -> Value {
        let mut input = match random.random_range(0..8) {
            0 => {
                let manner = if random.random_bool(0.5) { "stubborn" } else { "polite" };
                let input = json!({ "manner": manner, "exit": random.random_range(0..2) });
                json!({ "kind": "program", "input": input, "maxAttempts": 2 })
            }
            1 | 2 => json!({ "kind": "collect", "input": {"source": "rows"}, "tags": ["rows"] }),
            3 | 4 => json!({ "kind": "simulate", "input": {"steps": 3, "stepMs": 2, "fail": true}, "maxAttempts": 2 }),
            _ => {
                json!({ "kind": "simulate", "input": {"steps": 5, "stepMs": 4}, "priority": random.random_range(-3..3) })
            }
        };
        if random.random_bool(0.3) {
            input["concurrencyKey"] = json!(format!("one at a time {}", random.random_range(0..3)));
        }
        if random.random_bool(0.1) {
            input["deadlineMs"] = json!(random.random_range(1..400));
        }
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

    /// Every event of a task, in the order in which they came, over as many connections as it takes; as far as there
    /// are any when it is deleted.
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
                        if event.is_null() {
                            match response["errors"][0]["extensions"]["code"].as_str() {
                                // A server that is going down may say so.
                                Some("UNAVAILABLE") => break,
                                Some("NOT_FOUND") => {
                                    assert!(self.may_be_gone(id), "{id} is not there");
                                    return Some(record);
                                }
                                _ => panic!("{response}"),
                            }
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
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path().canonicalize().unwrap();
    let config = folder.join("meanwhile.toml");
    fs::write(&config, CONFIG).unwrap();
    fs::write(folder.join("program.sh"), PROGRAM).unwrap();
    let mut random = StdRng::seed_from_u64(seed);
    let (at, url) = watch::channel(None);
    let clients = Arc::new(Clients {
        url,
        stop: AtomicBool::new(false),
        seen: watch::channel(0).0,
        acknowledged: Mutex::default(),
        deleted: Mutex::default(),
        gone: Mutex::default(),
        cancelled: Mutex::default(),
        by_key: Mutex::default(),
        shares: Mutex::default(),
        records: Mutex::default(),
        keys: AtomicU64::new(0),
    });
    let (mut starters, mut followers) = (JoinSet::new(), JoinSet::new());
    for number in 0..STARTERS {
        let (clients, random) = (clients.clone(), StdRng::seed_from_u64(seed ^ number));
        starters.spawn(async move { clients.start_tasks(random).await });
    }
    for number in 0..FOLLOWERS as u64 {
        let (clients, random) = (clients.clone(), StdRng::seed_from_u64(seed ^ (100 + number)));
        followers.spawn(async move { clients.follow_tasks(random).await });
    }

    let mut seen = clients.seen.subscribe();
    for number in 0..kills {
        let mut server = start(&folder, &config).await;
        at.send_replace(Some(server.url().to_owned()));
        let enough = *seen.borrow() + random.random_range(1..200);
        tokio::select! {
            progress = seen.wait_for(|seen| *seen >= enough) => drop(progress.unwrap()),
            // Before they are told to stop, a client only ends by failing.
            Some(ended) = starters.join_next() => ended.unwrap(),
            Some(ended) = followers.join_next() => ended.unwrap(),
        }
        // Each other time while programs are at work: the server, a guard, a program.
        while number % 2 == 0 && processes_in(&folder).len() < 3 {
            tokio::task::yield_now().await;
        }
        for _ in 0..random.random_range(0..200) {
            tokio::task::yield_now().await;
        }
        let processes = processes_in(&folder);
        at.send_replace(None);
        server.kill();
        // The next one starts after they are gone, or before: then their attempts begin again when they are.
        if random.random_bool(0.5) {
            gone(&folder, &processes).await;
        }
    }
    let mut server = start(&folder, &config).await;
    at.send_replace(Some(server.url().to_owned()));
    clients.stop.store(true, Ordering::Release);
    clients.saw_something();
    starters.join_all().await;
    // Nobody pauses anything any more, and those who follow a task wait for its end.
    let resume = "mutation { resumeKind(input: { kind: \"collect\" }) { kind { name } } }";
    data(server.url(), resume, json!({})).await;
    followers.join_all().await;
    let journals = check(&clients, server.url()).await;
    check_limits(&clients, &journals);
    let acknowledged = clients.acknowledged.lock().unwrap().len();
    let followed = clients.records.lock().unwrap().len();
    println!("{kills} kills: {acknowledged} tasks acknowledged, {followed} followed throughout; {}", tally(&journals));

    // Retention goes on after all that, and leaves nothing.
    let count = "{ tasks(first: 0) { totalCount } }";
    while data(server.url(), count, json!({})).await["tasks"]["totalCount"] != 0 {}
    let processes = processes_in(&folder);
    server.kill();
    gone(&folder, &processes).await;
    let database = rusqlite::Connection::open(folder.join("data/meanwhile.db")).unwrap();
    for table in ["task", "event", "task_tag", "idempotency"] {
        let rows: u32 = database.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap();
        assert_eq!(rows, 0, "rows of {table} are left");
    }
}

/// Starts the server in the folder: so do all processes that come of it.
async fn start(folder: &Path, config: &Path) -> Server {
    let (folder, config) = (folder.to_owned(), config.to_owned());
    let start = move || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_meanwhile"));
        command.args(["serve", "--listen", "127.0.0.1:0", "--data", "data", "--config"]).arg(config);
        Server::spawn(command.current_dir(folder))
    };
    tokio::task::spawn_blocking(start).await.unwrap()
}

/// The processes that work in this folder: a server, its guards and their programs.
fn processes_in(folder: &Path) -> BTreeSet<u32> {
    let pids = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
    // One that has ended, and is only not waited for yet, is nowhere.
    pids.filter(|pid: &u32| fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd.starts_with(folder)))
        .collect()
}

/// Waits until none of these is there any more.
async fn gone(folder: &Path, processes: &BTreeSet<u32>) {
    while !processes_in(folder).is_disjoint(processes) {
        tokio::task::yield_now().await;
    }
}

/// What became of the tasks, for people.
fn tally(journals: &[(String, Vec<Value>)]) -> String {
    let mut tally = BTreeMap::new();
    for event in journals.iter().flat_map(|(_, journal)| journal) {
        let what = match (event["status"].as_str(), event["error"]["code"].as_str()) {
            (Some(status), Some(code)) => format!("{status} {code}"),
            (Some(status), None) => status.to_owned(),
            (None, _) => event["__typename"].as_str().unwrap().to_owned(),
        };
        *tally.entry(what).or_insert(0_u32) += 1;
    }
    tally.into_iter().map(|(what, count)| format!("{count} {what}")).collect::<Vec<_>>().join(", ")
}

/// Holds what the clients know against the journals, and gives those.
async fn check(clients: &Clients, url: &str) -> Vec<(String, Vec<Value>)> {
    let acknowledged: Vec<String> = clients
        .acknowledged
        .lock()
        .unwrap()
        .iter()
        .map(|(id, _)| id.clone())
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect();
    let records = clients.records.lock().unwrap().clone();
    // Each ends: otherwise its stream does not.
    let journals: Vec<(String, Vec<Value>)> = stream::iter(acknowledged)
        .map(|id| async move { (id.clone(), clients.follow(&id).await.unwrap()) })
        .buffer_unordered(8)
        .collect()
        .await;
    let (gone, cancelled) = (clients.gone.lock().unwrap().clone(), clients.cancelled.lock().unwrap().clone());
    for (id, journal) in &journals {
        assert!(journal.is_empty() || !gone.contains(id), "{id} was deleted, and is there");
        let heard = journal.is_empty()
            || journal.iter().any(|event| {
                is_gap(event) || event["__typename"] == "TaskCancellation" || event["status"] == "CANCELLED"
            });
        assert!(heard || !cancelled.contains(id), "{id} was asked to stop, and nobody heard of it: {journal:?}");
        let seen = records.get(id).filter(|record| !record.is_empty());
        check_journal(id, journal);
        if let Some(seen) = seen {
            check_journal(id, seen);
            let of = |event: &Value| event["seq"].as_u64().unwrap();
            let both = journal.iter().filter(|event| !is_gap(event));
            for event in both {
                let same = seen.iter().find(|other| !is_gap(other) && of(other) == of(event));
                let missed = seen
                    .iter()
                    .any(|gap| is_gap(gap) && (gap["from"].as_u64() <= Some(of(event)) && of(event) <= of(gap)));
                assert!(
                    same == Some(event) || missed,
                    "{id}: who followed it saw something else than {event}: {seen:?}"
                );
            }
        }
        let Some(last) = journal.last() else { continue };
        let document = "query($id: ID!) { task(id: $id) { status attempt cursor progress { percent } } }";
        let task = data(url, document, json!({ "id": id })).await["task"].clone();
        if task.is_null() {
            assert!(clients.may_be_gone(id), "{id} is not there");
            continue;
        }
        assert!(is_terminal(last), "{id} has not ended: {journal:?}");
        for field in ["status", "attempt", "cursor"] {
            assert_eq!(task[field], last[field], "{id}: the task and its last event differ");
        }
    }
    journals
}
