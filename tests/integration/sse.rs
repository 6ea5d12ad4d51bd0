//! Server-sent events in distinct connections mode, over raw sockets.

use std::time::Duration;

use meanwhile::http::{HttpOptions, StreamOptions};
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt, net::TcpSocket};

use crate::support::{
    raw::{Event, Raw, read_slowly},
    server::client,
    toy::ToyServer,
};

const ACCEPT: &str = "Accept: text/event-stream\r\n";

async fn post(server: &ToyServer, query: &str) -> Raw {
    Raw::post(server.address, ACCEPT, query).await
}

async fn limited(change: impl FnOnce(&mut StreamOptions)) -> ToyServer {
    let mut options = HttpOptions::default();
    change(&mut options.streams);
    ToyServer::with(options, |_| {}).await
}

fn after(id: &str) -> String {
    format!("{ACCEPT}Last-Event-ID: {id}\r\n")
}

async fn ends(raw: &mut Raw) {
    assert_eq!(raw.until("\n\n").await, "event: complete\ndata:\n\n");
    assert_eq!(raw.rest().await, "");
}

#[tokio::test]
async fn by_get_and_by_post_a_stream_begins_at_once_with_a_comment() {
    let server = ToyServer::start().await;
    let query = "subscription { silence }";
    for mut raw in [post(&server, query).await, Raw::get(server.address, ACCEPT, query).await] {
        assert_eq!(raw.status, 200);
        for (name, expected) in [
            ("content-type", "text/event-stream; charset=utf-8"),
            ("cache-control", "no-cache"),
            ("x-accel-buffering", "no"),
            ("vary", "Accept"),
        ] {
            assert_eq!(raw.header(name), expected);
        }
        assert_eq!(raw.until("\n\n").await, ":\n\n");
        assert_eq!(raw.until("\n\n").await, "retry: 1000\n\n");
    }
}

#[tokio::test]
async fn a_stream_is_next_events_and_ends_with_a_complete_that_has_data() {
    let server = ToyServer::start().await;
    let mut raw = post(&server, "subscription { ...F } fragment F on Subscription { count(to: 2) }").await;
    assert_eq!(raw.until("retry: 1000\n\n").await, ":\n\nretry: 1000\n\n");
    assert_eq!(raw.until("\n\n").await, "event: next\ndata: {\"data\":{\"count\":0}}\n\n");
    assert_eq!(raw.until("\n\n").await, "event: next\ndata: {\"data\":{\"count\":1}}\n\n");
    ends(&mut raw).await;
}

#[tokio::test]
async fn queries_and_mutations_are_one_next() {
    let server = ToyServer::start().await;
    for (query, data) in [
        ("{ hello }", json!({ "hello": "world" })),
        ("mutation { touch }", json!({ "touch": 1 })),
        ("{ fail }", Value::Null),
    ] {
        let mut raw = post(&server, query).await;
        assert_eq!(Event::data(&mut raw).await, data, "{query}");
        ends(&mut raw).await;
    }
}

#[tokio::test]
async fn errors_are_in_the_stream_as_next_and_then_complete() {
    let server = ToyServer::start().await;
    for (query, code) in [
        ("{", "BAD_REQUEST"),
        ("subscription { nothing }", "BAD_REQUEST"),
        ("subscription { count(to: 1) more: count(to: 1) }", "BAD_REQUEST"),
        ("subscription { refuse }", "NOT_FOUND"),
        ("subscription { panic }", "INTERNAL"),
    ] {
        let mut raw = post(&server, query).await;
        assert_eq!(raw.status, 200);
        let mut event = Event::next(&mut raw).await;
        while event.data.get("errors").is_none() {
            event = Event::next(&mut raw).await;
        }
        assert_eq!((event.name.as_str(), &event.data["errors"][0]["extensions"]["code"]), ("next", &json!(code)));
        ends(&mut raw).await;
    }
}

#[tokio::test]
async fn a_request_that_cannot_be_read_is_refused_before_there_is_a_stream() {
    let server = ToyServer::start().await;
    let mutation = Raw::get(server.address, ACCEPT, "mutation { touch }").await;
    assert_eq!((mutation.status, mutation.header("allow")), (405, "POST"));
    let head = format!("POST /graphql HTTP/1.1\r\nHost: localhost\r\n{ACCEPT}");
    let json = "Content-Type: application/json\r\n";
    let malformed = Raw::send(server.address, &format!("{head}{json}Content-Length: 2\r\n\r\n{{}}")).await;
    assert_eq!((malformed.status, malformed.header("content-type")), (400, "application/json; charset=utf-8"));
    let list = format!("{head}{json}Content-Length: 21\r\n\r\n[{{\"query\":\"{{hello}}\"}}]");
    assert_eq!(Raw::send(server.address, &list).await.status, 406);
    let untyped =
        Raw::send(server.address, &format!("{head}Content-Length: 19\r\n\r\n{{\"query\":\"{{hello}}\"}}")).await;
    assert_eq!(untyped.status, 415);
}

