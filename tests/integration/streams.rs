//! What each stream promises about its beginning, going on and its end, on every transport.

use std::collections::HashSet;

use meanwhile::{graphql::ApiOptions, http::HttpOptions, journal::EventCursor, model::TaskId};
use serde_json::{Value, json};

use crate::support::{
    here::Here,
    raw::Raw,
    socket::Socket,
    subscription::{Said, Subscription, Transport},
};

const EVENTS: &str = "subscription($id: ID!, $after: String) { taskEvents(id: $id, after: $after) { cursor seq } }";
const PROGRESS: &str =
    "subscription($id: ID!, $after: String) { taskProgress(id: $id, after: $after) { cursor status } }";

impl Here {
    /// A task that has ended, and the cursors of its events.
    async fn ended(&self) -> (TaskId, Vec<String>) {
        let id = self.task(3).await;
        self.pace.add_permits(3);
        let events = self.all(Transport::WebSocket, EVENTS, json!({ "id": id.to_string() }), None).await;
        (id, events.iter().map(|event| event["taskEvents"]["cursor"].as_str().unwrap().to_owned()).collect())
    }

    async fn open(&self, transport: Transport, query: &str, variables: Value, cursor: Option<&str>) -> Subscription {
        Subscription::open(transport, &self.url(), query, variables, cursor).await.unwrap()
    }

    /// The data of all responses of a subscription.
    async fn all(&self, transport: Transport, query: &str, variables: Value, cursor: Option<&str>) -> Vec<Value> {
        let said = self.open(transport, query, variables, cursor).await.rest().await;
        said.into_iter().map(data).collect()
    }
}

fn data(said: Said) -> Value {
    match said {
        Said::Next(mut payload) if payload.get("errors").is_none() => payload["data"].take(),
        other => panic!("no data: {other:?}"),
    }
}

