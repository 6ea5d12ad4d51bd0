//! GraphQL over HTTP, by POST and GET.

use std::sync::{Arc, atomic::Ordering};

use futures::FutureExt;
use meanwhile::{
    clock::{Clock, ManualClock},
    graphql::{DocumentLimits, Plain},
    http::{HealthCheck, HttpContext, HttpOptions, health, not_found, routes},
    shutdown::Shutdown,
};
use reqwest::{RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};

use crate::support::{
    server::client,
    toy::{ToyServer, foreign_schema, serve},
};

const GRAPHQL_RESPONSE: &str = "application/graphql-response+json";

fn post(server: &ToyServer, body: impl Into<reqwest::Body>) -> RequestBuilder {
    client().post(server.url()).header("content-type", "application/json").body(body)
}

fn query(server: &ToyServer, query: &str) -> RequestBuilder {
    post(server, json!({ "query": query }).to_string())
}

fn get(server: &ToyServer, query: &str) -> RequestBuilder {
    let escaped: String = query.bytes().map(|byte| format!("%{byte:02x}")).collect();
    client().get(format!("{}?query={escaped}", server.url()))
}

fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    response.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

/// Its status and its body.
async fn answer(request: RequestBuilder) -> (StatusCode, Value) {
    let response = request.send().await.unwrap();
    let status = response.status();
    (status, serde_json::from_slice(&response.bytes().await.unwrap()).unwrap_or_default())
}

#[tokio::test]
async fn json_is_answered_with_json_unless_the_newer_type_is_preferred() {
    let server = ToyServer::start().await;
    for (accept, expected) in [
        (None, "application/json; charset=utf-8"),
        (Some("*/*"), "application/json; charset=utf-8"),
        (Some("application/json"), "application/json; charset=utf-8"),
        (Some(GRAPHQL_RESPONSE), "application/graphql-response+json; charset=utf-8"),
        (
            Some("application/graphql-response+json, application/json;q=0.9"),
            "application/graphql-response+json; charset=utf-8",
        ),
        (Some("application/graphql-response+json;q=0.2, application/json;q=0.9"), "application/json; charset=utf-8"),
        (Some("application/json;q=0, */*"), "application/graphql-response+json; charset=utf-8"),
        (Some("text/event-stream, application/json;q=0.1"), "application/json; charset=utf-8"),
        (Some("multipart/mixed;subscriptionSpec=1.0, application/json"), "application/json; charset=utf-8"),
    ] {
        for request in [query(&server, "{ hello }"), get(&server, "{ hello }")] {
            let request = match accept {
                Some(accept) => request.header("accept", accept),
                None => request,
            };
            let response = request.send().await.unwrap();
            assert_eq!(response.status(), 200);
            assert_eq!((header(&response, "content-type"), header(&response, "vary")), (expected, "Accept"));
            assert_eq!(response.json::<Value>().await.unwrap(), json!({ "data": { "hello": "world" } }));
        }
    }
}