#[tokio::test]
async fn a_put_is_told_that_there_is_no_single_connection_mode() {
    let server = ToyServer::start().await;
    let response = client().put(server.url()).header("accept", "text/event-stream").send().await.unwrap();
    assert_eq!((response.status().as_u16(), response.headers()["allow"].to_str().unwrap()), (405, "GET, POST"));
    let text = response.text().await.unwrap();
    assert!(text.contains("single connection mode") && text.contains("text/event-stream"), "{text}");
}

#[tokio::test]
async fn what_is_answered_once_goes_as_json_where_both_are_accepted() {
    let server = ToyServer::start().await;
    let accept = "Accept: application/json, text/event-stream, multipart/mixed\r\n";
    assert_eq!(
        Raw::post(server.address, accept, "{ hello }").await.header("content-type"),
        "application/json; charset=utf-8"
    );
    let mut stream = Raw::post(server.address, accept, "subscription { count(to: 1) }").await;
    assert_eq!(Event::data(&mut stream).await, json!({ "count": 0 }));
}

// Cursors

#[tokio::test]
async fn a_next_with_a_cursor_carries_it_as_id_and_another_has_none() {
    let server = ToyServer::start().await;
    let mut raw = post(&server, "subscription { resume(to: 3, ends: true) }").await;
    for number in ["1", "2", "3"] {
        assert_eq!(Event::next(&mut raw).await.id.as_deref(), Some(number));
    }
    ends(&mut raw).await;
    let mut raw = post(&server, "subscription { count(to: 1) }").await;
    assert_eq!(Event::next(&mut raw).await.id, None);
}

#[tokio::test]
async fn last_event_id_goes_on_after_that_event() {
    let server = ToyServer::start().await;
    let query = "subscription { resume(to: 5, ends: true) }";
    for mut raw in
        [Raw::post(server.address, &after("3"), query).await, Raw::get(server.address, &after("3"), query).await]
    {
        assert_eq!(raw.status, 200);
        assert_eq!(Event::data(&mut raw).await, json!({ "resume": 4 }));
        assert_eq!(Event::data(&mut raw).await, json!({ "resume": 5 }));
        ends(&mut raw).await;
    }
    // An empty one is none.
    let mut raw = Raw::post(server.address, &after(""), query).await;
    assert_eq!(Event::data(&mut raw).await, json!({ "resume": 1 }));
}

#[tokio::test]
async fn last_event_id_at_the_terminal_event_is_answered_with_204() {
    let server = ToyServer::start().await;
    let query = "subscription { resume(to: 5, ends: true) }";
    assert_eq!(Raw::get(server.address, &after("5"), query).await.status, 204);
    assert_eq!(Raw::post(server.address, &after("5"), query).await.status, 204);
    // Where more may come, it waits.
    let mut raw = Raw::get(server.address, &after("5"), "subscription { resume(to: 5, ends: false) }").await;
    assert_eq!((raw.status, raw.until("\n\n").await.as_str()), (200, ":\n\n"));
}

// Silence, leaving, stalling, stopping

#[tokio::test]
async fn a_silent_stream_has_a_comment_at_least_every_12_seconds() {
    let server = ToyServer::start().await;
    assert!(StreamOptions::default().sse_heartbeat_ms <= 12_000);
    let mut raw = post(&server, "subscription { silence }").await;
    raw.until("retry: 1000\n\n").await;
    for _ in 0..3 {
        while server.clock.next_wake() != Some(Duration::from_millis(10_000)) {
            tokio::task::yield_now().await;
        }
        server.clock.advance(Duration::from_millis(10_000));
        assert_eq!(raw.until("\n\n").await, ":\n\n");
    }
}

#[tokio::test]
async fn a_dropped_connection_frees_everything_at_once() {
    let server = ToyServer::start().await;
    for hard in [false, true] {
        let mut raw = post(&server, "subscription { silence }").await;
        raw.until("\n\n").await;
        server.hands.live_streams(1).await;
        let stream = raw.into_stream();
        if hard {
            stream.set_zero_linger().unwrap();
        }
        drop(stream);
        server.hands.live_streams(0).await;
        server.none_open().await;
    }
}

