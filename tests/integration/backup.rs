//! Backups of a server at work.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use futures::StreamExt;
use serde_json::{Value, json};

use crate::support::server::{Server, data, post, subscribe};

fn backup(data: &Path, file: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_meanwhile"));
    command.arg("backup").arg(file).arg("--data").arg(data).output().unwrap()
}

/// The exit code, and what was printed to stderr.
fn failure(output: &Output) -> (i32, String) {
    (output.status.code().unwrap(), String::from_utf8(output.stderr.clone()).unwrap())
}

async fn start_server(data: &Path) -> Server {
    let data = data.to_owned();
    tokio::task::spawn_blocking(move || Server::start(&data, None)).await.unwrap()
}

async fn start(url: &str, input: Value) -> String {
    let document = "mutation($input: StartTaskInput!) { startTask(input: $input) { task { id } } }";
    let started = data(url, document, json!({ "input": input })).await;
    started["startTask"]["task"]["id"].as_str().unwrap().to_owned()
}

const EVENTS: &str = "subscription($id: ID!, $after: String) { taskEvents(id: $id, after: $after) {
    cursor seq ... on TaskStatusChanged { status } ... on TaskProgressed { percent } } }";

/// Its events to the end, or up to the one for which `is_enough` says yes.
async fn events(url: &str, id: &str, is_enough: impl Fn(&Value) -> bool) -> Vec<Value> {
    let mut stream = std::pin::pin!(subscribe(url, EVENTS, json!({ "id": id })).await.unwrap());
    let mut events = Vec::new();
    while let Some(response) = stream.next().await {
        events.push(response.unwrap()["data"]["taskEvents"].clone());
        if is_enough(events.last().unwrap()) {
            break;
        }
    }
    events
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_backup_has_all_that_was_acknowledged_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let server = start_server(&folder.path().join("data")).await;
    let ended = start(server.url(), json!({ "kind": "simulate", "input": { "steps": 3, "stepMs": 0 } })).await;
    let before = events(server.url(), &ended, |_| false).await;
    let running =
        start(server.url(), json!({ "kind": "simulate", "input": { "steps": 2, "stepMs": 3_600_000 } })).await;
    events(server.url(), &running, |event| event["status"] == "RUNNING").await;
    let late = json!({ "kind": "simulate", "runAt": "2999-01-01T00:00:00Z" });
    let pending = start(server.url(), late).await;

    let file = folder.path().join("backup.db");
    let output = backup(&folder.path().join("data"), &file);
    assert!(output.status.success(), "{:?}", failure(&output));
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(printed.contains("3 tasks") && printed.lines().count() == 1, "{printed}");
    // Neither the server nor the folder notices.
    start(server.url(), json!({ "kind": "simulate" })).await;
    let names: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "{names:?}");

    let restored = folder.path().join("restored");
    fs::create_dir(&restored).unwrap();
    fs::copy(&file, restored.join("meanwhile.db")).unwrap();
    let server = start_server(&restored).await;
    let after = events(server.url(), &ended, |_| false).await;
    let seen = |events: &[Value]| -> Vec<Value> {
        events.iter().map(|event| json!([event["seq"], event["status"], event["percent"]])).collect()
    };
    assert_eq!(seen(&before), seen(&after));
    // The server that ran it is not this one: it runs again.
    events(server.url(), &running, |event| event["seq"] == 4 && event["status"] == "RUNNING").await;
    let document = "query($id: ID!) { task(id: $id) { status } tasks { totalCount } }";
    let found = data(server.url(), document, json!({ "id": pending })).await;
    assert_eq!(found, json!({ "task": { "status": "PENDING" }, "tasks": { "totalCount": 3 } }));
    // It is another store.
    let query = "query($id: ID!, $after: String) { task(id: $id) { events(after: $after) { nodes { seq } } } }";
    let variables = json!({ "id": ended, "after": before[0]["cursor"] });
    let refused = post(server.url(), query, variables).await.unwrap();
    assert_eq!(refused["errors"][0]["extensions"]["code"], "CURSOR_INVALID", "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_under_load_is_of_one_moment() {
    let folder = tempfile::tempdir().unwrap();
    let server = start_server(&folder.path().join("data")).await;
    let input = json!({ "kind": "simulate", "input": { "steps": 200, "stepMs": 1 } });
    futures::future::join_all((0..20).map(|_| start(server.url(), input.clone()))).await;
    for number in 0..5 {
        let file = folder.path().join(format!("{number}.db"));
        let output = backup(&folder.path().join("data"), &file);
        assert!(output.status.success(), "{:?}", failure(&output));
        let database = rusqlite::Connection::open(&file).unwrap();
        let (tasks, holes): (i64, i64) = database
            .query_row(
                "SELECT count(*), count(*) FILTER (WHERE head <> (SELECT count(*) FROM event WHERE event.task = task.id))
                 FROM task",
                [],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )
            .unwrap();
        assert_eq!((tasks, holes), (20, 0), "tasks and their events are not of the same moment");
    }
}

#[test]
fn a_backup_overwrites_nothing() {
    let folder = tempfile::tempdir().unwrap();
    drop(Server::start(&folder.path().join("data"), None));
    let file = folder.path().join("backup.db");
    fs::write(&file, "mine").unwrap();
    let (code, message) = failure(&backup(&folder.path().join("data"), &file));
    assert_eq!(code, 73, "{message}");
    assert!(message.contains("is there already") && message.lines().count() == 1, "{message}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
}

#[test]
fn a_backup_that_cannot_be_made_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("backup.db");
    let (code, message) = failure(&backup(&folder.path().join("no-data"), &file));
    assert_eq!(code, 66, "{message}");
    assert!(message.contains("no-data") && message.contains("--data"), "{message}");
    fs::create_dir(folder.path().join("damaged")).unwrap();
    fs::write(folder.path().join("damaged/meanwhile.db"), "no database at all, but long enough to be one").unwrap();
    assert_eq!(failure(&backup(&folder.path().join("damaged"), &file)).0, 66);
    let (code, message) = failure(&backup(&folder.path().join("damaged"), &folder.path().join("no/backup.db")));
    assert!(code != 0 && message.lines().count() == 1, "{message}");
    assert!(!file.exists());
}
