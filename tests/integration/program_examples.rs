//! The programs in `examples/programs`, with their own configuration.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use futures::StreamExt;
use serde_json::{Value, json};

use crate::support::server::{Server, data, subscribe};

const START: &str = "mutation($input: StartTaskInput!) { startTask(input: $input) { task { id } } }";
const EVENTS: &str = "subscription($id: ID!) { taskEvents(id: $id) {
    ... on TaskStatusChanged { status result error { code message details } }
    ... on TaskProgressed { percent } ... on TaskChunk { value } } }";

/// A task's last status, and all that came before it.
struct Ran {
    last: Value,
    events: Vec<Value>,
}

impl Ran {
    fn result(&self) -> &Value {
        assert_eq!(self.last["status"], "COMPLETED", "{}", self.last);
        &self.last["result"]
    }
}

async fn run(data_folder: &Path, kind: &str, input: Value) -> Ran {
    let data_folder = data_folder.to_owned();
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/programs/meanwhile.toml");
    let start = move || Server::start(&data_folder, Some(&config));
    let server = tokio::task::spawn_blocking(start).await.unwrap();
    let started = data(server.url(), START, json!({ "input": { "kind": kind, "input": input } })).await;
    let id = started["startTask"]["task"]["id"].clone();
    let events = subscribe(server.url(), EVENTS, json!({ "id": id })).await.unwrap();
    let mut events: Vec<Value> = events.map(|event| event.unwrap()["data"]["taskEvents"].take()).collect().await;
    Ran { last: events.pop().unwrap(), events }
}

/// Only Rust has to be there for the tests: what others need is tried where it is.
fn is_there(program: &str) -> bool {
    let there = Command::new(program).arg("-version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if !there {
        println!("{program} is not installed: its example is not tried");
    }
    there
}

#[tokio::test]
async fn checksums_by_a_shell_script() {
    let folder = tempfile::tempdir().unwrap();
    let files = folder.path().join("a \"folder\"");
    fs::create_dir(&files).unwrap();
    fs::write(files.join("empty"), "").unwrap();
    fs::write(files.join("back\\slash"), "abc").unwrap();
    fs::create_dir(files.join(".hidden")).unwrap();
    fs::write(files.join(".hidden/two\nlines\n"), "abc").unwrap();
    let ran = run(&folder.path().join("data"), "checksum", json!({ "folder": files })).await;
    assert_eq!(ran.result(), &json!({ "files": 3 }));
    let chunks: Vec<&Value> = ran.events.iter().map(|event| &event["value"]).filter(|value| !value.is_null()).collect();
    let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(
        chunks,
        [
            &json!({ "file": files.join("back\\slash"), "sha256": abc }),
            &json!({ "file": files.join("empty"), "sha256": empty }),
            &json!({ "file": files.join(".hidden/two\nlines\n"), "sha256": abc }),
        ]
    );
    let ran = run(&folder.path().join("data"), "checksum", json!({ "folder": "/no/such/folder" })).await;
    assert_eq!(ran.last["error"]["details"]["exitCode"], 64, "{}", ran.last);
}

#[tokio::test]
async fn a_table_converted_by_python() {
    if !is_there("python3") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("in.csv"), folder.path().join("out.json"));
    let rows: String = (0..2500).map(|number| format!("{number},\"a, \"\"b\"\"\nc\"\n")).collect();
    fs::write(&from, format!("number,text\n{rows}")).unwrap();
    let ran = run(&folder.path().join("data"), "convert", json!({ "from": from, "to": to })).await;
    assert_eq!(ran.result(), &json!({ "rows": 2500 }));
    let converted: Vec<Value> = serde_json::from_slice(&fs::read(&to).unwrap()).unwrap();
    assert_eq!(converted.len(), 2500);
    assert_eq!(converted[7], json!({ "number": "7", "text": "a, \"b\"\nc" }));
}

#[tokio::test]
async fn a_sound_converted_by_ffmpeg() {
    if !is_there("ffmpeg") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("in.wav"), folder.path().join("out.flac"));
    let mut make = Command::new("ffmpeg");
    make.args(["-loglevel", "error", "-f", "lavfi", "-i", "sine=duration=20"]).arg(&from);
    assert!(make.status().unwrap().success());
    let ran = run(&folder.path().join("data"), "transcode", json!({ "from": from, "to": to })).await;
    assert_eq!(ran.result()["bytes"], fs::metadata(&to).unwrap().len());
    assert!(ran.events.iter().any(|event| event["percent"] == 100.0), "{:?}", ran.events);
}
