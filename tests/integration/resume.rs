//! Streams over connections that break: on every transport a subscriber's record is exactly 1…n.
//!
//! A share of the cuts by default. After every single byte:
//!
//! ```sh
//! MEANWHILE_CUT_STEP=1 cargo test --release --test integration resume:: -- --nocapture
//! ```

use std::{fs, process::Command, sync::Arc};

use meanwhile::journal::EventCursor;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::support::{
    follower::{Follower, Stream},
    here::Here,
    proxy::{Cut, Proxy},
    server::{Server, data},
    subscription::Transport,
};

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
            let mut budgets = [first, first * 2 + 7].into_iter().map(Cut::Bytes);
            proxy.set_budget(move |_| budgets.next().unwrap_or(Cut::Never));
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
async fn cut_after_any_number_of_events_the_record_is_whole_on_every_transport() {
    let here = Here::start().await;
    here.pace.add_permits(10);
    let task = here.task(10).await.to_string();
    let journal = here.journal(&task).await;
    for transport in Transport::ALL {
        let proxy = Proxy::start(Some(here.address)).await;
        for events in 1..=journal.len() {
            proxy.set_budget(move |_| Cut::Events(events));
            let before = proxy.cuts();
            let mut follower = Follower::new(transport, &proxy.url(), &task);
            follower.run().await;
            assert_eq!(follower.record, journal, "{transport:?}, cut after {events} events each");
            // Each connection but the last shows so many events, and no more.
            assert_eq!(follower.connections, journal.len().div_ceil(events), "{transport:?}, {events}");
            assert_eq!(proxy.cuts() - before, follower.connections - 1, "{transport:?}, {events}");
        }
    }
}

/// Which event a state of `taskProgress` is of.
fn state_number(state: &Value) -> u64 {
    state["cursor"].as_str().unwrap().parse::<EventCursor>().unwrap().seq
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cut_while_it_is_live_progress_repeats_nothing_and_skips_no_status_on_every_transport() {
    let here = Here::start().await;
    for transport in Transport::ALL {
        for round in 0..5 {
            let task = here.task_of("retried", 4).await;
            let proxy = Proxy::start(Some(here.address)).await;
            let mut random = StdRng::seed_from_u64(round);
            proxy.set_budget(move |_| match random.random_bool(0.5) {
                true => Cut::Bytes(random.random_range(1..1500)),
                false => Cut::Events(random.random_range(1..3)),
            });
            let mut follower = Follower::new(transport, &proxy.url(), &task.to_string()).of(Stream::Progress);
            // Each attempt has at least one status, which lets the next one run.
            follower.pace = Some((here.pace.clone(), 3));
            follower.run().await;
            let numbers: Vec<u64> = follower.record.iter().map(state_number).collect();
            assert!(numbers.is_sorted_by(|first, second| first < second), "{transport:?}: {numbers:?}");
            // Every status from the first one that was seen on.
            let events = here.journal(&task.to_string()).await;
            let statuses = |of: &[Value], number: &dyn Fn(&Value) -> u64| -> Vec<u64> {
                let is_status = |event: &&Value| event["status"].is_string();
                of.iter().filter(is_status).map(number).filter(|number| *number >= numbers[0]).collect()
            };
            let told = statuses(&events, &|event| event["seq"].as_u64().unwrap());
            assert!(told.iter().all(|number| numbers.contains(number)), "{transport:?}: of {told:?} {numbers:?}");
            assert_eq!(follower.record.last().unwrap()["status"], "COMPLETED");
        }
    }
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
        proxy.set_budget(move |_| Cut::Bytes(random.random_range(1..2500)));
        let mut follower = Follower::new(transport, &proxy.url(), &task);
        // The task goes on as they do.
        follower.pace = Some((here.pace.clone(), 1));
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
        let mut follower = Follower::new(transport, &here.url(), &id.to_string());
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
