//! Limits on what is asked, each at its edge, by every transport.

use std::time::Duration;

use meanwhile::{graphql::DocumentLimits, http::HttpOptions};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::{
    raw::{Event, Raw},
    server::client,
    socket::Socket,
    toy::ToyServer,
};

/// What GraphiQL asks first: the query of graphql-js with all of its options.
const INTROSPECTION: &str = "query IntrospectionQuery { __schema { description queryType { name kind }
    mutationType { name kind } subscriptionType { name kind } types { ...FullType }
    directives { name description isRepeatable locations args(includeDeprecated: true) { ...InputValue } } } }
  fragment FullType on __Type { kind name description specifiedByURL isOneOf
    fields(includeDeprecated: true) { name description args(includeDeprecated: true) { ...InputValue }
      type { ...TypeRef } isDeprecated deprecationReason }
    inputFields(includeDeprecated: true) { ...InputValue } interfaces { ...TypeRef }
    enumValues(includeDeprecated: true) { name description isDeprecated deprecationReason }
    possibleTypes { ...TypeRef } }
  fragment InputValue on __InputValue { name description type { ...TypeRef } defaultValue isDeprecated
    deprecationReason }
  fragment TypeRef on __Type { kind name ofType { kind name ofType { kind name ofType { kind name ofType { kind name
    ofType { kind name ofType { kind name ofType { kind name ofType { kind name ofType { kind name } } } } } } } } } }";

async fn with_document(change: impl FnOnce(&mut DocumentLimits)) -> ToyServer {
    let mut options = HttpOptions::default();
    change(&mut options.document);
    ToyServer::with(options, |_| {}).await
}

async fn post(server: &ToyServer, query: &str) -> Value {
    let request = client().post(server.url()).json(&json!({ "query": query }));
    request.send().await.unwrap().json().await.unwrap()
}

/// The limit that an operation is over, by each transport; they have to agree.
async fn limit(server: &ToyServer, query: &str) -> Value {
    let by_post = post(server, query).await["errors"][0]["extensions"].clone();
    if by_post.is_object() {
        assert_eq!(by_post["code"], "LIMIT_EXCEEDED", "{query}");
    }
    let mut sse = Raw::post(server.address, "Accept: text/event-stream\r\n", query).await;
    let by_sse = Event::next(&mut sse).await.data["errors"][0]["extensions"].clone();
    let mut socket = Socket::ready(server.address).await;
    socket.subscribe("1", query).await;
    let by_socket = socket.next().await["payload"][0]["extensions"].clone();
    assert_eq!((&by_post, &by_post), (&by_sse, &by_socket), "{query}");
    by_post["limit"].clone()
}

#[tokio::test]
async fn each_limit_of_documents_admits_what_is_at_it_and_is_named_beyond() {
    let server = with_document(|limits| {
        *limits = DocumentLimits {
            max_document_bytes: 60,
            max_document_tokens: 12,
            max_document_nesting: 3,
            max_depth: 1,
            max_complexity: 4,
            page_entries: 50,
            max_aliases: 2,
            max_root_fields: 4,
            max_directives: 1,
            introspection: true,
        };
    })
    .await;
    for (within, beyond, name) in [
        (format!("{:60}", "{ hello }"), format!("{:61}", "{ hello }"), "max_document_bytes"),
        (
            "query Q{a:hello b:hello hello hello}".into(),
            "query Q{a:hello b:hello hello hello}!".into(),
            "max_document_tokens",
        ),
        ("{...{...{hello}}}".into(), "{...{...{...{hello}}}}".into(), "max_document_nesting"),
        ("{__typename}".into(), "{__schema{queryType}}".into(), "max_depth"),
        ("{a:hello b:hello}".into(), "{a:hello b:hello c:hello}".into(), "max_aliases"),
        ("{hello hello hello hello}".into(), "{hello hello hello hello hello}".into(), "max_root_fields"),
        ("{hello @skip(if:true)}".into(), "{hello @a hello @b}".into(), "max_directives"),
    ] {
        assert_eq!(limit(&server, &within).await, Value::Null, "{within}");
        assert_eq!(limit(&server, &beyond).await, name, "{beyond}");
    }
    let server = with_document(|limits| limits.max_complexity = 2).await;
    assert_eq!(limit(&server, "{hello __typename}").await, Value::Null);
    assert_eq!(limit(&server, "{hello __typename hello}").await, "max_complexity");
}

#[tokio::test]
async fn the_defaults_admit_what_graphiql_asks_first() {
    let server = ToyServer::start().await;
    let answer = post(&server, INTROSPECTION).await;
    assert_eq!(answer.get("errors"), None);
    assert!(answer["data"]["__schema"]["types"].as_array().unwrap().len() > 5);
}

