//! The subprotocol `graphql-transport-ws`, over raw sockets.

use std::{sync::Arc, time::Duration};

use futures::{FutureExt, channel::oneshot};
use meanwhile::{
    graphql::Plain,
    http::{HttpOptions, OnConnect, websocket::WebsocketOptions},
};
use serde_json::{Value, json};
use tokio::net::TcpSocket;
use tokio_tungstenite::tungstenite::{Message, protocol::CloseFrame};

use crate::support::{
    raw::read_slowly,
    server::client,
    socket::Socket,
    toy::{ToyServer, serve},
};

const PROTOCOL: &str = "graphql-transport-ws";

async fn limited(change: impl FnOnce(&mut WebsocketOptions)) -> ToyServer {
    let mut options = HttpOptions::default();
    change(&mut options.websocket);
    ToyServer::with(options, |_| {}).await
}

/// Lets the clock run until the next thing that waits for it, as soon as something does.
async fn let_time_pass(server: &ToyServer) -> Duration {
    loop {
        if let Some(wake) = server.clock.next_wake() {
            server.clock.advance(wake);
            return wake;
        }
        tokio::task::yield_now().await;
    }
}

/// Lets the clock run so far, in the steps in which something waits for it.
async fn let_pass(server: &ToyServer, until: Duration) {
    use meanwhile::clock::Clock;
    while server.clock.elapsed() < until {
        let step = server.clock.next_wake().unwrap_or(until).min(until - server.clock.elapsed());
        server.clock.advance(step);
        tokio::task::yield_now().await;
    }
}

// 1

#[tokio::test]
async fn without_a_common_subprotocol_it_accepts_and_closes_with_4406() {
    let server = ToyServer::start().await;
    for protocols in ["", "soap", "graphql-transport-ws2"] {
        let mut socket = Socket::connect(server.address, protocols).await;
        assert_eq!(socket.protocol, None);
        assert_eq!(socket.closed().await, (4406, "Subprotocol not acceptable".to_owned()), "{protocols}");
    }
}

#[tokio::test]
async fn it_answers_with_the_subprotocol_that_is_spoken() {
    let server = ToyServer::start().await;
    for protocols in [PROTOCOL, "soap, graphql-transport-ws", "graphql-transport-ws,soap"] {
        let socket = Socket::connect(server.address, protocols).await;
        assert_eq!(socket.protocol.as_deref(), Some(PROTOCOL));
    }
}

// 2

#[tokio::test]
async fn without_connection_init_in_time_it_closes_with_4408() {
    let server = limited(|options| options.init_timeout_ms = 100).await;
    let mut socket = Socket::connect(server.address, PROTOCOL).await;
    assert!(socket.is_quiet().await);
    assert_eq!(let_time_pass(&server).await, Duration::from_millis(100));
    assert_eq!(socket.closed().await, (4408, "Connection initialisation timeout".to_owned()));
}

#[tokio::test]
async fn the_time_of_the_init_callback_does_not_count() {
    let (admit, admitted) = oneshot::channel::<()>();
    let admitted = admitted.shared();
    let on_connect: OnConnect = Arc::new(move |_| {
        let admitted = admitted.clone();
        async move {
            let _ = admitted.await;
            Ok(async_graphql::Data::default())
        }
        .boxed()
    });
    let server = ToyServer::with(HttpOptions::default(), |context| context.on_connect = on_connect).await;
    let mut socket = Socket::connect(server.address, PROTOCOL).await;
    socket.send(json!({ "type": "connection_init" })).await;
    assert!(socket.is_quiet().await);
    server.clock.advance(Duration::from_millis(WebsocketOptions::default().init_timeout_ms));
    assert!(socket.is_quiet().await);
    admit.send(()).unwrap();
    assert_eq!(socket.next().await, json!({ "type": "connection_ack" }));
}

// 3

#[tokio::test]
async fn a_second_connection_init_is_4429() {
    let server = ToyServer::start().await;
    let mut socket = Socket::ready(server.address).await;
    socket.send(json!({ "type": "connection_init" })).await;
    assert_eq!(socket.closed().await, (4429, "Too many initialisation requests".to_owned()));
}

