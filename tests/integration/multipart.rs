//! Apollo's subscriptions in parts, over raw sockets.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{raw::Raw, toy::ToyServer};

const ACCEPT: &str = "Accept: multipart/mixed;boundary=\"graphql\";subscriptionSpec=1.0,application/json\r\n";
const PART: &str = "\r\nContent-Type: application/json\r\n\r\n";

async fn post(server: &ToyServer, query: &str) -> Raw {
    Raw::post(server.address, ACCEPT, query).await
}

/// The first boundary, which stands there at once.
async fn begins(raw: &mut Raw) {
    assert_eq!((raw.status, raw.until("--graphql").await.as_str()), (200, "--graphql"));
}

/// A part, and the boundary right behind it.
async fn part(raw: &mut Raw) -> Value {
    let text = raw.until("\r\n--graphql").await;
    let json = text.strip_prefix(PART).and_then(|text| text.strip_suffix("\r\n--graphql"));
    serde_json::from_str(json.unwrap_or_else(|| panic!("no part: {text:?}"))).unwrap()
}

async fn ends(raw: &mut Raw) {
    assert_eq!(raw.rest().await, "--\r\n");
}

#[tokio::test]
async fn every_way_to_name_the_protocol_is_understood() {
    let server = ToyServer::start().await;
    for accept in [
        "multipart/mixed;subscriptionSpec=1.0",
        "multipart/mixed;subscriptionSpec=\"1.0\", application/json",
        "multipart/mixed;boundary=graphql;subscriptionSpec=1.0,application/json",
        "multipart/mixed; boundary=\"-\"; subscriptionSpec=1.0; q=0.9, application/graphql-response+json;q=0.1",
    ] {
        let query = "subscription { count(to: 1) }";
        let mut raw = Raw::post(server.address, &format!("Accept: {accept}\r\n"), query).await;
        let expected = "multipart/mixed; boundary=\"graphql\"; subscriptionSpec=\"1.0\"";
        assert_eq!((raw.status, raw.header("content-type")), (200, expected), "{accept}");
        begins(&mut raw).await;
        assert_eq!(part(&mut raw).await, json!({ "payload": { "data": { "count": 0 } } }));
        ends(&mut raw).await;
    }
}

#[tokio::test]
async fn the_boundary_of_the_next_part_is_sent_right_after_each_part() {
    let server = ToyServer::start().await;
    let mut raw = post(&server, "subscription { resume(to: 2, ends: false) }").await;
    begins(&mut raw).await;
    for number in [1, 2] {
        let payload = json!({ "data": { "resume": number }, "extensions": { "cursor": number.to_string() } });
        // The stream waits then: the boundary did not come with something later.
        assert_eq!(part(&mut raw).await, json!({ "payload": payload }));
    }
    server.hands.live_streams(1).await;
}

#[tokio::test]
async fn a_silent_stream_has_an_empty_part_every_5_seconds() {
    let server = ToyServer::start().await;
    let mut raw = post(&server, "subscription { silence }").await;
    begins(&mut raw).await;
    for _ in 0..3 {
        while server.clock.next_wake() != Some(Duration::from_millis(5_000)) {
            tokio::task::yield_now().await;
        }
        server.clock.advance(Duration::from_millis(5_000));
        assert_eq!(part(&mut raw).await, json!({}));
    }
}

#[tokio::test]
async fn an_execution_error_is_in_the_payload() {
    let server = ToyServer::start().await;
    let mut raw = post(&server, "subscription { refuse }").await;
    begins(&mut raw).await;
    assert_eq!(part(&mut raw).await["payload"]["errors"][0]["extensions"]["code"], "NOT_FOUND");
    ends(&mut raw).await;
}

#[tokio::test]
async fn a_fatal_error_has_no_payload() {
    let server = ToyServer::start().await;
    for (query, code) in [("subscription { nothing }", "BAD_REQUEST"), ("subscription { panic }", "INTERNAL")] {
        let mut raw = post(&server, query).await;
        begins(&mut raw).await;
        let mut last = part(&mut raw).await;
        while !last["payload"].is_null() {
            last = part(&mut raw).await;
        }
        assert_eq!(last["errors"][0]["extensions"]["code"], code, "{last}");
        ends(&mut raw).await;
    }
}

#[tokio::test]
async fn what_is_answered_once_goes_as_json() {
    let server = ToyServer::start().await;
    for query in ["{ hello }", "{"] {
        let raw = post(&server, query).await;
        assert_eq!(raw.header("content-type"), "application/json; charset=utf-8", "{query}");
    }
    let mut raw = Raw::post(server.address, "Accept: multipart/mixed;subscriptionSpec=1.0\r\n", "{ hello }").await;
    begins(&mut raw).await;
    assert_eq!(part(&mut raw).await, json!({ "payload": { "data": { "hello": "world" } } }));
    ends(&mut raw).await;
}

#[tokio::test]
async fn stopping_ends_a_stream_with_an_error_that_says_to_come_again() {
    let server = ToyServer::start().await;
    let mut raw = post(&server, "subscription { silence }").await;
    begins(&mut raw).await;
    server.hands.live_streams(1).await;
    server.shutdown.request();
    let last = part(&mut raw).await;
    assert_eq!((&last["payload"], &last["errors"][0]["extensions"]["code"]), (&Value::Null, &json!("UNAVAILABLE")));
    ends(&mut raw).await;
    server.hands.live_streams(0).await;
}
