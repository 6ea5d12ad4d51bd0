//! The older subprotocol `graphql-ws`, over raw sockets.

use std::{sync::Arc, time::Duration};

use futures::{FutureExt, channel::oneshot};
use meanwhile::http::{HttpOptions, OnConnect};
use serde_json::{Value, json};

use crate::support::{socket::Socket, toy::ToyServer};

const PROTOCOL: &str = "graphql-ws";
const ACK: &str = r#"{"type":"connection_ack"}"#;
const KEEP_ALIVE: &str = r#"{"type":"ka"}"#;

fn message(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

async fn init(socket: &mut Socket) {
    socket.send(json!({ "type": "connection_init", "payload": {} })).await;
    assert_eq!(socket.next().await, message(ACK));
    assert_eq!(socket.next().await, message(KEEP_ALIVE));
}

async fn ready(server: &ToyServer) -> Socket {
    let mut socket = Socket::connect(server.address, PROTOCOL).await;
    assert_eq!(socket.protocol.as_deref(), Some(PROTOCOL));
    init(&mut socket).await;
    socket
}

async fn start(socket: &mut Socket, id: &str, query: &str) {
    socket.send(json!({ "id": id, "type": "start", "payload": { "query": query } })).await;
}

#[tokio::test]
async fn of_both_subprotocols_the_newer_one_is_spoken() {
    let server = ToyServer::start().await;
    for protocols in ["graphql-ws, graphql-transport-ws", "graphql-transport-ws, graphql-ws"] {
        let socket = Socket::connect(server.address, protocols).await;
        assert_eq!(socket.protocol.as_deref(), Some("graphql-transport-ws"));
    }
}

#[tokio::test]
async fn operations_answer_with_data_and_complete() {
    let server = ToyServer::start().await;
    let mut socket = ready(&server).await;
    for (query, data) in [
        ("{ hello }", json!({ "hello": "world" })),
        ("mutation { touch }", json!({ "touch": 1 })),
        ("subscription { count(to: 1) }", json!({ "count": 0 })),
    ] {
        start(&mut socket, "1", query).await;
        assert_eq!(socket.next().await, json!({ "id": "1", "type": "data", "payload": { "data": data } }));
        assert_eq!(socket.next().await, json!({ "id": "1", "type": "complete" }));
    }
}

#[tokio::test]
async fn start_may_come_before_the_acknowledgement() {
    let (admit, admitted) = oneshot::channel::<()>();
    let admitted = admitted.shared();
    let on_connect: OnConnect = Arc::new(move |_| {
        let admitted = admitted.clone();
        async move { admitted.await.map(|()| async_graphql::Data::default()).map_err(|_| String::new()) }.boxed()
    });
    let server = ToyServer::with(HttpOptions::default(), |context| context.on_connect = on_connect).await;
    let mut socket = Socket::connect(server.address, PROTOCOL).await;
    socket.send(json!({ "type": "connection_init" })).await;
    start(&mut socket, "1", "{ hello }").await;
    admit.send(()).unwrap();
    assert_eq!(socket.next().await, message(ACK));
    assert_eq!(socket.next().await, message(KEEP_ALIVE));
    assert_eq!(socket.next().await["payload"]["data"], json!({ "hello": "world" }));
}

#[tokio::test]
async fn a_refused_init_is_a_connection_error_and_4403() {
    let refuse: OnConnect = Arc::new(|_| async { Err("not you".to_owned()) }.boxed());
    let server = ToyServer::with(HttpOptions::default(), |context| context.on_connect = refuse).await;
    let mut socket = Socket::connect(server.address, PROTOCOL).await;
    socket.send(json!({ "type": "connection_init" })).await;
    assert_eq!(socket.next().await, json!({ "type": "connection_error", "payload": { "message": "not you" } }));
    assert_eq!(socket.closed().await, (4403, "not you".to_owned()));
}

#[tokio::test]
async fn a_request_error_is_an_error_with_the_first_and_all_of_them() {
    let server = ToyServer::start().await;
    let mut socket = ready(&server).await;
    start(&mut socket, "1", "{ unknown }").await;
    let answer = socket.next().await;
    assert_eq!((&answer["type"], &answer["id"]), (&json!("error"), &json!("1")));
    assert_eq!(answer["payload"]["extensions"]["code"], "BAD_REQUEST");
    assert_eq!(answer["payload"]["errors"][0]["message"], answer["payload"]["message"]);
    // Nothing follows.
    start(&mut socket, "2", "{ hello }").await;
    assert_eq!(socket.next().await["id"], "2");
}

#[tokio::test]
async fn stop_ends_the_producer_and_is_not_answered() {
    let server = ToyServer::start().await;
    let mut socket = ready(&server).await;
    start(&mut socket, "1", "subscription { silence }").await;
    server.hands.live_streams(1).await;
    socket.send(json!({ "type": "stop", "id": "1" })).await;
    socket.send(json!({ "type": "stop", "id": "never" })).await;
    server.hands.live_streams(0).await;
    start(&mut socket, "2", "{ hello }").await;
    assert_eq!(socket.next().await["id"], "2");
}

#[tokio::test]
async fn start_with_an_id_in_use_replaces_that_operation() {
    let server = ToyServer::start().await;
    let mut socket = ready(&server).await;
    start(&mut socket, "1", "subscription { silence }").await;
    server.hands.live_streams(1).await;
    start(&mut socket, "1", "subscription { count(to: 1) }").await;
    assert_eq!(socket.next().await["payload"]["data"], json!({ "count": 0 }));
    assert_eq!(socket.next().await, json!({ "id": "1", "type": "complete" }));
    server.hands.live_streams(0).await;
}

#[tokio::test]
async fn connection_terminate_closes_with_1000() {
    let server = ToyServer::start().await;
    let mut socket = ready(&server).await;
    start(&mut socket, "1", "subscription { silence }").await;
    server.hands.live_streams(1).await;
    socket.send(json!({ "type": "connection_terminate" })).await;
    assert_eq!(socket.closed().await.0, 1000);
    server.hands.live_streams(0).await;
}

#[tokio::test]
async fn it_sends_a_keep_alive_message_in_each_interval() {
    let mut options = HttpOptions::default();
    (options.websocket.ping_interval_ms, options.websocket.pong_timeout_ms) = (1_000, 60_000);
    let server = ToyServer::with(options, |_| {}).await;
    let mut socket = ready(&server).await;
    for _ in 0..3 {
        while server.clock.next_wake() != Some(Duration::from_millis(1_000)) {
            tokio::task::yield_now().await;
        }
        server.clock.advance(Duration::from_millis(1_000));
        loop {
            match socket.frame().await {
                Some(tungstenite::Message::Text(text)) => break assert_eq!(text, KEEP_ALIVE),
                Some(tungstenite::Message::Ping(_)) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

#[tokio::test]
async fn limits_hold_as_with_the_newer_one() {
    let mut options = HttpOptions::default();
    options.websocket.max_operations = 1;
    options.websocket.init_timeout_ms = 100;
    let server = ToyServer::with(options, |_| {}).await;
    let mut socket = ready(&server).await;
    start(&mut socket, "1", "subscription { silence }").await;
    start(&mut socket, "2", "subscription { silence }").await;
    assert_eq!(socket.next().await["payload"]["extensions"]["limit"], "max_operations");
    socket.send_text("hello").await;
    assert_eq!(socket.closed().await.0, 4400);
    let mut early = Socket::connect(server.address, PROTOCOL).await;
    start(&mut early, "1", "{ hello }").await;
    assert_eq!(early.closed().await.0, 4401);
    let mut silent = Socket::connect(server.address, PROTOCOL).await;
    while server.clock.next_wake().is_none_or(|wake| wake > Duration::from_millis(100)) {
        tokio::task::yield_now().await;
    }
    server.clock.advance(Duration::from_millis(100));
    assert_eq!(silent.closed().await.0, 4408);
}

#[tokio::test]
async fn sizes_and_rates_are_limited_as_with_the_newer_one() {
    let mut options = HttpOptions::default();
    (options.websocket.max_message_bytes, options.websocket.max_messages_per_second) = (1_000, 5);
    let server = ToyServer::with(options, |_| {}).await;
    let mut large = ready(&server).await;
    large.send_text(format!("{:1000}", r#"{"type":"stop","id":"x"}"#)).await;
    large.send_text(" ".repeat(1_001)).await;
    assert_eq!(large.closed().await.0, 1009);
    let mut quick = ready(&server).await;
    for _ in 0..5 {
        quick.send_text(r#"{"type":"stop","id":"x"}"#).await;
    }
    assert_eq!(quick.closed().await.0, 1013);
}

#[tokio::test]
async fn a_cursor_in_the_payload_goes_to_its_operation_and_draining_closes_with_1012() {
    let server = ToyServer::start().await;
    let mut socket = Socket::connect(server.address, PROTOCOL).await;
    socket.send(json!({ "type": "connection_init", "payload": { "cursors": { "7": "4" } } })).await;
    start(&mut socket, "7", "subscription { resume(to: 5, ends: false) }").await;
    assert_eq!((socket.next().await, socket.next().await), (message(ACK), message(KEEP_ALIVE)));
    assert_eq!(socket.next().await["payload"]["data"], json!({ "resume": 5 }));
    server.shutdown.request();
    assert_eq!(socket.closed().await.0, 1012);
}
