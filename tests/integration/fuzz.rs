//! Whatever comes in, the server answers or closes, goes on, and panics nowhere. What was drawn is printed when it
//! fails, and so is the seed that draws it again. More of it with `PROPTEST_CASES`.

mod drawn;

use std::{
    panic,
    sync::{LazyLock, Mutex},
    thread,
    time::Duration,
};

use async_graphql::Request;
use futures::{SinkExt, StreamExt};
use meanwhile::{
    graphql::{DocumentLimits, prepare},
    journal::EventCursor,
};
use proptest::{collection::vec, prelude::*, test_runner::RngSeed};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    runtime::{Builder, Runtime},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message, protocol::Role},
};

use self::drawn::{document, frame, message, request, words};
use crate::support::{
    here::Here,
    socket::Socket,
    subscription::{Said, Subscription, Transport},
    toy::ToyServer,
};

/// Longer than any answer takes.
const PATIENCE: Duration = Duration::from_secs(60);
/// What the threads of the servers are called.
const THREAD: &str = "fuzzed server";

/// What panicked in the servers. A connection that just ends would not tell.
static PANICS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Where the servers run.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    let others = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if thread::current().name() == Some(THREAD) {
            PANICS.lock().unwrap().push(info.to_string());
        }
        others(info);
    }));
    Builder::new_multi_thread().worker_threads(2).thread_name(THREAD).enable_all().build().unwrap()
});

/// A server whose operations are in no need of anything, and one of the whole API, with a task that has ended.
static TOY: LazyLock<ToyServer> =
    LazyLock::new(|| RUNTIME.block_on(async { RUNTIME.spawn(ToyServer::start()).await.unwrap() }));
static HERE: LazyLock<(Here, Ended)> = LazyLock::new(|| {
    let start = async {
        let here = Here::start().await;
        here.pace.add_permits(3);
        let task = here.task(3).await;
        let events = here.journal(&task.to_string()).await;
        let generation = here.manager.journal().generation();
        (here, Ended { cursor: EventCursor { generation, task, seq: 2 }, head: events.len() as u64 })
    };
    RUNTIME.block_on(async { RUNTIME.spawn(start).await.unwrap() })
});

/// A task that has ended.
struct Ended {
    /// Of its second event.
    cursor: EventCursor,
    head: u64,
}

fn cases(number: u32) -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").map_or(number, |text| text.parse().unwrap());
    let mut config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    if let RngSeed::Random = config.rng_seed {
        config.rng_seed = RngSeed::Fixed(rand::random());
    }
    println!("again: PROPTEST_RNG_SEED={} PROPTEST_CASES={cases}", config.rng_seed);
    config
}

/// Runs one case. The server has to come to an end with it, and to serve others then.
fn case<T>(talk: impl Future<Output = T>) -> T {
    LazyLock::force(&TOY);
    RUNTIME.block_on(async {
        let said = tokio::time::timeout(PATIENCE, talk).await.expect("the connection hangs");
        tokio::time::timeout(PATIENCE, still_serves()).await.expect("the server hangs");
        let panics = std::mem::take(&mut *PANICS.lock().unwrap());
        assert!(panics.is_empty(), "{panics:?}");
        said
    })
}

async fn still_serves() {
    let mut socket = Socket::ready(TOY.address).await;
    socket.subscribe("1", "{ hello }").await;
    assert_eq!(socket.data("1").await["hello"], "world");
}

/// Sends bytes and no more, and reads to the end.
async fn say_and_listen(mut stream: TcpStream, bytes: &[u8]) -> Vec<u8> {
    let _ = stream.write_all(bytes).await;
    let _ = stream.shutdown().await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    answer
}

/// As long as time passes: a goodbye that cannot be answered takes its time.
async fn while_time_passes<T>(server: &ToyServer, talk: impl Future<Output = T>) -> T {
    let passing = async {
        loop {
            server.clock.advance(Duration::from_millis(100));
            tokio::task::yield_now().await;
        }
    };
    tokio::select! { said = talk => said, () = passing => unreachable!() }
}

