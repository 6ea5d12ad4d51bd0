//! Who gets in: the token, other sites' pages, and names that are not ours.

use std::{fs, process::Stdio};

use meanwhile::http::{AccessOptions, HttpOptions, Token};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::support::{
    raw::{Event, Raw},
    server::Server,
    server::client,
    socket::Socket,
    toy::ToyServer,
};

const TOKEN: &str = "a-token-of-enough-characters";
const HELLO: &str = "{ hello }";

async fn toy(access: AccessOptions) -> ToyServer {
    ToyServer::with(HttpOptions { access, ..HttpOptions::default() }, |_| {}).await
}

async fn guarded() -> ToyServer {
    toy(AccessOptions { token: Token::new(TOKEN).ok(), ..AccessOptions::default() }).await
}

/// The status of a request with these headers by POST, and its first error's code.
async fn ask(server: &ToyServer, headers: &[(&str, &str)]) -> (StatusCode, Value) {
    let body = json!({ "query": "mutation { touch }" });
    let request = headers
        .iter()
        .fold(client().post(server.url()).json(&body), |request, (name, value)| request.header(*name, *value));
    let response = request.send().await.unwrap();
    (response.status(), response.json::<Value>().await.unwrap()["errors"][0]["extensions"]["code"].clone())
}

/// The status of an attempt to become a WebSocket.
async fn upgrade(server: &ToyServer, headers: &str) -> u16 {
    let head = "GET /graphql HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: graphql-transport-ws\r\n";
    let host = if headers.contains("Host: ") { "" } else { "Host: localhost\r\n" };
    Raw::send(server.address, &format!("{head}{host}{headers}\r\n")).await.status
}

// The token

#[tokio::test]
async fn without_the_token_nothing_is_executed() {
    let server = guarded().await;
    let wrong = format!("Bearer {TOKEN}x");
    for headers in [&[][..], &[("authorization", wrong.as_str())], &[("authorization", TOKEN)]] {
        assert_eq!(ask(&server, headers).await, (StatusCode::UNAUTHORIZED, json!("UNAUTHENTICATED")), "{headers:?}");
    }
    assert_eq!(server.hands.touched.load(std::sync::atomic::Ordering::SeqCst), 0);
    let right = format!("Bearer {TOKEN}");
    assert_eq!(ask(&server, &[("authorization", right.as_str())]).await, (StatusCode::OK, Value::Null));
    let response = client().get(format!("{}?query=%7Bhello%7D", server.url())).send().await.unwrap();
    assert_eq!(
        (response.status().as_u16(), &response.headers()["www-authenticate"]),
        (401, &"Bearer".parse().unwrap())
    );
}

#[tokio::test]
async fn a_token_in_the_url_is_none() {
    let server = guarded().await;
    for name in ["token", "access_token", "authorization"] {
        let url = format!("{}?query=%7Bhello%7D&{name}={TOKEN}", server.url());
        assert_eq!(client().get(&url).send().await.unwrap().status(), 401, "{name}");
    }
    let mut socket =
        Socket::connect_to(server.address, &format!("/graphql?token={TOKEN}"), "graphql-transport-ws").await;
    socket.send(json!({ "type": "connection_init" })).await;
    assert_eq!(socket.close_code().await, 4403);
}

#[tokio::test]
async fn streams_need_the_token_too() {
    let server = guarded().await;
    for accept in ["text/event-stream", "multipart/mixed;subscriptionSpec=1.0"] {
        let accept = format!("Accept: {accept}\r\n");
        let query = "subscription { count(to: 1) }";
        assert_eq!(Raw::post(server.address, &accept, query).await.status, 401);
        assert_eq!(Raw::get(server.address, &accept, query).await.status, 401);
        let admitted = format!("{accept}Authorization: Bearer {TOKEN}\r\n");
        assert_eq!(Raw::post(server.address, &admitted, query).await.status, 200);
    }
}

#[tokio::test]
async fn a_websocket_brings_the_token_in_its_request_or_in_connection_init() {
    let server = guarded().await;
    for protocol in ["graphql-transport-ws", "graphql-ws"] {
        let authorization = json!({ "authorization": format!("Bearer {TOKEN}") });
        let mut admitted = Socket::connect(server.address, protocol).await;
        admitted.init(authorization).await;
        for payload in [Value::Null, json!({}), json!({ "authorization": "Bearer wrong" })] {
            let mut refused = Socket::connect(server.address, protocol).await;
            refused.send(json!({ "type": "connection_init", "payload": payload })).await;
            let (code, reason) = refused.closed().await;
            assert_eq!(code, 4403);
            assert!(reason.contains("authorization") && reason.ends_with("connection_init"), "{reason}");
        }
    }
    let stream = TcpStream::connect(server.address).await.unwrap();
    let mut socket =
        Socket::with_headers(stream, "graphql-transport-ws", &format!("Authorization: Bearer {TOKEN}\r\n")).await;
    socket.init(Value::Null).await;
    assert_eq!(upgrade(&server, "Authorization: Bearer wrong\r\n").await, 401);
}

