//! Whatever comes in, the server answers or closes, and goes on. More of it with `PROPTEST_CASES`.

use std::{sync::LazyLock, time::Duration};

use async_graphql::Request;
use futures::{SinkExt, StreamExt};
use meanwhile::{
    graphql::{DocumentLimits, prepare},
    journal::EventCursor,
};
use proptest::{collection::vec, prelude::*, string::string_regex};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    runtime::Runtime,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message, protocol::Role},
};

use crate::support::{raw::Raw, socket::Socket, toy::ToyServer};

/// Longer than any answer takes.
const PATIENCE: Duration = Duration::from_secs(60);

static SHARED: LazyLock<(Runtime, ToyServer)> = LazyLock::new(|| {
    let runtime = Runtime::new().unwrap();
    let server = runtime.block_on(ToyServer::start());
    (runtime, server)
});

fn cases(number: u32) -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").map_or(number, |text| text.parse().unwrap());
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

/// Pieces that documents are made of, put together without sense.
fn document() -> impl Strategy<Value = String> {
    let word = prop::sample::select(vec![
        "{",
        "}",
        "(",
        ")",
        "[",
        "]",
        ":",
        "!",
        "...",
        "@include(if: true)",
        "$v",
        "=",
        "|",
        "&",
        "#",
        "\"",
        "\"\"\"",
        "\\",
        "query",
        "mutation",
        "subscription",
        "fragment",
        "F",
        "on",
        "Query",
        "Subscription",
        "hello",
        "echo",
        "number",
        "slow2",
        "silence",
        "count",
        "to",
        "1",
        "-1.5e9",
        "99999999999999999999",
        "null",
        "true",
        "\u{feff}",
        "é",
        "\n",
        ",",
        "__typename",
        "__schema",
        "x:",
        "{ hello }",
        "...F",
        "fragment F on Query { ...F }",
        "subscription { count(to: 2) }",
    ]);
    vec(word, 0..60).prop_map(|words| words.join(" "))
}

fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        document().prop_map(Value::from),
        prop::sample::select(vec![
            "connection_init",
            "subscribe",
            "start",
            "stop",
            "ping",
            "pong",
            "complete",
            "1",
            "{ hello }"
        ])
        .prop_map(Value::from),
    ];
    let key = prop::sample::select(vec![
        "type",
        "id",
        "payload",
        "query",
        "variables",
        "operationName",
        "extensions",
        "cursors",
        "x",
    ]);
    leaf.prop_recursive(4, 32, 6, move |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            vec((key.clone(), inner), 0..6)
                .prop_map(|pairs| pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()),
        ]
    })
}

/// Messages of a client that is half sane.
fn message() -> impl Strategy<Value = Message> {
    prop_oneof![
        4 => json().prop_map(|json| Message::text(json.to_string())),
        2 => ("[a-z_]{0,3}|subscribe|start|complete|stop|ping", "[12]?", json()).prop_map(|(kind, id, payload)| {
            Message::text(serde_json::json!({ "type": kind, "id": id, "payload": payload }).to_string())
        }),
        2 => document().prop_map(|query| {
            Message::text(serde_json::json!({ "type": "subscribe", "id": query, "payload": { "query": query } }).to_string())
        }),
        1 => any::<String>().prop_map(Message::text),
        1 => vec(any::<u8>(), 0..100).prop_map(Message::binary),
        1 => vec(any::<u8>(), 0..100).prop_map(|bytes| Message::Ping(bytes.into())),
    ]
}

async fn still_serves() {
    let mut socket = Socket::ready(SHARED.1.address).await;
    socket.subscribe("1", "{ hello }").await;
    assert_eq!(socket.data("1").await["hello"], "world");
}

