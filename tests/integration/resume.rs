//! Streams over connections that break: on every transport a subscriber's record is exactly 1…n.
//!
//! A share of the cuts by default. After every single byte:
//!
//! ```sh
//! MEANWHILE_CUT_STEP=1 cargo test --release --test integration resume:: -- --nocapture
//! ```

use std::{fs, net::SocketAddr, process::Command, sync::Arc};

use meanwhile::{
    clock::{Clock, SystemClock},
    graphql::{Api, ApiOptions},
    http::{HttpContext, HttpOptions, routes},
    journal::JournalOptions,
    model::TaskId,
    shutdown::Shutdown,
    source::Sources,
    store::{
        Store,
        sqlite::{SqliteOptions, SqliteStore},
    },
    task::{JobContext, StartTask, TaskManager, TaskOptions},
};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    sync::{Semaphore, watch},
};

use crate::support::{
    follower::{Follower, Transport},
    proxy::Proxy,
    server::{Server, data},
};

/// The API in this process, with its parts in the test's hands.
struct Here {
    address: SocketAddr,
    context: HttpContext,
    manager: TaskManager,
    store: Arc<dyn Store>,
    /// A chunk of a `paced` task for each permit.
    pace: Arc<Semaphore>,
    _folder: tempfile::TempDir,
}

impl Here {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
        let store: Arc<dyn Store> =
            Arc::new(SqliteStore::open(folder.path(), &SqliteOptions::default(), clock.clone()).unwrap());
        let (options, journal) = (TaskOptions::default(), JournalOptions::default());
        let manager = TaskManager::open(store.clone(), clock.clone(), options, journal, 1).await.unwrap();
        let pace = Arc::new(Semaphore::new(0));
        let paced = pace.clone();
        let chunks = move |ctx: JobContext, count: u64| {
            let pace = paced.clone();
            async move {
                for number in 0..count {
                    pace.acquire().await.unwrap().forget();
                    ctx.chunk(&json!({ "number": number, "text": "x".repeat(20) })).await?;
                }
                Ok(count)
            }
        };
        manager.register("paced", chunks).unwrap();
        let api = Api::new(manager.clone(), Sources::new(clock.clone()), ApiOptions::default(), 1);
        let context = HttpContext::new(clock, Shutdown::new());
        let app = routes(api, HttpOptions::default(), context.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let served = context.clone();
        tokio::spawn(
            async move { meanwhile::http::serve(listener, app, &HttpOptions::default().sockets, &served).await },
        );
        Self { address, context, manager, store, pace, _folder: folder }
    }

    async fn task(&self, chunks: u64) -> TaskId {
        let request = StartTask { input: json!(chunks).into(), ..StartTask::new("paced") };
        self.manager.start(request).await.unwrap().id
    }

    /// The events as they are read without any trouble.
    async fn journal(&self, task: &str) -> Vec<Value> {
        let mut follower = Follower::new(Transport::WebSocket, &format!("http://{}/graphql", self.address), task);
        follower.run().await;
        assert_eq!(follower.connections, 1);
        follower.record
    }
}

