//! Clients that leave the real program while it reads for them: what is outstanding stops, whatever they came by.

use std::{fs, net::SocketAddr, time::Duration};

use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt, net::TcpStream};

use crate::support::{
    peer::Peer,
    server::{Server, data, subscribe},
    socket::Socket,
};

/// What nothing here may take longer than.
const PATIENCE: Duration = Duration::from_secs(30);

const JOIN: &str = "{ joinedData(join: \"both\") { data } }";
const STREAM: &str = "subscription { dataStream(source: \"silent\") { value } }";

/// A source over HTTP that is never answered, and a statement that never ends unless it is limited; one at a time.
fn start(peer: &Peer) -> (Server, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    rusqlite::Connection::open(folder.path().join("n.db")).unwrap().execute_batch("CREATE TABLE n (i)").unwrap();
    let config = format!(
        r#"
        [sources.silent]
        type = "http"
        url = "{}"
        timeout_ms = 3600000
        [sources.count]
        type = "sql"
        file = "n.db"
        query = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT :limit) SELECT max(i) AS n FROM n"
        args.limit = "number"
        timeout_ms = 3600000
        concurrency = 1
        [joins.both]
        timeout_ms = 3600000
        parts.silent.source = "silent"
        parts.count = {{ source = "count", args.limit = "-1" }}
        [joins.count]
        timeout_ms = 3600000
        parts.count = {{ source = "count", args.limit = "7" }}
        "#,
        peer.url("/silence")
    );
    fs::write(folder.path().join("m.toml"), config).unwrap();
    (Server::start(&folder.path().join("data"), Some(&folder.path().join("m.toml"))), folder)
}

fn address(server: &Server) -> SocketAddr {
    server.url().trim_start_matches("http://").split('/').next().unwrap().parse().unwrap()
}

/// A connection on which the operation was posted.
async fn posted(address: SocketAddr, accept: &str, document: &str) -> TcpStream {
    let body = json!({ "query": document }).to_string();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = format!(
        "POST /graphql HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\naccept: {accept}\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
}

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what} takes too long"))
}

/// Until the source over HTTP was asked once more.
async fn asked(peer: &Peer, times: usize) {
    soon("asking", async {
        while peer.requests().len() < times {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// The connection to the source is closed, and the statement has stopped: its source does another read.
async fn all_stopped(peer: &Peer, server: &Server) {
    soon("closing the connection", peer.left()).await;
    let count = data(server.url(), "{ joinedData(join: \"count\") { data } }", Value::Null);
    assert_eq!(soon("the next read", count).await["joinedData"]["data"], json!({ "count": [{ "n": 7 }] }));
}

#[tokio::test]
async fn a_closed_connection_stops_the_parts_of_its_join() {
    let peer = Peer::start().await;
    let (server, _folder) = start(&peer);
    for (number, accept) in
        ["application/json", "application/graphql-response+json", "text/event-stream"].iter().enumerate()
    {
        let connection = posted(address(&server), accept, JOIN).await;
        asked(&peer, number + 1).await;
        drop(connection);
        all_stopped(&peer, &server).await;
    }
    let mut socket = Socket::ready(address(&server)).await;
    socket.subscribe("a", JOIN).await;
    asked(&peer, 4).await;
    drop(socket);
    all_stopped(&peer, &server).await;
}

#[tokio::test]
async fn a_completed_operation_stops_the_parts_of_its_join_and_leaves_others_alone() {
    let peer = Peer::start().await;
    let (server, _folder) = start(&peer);
    let mut socket = Socket::ready(address(&server)).await;
    socket.subscribe("a", JOIN).await;
    asked(&peer, 1).await;
    socket.complete("a").await;
    all_stopped(&peer, &server).await;
    socket.subscribe("b", "{ joinedData(join: \"count\") { data } }").await;
    assert_eq!(socket.data("b").await["joinedData"]["data"]["count"], json!([{ "n": 7 }]));
}

#[tokio::test]
async fn a_stream_that_is_left_closes_the_connection_to_its_source() {
    let peer = Peer::start().await;
    let (server, _folder) = start(&peer);
    for (number, accept) in
        ["text/event-stream", "multipart/mixed;subscriptionSpec=1.0, application/json"].iter().enumerate()
    {
        let connection = posted(address(&server), accept, STREAM).await;
        asked(&peer, number + 1).await;
        drop(connection);
        soon("closing the connection", peer.left()).await;
    }
    let rows = subscribe(server.url(), STREAM, json!({})).await.unwrap();
    asked(&peer, 3).await;
    drop(rows);
    soon("closing the connection", peer.left()).await;
}

#[tokio::test]
async fn a_cancelled_task_closes_the_connection_to_its_source() {
    let peer = Peer::start().await;
    let (server, _folder) = start(&peer);
    let start = "mutation { startTask(input: { kind: \"collect\", input: { source: \"silent\" } }) { task { id } } }";
    let id = data(server.url(), start, json!({})).await["startTask"]["task"]["id"].clone();
    asked(&peer, 1).await;
    let cancel = "mutation($id: ID!) { cancelTask(input: { id: $id }) { task { id } } }";
    data(server.url(), cancel, json!({ "id": id })).await;
    soon("closing the connection", peer.left()).await;
}