#[tokio::test]
async fn a_megabyte_of_brackets_is_a_clear_error_on_every_transport() {
    let server = with_document(|limits| limits.max_document_bytes = 2 << 20).await;
    let brackets = "[".repeat(1_000_000);
    assert_eq!(post(&server, &brackets).await["errors"][0]["extensions"]["limit"], "max_document_nesting");
    let mut sse = Raw::post(server.address, "Accept: text/event-stream\r\n", &brackets).await;
    assert_eq!(Event::next(&mut sse).await.data["errors"][0]["extensions"]["limit"], "max_document_nesting");
    let mut socket = Socket::ready(server.address).await;
    socket.subscribe("1", &brackets).await;
    assert_eq!(socket.next().await["payload"][0]["extensions"]["limit"], "max_document_nesting");
    // As JSON itself, too.
    let response = client().post(server.url()).header("content-type", "application/json").body(brackets);
    assert_eq!(response.send().await.unwrap().status(), 400);
}

#[tokio::test]
async fn a_query_that_takes_too_long_is_told_and_its_work_dropped() {
    let options = HttpOptions { request_timeout_ms: 2_000, ..HttpOptions::default() };
    let server = ToyServer::with(options, |_| {}).await;
    let mut socket = Socket::ready(server.address).await;
    socket.subscribe("1", "{ slow }").await;
    socket.subscribe("2", "subscription { silence }").await;
    let stream = Raw::post(server.address, "Accept: text/event-stream\r\n", "{ slow }").await;
    let accept = "application/graphql-response+json";
    let request = client().post(server.url()).header("accept", accept).json(&json!({ "query": "{ slow }" }));
    let plain = tokio::spawn(request.send());
    let request = client().post(server.url()).header("accept", accept).json(&json!({ "query": "mutation { slow }" }));
    let mutation = tokio::spawn(request.send());
    server.hands.live_streams(1).await;
    server.hands.waiting(4).await;
    server.clock.advance(Duration::from_millis(2_000));
    let response = plain.await.unwrap().unwrap();
    assert_eq!(response.status(), 504);
    let error = response.json::<Value>().await.unwrap()["errors"][0].clone();
    assert_eq!(error["extensions"]["code"], "TIMEOUT");
    let (told, looks) = ("request_timeout_ms", "may have been done");
    let message = error["message"].as_str().unwrap();
    assert!(message.contains(told) && !message.contains(looks), "{error}");
    let error = mutation.await.unwrap().unwrap().json::<Value>().await.unwrap()["errors"][0].clone();
    let message = error["message"].as_str().unwrap();
    assert!(message.contains(told) && message.contains(looks), "{error}");
    let mut stream = stream;
    assert_eq!(Event::next(&mut stream).await.data["errors"][0]["extensions"]["code"], "TIMEOUT");
    let message = socket.next().await;
    assert_eq!((&message["id"], &message["payload"][0]["extensions"]["code"]), (&json!("1"), &json!("TIMEOUT")));
    server.hands.waiting(0).await;
    // A subscription has no such end.
    assert_eq!(*server.hands.streams.borrow(), 1);
}

#[tokio::test]
async fn a_body_that_does_not_arrive_is_told_after_the_timeout() {
    let options = HttpOptions { request_timeout_ms: 2_000, ..HttpOptions::default() };
    let server = ToyServer::with(options, |_| {}).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let head =
        "POST /graphql HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{";
    stream.write_all(head.as_bytes()).await.unwrap();
    while server.clock.next_wake() != Some(Duration::from_millis(2_000)) {
        tokio::task::yield_now().await;
    }
    server.clock.advance(Duration::from_millis(2_000));
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("TIMEOUT"), "{answer}");
}

#[tokio::test]
async fn a_sockets_operations_are_within_the_limits_of_documents_too() {
    let server = with_document(|limits| limits.max_aliases = 0).await;
    for protocol in ["graphql-transport-ws", "graphql-ws"] {
        let mut socket = Socket::connect(server.address, protocol).await;
        socket.send(json!({ "type": "connection_init" })).await;
        assert_eq!(socket.next().await["type"], "connection_ack");
        let kind = if protocol == "graphql-ws" { "start" } else { "subscribe" };
        let query = "subscription { other: silence }";
        socket.send(json!({ "type": kind, "id": "1", "payload": { "query": query } })).await;
        let mut answer = socket.next().await;
        if answer["type"] == "ka" {
            answer = socket.next().await;
        }
        assert_eq!(answer["type"], "error");
        assert!(answer.to_string().contains("max_aliases"), "{answer}");
    }
}