proptest! {
    #![proptest_config(cases(48))]

    #[test]
    fn any_messages_are_answered_or_end_the_connection(
        messages in vec(message(), 1..12),
        protocol in prop::sample::select(vec!["graphql-transport-ws", "graphql-ws"]),
        begins in any::<bool>(),
    ) {
        SHARED.0.block_on(async {
            let talk = async {
                let socket = Socket::connect(SHARED.1.address, protocol).await.into_stream();
                let mut socket = WebSocketStream::from_raw_socket(socket, Role::Client, None).await;
                let begin = begins.then(|| Message::text("{\"type\":\"connection_init\"}"));
                for message in begin.into_iter().chain(messages) {
                    if socket.send(message).await.is_err() {
                        break;
                    }
                }
                // It says goodbye, unless the server does first: then what is left is read to the end.
                let _ = socket.close(None).await;
                while let Some(Ok(_)) = socket.next().await {}
            };
            tokio::time::timeout(PATIENCE, talk).await.expect("the connection hangs");
            tokio::time::timeout(PATIENCE, still_serves()).await.expect("the server hangs");
        });
    }

    #[test]
    fn any_bytes_on_a_websocket_are_answered_or_end_the_connection(bytes in vec(any::<u8>(), 0..400)) {
        SHARED.0.block_on(async {
            // Of its own, because its clock has to run: a goodbye that cannot be answered takes its time.
            let server = ToyServer::start().await;
            let talk = async {
                let mut stream = Socket::connect(server.address, "graphql-transport-ws").await.into_stream();
                let _ = stream.write_all(&bytes).await;
                let _ = stream.shutdown().await;
                let _ = stream.read_to_end(&mut Vec::new()).await;
            };
            let passing = async {
                loop {
                    server.clock.advance(Duration::from_millis(100));
                    tokio::task::yield_now().await;
                }
            };
            let talk = async { tokio::select! { () = talk => (), () = passing => () } };
            tokio::time::timeout(PATIENCE, talk).await.expect("the connection hangs");
        });
    }

    #[test]
    fn any_body_has_an_answer_and_none_is_a_fault_of_the_server(
        body in prop_oneof![
            json().prop_map(|json| json.to_string().into_bytes()),
            document().prop_map(|query| serde_json::json!({ "query": query }).to_string().into_bytes()),
            vec(any::<u8>(), 0..200),
        ],
        accept in prop::sample::select(vec![
            "*/*", "text/event-stream", "multipart/mixed;subscriptionSpec=1.0", "application/graphql-response+json", ";;,=\"",
        ]),
    ) {
        SHARED.0.block_on(async {
            let ask = async {
                let mut stream = TcpStream::connect(SHARED.1.address).await.unwrap();
                let head = format!(
                    "POST /graphql HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n\
                     Accept: {accept}\r\nContent-Length: {}\r\n\r\n",
                    body.len()
                );
                stream.write_all(&[head.as_bytes(), &body].concat()).await.unwrap();
                let mut status = [0; 12];
                stream.read_exact(&mut status).await.unwrap();
                String::from_utf8(status.to_vec()).unwrap()
            };
            let status = tokio::time::timeout(PATIENCE, ask).await.expect("no answer");
            assert!(matches!(&status[9..], "200" | "400" | "406"), "{status}");
        });
    }

    #[test]
    fn any_last_event_id_has_an_answer(id in string_regex("[ -~]{0,80}").unwrap()) {
        SHARED.0.block_on(async {
            let headers = format!("Accept: text/event-stream\r\nLast-Event-ID: {id}\r\n");
            let ask = Raw::post(SHARED.1.address, &headers, "subscription { cursor }");
            let raw = tokio::time::timeout(PATIENCE, ask).await.expect("no answer");
            assert_eq!(raw.status, 200);
        });
    }
}

proptest! {
    #![proptest_config(cases(500))]

    #[test]
    fn any_document_is_prepared_or_refused(text in prop_oneof![document(), any::<String>()], name in "[AF]?") {
        let mut request = Request::new(text).operation_name(name);
        let _ = prepare(&mut request, &DocumentLimits::default());
    }

    #[test]
    fn any_text_is_a_cursor_or_not_and_only_its_own_text_is_one(text in prop_oneof![any::<String>(), "[A-Za-z0-9_-]{34}"]) {
        if let Ok(cursor) = text.parse::<EventCursor>() {
            prop_assert_eq!(cursor.to_string(), text);
        }
    }
}