#[tokio::test]
async fn a_second_connection_init_is_4429_also_while_the_first_is_pending() {
    let never: OnConnect = Arc::new(|_| std::future::pending().boxed());
    let server = ToyServer::with(HttpOptions::default(), |context| context.on_connect = never).await;
    let mut socket = Socket::connect(server.address, PROTOCOL).await;
    socket.send(json!({ "type": "connection_init" })).await;
    socket.send(json!({ "type": "connection_init" })).await;
    assert_eq!(socket.close_code().await, 4429);
}

// 4

#[tokio::test]
async fn subscribe_before_the_acknowledgement_is_4401() {
    let server = ToyServer::start().await;
    let mut socket = Socket::connect(server.address, PROTOCOL).await;
    socket.subscribe("1", "{ hello }").await;
    assert_eq!(socket.closed().await, (4401, "Unauthorized".to_owned()));
}

#[tokio::test]
async fn a_refused_init_is_4403_with_the_reason() {
    let refuse: OnConnect = Arc::new(|payload| {
        let who = payload.unwrap()["name"].as_str().unwrap().to_owned();
        async move { Err(format!("not you, {who}")) }.boxed()
    });
    let server = ToyServer::with(HttpOptions::default(), |context| context.on_connect = refuse).await;
    let mut socket = Socket::connect(server.address, PROTOCOL).await;
    socket.send(json!({ "type": "connection_init", "payload": { "name": "Eve" } })).await;
    assert_eq!(socket.closed().await, (4403, "not you, Eve".to_owned()));
}

// 5