#[tokio::test]
async fn the_token_stands_in_no_log_and_in_no_answer() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("token"), TOKEN).unwrap();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_meanwhile"));
    command.args(["--listen", "127.0.0.1:0", "--data"]).arg(folder.path().join("data"));
    command.arg("--token-file").arg(folder.path().join("token"));
    let log = fs::File::create(folder.path().join("log")).unwrap();
    let mut server = Server::spawn_with_log(&mut command, "trace,tungstenite=trace", Stdio::from(log));
    let client = client();
    let mut answers = String::new();
    for token in [TOKEN, "another-token-of-enough-characters"] {
        let request = client.post(server.url()).bearer_auth(token).json(&json!({ "query": "{ kinds { name } }" }));
        answers += &request.send().await.unwrap().text().await.unwrap();
        let address = server.url().trim_start_matches("http://").trim_end_matches("/graphql").to_owned();
        let mut socket = Socket::over(TcpStream::connect(&address).await.unwrap(), "graphql-transport-ws").await;
        socket
            .send(json!({ "type": "connection_init", "payload": { "authorization": format!("Bearer {token}") } }))
            .await;
        answers += &format!("{:?}", socket.frame().await);
    }
    server.kill();
    let log = fs::read_to_string(folder.path().join("log")).unwrap();
    assert!(answers.contains("simulate") && answers.contains("connection_ack"), "{answers}");
    assert!(answers.contains("UNAUTHENTICATED") && answers.contains("4403"), "{answers}");
    assert!(log.contains("TRACE") || log.contains("DEBUG"), "nothing is logged: {log}");
    for text in [&log, &answers] {
        assert!(!text.contains(TOKEN) && !text.contains("another-token"), "{text}");
    }
}

// Pages of other sites, and other names

#[tokio::test]
async fn pages_of_other_sites_are_refused_by_what_the_browser_says_of_them() {
    let server = toy(AccessOptions::default()).await;
    let own = format!("http://{}", server.address);
    for headers in [
        &[("sec-fetch-site", "cross-site")][..],
        &[("sec-fetch-site", "same-site"), ("origin", "http://localhost:3000")],
        &[("origin", "https://evil.example")],
        &[("origin", "null")],
    ] {
        assert_eq!(ask(&server, headers).await, (StatusCode::FORBIDDEN, json!("FORBIDDEN")), "{headers:?}");
    }
    assert_eq!(server.hands.touched.load(std::sync::atomic::Ordering::SeqCst), 0);
    for headers in
        [&[][..], &[("sec-fetch-site", "same-origin")], &[("sec-fetch-site", "none")], &[("origin", own.as_str())]]
    {
        assert_eq!(ask(&server, headers).await.0, StatusCode::OK, "{headers:?}");
    }
}

#[tokio::test]
async fn the_origin_of_a_websocket_is_checked() {
    let server = toy(AccessOptions::default()).await;
    assert_eq!(upgrade(&server, "Origin: https://evil.example\r\n").await, 403);
    assert_eq!(upgrade(&server, "Origin: http://localhost\r\n").await, 101);
    assert_eq!(upgrade(&server, "").await, 101);
}

#[tokio::test]
async fn an_event_source_of_another_site_is_refused() {
    let server = toy(AccessOptions::default()).await;
    let headers = "Accept: text/event-stream\r\nSec-Fetch-Site: cross-site\r\nOrigin: https://evil.example\r\n";
    assert_eq!(Raw::get(server.address, headers, "subscription { silence }").await.status, 403);
    assert_eq!(*server.hands.streams.borrow(), 0);
}

