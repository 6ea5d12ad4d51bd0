//! Every type of source, in everything that reads sources.

use std::fs;

use futures::{StreamExt, stream, stream::BoxStream};
use meanwhile::{
    model::Json,
    source::{ArgDefinition, ArgType, Args, Row, Source, SourceError, SourceInfo},
};
use serde_json::{Value, json};

use crate::support::{
    api::{request, server_with_sources},
    peer::Peer,
    server::{Server, data, subscribe},
};

/// A server with a source of each type; of type `store` with each of its figures.
async fn start() -> (Server, Peer, tempfile::TempDir) {
    let peer = Peer::start().await;
    let folder = tempfile::tempdir().unwrap();
    let connection = rusqlite::Connection::open(folder.path().join("shop.db")).unwrap();
    connection.execute_batch("CREATE TABLE item (id INTEGER PRIMARY KEY); INSERT INTO item VALUES (1), (2)").unwrap();
    let config = format!(
        r#"
        [sources.sql]
        type = "sql"
        file = "shop.db"
        query = "SELECT id FROM item ORDER BY id"
        [sources.json]
        type = "http"
        url = "{}"
        [sources.ndjson]
        type = "http"
        url = "{}"
        format = "ndjson"
        [sources.simulated]
        type = "simulated"
        rows = 2
        value = {{ a = 1 }}
        metadata = "row {{id}}"
        [sources.counts]
        type = "store"
        figures = "counts"
        [sources.latencies]
        type = "store"
        figures = "latencies"
        "#,
        peer.url("/json"),
        peer.url("/lines")
    );
    fs::write(folder.path().join("m.toml"), config).unwrap();
    (Server::start(&folder.path().join("data"), Some(&folder.path().join("m.toml"))), peer, folder)
}

async fn streamed(server: &Server, source: &str, args: Value) -> Vec<Value> {
    let document = "subscription($source: String!, $args: JSON) { dataStream(source: $source, args: $args) { value } }";
    let rows = subscribe(server.url(), document, json!({ "source": source, "args": args })).await.unwrap();
    rows.map(|row| row.unwrap()["data"]["dataStream"]["value"].take()).collect().await
}

/// The chunks of a task of kind `collect`, once it has completed.
async fn collected(server: &Server, source: &str) -> Vec<Value> {
    let start = "mutation($input: JSON) { startTask(input: { kind: \"collect\", input: $input }) { task { id } } }";
    let started = data(server.url(), start, json!({ "input": { "source": source } })).await;
    let id = &started["startTask"]["task"]["id"];
    let document = "subscription($id: ID!) { taskEvents(id: $id) {
        ... on TaskStatusChanged { status result } ... on TaskChunk { value } } }";
    let events = subscribe(server.url(), document, json!({ "id": id })).await.unwrap();
    let mut events: Vec<Value> = events.map(|event| event.unwrap()["data"]["taskEvents"].take()).collect().await;
    let end = events.pop().unwrap();
    let chunks: Vec<Value> = events.iter().filter_map(|event| event.get("value").cloned()).collect();
    assert_eq!(end, json!({ "status": "COMPLETED", "result": { "rows": chunks.len() } }), "{source}");
    chunks
}

#[tokio::test]
async fn every_type_of_source_passes_by_and_is_collected() {
    let (server, _peer, _folder) = start().await;
    for (source, expected) in [
        ("sql", json!([{ "id": 1 }, { "id": 2 }])),
        ("json", json!([{ "b": 1.5, "a": [null] }])),
        ("ndjson", json!([{ "n": 1 }, { "n": 2 }, { "n": 3 }])),
        ("simulated", json!([{ "a": 1 }, { "a": 1 }])),
    ] {
        assert_eq!(json!(streamed(&server, source, Value::Null).await), expected, "{source}");
        assert_eq!(json!(collected(&server, source).await), expected, "{source}");
    }
    // Four tasks have ended by now, and each read of the store sees those before it.
    let counts = |total: u32, running: u32| {
        let sums = json!({
            "total": total, "pending": 0, "running": running, "completed": 4, "failed": 0, "cancelled": 0
        });
        let mut all = sums.clone();
        all["kinds"] = json!({ "collect": sums });
        json!([all])
    };
    assert_eq!(json!(streamed(&server, "counts", Value::Null).await), counts(4, 0));
    assert_eq!(json!(streamed(&server, "counts", json!({ "kind": "collect" })).await), counts(4, 0));
    assert_eq!(json!(collected(&server, "counts").await), counts(5, 1));
    assert_eq!(json!(streamed(&server, "latencies", json!({ "kind": "nope" })).await), json!([]));
    let measured = streamed(&server, "latencies", Value::Null).await;
    assert_eq!((&measured[0]["kind"], &measured[0]["measured"]), (&json!("collect"), &json!(5)));
    for figure in ["waitedMs", "ranMs"] {
        let percentiles = ["p50", "p90", "p99", "max"].map(|name| measured[0][figure][name].as_u64().unwrap());
        assert!(percentiles.is_sorted(), "{measured:?}");
    }
    assert_eq!(collected(&server, "latencies").await.len(), 1);
}

/// As many rows as it is asked for.
#[derive(Debug)]
struct Own(SourceInfo);

impl Source for Own {
    fn info(&self) -> &SourceInfo {
        &self.0
    }

    fn read(&self, args: Args) -> Result<BoxStream<'static, Result<Row, SourceError>>, SourceError> {
        let rows = args.get("rows").and_then(Value::as_u64).unwrap_or(0);
        let row = |number| Ok(Row { value: Json::from(json!({ "number": number })), metadata: None });
        Ok(stream::iter((0..rows).map(row)).boxed())
    }
}

#[tokio::test]
async fn a_source_of_the_programs_own_is_one_like_any_other() {
    let mut info = SourceInfo::custom("own");
    info.args = vec![ArgDefinition::required("rows", ArgType::Number)];
    info.limits.max_rows = 2;
    let server = server_with_sources(|sources| sources.insert(Own(info))).await;
    let sources = server.data("{ sources { name type args } }", json!({})).await;
    assert!(
        sources["sources"].as_array().unwrap().contains(&json!({ "name": "own", "type": "CUSTOM", "args": ["rows"] }))
    );
    let id = server.start(json!({ "kind": "collect", "input": { "source": "own", "args": { "rows": 2 } } })).await;
    assert_eq!(server.events(&id).await.last().unwrap()["status"], "COMPLETED");
    let stream = async |args: Value| -> Vec<Value> {
        let document = "subscription($args: JSON) { dataStream(source: \"own\", args: $args) { value } }";
        server.subscribe(request(document, json!({ "args": args }))).collect().await
    };
    // What is said of args and limits is kept for it.
    assert_eq!(stream(json!({ "rows": 1 })).await, [json!({ "data": { "dataStream": { "value": { "number": 0 } } } })]);
    for (args, rows, code) in [(json!({ "rows": 3 }), 2, "LIMIT_EXCEEDED"), (json!({}), 0, "INVALID_INPUT")] {
        let responses = stream(args).await;
        assert_eq!((responses.len(), &responses[rows]["errors"][0]["extensions"]["code"]), (rows + 1, &json!(code)));
    }
}
