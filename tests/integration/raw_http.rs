//! HTTP as bytes on a connection: what may be sent, and what no sane client sends.

use std::{sync::atomic::Ordering, time::Duration};

use meanwhile::http::{HttpOptions, SocketOptions};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::{
    raw::{Event, Raw},
    server::Server,
    socket::Socket,
    toy::ToyServer,
};

const SSE: &str = "Accept: text/event-stream\r\n";
const TOUCH: &str = r#"{"query":"mutation { touch }"}"#;
const HELLO: &str = r#"{"query":"{ hello }"}"#;

async fn limited(change: impl FnOnce(&mut SocketOptions)) -> ToyServer {
    let mut options = HttpOptions::default();
    change(&mut options.sockets);
    ToyServer::with(options, |_| {}).await
}

/// A request by POST with this body.
fn post(headers: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let head = format!(
        "POST /graphql HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n{headers}\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

fn chunked(body: &str) -> String {
    format!(
        "POST /graphql HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n{body}"
    )
}

fn touched(server: &ToyServer) -> usize {
    server.hands.touched.load(Ordering::SeqCst)
}

// Heads

#[tokio::test]
async fn a_head_that_is_too_large_is_refused_and_its_connection_closed() {
    let server = ToyServer::start().await;
    let head = "GET /graphql?query=%7Bhello%7D HTTP/1.1\r\nHost: localhost\r\n";
    let many: String = (0..101).map(|number| format!("X-{number}: 1\r\n")).collect();
    for (request, expected) in [
        (format!("{head}X: {}\r\n\r\n", "x".repeat(200 << 10)), 431),
        (format!("{head}{many}\r\n"), 431),
        (format!("GET /graphql?query={} HTTP/1.1\r\nHost: localhost\r\n\r\n", "x".repeat(200 << 10)), 431),
        ("GET /graphql HTTP/1.1\r\nHost: localhost\r\nX Y: 1\r\n\r\n".to_owned(), 400),
        ("GET /graphql HTTP/1.1\r\nHost: localhost\r\nX: a\0b\r\n\r\n".to_owned(), 400),
        ("GET /graphql HTTP/9.9\r\nHost: localhost\r\n\r\n".to_owned(), 400),
        ("\u{16}\u{3}\u{1} this is TLS\r\n\r\n".to_owned(), 400),
    ] {
        let mut raw = Raw::send(server.address, &request).await;
        let begin: String = request.chars().take(80).collect();
        assert_eq!(raw.status, expected, "{begin}");
        raw.body().await;
        assert!(raw.ends().await, "{begin}");
    }
    let within: String = (0..90).map(|number| format!("X-{number}: {}\r\n", "x".repeat(500))).collect();
    assert_eq!(Raw::send(server.address, format!("{head}{within}\r\n")).await.status, 200);
}

#[tokio::test]
async fn a_connection_without_a_request_is_closed_after_the_time_for_a_head() {
    let server = limited(|sockets| sockets.head_timeout_ms = 50).await;
    let mut idle = TcpStream::connect(server.address).await.unwrap();
    assert_eq!(idle.read(&mut [0]).await.unwrap(), 0);
    // Also one that was used.
    let mut used = Raw::send(server.address, post("", HELLO)).await;
    assert_eq!(used.json().await, json!({ "data": { "hello": "world" } }));
    assert!(used.ends().await);
}

#[tokio::test]
async fn a_host_that_stands_twice_or_not_at_all_is_400() {
    let server = ToyServer::start().await;
    for hosts in ["", "Host: localhost\r\nHost: localhost\r\n", "Host: localhost\r\nHost: evil.example\r\n"] {
        let request = format!("GET /graphql?query=%7Bhello%7D HTTP/1.1\r\n{hosts}\r\n");
        let mut raw = Raw::send(server.address, request).await;
        assert_eq!(raw.status, 400, "{hosts}");
        assert!(raw.body().await.contains("`Host`"), "{hosts}");
    }
}

// Connections

#[tokio::test]
async fn several_requests_in_one_piece_are_answered_in_their_order() {
    let server = ToyServer::start().await;
    let requests = [
        post("", HELLO),
        post("", TOUCH),
        post("", "{"),
        post(SSE, r#"{"query":"subscription { count(to: 1) }"}"#),
        post("Connection: close\r\n", TOUCH),
        // Not asked any more.
        post("", TOUCH),
    ];
    let mut raw = Raw::send(server.address, requests.concat()).await;
    assert_eq!(raw.json().await, json!({ "data": { "hello": "world" } }));
    raw = raw.next().await;
    assert_eq!(raw.json().await, json!({ "data": { "touch": 1 } }));
    raw = raw.next().await;
    assert_eq!((raw.status, raw.json().await["errors"][0]["extensions"]["code"].clone()), (400, json!("BAD_REQUEST")));
    raw = raw.next().await;
    assert_eq!(Event::data(&mut raw).await, json!({ "count": 0 }));
    raw.rest().await;
    raw = raw.next().await;
    assert_eq!(raw.json().await, json!({ "data": { "touch": 2 } }));
    assert!(raw.ends().await);
    assert_eq!(touched(&server), 2);
}

#[tokio::test]
async fn http_1_0_is_served_and_its_streams_end_with_the_connection() {
    let server = ToyServer::start().await;
    let old = |request: Vec<u8>| String::from_utf8(request).unwrap().replace("HTTP/1.1", "HTTP/1.0");
    let mut raw = Raw::send(server.address, old(post("", TOUCH)).replace("Host: localhost\r\n", "")).await;
    assert_eq!((raw.status, raw.json().await), (200, json!({ "data": { "touch": 1 } })));
    assert!(raw.ends().await);
    let stream = old(post(SSE, r#"{"query":"subscription { count(to: 1) }"}"#));
    let mut raw = Raw::send(server.address, stream).await;
    assert_eq!((raw.status, raw.header("transfer-encoding")), (200, ""));
    let expected = ":\n\nretry: 1000\n\nevent: next\ndata: {\"data\":{\"count\":0}}\n\nevent: complete\ndata:\n\n";
    assert_eq!(raw.body().await, expected);
}

#[tokio::test]
async fn a_client_that_has_said_all_and_closed_its_side_stops_a_stream() {
    let server = ToyServer::start().await;
    let mut raw = Raw::post(server.address, SSE, "subscription { silence }").await;
    raw.until("\n\n").await;
    server.hands.live_streams(1).await;
    raw.into_stream().shutdown().await.unwrap();
    server.hands.live_streams(0).await;
}

#[tokio::test]
async fn one_connection_too_many_is_told_also_when_it_has_asked_already() {
    let server = limited(|sockets| sockets.max_sockets = 1).await;
    let mut first = Raw::post(server.address, SSE, "subscription { silence }").await;
    first.until("\n\n").await;
    for _ in 0..20 {
        let mut second = Raw::send(server.address, post("", TOUCH)).await;
        assert_eq!(
            (second.status, second.json().await["errors"][0]["extensions"]["limit"].clone()),
            (503, json!("max_sockets"))
        );
        assert!(second.ends().await);
    }
    assert_eq!(touched(&server), 0);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn connections_leave_the_store_and_programs_the_files_they_need() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("m.toml");
    std::fs::write(&config, "[kinds.hello]\ncommand = [\"echo\", \"hello\"]\n").unwrap();
    let mut command = std::process::Command::new("sh");
    command.args(["-c", "ulimit -n 200; exec \"$0\" serve --listen 127.0.0.1:0 --data \"$1\" --config \"$2\""]);
    command.arg(env!("CARGO_BIN_EXE_meanwhile")).arg(folder.path().join("data")).arg(&config);
    let server = Server::spawn(&mut command);
    let address = server.url().trim_start_matches("http://").trim_end_matches("/graphql").to_owned();
    let connect = async || TcpStream::connect(&address).await.unwrap();
    let (asks, watches) = (connect().await, connect().await);
    let mut others = Vec::new();
    for _ in 0..120 {
        others.push(connect().await);
    }
    let mut last = Raw::over(connect().await, post("", HELLO)).await;
    assert_eq!((last.status, &last.json().await["errors"][0]["extensions"]["limit"]), (503, &json!("max_sockets")));
    let start = r#"{"query":"mutation { startTask(input: { kind: \"hello\" }) { task { id } } }"}"#;
    let id = Raw::over(asks, post("", start)).await.json().await["data"]["startTask"]["task"]["id"].clone();
    let query = format!("subscription {{ taskProgress(id: {id}) {{ status error {{ message }} }} }}");
    let mut raw = Raw::over(watches, post(SSE, json!({ "query": query }).to_string())).await;
    let ended = raw.rest().await;
    assert!(ended.contains("COMPLETED"), "{ended}");
}

// Bodies

#[tokio::test]
async fn a_body_in_chunks_is_read_and_what_is_none_is_refused() {
    let server = ToyServer::start().await;
    let good = format!(
        "5;name=value\r\n{}\r\n{:x}\r\n{}\r\n0\r\nX-Trailer: 1\r\n\r\n",
        &HELLO[..5],
        HELLO.len() - 5,
        &HELLO[5..]
    );
    let mut raw = Raw::send(server.address, chunked(&good)).await;
    assert_eq!(raw.json().await, json!({ "data": { "hello": "world" } }));
    let whole = format!("{:x}\r\n{TOUCH}\r\n", TOUCH.len());
    for bad in [
        "x\r\n".to_owned(),
        "-1\r\n".to_owned(),
        "ffffffffffffffffff\r\n".to_owned(),
        format!("{:x}\r\n{TOUCH}0\r\n\r\n", TOUCH.len()),
        format!("{whole}0\r\nnot a trailer\r\n\r\n"),
    ] {
        let raw = Raw::send(server.address, chunked(&bad)).await;
        assert_eq!(raw.status, 400, "{bad}");
    }
    assert_eq!(touched(&server), 0);
}

#[tokio::test]
async fn what_follows_a_body_is_another_request_or_nothing() {
    let server = ToyServer::start().await;
    let whole = format!("{:x}\r\n{TOUCH}\r\n0\r\n\r\n", TOUCH.len());
    for first in [post("", TOUCH), chunked(&whole).into_bytes()] {
        let mut raw =
            Raw::send(server.address, [&first[..], b"{\"query\":\"mutation { touch }\"}\r\n\r\n"].concat()).await;
        assert_eq!(raw.status, 200);
        raw.body().await;
        raw = raw.next().await;
        assert_eq!(raw.status, 400);
        raw.body().await;
        assert!(raw.ends().await);
    }
    assert_eq!(touched(&server), 2);
}

#[tokio::test]
async fn lengths_that_contradict_each_other_are_no_way_to_smuggle_a_request() {
    let server = ToyServer::start().await;
    let smuggled = format!("POST /graphql HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n", TOUCH.len());
    for headers in
        ["Content-Length: 3\r\n", "Content-Length: -1\r\n", "Content-Length: 1, 2\r\n", "Transfer-Encoding: x\r\n"]
    {
        let raw =
            Raw::send(server.address, format!("{smuggled}Content-Type: application/json\r\n{headers}\r\n{TOUCH}"))
                .await;
        assert_eq!(raw.status, 400, "{headers}");
    }
    // Chunks count, and the length does not.
    let body = format!("0\r\n\r\n{}", String::from_utf8(post("", TOUCH)).unwrap());
    let both = format!(
        "POST /graphql HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Transfer-Encoding: chunked\r\n\r\n{body}",
        body.len()
    );
    let mut raw = Raw::send(server.address, both).await;
    assert_eq!(raw.status, 400);
    raw.body().await;
    assert!(raw.ends().await);
    assert_eq!(touched(&server), 0);
}

#[tokio::test]
async fn a_body_that_is_too_large_is_told_also_to_who_goes_on_sending() {
    let server = ToyServer::start().await;
    for chunks in [false, true] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        let body = "x".repeat(64 << 20);
        let request = match chunks {
            false => post("", &body),
            true => chunked(&format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len())).into_bytes(),
        };
        // Like a client that reads when it has said all.
        let _ = stream.write_all(&request).await;
        let mut raw = Raw::read(tokio::io::BufReader::new(stream)).await;
        assert_eq!(
            (raw.status, raw.json().await["errors"][0]["extensions"]["limit"].clone()),
            (413, json!("max_body_bytes"))
        );
        assert!(raw.ends().await);
    }
}

#[tokio::test]
async fn a_client_that_asks_first_is_told_whether_to_send_its_body() {
    let server = ToyServer::start().await;
    let expect = "Expect: 100-continue\r\n";
    let head = |body: &str| String::from_utf8(post(expect, body)).unwrap().replace(body, "");
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(head(TOUCH).as_bytes()).await.unwrap();
    let mut go_on = [0; 25];
    stream.read_exact(&mut go_on).await.unwrap();
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    assert_eq!(Raw::over(stream, TOUCH).await.status, 200);
    // What will not be read need not be sent.
    let refused = head(TOUCH).replace("application/json", "text/plain");
    assert_eq!(Raw::send(server.address, refused).await.status, 415);
}

#[tokio::test]
async fn a_body_in_a_content_coding_is_415() {
    let server = ToyServer::start().await;
    for coding in ["gzip", "br", "identity, gzip"] {
        let raw = Raw::send(server.address, post(&format!("Content-Encoding: {coding}\r\n"), TOUCH)).await;
        assert_eq!(raw.status, 415, "{coding}");
    }
    assert_eq!(touched(&server), 0);
    assert_eq!(Raw::send(server.address, post("Content-Encoding: identity\r\n", TOUCH)).await.status, 200);
}

// JSON

#[tokio::test]
async fn json_that_is_hostile_is_400_and_says_why() {
    let server = ToyServer::start().await;
    let deep = |levels: usize| {
        format!(r#"{{"query":"{{hello}}","variables":{{"x":{}{}}}}}"#, "[".repeat(levels), "]".repeat(levels))
    };
    for (body, why) in [
        (r#"{"query":"mutation { touch }","query":"{ hello }"}"#.into(), "duplicate field `query`"),
        (r#"{"query":"{ hello }","qu\u0065ry":"mutation { touch }"}"#.into(), "duplicate field `query`"),
        (r#"{"query":"{ hello }","variables":{},"variables":{}}"#.into(), "duplicate field `variables`"),
        (deep(1_000_000), "recursion limit"),
        (deep(200), "recursion limit"),
        (r#"{"query":"\ud800"}"#.into(), "hex escape"),
        (r#"{"query":"{ hello }","variables":{"x":"\udfff"}}"#.into(), "surrogate"),
        (r#"{"query":"{ hello }","variables":{"\ud834\n":1}}"#.into(), "hex escape"),
        (r#"{"query":"{ hello }","variables":{"x":1e999}}"#.into(), "number out of range"),
        (r#"{"query":"{ hello }","variables":{"x":NaN}}"#.into(), "expected value"),
        ("{\"query\":\"{ hello }\0\"}".into(), "control character"),
        (r#"{"query":"{ hello }"} {"query":"{ hello }"}"#.into(), "trailing characters"),
        (r#"{"query":"{ hello }",}"#.into(), "key must be a string"),
    ] {
        let body: String = body;
        let mut raw = Raw::send(server.address, post("", &body)).await;
        let begin: String = body.chars().take(80).collect();
        assert_eq!(raw.status, 400, "{begin}");
        let error = raw.json().await["errors"][0].clone();
        assert_eq!(error["extensions"]["code"], "BAD_REQUEST");
        assert!(error["message"].as_str().unwrap().contains(why), "{begin}: {error}");
    }
    for bytes in [&b"{\"query\":\"{ hello } # \xff\"}"[..], b"\xff\xfe{\0", b"\xef\xbb\xbf{\"query\":\"{ hello }\"}"] {
        assert_eq!(Raw::send(server.address, post("", bytes)).await.status, 400, "{bytes:?}");
    }
    assert_eq!(touched(&server), 0);
    let mut raw = Raw::send(server.address, post("", deep(100))).await;
    assert_eq!(raw.json().await, json!({ "data": { "hello": "world" } }));
}

#[tokio::test]
async fn the_same_json_over_a_websocket_is_4400() {
    let server = ToyServer::start().await;
    let deep = |levels: usize| format!("{}{}", r#"{"x":"#.repeat(levels), "}".repeat(levels));
    for text in [
        r#"{"type":"ping","type":"pong"}"#.to_owned(),
        r#"{"type":"subscribe","id":"1","payload":{"query":"{hello}","query":"{hello}"}}"#.to_owned(),
        r#"{"type":"subscribe","id":"1","id":"2","payload":{"query":"{hello}"}}"#.to_owned(),
        r#"{"type":"ping","payload":{"x":"\ud800"}}"#.to_owned(),
        r#"{"type":"complete","id":"\ud800"}"#.to_owned(),
        format!(r#"{{"type":"ping","payload":{}}}"#, "[".repeat(100_000)),
        format!(r#"{{"type":"ping","payload":{}1{}}}"#, r#"{"x":"#.repeat(100_000), "}".repeat(100_000)),
        format!(r#"{{"type":"subscribe","id":"1","payload":{{"query":"{{hello}}","variables":{}}}}}"#, deep(10_000)),
        r#"{"type":"ping"} {"type":"ping"}"#.to_owned(),
    ] {
        let mut socket = Socket::ready(server.address).await;
        socket.send_text(&*text).await;
        let begin: String = text.chars().take(80).collect();
        assert_eq!(socket.close_code().await, 4400, "{begin}");
    }
}

#[tokio::test]
async fn a_url_is_read_as_strictly_as_a_body() {
    let server = ToyServer::start().await;
    for (query, why) in [
        ("query=%7Bhello%7D&query=%7Bhello%7D", "twice"),
        ("query=%7Bhello%7D&variables=%7B%22x%22%3A%22%ff%22%7D", "UTF-8"),
        ("query=%ff", "UTF-8"),
        ("query=%7Bhello%7D&variables=%7B%22x%22%3A%5B", "`variables` must be an object"),
        ("query=%7Bhello%7D&variables=%22x%22", "`variables` must be an object"),
        ("query=%7Bhello%7D&extensions=1", "`extensions` must be an object"),
        ("", "`query` is missing"),
    ] {
        let request = format!("GET /graphql?{query} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let mut raw = Raw::send(server.address, request).await;
        assert_eq!(raw.status, 400, "{query}");
        let error = raw.json().await["errors"][0].clone();
        assert!(error["message"].as_str().unwrap().contains(why), "{query}: {error}");
    }
    let spaces = "GET /graphql?query=query($n:Int!)%7B+echo(number:+$n)+%7D&variables=%7B%22n%22:+7%7D HTTP/1.1\r\nHost: localhost\r\n\r\n";
    assert_eq!(Raw::send(server.address, spaces).await.json().await, json!({ "data": { "echo": 7 } }));
}

// Methods

#[tokio::test]
async fn head_is_answered_like_get_without_a_body_and_starts_no_stream() {
    let server = ToyServer::start().await;
    let head = |accept: &str, query: &str| {
        let escaped: String = query.bytes().map(|byte| format!("%{byte:02x}")).collect();
        format!("HEAD /graphql?query={escaped} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{accept}\r\n")
    };
    for (accept, query, status, content_type) in [
        ("", "{ hello }", 200, "application/json; charset=utf-8"),
        ("", "mutation { touch }", 405, "application/json; charset=utf-8"),
        (SSE, "subscription { silence }", 200, "text/event-stream; charset=utf-8"),
    ] {
        let mut raw = Raw::send(server.address, head(accept, query)).await;
        assert_eq!((raw.status, raw.header("content-type")), (status, content_type), "{query}");
        assert!(raw.ends().await, "{query}");
    }
    server.hands.live_streams(0).await;
    server.none_open().await;
    assert_eq!(touched(&server), 0);
}

#[tokio::test]
async fn a_stream_by_get_takes_variables_and_a_name_from_the_url() {
    let server = ToyServer::start().await;
    let query = "query Q { hello } subscription S($to: Int!) { count(to: $to) }";
    let escaped: String = query.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let request = format!(
        "GET /graphql?query={escaped}&operationName=S&variables=%7B%22to%22%3A2%7D HTTP/1.1\r\nHost: localhost\r\n{SSE}\r\n"
    );
    let mut raw = Raw::send(server.address, request).await;
    for number in [0, 1] {
        assert_eq!(Event::data(&mut raw).await, json!({ "count": number }));
    }
    assert_eq!(raw.rest().await, "event: complete\ndata:\n\n");
}

// The end

#[tokio::test]
async fn a_server_that_stops_ends_whatever_connections_are_open() {
    let server = limited(|sockets| sockets.head_timeout_ms = 50).await;
    let connect = || TcpStream::connect(server.address);
    let mut open = Vec::new();
    for bytes in [
        &b""[..],
        b"POST /graphql HTTP/1.1\r\nHost: lo",
        b"PUT",
        b"POST /graphql HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{",
        b"POST /graphql HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{",
    ] {
        let mut stream = connect().await.unwrap();
        stream.write_all(bytes).await.unwrap();
        open.push(stream);
    }
    let idle = Socket::connect(server.address, "graphql-transport-ws").await;
    let mut half = Socket::ready(server.address).await;
    half.subscribe("1", "subscription { silence }").await;
    server.hands.live_streams(1).await;
    half.send_bytes(&[0x81, 0xfe]).await;
    let stream = Raw::post(server.address, SSE, "subscription { silence }").await;
    let parts =
        Raw::post(server.address, "Accept: multipart/mixed;subscriptionSpec=1.0\r\n", "subscription { silence }").await;
    server.hands.live_streams(3).await;
    // Bodies that do not arrive have their own end.
    while server.clock.next_wake().is_none() {
        tokio::task::yield_now().await;
    }
    server.shutdown.request();
    let ends = async {
        for mut stream in open {
            let _ = stream.read_to_end(&mut Vec::new()).await;
        }
        for mut socket in [idle, half] {
            assert_eq!(socket.closed().await.0, 1012);
        }
        drop((stream, parts));
    };
    let passing = async {
        loop {
            server.clock.advance(Duration::from_millis(100));
            tokio::task::yield_now().await;
        }
    };
    tokio::select! { () = ends => (), () = passing => () }
    server.hands.live_streams(0).await;
    server.context.connections.closed().await;
    assert_eq!(TcpStream::connect(server.address).await.unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
    let _: Value = Value::Null;
}