#[tokio::test]
async fn a_stalled_reader_meets_the_write_deadline_and_its_producer_stops() {
    let mut options = HttpOptions::default();
    options.sockets.write_timeout_ms = 5_000;
    let server = ToyServer::with(options, |_| {}).await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let stream = socket.connect(server.address).await.unwrap();
    let body = json!({ "query": "subscription { flood(bytes: 100000) }" }).to_string();
    let head =
        format!("Host: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n{ACCEPT}", body.len());
    let mut stalled = Raw::over(stream, &format!("POST /graphql HTTP/1.1\r\n{head}\r\n{body}")).await;
    server.hands.live_streams(1).await;
    while server.clock.next_wake() != Some(Duration::from_millis(5_000)) {
        tokio::task::yield_now().await;
    }
    server.clock.advance(Duration::from_millis(5_000));
    server.hands.live_streams(0).await;
    assert!(stalled.breaks().await);
    let mut healthy = post(&server, "{ hello }").await;
    assert_eq!(Event::data(&mut healthy).await, json!({ "hello": "world" }));
}

#[tokio::test]
async fn who_reads_slowly_is_not_stalled() {
    let mut options = HttpOptions::default();
    options.sockets.write_timeout_ms = 5_000;
    let server = ToyServer::with(options, |_| {}).await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = socket.connect(server.address).await.unwrap();
    // One event that takes much longer than the deadline.
    let request = "GET /graphql?query=subscription%7Bflood(bytes:50000000)%7D HTTP/1.1\r\nHost: localhost\r\n";
    stream.write_all(format!("{request}{ACCEPT}\r\n").as_bytes()).await.unwrap();
    server.hands.live_streams(1).await;
    read_slowly(&server, &mut stream, Duration::from_millis(5_000)).await;
    server.hands.live_streams(1).await;
}

#[tokio::test]
async fn stopping_ends_a_stream_without_complete_so_that_its_client_comes_again() {
    let server = ToyServer::start().await;
    let mut raw = post(&server, "subscription { resume(to: 2, ends: false) }").await;
    for number in [1, 2] {
        assert_eq!(Event::data(&mut raw).await, json!({ "resume": number }));
    }
    server.shutdown.request();
    assert_eq!(raw.rest().await, "");
    server.hands.live_streams(0).await;
    server.context.connections.closed().await;
}

#[tokio::test]
async fn stopping_lets_a_mutation_answer() {
    let server = ToyServer::start().await;
    let mut raw = post(&server, "mutation { slow }").await;
    raw.until("\n\n").await;
    server.shutdown.request();
    server.hands.gate.add_permits(1);
    assert_eq!(Event::data(&mut raw).await, json!({ "slow": true }));
    ends(&mut raw).await;
}

#[tokio::test]
async fn one_stream_too_many_is_503_and_names_the_limit() {
    let server = limited(|options| options.max_streams = 1).await;
    let mut first = post(&server, "subscription { silence }").await;
    first.until("\n\n").await;
    let mut second = post(&server, "subscription { silence }").await;
    let extensions = json!({ "code": "LIMIT_EXCEEDED", "limit": "max_streams" });
    assert_eq!((second.status, &second.json().await["errors"][0]["extensions"]), (503, &extensions));
    drop(first);
    server.none_open().await;
    second = post(&server, "{ hello }").await;
    assert_eq!(second.status, 200);
}

#[tokio::test]
async fn a_client_that_does_not_finish_its_head_is_disconnected() {
    let mut options = HttpOptions::default();
    options.sockets.head_timeout_ms = 50;
    let server = ToyServer::with(options, |_| {}).await;
    let mut stream = tokio::net::TcpStream::connect(server.address).await.unwrap();
    stream.write_all(b"POST /graphql HTTP/1.1\r\nHost: lo").await.unwrap();
    let mut answer = Vec::new();
    tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut answer).await.unwrap();
    assert!(!String::from_utf8_lossy(&answer).contains("200 OK"));
}

#[tokio::test]
async fn one_connection_too_many_is_503_and_names_the_limit() {
    let mut options = HttpOptions::default();
    options.sockets.max_sockets = 1;
    let server = ToyServer::with(options, |_| {}).await;
    let mut first = post(&server, "subscription { silence }").await;
    first.until("\n\n").await;
    let mut second = tokio::net::TcpStream::connect(server.address).await.unwrap();
    let mut answer = String::new();
    tokio::io::AsyncReadExt::read_to_string(&mut second, &mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("\"limit\":\"max_sockets\""), "{answer}");
    drop((first, second));
    while Raw::post(server.address, ACCEPT, "{ hello }").await.status != 200 {}
}