/// The code of the error that is all there is.
fn code(said: &[Said]) -> String {
    let [Said::Next(payload)] = said else { panic!("{said:?}") };
    assert_eq!(payload["data"], Value::Null);
    payload["errors"][0]["extensions"]["code"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn the_events_of_a_task_begin_with_1_and_end_with_the_terminal_one() {
    let here = Here::start().await;
    let (id, cursors) = here.ended().await;
    for transport in Transport::ALL {
        let events = here.all(transport, EVENTS, json!({ "id": id.to_string() }), None).await;
        let numbers: Vec<_> = events.iter().map(|event| event["taskEvents"]["seq"].as_u64().unwrap()).collect();
        assert_eq!(numbers, (1..=cursors.len() as u64).collect::<Vec<_>>(), "{transport:?}");
    }
}

#[tokio::test]
async fn after_a_cursor_the_next_event_is_the_next_number_and_after_the_last_there_is_none() {
    let here = Here::start().await;
    let (id, cursors) = here.ended().await;
    for transport in Transport::ALL {
        for (place, cursor) in cursors.iter().enumerate() {
            let events = here.all(transport, EVENTS, json!({ "id": id.to_string() }), Some(cursor)).await;
            let seen: Vec<_> = events.iter().map(|event| event["taskEvents"]["cursor"].as_str().unwrap()).collect();
            assert_eq!(seen, cursors[place + 1..], "{transport:?}");
        }
    }
}

#[tokio::test]
async fn progress_begins_with_the_present_state_and_after_its_cursor_there_is_no_more() {
    let here = Here::start().await;
    let (id, _) = here.ended().await;
    for transport in Transport::ALL {
        let states = here.all(transport, PROGRESS, json!({ "id": id.to_string() }), None).await;
        let [state] = &states[..] else { panic!("{transport:?}: {states:?}") };
        assert_eq!(state["taskProgress"]["status"], "COMPLETED");
        let cursor = state["taskProgress"]["cursor"].as_str();
        let states = here.all(transport, PROGRESS, json!({ "id": id.to_string() }), cursor).await;
        assert_eq!(states, Vec::<Value>::new(), "{transport:?}");
    }
}

#[tokio::test]
async fn a_cursor_that_the_transport_brings_goes_before_the_old_argument() {
    let here = Here::start().await;
    let (id, cursors) = here.ended().await;
    let old = json!({ "id": id.to_string(), "after": cursors[0] });
    for transport in [Transport::WebSocket, Transport::LegacyWebSocket, Transport::Sse] {
        let events = here.all(transport, EVENTS, old.clone(), Some(&cursors[3])).await;
        assert_eq!(events[0]["taskEvents"]["cursor"], cursors[4], "{transport:?}");
    }
}

#[tokio::test]
async fn changes_of_lists_begin_with_sync_again_whatever_cursor_comes() {
    let here = Here::start().await;
    let (_, cursors) = here.ended().await;
    let query = "subscription { tasksChanged { change id } }";
    for transport in Transport::ALL {
        for cursor in [None, Some(&*cursors[1])] {
            // A variable that the document does not have.
            let cursor = cursor.filter(|_| transport != Transport::Multipart);
            let mut changes = here.open(transport, query, json!({}), cursor).await;
            let sync = data(changes.next().await.unwrap());
            assert_eq!(sync["tasksChanged"], json!({ "change": "SYNC", "id": null }), "{transport:?}");
            let id = here.task(0).await.to_string();
            // It does not end, and misses nothing from there on. What was on its way before may still come.
            while data(changes.next().await.unwrap())["tasksChanged"]["id"] != id {}
        }
    }
}

#[tokio::test]
async fn a_data_stream_begins_with_row_0_and_an_id_of_its_own_and_ends_after_the_last_row() {
    let here = Here::start().await;
    let query = "subscription { dataStream(source: \"rows\") { streamId id } }";
    let mut ids = HashSet::new();
    for transport in Transport::ALL {
        for _ in 0..2 {
            let rows = here.all(transport, query, json!({}), None).await;
            let numbers: Vec<_> = rows.iter().map(|row| row["dataStream"]["id"].as_u64().unwrap()).collect();
            assert_eq!(numbers, [0, 1, 2], "{transport:?}");
            assert!(rows.iter().all(|row| row["dataStream"]["streamId"] == rows[0]["dataStream"]["streamId"]));
            assert!(ids.insert(rows[0]["dataStream"]["streamId"].to_string()), "{transport:?}");
        }
    }
}

#[tokio::test]
async fn a_cursor_that_does_not_fit_is_told_by_its_code_on_every_transport() {
    let here = Here::start().await;
    let (id, cursors) = here.ended().await;
    let (_, others) = here.ended().await;
    let own: EventCursor = cursors[0].parse().unwrap();
    let other_store = EventCursor { generation: own.generation.wrapping_add(1), ..own }.to_string();
    let ahead = EventCursor { seq: 1_000, ..own }.to_string();
    let cut = &cursors[0][..20];
    for transport in Transport::ALL {
        for query in [EVENTS, PROGRESS] {
            for (cursor, expected) in [
                (others[0].as_str(), "CURSOR_INVALID"),
                (&other_store, "CURSOR_INVALID"),
                (&ahead, "CURSOR_AHEAD"),
                (cut, "CURSOR_INVALID"),
                ("../../etc/passwd", "CURSOR_INVALID"),
                ("1 OR 1=1 --", "CURSOR_INVALID"),
                ("0", "CURSOR_INVALID"),
            ] {
                let variables = json!({ "id": id.to_string() });
                let said = here.open(transport, query, variables, Some(cursor)).await.rest().await;
                assert_eq!(code(&said), expected, "{transport:?} {query} {cursor}");
            }
        }
    }
}

#[tokio::test]
async fn a_last_event_id_that_is_no_ascii_is_told_and_does_not_begin_again() {
    let here = Here::start().await;
    let (id, _) = here.ended().await;
    let query = format!("subscription {{ taskEvents(id: \"{id}\") {{ seq }} }}");
    for value in ["é", "\u{1F600}", "x\u{80}"] {
        let headers = format!("Accept: text/event-stream\r\nLast-Event-ID: {value}\r\n");
        let mut raw = Raw::post(here.address, &headers, &query).await;
        assert_eq!(raw.status, 200);
        assert!(raw.rest().await.contains("CURSOR_INVALID"), "{value}");
    }
}

#[tokio::test]
async fn the_cursor_of_the_terminal_event_as_last_event_id_is_answered_with_204() {
    let here = Here::start().await;
    let (id, cursors) = here.ended().await;
    for field in ["taskEvents", "taskProgress"] {
        let query = format!("subscription {{ {field}(id: \"{id}\") {{ cursor }} }}");
        for (cursor, status) in [(&cursors[0], 200), (cursors.last().unwrap(), 204)] {
            let headers = format!("Accept: text/event-stream\r\nLast-Event-ID: {cursor}\r\n");
            assert_eq!(Raw::get(here.address, &headers, &query).await.status, status, "{field}");
        }
    }
}

#[tokio::test]
async fn each_cursor_in_connection_init_is_of_one_operation_and_used_once() {
    let here = Here::start().await;
    let (id, cursors) = here.ended().await;
    let mut socket = Socket::connect(here.address, "graphql-transport-ws").await;
    socket.init(json!({ "cursors": { "a": cursors[2], "b": cursors[3] } })).await;
    let query = format!("subscription {{ taskEvents(id: \"{id}\") {{ seq }} }}");
    for (operation, first) in [("b", 5), ("a", 4), ("a", 1), ("c", 1)] {
        socket.subscribe(operation, &query).await;
        assert_eq!(socket.data(operation).await["taskEvents"]["seq"], first, "{operation}");
        while socket.next().await["type"] != "complete" {}
    }
}

/// With the values of chunks, so that events are as large as they are.
const CHUNKS: &str = "subscription($id: ID!, $after: String) { taskEvents(id: $id, after: $after) { cursor seq
    ... on TaskChunk { value } } }";