#[tokio::test]
async fn on_the_loopback_another_host_name_is_refused() {
    let server = toy(AccessOptions { loopback_only: true, ..AccessOptions::default() }).await;
    assert_eq!(ask(&server, &[("host", "evil.example")]).await, (StatusCode::FORBIDDEN, json!("FORBIDDEN")));
    for host in ["localhost:1", "LocalHost", "127.0.0.1", "127.1.2.3:80", "[::1]", "[::1]:8000", "a.localhost"] {
        assert_eq!(ask(&server, &[("host", host)]).await.0, StatusCode::OK, "{host}");
    }
    for host in [
        "evil.example:8000",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "evil-localhost",
        "localhost.",
        "127.0.0.1.",
        "[::2]",
        "[::ffff:7f00:1]",
        "::1",
        "0.0.0.0",
        "0177.0.0.1",
        "2130706433",
        "10.0.0.1",
        "localhost@evil.example",
        "user@localhost",
    ] {
        assert_eq!(ask(&server, &[("host", host)]).await.0, StatusCode::FORBIDDEN, "{host}");
    }
    let absolute = "GET http://evil.example/graphql?query=%7Bhello%7D HTTP/1.1\r\nHost: localhost\r\n\r\n";
    assert_eq!(Raw::send(server.address, absolute).await.status, 403);
    assert_eq!(upgrade(&server, "Host: evil.example\r\nOrigin: http://evil.example\r\n").await, 403);
    assert_eq!(upgrade(&server, "Host: 127.0.0.1\r\n").await, 101);
}

#[tokio::test]
async fn without_allowed_origins_no_page_of_another_site_is_told_anything() {
    let server = toy(AccessOptions::default()).await;
    for method in ["OPTIONS", "POST", "GET"] {
        let request = format!(
            "{method} /graphql?query=%7Bhello%7D HTTP/1.1\r\nHost: localhost\r\nOrigin: https://evil.example\r\n\
             Access-Control-Request-Method: POST\r\nContent-Length: 0\r\n\r\n"
        );
        let raw = Raw::send(server.address, request).await;
        assert_eq!(raw.status, 403, "{method}");
        assert!(raw.headers.keys().all(|name| !name.starts_with("access-control-")), "{:?}", raw.headers);
    }
    let own = "OPTIONS /graphql HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let raw = Raw::send(server.address, own).await;
    assert_eq!((raw.status, raw.header("allow")), (405, "GET, POST"));
}

#[tokio::test]
async fn a_preflight_grants_no_way_into_a_private_network() {
    for origin in ["https://app.example", "*"] {
        let server = toy(AccessOptions { allowed_origins: vec![origin.to_owned()], ..AccessOptions::default() }).await;
        let request = "OPTIONS /graphql HTTP/1.1\r\nHost: localhost\r\nOrigin: https://app.example\r\n\
            Access-Control-Request-Method: POST\r\nAccess-Control-Request-Private-Network: true\r\n\r\n";
        let raw = Raw::send(server.address, request).await;
        assert_eq!((raw.status, raw.header("access-control-allow-origin")), (200, origin));
        for absent in ["access-control-allow-private-network", "access-control-allow-credentials"] {
            assert_eq!(raw.header(absent), "", "{origin}");
        }
    }
}

#[tokio::test]
async fn pages_of_allowed_origins_may_ask_and_read() {
    let allowed_origins = vec!["https://app.example".to_owned()];
    let server =
        toy(AccessOptions { allowed_origins, token: Token::new(TOKEN).ok(), ..AccessOptions::default() }).await;
    let preflight = |origin: &'static str| {
        let request = client().request(Method::OPTIONS, server.url()).header("origin", origin);
        request
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "authorization")
    };
    let response = preflight("https://app.example").send().await.unwrap();
    let header = |name: &str| response.headers().get(name).map_or("", |value| value.to_str().unwrap());
    assert_eq!((response.status().as_u16(), header("access-control-allow-origin")), (200, "https://app.example"));
    for allowed in ["authorization", "content-type", "last-event-id"] {
        assert!(header("access-control-allow-headers").contains(allowed), "{allowed}");
    }
    assert_eq!(upgrade(&server, "Origin: https://app.example\r\nSec-Fetch-Site: cross-site\r\n").await, 101);
    let response = preflight("https://evil.example").send().await.unwrap();
    assert_eq!(response.headers().get("access-control-allow-origin"), None);
    let request = client().post(server.url()).json(&json!({ "query": HELLO })).bearer_auth(TOKEN);
    let response =
        request.header("origin", "https://app.example").header("sec-fetch-site", "cross-site").send().await.unwrap();
    assert_eq!(
        (response.status().as_u16(), &response.headers()["access-control-allow-origin"]),
        (200, &"https://app.example".parse().unwrap())
    );
    let vary: Vec<_> =
        response.headers().get_all("vary").iter().map(|value| value.to_str().unwrap().to_lowercase()).collect();
    assert!(vary.join(",").contains("accept") && vary.join(",").contains("origin"), "{vary:?}");
    let headers =
        format!("Accept: text/event-stream\r\nOrigin: https://app.example\r\nAuthorization: Bearer {TOKEN}\r\n");
    let mut stream = Raw::post(server.address, &headers, HELLO).await;
    assert_eq!(stream.header("access-control-allow-origin"), "https://app.example");
    assert_eq!(Event::data(&mut stream).await, json!({ "hello": "world" }));
}