proptest! {
    #![proptest_config(cases(100))]

    #[test]
    fn any_messages_are_answered_or_end_the_connection(
        messages in vec(message(), 1..12),
        protocol in prop::sample::select(vec!["graphql-transport-ws", "graphql-ws"]),
        begins in prop::bool::weighted(0.8),
    ) {
        case(async {
            let socket = Socket::connect(TOY.address, protocol).await.into_stream();
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
        });
    }

    #[test]
    fn any_frames_and_bytes_on_a_websocket_are_answered_or_end_the_connection(
        frames in vec(prop_oneof![9 => frame(), 1 => vec(any::<u8>(), 0..100)], 1..10),
        protocol in prop::sample::select(vec!["graphql-transport-ws", "graphql-ws"]),
    ) {
        case(async {
            // Of its own, because its clock runs.
            let server = RUNTIME.spawn(ToyServer::start()).await.unwrap();
            let mut socket = Socket::connect(server.address, protocol).await;
            socket.send(json!({ "type": "connection_init" })).await;
            socket.next().await;
            while_time_passes(&server, say_and_listen(socket.into_stream(), &frames.concat())).await;
        });
    }

    #[test]
    fn any_bytes_on_a_connection_are_answered_or_end_it(
        requests in vec(prop_oneof![9 => request(), 1 => vec(any::<u8>(), 0..200)], 1..4),
    ) {
        case(async {
            let server = RUNTIME.spawn(ToyServer::start()).await.unwrap();
            let stream = TcpStream::connect(server.address).await.unwrap();
            let answer = while_time_passes(&server, say_and_listen(stream, &requests.concat())).await;
            let answer = String::from_utf8_lossy(&answer);
            assert!(answer.is_empty() || answer.starts_with("HTTP/1."), "{answer}");
            assert!(!answer.contains("HTTP/1.1 500") && !answer.contains("\"INTERNAL\""), "{answer}");
        });
    }

    #[test]
    fn any_body_has_an_answer_and_none_is_a_fault_of_the_server(
        body in prop_oneof![
            drawn::json().prop_map(|json| json.to_string().into_bytes()),
            words().prop_map(|query| json!({ "query": query }).to_string().into_bytes()),
            vec(any::<u8>(), 0..200),
        ],
        accept in prop::sample::select(vec![
            "*/*", "text/event-stream", "multipart/mixed;subscriptionSpec=1.0", "application/graphql-response+json", ";;,=\"",
        ]),
    ) {
        let status = case(async {
            let mut stream = TcpStream::connect(TOY.address).await.unwrap();
            let head = format!(
                "POST /graphql HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n\
                 Accept: {accept}\r\nContent-Length: {}\r\n\r\n",
                body.len()
            );
            stream.write_all(&[head.as_bytes(), &body].concat()).await.unwrap();
            let mut status = [0; 12];
            stream.read_exact(&mut status).await.unwrap();
            String::from_utf8(status.to_vec()).unwrap()
        });
        assert!(matches!(&status[9..], "200" | "400" | "406"), "{status}");
    }

    #[test]
    fn any_document_is_executed_or_refused_with_a_code(
        query in prop_oneof![9 => document(), 1 => words()],
        variables in prop_oneof![3 => Just(json!({ "v": 1 })), 1 => drawn::json().prop_filter("an object", Value::is_object)],
    ) {
        let (here, ended) = &*HERE;
        let (url, query) = (here.url(), query.replace("TASK", &ended.cursor.task.to_string()));
        let answer = case(async {
            let request = json!({ "query": query, "variables": variables });
            let answer = reqwest::Client::new().post(url).json(&request).send().await.unwrap();
            answer.json::<Value>().await.unwrap()
        });
        let errors = answer.get("errors").and_then(Value::as_array);
        assert!(answer.get("data").is_some() || errors.is_some_and(|errors| !errors.is_empty()), "{answer}");
        for error in errors.into_iter().flatten() {
            let code = error["extensions"]["code"].as_str().expect("a code");
            assert!(!matches!(code, "INTERNAL" | "UNAVAILABLE"), "{error}");
        }
    }

    #[test]
    fn any_cursor_is_gone_on_after_or_refused_with_a_code(
        place in 0..25_usize,
        change in prop_oneof![1 => Just(0_u8), 3 => any::<u8>()],
        text in prop_oneof![4 => Just(None), 1 => "[!-~]{1,80}".prop_map(Some)],
        transport in prop::sample::select(Transport::ALL.to_vec()),
        field in prop::sample::select(vec!["taskEvents", "taskProgress"]),
    ) {
        let (here, ended) = &*HERE;
        let cursor = text.unwrap_or_else(|| changed(ended.cursor, place, change));
        let said = case(async {
            let query = format!("subscription($id: ID!, $after: String) {{ {field}(id: $id, after: $after) {{ cursor }} }}");
            let variables = json!({ "id": ended.cursor.task.to_string() });
            Subscription::open(transport, &here.url(), &query, variables, Some(&cursor)).await.unwrap().rest().await
        });
        let known = cursor.parse::<EventCursor>().ok().filter(|cursor| {
            (cursor.generation, cursor.task) == (ended.cursor.generation, ended.cursor.task)
        });
        match known {
            Some(cursor) if cursor.seq <= ended.head => {
                let left = ended.head - cursor.seq;
                assert!(if field == "taskEvents" { said.len() as u64 == left } else { said.len() <= 3 }, "{said:?}");
            }
            other => {
                let [Said::Next(payload)] = &said[..] else { panic!("{said:?}") };
                let code = if other.is_some() { "CURSOR_AHEAD" } else { "CURSOR_INVALID" };
                assert_eq!(payload["errors"][0]["extensions"]["code"], code, "{cursor}");
            }
        }
    }
}

/// The cursor with one byte changed.
fn changed(cursor: EventCursor, place: usize, change: u8) -> String {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    let mut bytes = URL_SAFE_NO_PAD.decode(cursor.to_string()).unwrap();
    bytes[place] ^= change;
    URL_SAFE_NO_PAD.encode(bytes)
}

proptest! {
    #![proptest_config(cases(500))]

    #[test]
    fn any_text_is_prepared_or_refused(text in prop_oneof![words(), any::<String>()], name in "[AF]?") {
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