#[tokio::test]
async fn a_message_that_is_malformed_unknown_or_without_id_is_4400() {
    let server = ToyServer::start().await;
    for text in [
        "",
        "hello",
        "[]",
        "null",
        r#"{"type":"start","id":"1","payload":{"query":"{hello}"}}"#,
        r#"{"type":"subscribe","payload":{"query":"{hello}"}}"#,
        r#"{"type":"subscribe","id":"1"}"#,
        r#"{"type":"subscribe","id":"1","payload":{"query":7}}"#,
        r#"{"type":"complete"}"#,
    ] {
        let mut socket = Socket::ready(server.address).await;
        socket.send_text(text).await;
        let (code, reason) = socket.closed().await;
        assert_eq!(code, 4400, "{text}");
        assert!(reason.starts_with("Invalid message: "), "{reason}");
    }
    let mut socket = Socket::ready(server.address).await;
    socket.send_frame(Message::Binary(r#"{"type":"ping"}"#.into())).await;
    assert_eq!(socket.close_code().await, 4400);
}

// 6

#[tokio::test]
async fn an_active_id_is_4409_and_is_free_again_after_complete() {
    let server = ToyServer::start().await;
    let mut socket = Socket::ready(server.address).await;
    for _ in 0..3 {
        socket.subscribe("1", "subscription { silence }").await;
        server.hands.live_streams(1).await;
        socket.complete("1").await;
        server.hands.live_streams(0).await;
    }
    socket.subscribe("1", "{ hello }").await;
    assert_eq!(socket.data("1").await, json!({ "hello": "world" }));
    assert_eq!(socket.next().await, json!({ "id": "1", "type": "complete" }));
    socket.subscribe("1", "subscription { silence }").await;
    socket.subscribe("1", "subscription { silence }").await;
    assert_eq!(socket.closed().await, (4409, "Subscriber for 1 already exists".to_owned()));
    server.hands.live_streams(0).await;
}

#[tokio::test]
async fn an_id_that_is_still_preparing_is_4409_too() {
    let server = ToyServer::start().await;
    let mut socket = Socket::ready(server.address).await;
    // Both arrive before the first could do anything.
    socket.subscribe("1", "{ slow }").await;
    socket.subscribe("1", "{ hello }").await;
    assert_eq!(socket.close_code().await, 4409);
}

// 7

#[tokio::test]
async fn a_ping_is_answered_with_its_payload_and_a_pong_is_ignored() {
    let server = ToyServer::start().await;
    let mut socket = Socket::connect(server.address, PROTOCOL).await;
    socket.send(json!({ "type": "ping" })).await;
    assert_eq!(socket.next().await, json!({ "type": "pong" }));
    socket.send_text(r#"{"type":"ping","payload":{"a":1.50,"b":[null]}}"#).await;
    assert_eq!(socket.next().await, json!({ "type": "pong", "payload": { "a": 1.50, "b": [null] } }));
    socket.send(json!({ "type": "pong", "payload": { "x": 1 } })).await;
    assert!(socket.is_quiet().await);
}

// 8

#[tokio::test]
async fn a_validation_error_is_an_error_and_no_complete_follows() {
    let server = ToyServer::start().await;
    let mut socket = Socket::ready(server.address).await;
    for query in ["{", "{ unknown }", "subscription { count(to: 1) more: count(to: 2) }", "subscription { nothing }"] {
        socket.subscribe("1", query).await;
        let message = socket.next().await;
        assert_eq!((&message["type"], &message["id"]), (&json!("error"), &json!("1")), "{query}: {message}");
        assert_eq!(message["payload"][0]["extensions"]["code"], "BAD_REQUEST", "{query}: {message}");
        assert!(socket.is_quiet().await, "{query}");
    }
}

#[tokio::test]
async fn an_execution_error_travels_in_next() {
    let server = ToyServer::start().await;
    let mut socket = Socket::ready(server.address).await;
    for (query, data) in
        [("{ fail }", Value::Null), ("{ maybe }", json!({ "maybe": null })), ("subscription { refuse }", Value::Null)]
    {
        socket.subscribe("1", query).await;
        let message = socket.next().await;
        assert_eq!((&message["type"], &message["payload"]["data"]), (&json!("next"), &data), "{query}: {message}");
        assert_eq!(message["payload"]["errors"][0]["extensions"]["code"], "NOT_FOUND", "{message}");
        assert_eq!(socket.next().await, json!({ "id": "1", "type": "complete" }), "{query}");
    }
    socket.subscribe("1", "subscription { breakOff }").await;
    assert_eq!(socket.data("1").await, json!({ "breakOff": 1 }));
    assert_eq!(socket.next().await["payload"]["errors"][0]["path"], json!(["breakOff"]));
}

// 9

#[tokio::test]
async fn the_clients_complete_is_not_echoed_and_stops_the_producer() {
    let server = ToyServer::start().await;
    let mut socket = Socket::ready(server.address).await;
    socket.subscribe("1", "subscription { silence }").await;
    server.hands.live_streams(1).await;
    socket.complete("1").await;
    server.hands.live_streams(0).await;
    assert!(socket.is_quiet().await);
}

#[tokio::test]
async fn no_next_follows_the_clients_complete() {
    let server = ToyServer::start().await;
    let mut socket = Socket::ready(server.address).await;
    socket.subscribe("1", "subscription { flood(bytes: 1) }").await;
    assert_eq!(socket.data("1").await, json!({ "flood": "x" }));
    socket.complete("1").await;
    socket.send(json!({ "type": "ping" })).await;
    while socket.next().await != json!({ "type": "pong" }) {}
    assert!(socket.is_quiet().await);
}

#[tokio::test]
async fn complete_for_an_unknown_id_is_ignored() {
    let server = ToyServer::start().await;
    let mut socket = Socket::ready(server.address).await;
    socket.complete("never").await;
    assert!(socket.is_quiet().await);
}

// 10

#[tokio::test]
async fn queries_and_mutations_work_over_the_socket() {
    let server = ToyServer::start().await;
    let mut socket = Socket::ready(server.address).await;
    for (query, data) in [
        ("{ hello }", json!({ "hello": "world" })),
        ("mutation { touch }", json!({ "touch": 1 })),
        ("query A($n: Int!) { echo(number: $n) }", json!({ "echo": 7 })),
    ] {
        let payload = json!({ "query": query, "variables": { "n": 7 } });
        socket.send(json!({ "id": "1", "type": "subscribe", "payload": payload })).await;
        assert_eq!(socket.data("1").await, data);
        assert_eq!(socket.next().await, json!({ "id": "1", "type": "complete" }));
    }
}

#[tokio::test]
async fn one_failing_operation_leaves_the_others_running() {
    let server = ToyServer::start().await;
    let mut socket = Socket::ready(server.address).await;
    socket.subscribe("quiet", "subscription { silence }").await;
    for query in ["subscription { refuse }", "subscription { panic }", "{ panic }", "{"] {
        socket.subscribe("bad", query).await;
        while !matches!(socket.next().await["type"].as_str(), Some("complete" | "error")) {}
    }
    server.hands.live_streams(1).await;
    assert!(socket.is_quiet().await);
}

#[tokio::test]
async fn a_stream_ends_with_complete() {
    let server = ToyServer::start().await;
    let mut socket = Socket::ready(server.address).await;
    socket.subscribe("a\"b", "subscription { ...F } fragment F on Subscription { count(to: 2) }").await;
    assert_eq!(socket.data("a\"b").await, json!({ "count": 0 }));
    assert_eq!(socket.data("a\"b").await, json!({ "count": 1 }));
    assert_eq!(socket.next().await, json!({ "id": "a\"b", "type": "complete" }));
}

// 11

#[tokio::test]
async fn a_dropped_connection_frees_everything_at_once() {
    let server = ToyServer::start().await;
    for dropped_hard in [false, true] {
        let mut socket = Socket::ready(server.address).await;
        for id in ["1", "2", "3"] {
            socket.subscribe(id, "subscription { silence }").await;
        }
        server.hands.live_streams(3).await;
        let stream = socket.into_stream();
        if dropped_hard {
            stream.set_zero_linger().unwrap();
        }
        drop(stream);
        server.hands.live_streams(0).await;
    }
}

#[tokio::test]
async fn a_clients_close_is_answered() {
    let server = ToyServer::start().await;
    let mut socket = Socket::ready(server.address).await;
    socket.subscribe("1", "subscription { silence }").await;
    server.hands.live_streams(1).await;
    socket.send_frame(Message::Close(Some(CloseFrame { code: 1000.into(), reason: "bye".into() }))).await;
    assert_eq!(socket.closed().await, (1000, "bye".to_owned()));
    server.hands.live_streams(0).await;
}

// 12

#[tokio::test]
async fn a_silent_client_is_pinged_and_kept_as_long_as_it_answers() {
    let server = limited(|options| (options.ping_interval_ms, options.pong_timeout_ms) = (1_000, 400)).await;
    let mut socket = Socket::ready(server.address).await;
    socket.subscribe("1", "subscription { silence }").await;
    server.hands.live_streams(1).await;
    for second in 1..=3 {
        let_pass(&server, Duration::from_secs(second)).await;
        // Reading a ping answers it.
        assert!(matches!(socket.frame().await, Some(Message::Ping(_))), "{second}");
        assert!(socket.is_quiet().await);
    }
    assert_eq!(*server.hands.streams.borrow(), 1);
}

#[tokio::test]
async fn a_client_that_does_not_answer_a_ping_is_dropped() {
    let server = limited(|options| (options.ping_interval_ms, options.pong_timeout_ms) = (1_000, 400)).await;
    let mut socket = Socket::ready(server.address).await;
    socket.subscribe("1", "subscription { silence }").await;
    server.hands.live_streams(1).await;
    // Whoever does not read does not answer.
    let stream = socket.into_stream();
    let_pass(&server, Duration::from_millis(1_000)).await;
    stream.readable().await.unwrap();
    let_pass(&server, Duration::from_millis(1_400)).await;
    server.hands.live_streams(0).await;
}

// 13

#[tokio::test]
async fn draining_closes_with_1012() {
    let server = ToyServer::start().await;
    let mut idle = Socket::connect(server.address, PROTOCOL).await;
    let mut busy = Socket::ready(server.address).await;
    busy.subscribe("1", "subscription { silence }").await;
    server.hands.live_streams(1).await;
    server.shutdown.request();
    assert_eq!(idle.closed().await, (1012, "Server is stopping".to_owned()));
    assert_eq!(busy.close_code().await, 1012);
    server.hands.live_streams(0).await;
    drop((idle, busy));
    server.context.connections.closed().await;
    assert_eq!(server.context.connections.open(), 0);
}

#[tokio::test]
async fn draining_lets_a_mutation_answer_before_it_closes() {
    let server = ToyServer::start().await;
    let mut socket = Socket::ready(server.address).await;
    socket.subscribe("m", "mutation { slow }").await;
    socket.subscribe("s", "subscription { silence }").await;
    server.hands.live_streams(1).await;
    server.shutdown.request();
    server.hands.live_streams(0).await;
    assert!(socket.is_quiet().await);
    server.hands.gate.add_permits(1);
    assert_eq!(socket.data("m").await, json!({ "slow": true }));
    assert_eq!(socket.next().await, json!({ "id": "m", "type": "complete" }));
    assert_eq!(socket.close_code().await, 1012);
}

#[tokio::test]
async fn a_hard_stop_does_not_wait_for_answers() {
    let server = ToyServer::start().await;
    let mut socket = Socket::ready(server.address).await;
    socket.subscribe("m", "mutation { slow }").await;
    assert!(socket.is_quiet().await);
    server.shutdown.hurry();
    assert_eq!(socket.close_code().await, 1012);
}

#[tokio::test]
async fn overload_closes_with_1013_and_names_the_limit() {
    let server = limited(|options| options.max_connections = 1).await;
    let first = Socket::ready(server.address).await;
    let mut second = Socket::connect(server.address, PROTOCOL).await;
    assert_eq!(second.closed().await, (1013, "Over max_connections, try again later".to_owned()));
    drop((first, second));
    server.none_open().await;
    Socket::ready(server.address).await;
}

// 14

#[tokio::test]
async fn a_stalled_reader_meets_the_write_deadline_and_its_producers_stop() {
    let server = limited(|options| options.write_timeout_ms = 5_000).await;
    let tcp = TcpSocket::new_v4().unwrap();
    tcp.set_recv_buffer_size(4096).unwrap();
    let mut stalled = Socket::over(tcp.connect(server.address).await.unwrap(), PROTOCOL).await;
    stalled.init(Value::Null).await;
    stalled.subscribe("1", "subscription { flood(bytes: 100000) }").await;
    server.hands.live_streams(1).await;
    let mut healthy = Socket::ready(server.address).await;
    // From the moment it is blocked there is a deadline, before every other.
    while server.clock.next_wake() != Some(Duration::from_millis(5_000)) {
        tokio::task::yield_now().await;
    }
    server.clock.advance(Duration::from_millis(5_000));
    server.hands.live_streams(0).await;
    assert_eq!(stalled.closed().await, (1006, String::new()));
    healthy.subscribe("1", "{ hello }").await;
    assert_eq!(healthy.data("1").await, json!({ "hello": "world" }));
}

#[tokio::test]
async fn who_reads_slowly_is_not_stalled() {
    let server = limited(|options| (options.write_timeout_ms, options.ping_interval_ms) = (5_000, 3_600_000)).await;
    let tcp = TcpSocket::new_v4().unwrap();
    tcp.set_recv_buffer_size(4096).unwrap();
    let mut slow = Socket::over(tcp.connect(server.address).await.unwrap(), PROTOCOL).await;
    slow.init(Value::Null).await;
    // One message that takes much longer than the deadline.
    slow.subscribe("1", "subscription { flood(bytes: 50000000) }").await;
    server.hands.live_streams(1).await;
    let mut stream = slow.into_stream();
    read_slowly(&server, &mut stream, Duration::from_millis(5_000)).await;
    server.hands.live_streams(1).await;
}

#[tokio::test]
async fn a_fire_hose_does_not_starve_a_trickle() {
    let server = ToyServer::start().await;
    let mut socket = Socket::ready(server.address).await;
    socket.subscribe("hose", "subscription { flood(bytes: 10) }").await;
    server.hands.live_streams(1).await;
    socket.subscribe("trickle", "subscription { count(to: 10) }").await;
    let mut seen = 0;
    for _ in 0..100_000 {
        let message = socket.next().await;
        if message["id"] == "trickle" {
            assert_eq!(message["payload"]["data"]["count"], seen, "{message}");
            seen += 1;
        }
        if seen == 10 {
            return;
        }
    }
    panic!("only {seen} of the trickle came through");
}

// 15

#[tokio::test]
async fn one_operation_too_many_is_an_error_that_names_the_limit() {
    let server = limited(|options| options.max_operations = 2).await;
    let mut socket = Socket::ready(server.address).await;
    for id in ["1", "2", "3"] {
        socket.subscribe(id, "subscription { silence }").await;
    }
    let message = socket.next().await;
    assert_eq!((&message["type"], &message["id"]), (&json!("error"), &json!("3")), "{message}");
    let extensions = json!({ "code": "LIMIT_EXCEEDED", "limit": "max_operations" });
    assert_eq!(message["payload"][0]["extensions"], extensions);
    socket.complete("1").await;
    socket.subscribe("3", "{ hello }").await;
    assert_eq!(socket.data("3").await, json!({ "hello": "world" }));
}

#[tokio::test]
async fn a_message_over_the_limit_closes_with_1009() {
    let server = limited(|options| options.max_message_bytes = 2_000).await;
    let mut socket = Socket::ready(server.address).await;
    let ping = |bytes: usize| format!("{{\"type\":\"ping\"}}{}", " ".repeat(bytes - 15));
    socket.send_text(ping(2_000)).await;
    assert_eq!(socket.next().await, json!({ "type": "pong" }));
    socket.send_text(ping(2_001)).await;
    assert_eq!(socket.closed().await, (1009, "Over max_message_bytes, which is 2000".to_owned()));
}

#[tokio::test]
async fn too_many_messages_within_a_second_close_with_1013() {
    let server = limited(|options| options.max_messages_per_second = 5).await;
    let mut socket = Socket::ready(server.address).await;
    for _ in 0..4 {
        assert!(socket.is_quiet().await);
    }
    server.clock.advance(Duration::from_secs(1));
    for _ in 0..5 {
        assert!(socket.is_quiet().await);
    }
    socket.send(json!({ "type": "ping" })).await;
    assert_eq!(socket.closed().await, (1013, "Over max_messages_per_second, try again later".to_owned()));
}

// Cursors

#[tokio::test]
async fn a_cursor_in_the_payload_goes_to_its_operation_once() {
    let server = ToyServer::start().await;
    let mut socket = Socket::connect(server.address, PROTOCOL).await;
    socket.init(json!({ "cursors": { "a": "here", "b": null } })).await;
    for (id, expected) in [("a", json!("here")), ("a", Value::Null), ("b", Value::Null), ("c", Value::Null)] {
        socket.subscribe(id, "subscription { cursor }").await;
        assert_eq!(socket.data(id).await, json!({ "cursor": expected }), "{id}");
        assert_eq!(socket.next().await, json!({ "id": id, "type": "complete" }));
    }
}

#[tokio::test]
async fn cursors_that_are_none_are_4400() {
    let server = ToyServer::start().await;
    for cursors in [json!("x"), json!(["x"]), json!({ "a": 1 })] {
        let mut socket = Socket::connect(server.address, PROTOCOL).await;
        socket.send(json!({ "type": "connection_init", "payload": { "cursors": cursors } })).await;
        assert_eq!(socket.close_code().await, 4400, "{cursors}");
    }
}

// The WebSocket protocol itself

#[tokio::test]
async fn a_plain_get_that_asks_for_another_upgrade_is_not_a_websocket() {
    let server = ToyServer::start().await;
    let request = client().get(server.url()).header("connection", "upgrade").header("upgrade", "websocket");
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), 400);
    let response = client().get(server.url()).header("upgrade", "h2c").send().await.unwrap();
    assert_eq!(response.status(), 400);
    assert!(response.text().await.unwrap().contains("`query` is missing"));
}

#[tokio::test]
async fn it_works_nested_in_another_application() {
    let server = ToyServer::start().await;
    let hands = server.hands.clone();
    let toy = crate::support::toy::Toy::new(&hands);
    let inner = meanwhile::http::routes(Plain(toy), HttpOptions::default(), server.context.clone());
    let address = serve(axum::Router::new().nest("/api", inner)).await;
    let response = reqwest::get(format!("http://{address}/api/graphql?query=%7Bhello%7D")).await.unwrap();
    assert_eq!(response.json::<Value>().await.unwrap(), json!({ "data": { "hello": "world" } }));
}