#[tokio::test]
async fn what_fits_no_accepted_type_is_406() {
    let server = ToyServer::start().await;
    let unfit = ["text/html", "image/*, text/*", "*/*;q=0", "application/json;q=0.0", "multipart/mixed", "json"];
    for accept in unfit {
        let response = query(&server, "mutation { touch }").header("accept", accept).send().await.unwrap();
        assert_eq!((response.status().as_u16(), header(&response, "vary")), (406, "Accept"), "{accept}");
        let body: Value = response.json().await.unwrap();
        assert!(body["errors"][0]["message"].as_str().unwrap().contains("application/json"), "{body}");
    }
    assert_eq!(server.hands.touched.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_malformed_request_is_400_whatever_is_accepted() {
    let server = ToyServer::start().await;
    for accept in ["application/json", GRAPHQL_RESPONSE, "*/*"] {
        for body in [
            "",
            "{",
            "null",
            "{}",
            r#"{"query":1}"#,
            r#"{"query":"{hello}","variables":1}"#,
            r#"{"query":"{hello}","operationName":1}"#,
            r#"{"query":"{hello}","extensions":1}"#,
            "[]",
            "[1]",
        ] {
            let (status, answer) = answer(post(&server, body).header("accept", accept)).await;
            assert_eq!(status, 400, "{accept} {body}");
            assert_eq!(answer["errors"][0]["extensions"]["code"], "BAD_REQUEST", "{answer}");
            assert_eq!(answer.get("data"), None);
        }
        let (status, _) = answer(client().get(server.url()).header("accept", accept)).await;
        assert_eq!(status, 400);
    }
}

#[tokio::test]
async fn a_document_error_is_400_without_data_or_200_by_the_accepted_type() {
    let server = ToyServer::start().await;
    for text in [
        "{",
        "{ unknown }",
        "{ echo }",
        "{ echo(number: \"x\") }",
        "query A { hello } query B { hello }",
        "query ($n: Int!) { echo(number: $n) }",
        "subscription { count(to: 1) count2: count(to: 1) }",
    ] {
        for request in [query(&server, text), get(&server, text)] {
            let json = request.try_clone().unwrap();
            let (status, body) = answer(request.header("accept", GRAPHQL_RESPONSE)).await;
            assert_eq!((status.as_u16(), body.get("data")), (400, None), "{text}: {body}");
            assert_eq!(body["errors"][0]["extensions"]["code"], "BAD_REQUEST", "{text}: {body}");
            let (status, body) = answer(json.header("accept", "application/json")).await;
            assert_eq!((status.as_u16(), body.get("data")), (200, None), "{text}: {body}");
        }
    }
}

#[tokio::test]
async fn an_execution_error_is_200_with_data() {
    let server = ToyServer::start().await;
    for (text, data) in [("{ fail }", Value::Null), ("{ maybe hello }", json!({ "maybe": null, "hello": "world" }))] {
        let (status, body) = answer(query(&server, text).header("accept", GRAPHQL_RESPONSE)).await;
        assert_eq!((status.as_u16(), body.get("data")), (200, Some(&data)), "{body}");
        assert_eq!(body["errors"][0]["extensions"]["code"], "NOT_FOUND", "{body}");
    }
}

#[tokio::test]
async fn a_mutation_over_get_is_405_before_anything_runs() {
    let server = ToyServer::start().await;
    let response = get(&server, "mutation { touch }").send().await.unwrap();
    assert_eq!((response.status().as_u16(), header(&response, "allow")), (405, "POST"));
    assert!(response.text().await.unwrap().contains("POST"));
    assert_eq!(server.hands.touched.load(Ordering::SeqCst), 0);
    let (status, body) = answer(query(&server, "mutation { touch }")).await;
    assert_eq!((status.as_u16(), body), (200, json!({ "data": { "touch": 1 } })));
}

#[tokio::test]
async fn other_methods_are_405_and_name_the_right_ones() {
    let server = ToyServer::start().await;
    for method in [reqwest::Method::PUT, reqwest::Method::DELETE, reqwest::Method::PATCH] {
        let response = client().request(method, server.url()).send().await.unwrap();
        assert_eq!((response.status().as_u16(), header(&response, "allow")), (405, "GET, POST"));
    }
}

#[tokio::test]
async fn a_post_that_is_not_json_is_415() {
    let server = ToyServer::start().await;
    for content_type in [
        None,
        Some("text/plain"),
        Some("application/x-www-form-urlencoded"),
        Some("multipart/form-data; boundary=x"),
        Some("application/json; charset=latin1"),
    ] {
        let mut request = client().post(server.url()).body(r#"{"query":"mutation { touch }"}"#);
        if let Some(content_type) = content_type {
            request = request.header("content-type", content_type);
        }
        assert_eq!(answer(request).await.0, 415, "{content_type:?}");
    }
    assert_eq!(server.hands.touched.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_body_over_the_limit_is_413_and_names_it() {
    let options = HttpOptions { max_body_bytes: 1_000, ..HttpOptions::default() };
    let server = ToyServer::with(options, |_| {}).await;
    let body = |bytes: usize| format!("{:bytes$}", r#"{"query":"{hello}"}"#);
    assert_eq!(answer(post(&server, body(1_000))).await.0, 200);
    let (status, answered) = answer(post(&server, body(1_001))).await;
    assert_eq!(status, 413);
    assert_eq!(answered["errors"][0]["extensions"], json!({ "code": "LIMIT_EXCEEDED", "limit": "max_body_bytes" }));
    // Also when nothing says beforehand how long it is.
    let chunks = futures::stream::iter([Ok::<_, std::io::Error>(body(600)), Ok(body(600))]);
    assert_eq!(answer(post(&server, reqwest::Body::wrap_stream(chunks))).await.0, 413);
}

#[tokio::test]
async fn a_list_of_requests_is_answered_in_its_order() {
    let server = ToyServer::start().await;
    let requests = json!([{ "query": "{ hello }" }, { "query": "{ unknown }" }, { "query": "mutation { touch }" }]);
    let (status, body) = answer(post(&server, requests.to_string())).await;
    assert_eq!(status, 200);
    assert_eq!(body[0], json!({ "data": { "hello": "world" } }));
    assert_eq!(body[1]["errors"][0]["extensions"]["code"], "BAD_REQUEST");
    assert_eq!(body[2], json!({ "data": { "touch": 1 } }));
}

#[tokio::test]
async fn a_fault_of_one_request_in_a_list_leaves_the_others_their_answers() {
    let server = ToyServer::start().await;
    let requests = json!([{ "query": "mutation { touch }" }, { "query": "{ panic }" }, { "query": "{ hello }" }]);
    let (status, body) = answer(post(&server, requests.to_string())).await;
    assert_eq!(status, 200);
    assert_eq!((&body[0]["data"], &body[2]["data"]), (&json!({ "touch": 1 }), &json!({ "hello": "world" })));
    assert_eq!(body[1]["errors"][0]["extensions"]["code"], "INTERNAL", "{body}");
}

#[tokio::test]
async fn nothing_is_compressed_so_that_no_stream_is_held_back() {
    let server = ToyServer::start().await;
    for (accept, text) in [("application/json", "{ hello }"), ("text/event-stream", "subscription { silence }")] {
        let request =
            query(&server, text).header("accept", accept).header("accept-encoding", "gzip, deflate, br, zstd");
        let mut response = request.send().await.unwrap();
        assert_eq!((response.status().as_u16(), header(&response, "content-encoding")), (200, ""));
        // It comes although there is no end.
        assert!(response.chunk().await.unwrap().is_some());
    }
}

#[tokio::test]
async fn a_list_over_the_limit_is_refused_and_the_limit_named() {
    let options = HttpOptions { max_batch_requests: 2, ..HttpOptions::default() };
    let server = ToyServer::with(options, |_| {}).await;
    let list = |count| Value::from(vec![json!({ "query": "mutation { touch }" }); count]).to_string();
    assert_eq!(answer(post(&server, list(2))).await.0, 200);
    let (status, body) = answer(post(&server, list(3))).await;
    assert_eq!((status.as_u16(), &body["errors"][0]["extensions"]["limit"]), (400, &json!("max_batch_requests")));
    assert_eq!(server.hands.touched.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_subscription_over_plain_json_is_told_where_to_go() {
    let server = ToyServer::start().await;
    for (accept, expected) in [("application/json", 200), (GRAPHQL_RESPONSE, 400)] {
        let (status, body) = answer(query(&server, "subscription { silence }").header("accept", accept)).await;
        assert_eq!(status, expected);
        let message = body["errors"][0]["message"].as_str().unwrap();
        for transport in ["graphql-transport-ws", "text/event-stream", "multipart/mixed; subscriptionSpec=1.0"] {
            assert!(message.contains(transport), "{message}");
        }
    }
    assert_eq!(*server.hands.streams.borrow(), 0);
}

#[tokio::test]
async fn a_document_over_a_limit_is_refused_before_it_is_parsed() {
    let document = DocumentLimits { max_document_bytes: 2_000_000, ..DocumentLimits::default() };
    let server = ToyServer::with(HttpOptions { document, ..HttpOptions::default() }, |_| {}).await;
    for text in ["[".repeat(1 << 20), "{a".repeat(1 << 19), "{a(b:".repeat(1 << 18)] {
        let (status, body) = answer(query(&server, &text).header("accept", GRAPHQL_RESPONSE)).await;
        assert_eq!(status, 400);
        let extensions = json!({ "code": "LIMIT_EXCEEDED", "limit": "max_document_nesting" });
        assert_eq!(body["errors"][0]["extensions"], extensions);
    }
}

#[tokio::test]
async fn a_panic_is_a_500_and_the_server_goes_on() {
    let server = ToyServer::start().await;
    let (status, body) = answer(query(&server, "{ panic }")).await;
    assert_eq!((status.as_u16(), &body["errors"][0]["extensions"]["code"]), (500, &json!("INTERNAL")));
    assert_eq!(answer(query(&server, "{ hello }")).await.0, 200);
}

#[tokio::test]
async fn any_executor_is_served() {
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(chrono::DateTime::UNIX_EPOCH));
    let context = HttpContext::new(clock, Shutdown::new());
    let address = serve(routes(Plain(foreign_schema()), HttpOptions::default(), context)).await;
    let response = reqwest::get(format!("http://{address}/graphql?query=%7Btwo%7D")).await.unwrap();
    assert_eq!(response.json::<Value>().await.unwrap(), json!({ "data": { "two": 2 } }));
}

async fn health_of(check: HealthCheck) -> (String, Shutdown, ManualClock) {
    let (clock, shutdown) = (ManualClock::new(chrono::DateTime::UNIX_EPOCH), Shutdown::new());
    let app = health(check, Arc::new(clock.clone()), shutdown.clone()).fallback(not_found);
    (format!("http://{}", serve(app).await), shutdown, clock)
}

async fn look(url: String) -> (StatusCode, Value) {
    answer(client().get(url)).await
}

#[tokio::test]
async fn health_says_whether_requests_can_be_served() {
    let (url, shutdown, _) = health_of(Arc::new(|| async { Ok(()) }.boxed())).await;
    assert_eq!(look(format!("{url}/health/live")).await, (StatusCode::OK, json!({ "status": "live" })));
    assert_eq!(look(format!("{url}/health/ready")).await, (StatusCode::OK, json!({ "status": "ready" })));
    shutdown.request();
    let (status, body) = look(format!("{url}/health/ready")).await;
    assert_eq!((status.as_u16(), &body["reason"]), (503, &json!("stopping")));
    assert_eq!(look(format!("{url}/health/live")).await.0, 200);
}

#[tokio::test]
async fn a_failed_or_hanging_check_is_not_ready_and_says_why() {
    let (url, ..) = health_of(Arc::new(|| async { Err("the store has failed".to_owned()) }.boxed())).await;
    let (status, body) = look(format!("{url}/health/ready")).await;
    assert_eq!((status.as_u16(), &body["reason"]), (503, &json!("the store has failed")));

    let (url, _, clock) = health_of(Arc::new(|| std::future::pending().boxed())).await;
    let asked = tokio::spawn(look(format!("{url}/health/ready")));
    let wake = loop {
        match clock.next_wake() {
            Some(wake) => break wake,
            None => tokio::task::yield_now().await,
        }
    };
    clock.advance(wake);
    let (status, body) = asked.await.unwrap();
    assert_eq!((status.as_u16(), &body["reason"]), (503, &json!("no answer within 5000 ms")));
}

#[tokio::test]
async fn an_unknown_path_says_where_something_is() {
    let (url, ..) = health_of(Arc::new(|| async { Ok(()) }.boxed())).await;
    let (status, body) = look(format!("{url}/grahpql")).await;
    assert_eq!(status, 404);
    let message = body["error"].as_str().unwrap();
    assert!(message.contains("/grahpql") && message.contains("/graphql"), "{message}");
}