/// Chunks of a `large` task that are more than connections hold.
const MANY: u64 = 600;

impl Here {
    /// A task with more events than connections hold.
    async fn large(&self) -> TaskId {
        let id = self.task_of("large", MANY).await;
        while !self.manager.get(id).await.unwrap().unwrap().status.is_terminal() {
            tokio::task::yield_now().await;
        }
        id
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_read_is_dropped_after_the_write_deadline_and_goes_on_without_a_gap() {
    let mut http = HttpOptions::default();
    (http.sockets.write_timeout_ms, http.websocket.write_timeout_ms) = (300, 300);
    let here = Here::with_all(ApiOptions::default(), http).await;
    let id = here.large().await;
    let variables = || json!({ "id": id.to_string() });
    let mut readers = Vec::new();
    for transport in Transport::ALL {
        let mut reader = here.open(transport, CHUNKS, variables(), None).await;
        assert_eq!(data(reader.next().await.unwrap())["taskEvents"]["seq"], 1);
        readers.push((transport, reader));
    }
    while here.context.connections.open() > 0 {
        tokio::task::yield_now().await;
    }
    for (transport, mut reader) in readers {
        let mut record = vec![1];
        let mut cursor = String::new();
        // What was on its way, and then the break.
        while let Some(said) = reader.next().await {
            let event = data(said)["taskEvents"].take();
            record.push(event["seq"].as_u64().unwrap());
            cursor = event["cursor"].as_str().unwrap().to_owned();
        }
        assert!(record.len() > 1 && (record.len() as u64) < MANY, "{transport:?}: {} events", record.len());
        let rest = here.all(transport, EVENTS, variables(), Some(&cursor)).await;
        record.extend(rest.iter().map(|event| event["taskEvents"]["seq"].as_u64().unwrap()));
        assert_eq!(record, (1..=MANY + 3).collect::<Vec<_>>(), "{transport:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_is_deleted_under_its_readers_ends_their_streams_with_an_error() {
    let here = Here::start().await;
    let id = here.large().await;
    let mut readers = Vec::new();
    for transport in Transport::ALL {
        let mut reader = here.open(transport, CHUNKS, json!({ "id": id.to_string() }), None).await;
        assert_eq!(data(reader.next().await.unwrap())["taskEvents"]["seq"], 1);
        readers.push((transport, reader));
    }
    here.manager.delete(id).await.unwrap();
    for (transport, reader) in readers {
        let mut said = reader.rest().await;
        let last = said.pop().unwrap();
        assert_eq!(code(&[last]), "NOT_FOUND", "{transport:?}");
        assert!((said.len() as u64) < MANY, "{transport:?} has read it before");
    }
    // And who comes later hears the same.
    for transport in Transport::ALL {
        let said = here.open(transport, EVENTS, json!({ "id": id.to_string() }), None).await.rest().await;
        assert_eq!(code(&said), "NOT_FOUND", "{transport:?}");
    }
}