fn is_whole(record: &[Value], what: &str) {
    let numbers: Vec<u64> = record.iter().map(|event| event["seq"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (1..=record.len() as u64).collect::<Vec<_>>(), "{what}");
}

fn number(name: &str) -> Option<usize> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cut_after_any_byte_the_record_is_whole_on_every_transport() {
    let here = Here::start().await;
    here.pace.add_permits(10);
    let task = here.task(10).await.to_string();
    let journal = here.journal(&task).await;
    is_whole(&journal, "without cuts");
    let step = number("MEANWHILE_CUT_STEP").unwrap_or(149);
    let mut cuts = 0;
    for transport in Transport::ALL {
        let proxy = Proxy::start(Some(here.address)).await;
        for first in (1..).step_by(step) {
            // The next connection gets further by some bytes that are no multiple, and the one after it to the end.
            let mut budgets = [first, first * 2 + 7].into_iter();
            proxy.set_budget(move |_| budgets.next().unwrap_or(usize::MAX));
            let mut follower = Follower::new(transport, &proxy.url(), &task);
            follower.run().await;
            assert_eq!(follower.record, journal, "{transport:?}, cut after {first} bytes");
            if follower.connections == 1 {
                // All of it fits.
                break;
            }
        }
        assert!(proxy.cuts() > 10, "{transport:?}: {}", proxy.cuts());
        cuts += proxy.cuts();
    }
    println!("{cuts} cuts");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cut_while_it_is_live_the_record_is_whole_on_every_transport() {
    let here = Here::start().await;
    let count = number("MEANWHILE_LIVE_CHUNKS").unwrap_or(150) as u64;
    let task = here.task(count).await.to_string();
    here.pace.add_permits(1);
    let mut followers = tokio::task::JoinSet::new();
    for (number, transport) in Transport::ALL.into_iter().enumerate() {
        let proxy = Proxy::start(Some(here.address)).await;
        let mut random = StdRng::seed_from_u64(number as u64);
        proxy.set_budget(move |_| random.random_range(1..2500));
        let mut follower = Follower::new(transport, &proxy.url(), &task);
        // The task goes on as they do.
        follower.pace = Some(here.pace.clone());
        followers.spawn(async move {
            follower.run().await;
            (transport, follower.record, proxy.cuts())
        });
    }
    while let Some(followed) = followers.join_next().await {
        let (transport, record, cuts) = followed.unwrap();
        is_whole(&record, &format!("{transport:?}"));
        assert_eq!(record, here.journal(&task).await, "{transport:?}");
        assert!(cuts > 20, "{transport:?}: only {cuts} cuts");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_pruned_under_a_subscriber_are_one_gap_on_every_transport() {
    const SEEN: usize = 4;
    let here = Here::start().await;
    for transport in Transport::ALL {
        let id = here.task(10).await;
        here.pace.add_permits(4);
        let mut follower = Follower::new(transport, &format!("http://{}/graphql", here.address), &id.to_string());
        // It leaves in the middle.
        follower.leave_at = Some(SEEN);
        assert!(!follower.connect_once().await);
        assert_eq!(follower.record.len(), SEEN);
        follower.leave_at = None;
        here.pace.add_permits(6);
        while !here.manager.get(id).await.unwrap().unwrap().status.is_terminal() {
            tokio::task::yield_now().await;
        }
        // Nobody follows it any more, and nobody has read the rest: only the store has it.
        while here.context.connections.open() > 0 {
            tokio::task::yield_now().await;
        }
        here.store.prune_events(id, 9).await.unwrap();
        follower.run().await;
        let gap = &follower.record[SEEN];
        assert_eq!((&gap["__typename"], &gap["from"], &gap["seq"]), (&json!("TaskGap"), &json!(SEEN + 1), &json!(9)));
        let rest: Vec<_> = follower.record[SEEN + 1..].iter().map(|event| event["seq"].as_u64()).collect();
        assert_eq!(rest, (10..=13).map(Some).collect::<Vec<_>>(), "{transport:?}");
    }
}

const CONFIG: &str = "[sources.rows]\ntype = \"simulated\"\nrows = 60\ninterval_ms = 25\nvalue = { n = 1 }\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopped_or_killed_and_started_again_the_server_goes_on_with_every_stream() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("meanwhile.toml");
    fs::write(&config, CONFIG).unwrap();
    let start = || {
        let (folder, config) = (folder.path().join("data"), config.clone());
        tokio::task::spawn_blocking(move || Server::start(&folder, Some(&config)))
    };
    let address = |server: &Server| {
        let url = server.url();
        Some(url.trim_start_matches("http://").trim_end_matches("/graphql").parse().unwrap())
    };
    let mut server = start().await.unwrap();
    let document = "mutation { startTask(input: { kind: \"collect\", input: { source: \"rows\" } }) { task { id } } }";
    let task = data(server.url(), document, Value::Null).await["startTask"]["task"]["id"].as_str().unwrap().to_owned();
    let proxy = Proxy::start(address(&server)).await;
    let finished = Arc::new(watch::Sender::new(0));
    let mut followers = tokio::task::JoinSet::new();
    for transport in Transport::ALL {
        let (url, task, finished) = (proxy.url(), task.clone(), finished.clone());
        followers.spawn(async move {
            let mut follower = Follower::new(transport, &url, &task);
            follower.run().await;
            finished.send_modify(|finished| *finished += 1);
            follower
        });
    }
    let (mut open, mut finished) = (proxy.open(), finished.subscribe());
    for round in 0..4 {
        tokio::select! {
            all = open.wait_for(|open| *open == 4) => drop(all.unwrap()),
            some = finished.wait_for(|finished| *finished > 0) => {
                drop(some.unwrap());
                break;
            }
        }
        proxy.set_upstream(None);
        if round % 2 == 0 {
            server.kill();
        } else {
            let id = crate::support::server::process_id(&server).to_string();
            assert!(Command::new("kill").arg(id).status().unwrap().success());
            tokio::task::spawn_blocking(move || server.wait()).await.unwrap();
        }
        server = start().await.unwrap();
        proxy.set_upstream(address(&server));
    }
    let mut journal = Follower::new(Transport::WebSocket, server.url(), &task);
    journal.run().await;
    is_whole(&journal.record, "the journal");
    while let Some(follower) = followers.join_next().await {
        let follower = follower.unwrap();
        assert_eq!(follower.record, journal.record, "{:?}", follower.transport);
        assert!(follower.connections > 1, "{:?}", follower.transport);
    }
}
