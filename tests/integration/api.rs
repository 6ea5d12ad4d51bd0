//! The GraphQL API, without a transport.

use std::collections::HashSet;

use async_graphql::{Executor, Request};
use futures::{Stream, StreamExt};
use meanwhile::{
    graphql::{Api, GraphqlService, Payload, Reply, ResumeCursor},
    journal::JournalOptions,
    store::sqlite::SqliteOptions,
};
use serde_json::{Value, json};

use crate::support::api::{request, server, server_of};

/// What subscribers share.
fn rendered(api: &Api, request: Request) -> impl Stream<Item = Payload> + use<> {
    GraphqlService::subscribe(api, request, None).map(|reply| match reply {
        Reply::Rendered(payload) => payload,
        Reply::Response(response) => panic!("{response:?}"),
    })
}

#[tokio::test]
async fn a_task_is_started_watched_and_asked_for() {
    let server = server().await;
    let id =
        server.start(json!({ "kind": "echo", "input": {"b": 1, "a": [2.50]}, "tags": ["x"], "priority": 7 })).await;
    let events = server.events(&id).await;
    let statuses: Vec<&str> = events.iter().filter_map(|event| event["status"].as_str()).collect();
    assert_eq!(statuses, ["PENDING", "RUNNING", "COMPLETED"]);
    let document = "query($id: ID!) { task(id: $id) { id kind status input result tags priority attempt
        progress { percent } error { code } retryOf cancelRequested cursor } }";
    let data = server.data(document, json!({ "id": id })).await;
    let expected = json!({ "id": id, "kind": "echo", "status": "COMPLETED", "input": {"b": 1, "a": [2.5]},
        "result": {"b": 1, "a": [2.5]}, "tags": ["x"], "priority": 7, "attempt": 1, "progress": {"percent": 100.0},
        "error": null, "retryOf": null, "cancelRequested": false, "cursor": events.last().unwrap()["cursor"] });
    assert_eq!(data["task"], expected);
}

#[tokio::test]
async fn progress_ends_with_the_terminal_status_and_its_result() {
    let server = server().await;
    let id = server.start(json!({ "kind": "simulate", "input": {"steps": 4, "stepMs": 1} })).await;
    let document = "subscription($id: ID!) { taskProgress(id: $id) { taskId status percent result cursor } }";
    let responses: Vec<Value> = server.subscribe(request(document, json!({ "id": id }))).collect().await;
    let last = responses.last().unwrap();
    assert_eq!(last["data"]["taskProgress"]["status"], "COMPLETED");
    assert_eq!(last["data"]["taskProgress"]["percent"], 100.0);
    for response in &responses {
        assert_eq!(response["extensions"]["cursor"], response["data"]["taskProgress"]["cursor"]);
    }
    let percents: Vec<f64> =
        responses.iter().map(|response| response["data"]["taskProgress"]["percent"].as_f64().unwrap()).collect();
    assert!(percents.is_sorted(), "{percents:?}");
}

#[tokio::test]
async fn events_go_on_after_a_cursor_wherever_it_comes_from() {
    let server = server().await;
    let id = server.start(json!({ "kind": "simulate", "input": {"steps": 3, "stepMs": 1} })).await;
    let all = server.events(&id).await;
    let document = "subscription($id: ID!, $after: String) { taskEvents(id: $id, after: $after) { seq } }";
    for (place, event) in all.iter().enumerate() {
        let cursor = event["cursor"].as_str().unwrap();
        let by_argument = request(document, json!({ "id": id, "after": cursor }));
        // What the transport brings goes before the old argument.
        let old = request(document, json!({ "id": id, "after": all[0]["cursor"] }));
        for request in [by_argument, old.data(ResumeCursor(cursor.to_owned()))] {
            let responses: Vec<Value> = server.subscribe(request).collect().await;
            let seqs: Vec<&Value> = responses.iter().map(|response| &response["data"]["taskEvents"]["seq"]).collect();
            let expected: Vec<&Value> = all[place + 1..].iter().map(|event| &event["seq"]).collect();
            assert_eq!(seqs, expected);
        }
    }
}

#[tokio::test]
async fn subscribers_of_the_same_operation_share_what_they_get() {
    let server = server().await;
    let id = server.start(json!({ "kind": "wait" })).await;
    let document = "subscription($id: ID!, $after: String) { taskEvents(id: $id, after: $after) { seq cursor } }";
    let first = rendered(&server.api, request(document, json!({ "id": id })));
    let second = rendered(&server.api, request(document, json!({ "id": id, "after": null })));
    let third = rendered(&server.api, request(document, json!({ "id": id })));
    let other = rendered(&server.api, request(&document.replace("seq ", ""), json!({ "id": id })));
    let (first, second): (Vec<_>, Vec<_>) = tokio::join!(first.take(2).collect(), second.take(2).collect());
    let (third, other): (Vec<_>, Vec<_>) = tokio::join!(third.take(2).collect(), other.take(2).collect());
    // The second is another operation until it says where to begin, and shows the same.
    assert_eq!(first, second);
    assert_eq!(first, third);
    assert_ne!(first, other);
}

#[tokio::test]
async fn what_is_shared_is_what_the_engine_gives() {
    let server = server().await;
    let id = server.start(json!({ "kind": "simulate", "input": {"steps": 5, "stepMs": 1} })).await;
    let all = server.events(&id).await;
    for field in ["taskEvents", "taskProgress"] {
        for after in
            [Value::Null, all[0]["cursor"].clone(), all.last().unwrap()["cursor"].clone(), json!("bad"), json!(5)]
        {
            let document =
                format!("subscription($id: ID!, $after: String) {{ {field}(id: $id, after: $after) {{ cursor at }} }}");
            let make = || request(&document, json!({ "id": id, "after": after }));
            let shared: Vec<Value> = server.subscribe(make()).collect().await;
            let engine = server.api.execute_stream(make(), None);
            let engine: Vec<Value> = engine.map(|response| serde_json::to_value(response).unwrap()).collect().await;
            let without_places = |responses: Vec<Value>| -> Vec<Value> {
                let mut responses = responses;
                for response in &mut responses {
                    if let Some(error) = response.pointer_mut("/errors/0") {
                        error.as_object_mut().unwrap().remove("locations");
                    }
                }
                responses
            };
            assert_eq!(without_places(shared), without_places(engine), "{document} {after}");
        }
    }
}

#[tokio::test]
async fn only_the_wanted_types_of_events_are_given() {
    let server = server().await;
    let id = server.start(json!({ "kind": "collect", "input": {"source": "random"}, "idempotencyKey": "only" })).await;
    let document =
        "subscription($id: ID!) { taskEvents(id: $id, types: [CHUNK]) { __typename ... on TaskChunk { index } } }";
    let mut chunks = std::pin::pin!(server.subscribe(request(document, json!({ "id": id }))));
    for index in 0..3 {
        let chunk = chunks.next().await.unwrap();
        assert_eq!(chunk["data"]["taskEvents"], json!({ "__typename": "TaskChunk", "index": index }));
    }
}

#[tokio::test]
async fn who_polls_reads_events_in_pages() {
    let server = server().await;
    let id = server.start(json!({ "kind": "simulate", "input": {"steps": 5, "stepMs": 30} })).await;
    let all = server.events(&id).await;
    let document = "query($id: ID!, $after: String) { task(id: $id) { events(first: 2, after: $after) {
        edges { cursor node { seq } } nodes { seq } pageInfo { hasNextPage hasPreviousPage startCursor endCursor } } } }";
    let (mut seqs, mut after) = (Vec::new(), Value::Null);
    loop {
        let data = server.data(document, json!({ "id": id, "after": after })).await;
        let page = &data["task"]["events"];
        assert_eq!(page["pageInfo"]["hasPreviousPage"], json!(!after.is_null()));
        assert_eq!(page["pageInfo"]["startCursor"], page["edges"][0]["cursor"]);
        seqs.extend(page["nodes"].as_array().unwrap().iter().map(|event| event["seq"].as_u64().unwrap()));
        after = page["pageInfo"]["endCursor"].clone();
        if page["pageInfo"]["hasNextPage"] == false {
            break;
        }
    }
    assert_eq!(seqs, (1..=all.len() as u64).collect::<Vec<_>>());
    // The end of a page resumes a subscription: here there is nothing left.
    let rest = "subscription($id: ID!, $after: String) { taskEvents(id: $id, after: $after) { seq } }";
    assert_eq!(server.subscribe(request(rest, json!({ "id": id, "after": after }))).count().await, 0);
    let document = "query($id: ID!) { task(id: $id) { events(types: [STATUS]) { nodes { __typename } } } }";
    let data = server.data(document, json!({ "id": id })).await;
    assert_eq!(data["task"]["events"]["nodes"].as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn a_data_stream_counts_its_rows_and_has_its_own_id() {
    let server = server().await;
    let document = "subscription($first: Int) { dataStream(source: \"random\", first: $first) {
        streamId id timestamp value metadata } }";
    let mut streams = HashSet::new();
    for _ in 0..2 {
        let rows: Vec<Value> = server.subscribe(request(document, json!({ "first": 3 }))).collect().await;
        assert_eq!(rows.len(), 3);
        for (id, row) in rows.iter().enumerate() {
            let row = &row["data"]["dataStream"];
            assert_eq!((&row["id"], &row["metadata"]), (&json!(id), &json!(format!("chunk_{id}"))));
            assert!(row["value"].as_f64().is_some_and(|value| (0.0..1.0).contains(&value)), "{row}");
            streams.insert(row["streamId"].to_string());
        }
    }
    assert_eq!(streams.len(), 2);
}

#[tokio::test]
async fn an_idempotency_key_gives_the_same_task_and_refuses_another_request() {
    let server = server().await;
    let document = "mutation($input: StartTaskInput!) { startTask(input: $input) { existed task { id } } }";
    let input = json!({ "kind": "echo", "input": {"a": 1}, "idempotencyKey": "k" });
    let first = server.data(document, json!({ "input": input })).await["startTask"].clone();
    let second = server.data(document, json!({ "input": input })).await["startTask"].clone();
    assert_eq!((&first["existed"], &second["existed"]), (&json!(false), &json!(true)));
    assert_eq!(first["task"], second["task"]);
    let other = json!({ "kind": "echo", "input": {"a": 2}, "idempotencyKey": "k" });
    assert_eq!(server.code(document, json!({ "input": other })).await, "CONFLICT");
}

#[tokio::test]
async fn an_ended_task_is_tried_again_as_a_new_one() {
    let server = server().await;
    let id = server.start(json!({ "kind": "simulate", "input": {"steps": 1, "stepMs": 1, "fail": true} })).await;
    assert_eq!(server.events(&id).await.last().unwrap()["status"], "FAILED");
    let document = "mutation($id: ID!) { retryTask(input: { id: $id }) { task { id retryOf status kind } } }";
    let task = server.data(document, json!({ "id": id })).await["retryTask"]["task"].clone();
    assert_eq!((&task["retryOf"], &task["kind"]), (&json!(id), &json!("simulate")));
    assert_ne!(task["id"], json!(id));
    let running = server.start(json!({ "kind": "wait" })).await;
    assert_eq!(server.code(document, json!({ "id": running })).await, "CONFLICT");
}

#[tokio::test]
async fn a_kind_is_paused_and_resumed_where_all_can_see_it() {
    let server = server().await;
    let kinds = "{ kinds { name pausedAt concurrencyPerKey } }";
    let paused = |data: Value| -> Vec<Value> {
        let kinds = data["kinds"].as_array().unwrap().clone();
        kinds.into_iter().filter(|kind| !kind["pausedAt"].is_null()).map(|kind| kind["name"].clone()).collect()
    };
    assert!(paused(server.data(kinds, json!({})).await).is_empty());
    let pause = r#"mutation { pauseKind(input: { kind: "echo" }) { kind { name pausedAt } } }"#;
    assert!(server.data(pause, json!({})).await["pauseKind"]["kind"]["pausedAt"].is_string());
    assert_eq!(paused(server.data(kinds, json!({})).await), [json!("echo")]);
    let id = server.start(json!({ "kind": "echo", "input": 1 })).await;
    let resume = r#"mutation { resumeKind(input: { kind: "echo" }) { kind { name pausedAt } } }"#;
    assert!(server.data(resume, json!({})).await["resumeKind"]["kind"]["pausedAt"].is_null());
    assert_eq!(server.events(&id).await.last().unwrap()["status"], "COMPLETED");
}

#[tokio::test]
async fn an_ended_task_is_deleted_and_one_that_runs_is_not() {
    let server = server().await;
    let ended = server.start(json!({ "kind": "echo", "input": 1 })).await;
    assert_eq!(server.events(&ended).await.last().unwrap()["status"], "COMPLETED");
    let delete = "mutation($id: ID!) { deleteTask(input: { id: $id }) { id } }";
    assert_eq!(server.data(delete, json!({ "id": ended })).await["deleteTask"]["id"], json!(ended));
    assert_eq!(
        server.data("query($id: ID!) { task(id: $id) { id } }", json!({ "id": ended })).await["task"],
        json!(null)
    );
    assert_eq!(server.code(delete, json!({ "id": ended })).await, "NOT_FOUND");
    let running = server.start(json!({ "kind": "wait" })).await;
    assert_eq!(server.code(delete, json!({ "id": running })).await, "CONFLICT");
}

#[tokio::test]
async fn each_failure_has_its_code() {
    let server = server().await;
    let id = server.start(json!({ "kind": "wait" })).await;
    let start = "mutation($input: StartTaskInput!) { startTask(input: $input) { task { id } } }";
    let many: Vec<Value> = (0..1001).map(|_| json!({ "kind": "echo" })).collect();
    let start_many = "mutation($tasks: [StartTaskInput!]!) { startTasks(input: { tasks: $tasks }) { tasks { id } } }";
    for (expected, document, variables) in [
        ("UNKNOWN_KIND", start, json!({ "input": {"kind": "no"} })),
        ("INVALID_INPUT", start, json!({ "input": {"kind": "echo", "priority": 1000} })),
        ("INVALID_INPUT", start, json!({ "input": {"kind": "echo", "maxAttempts": 0} })),
        ("LIMIT_EXCEEDED", start, json!({ "input": {"kind": "echo", "input": "x".repeat(2 << 20)} })),
        (
            "LIMIT_EXCEEDED",
            start,
            json!({ "input": {"kind": "echo", "tags": (0..99).map(|n| n.to_string()).collect::<Vec<_>>()} }),
        ),
        ("LIMIT_EXCEEDED", start_many, json!({ "tasks": many })),
        ("BAD_REQUEST", start, json!({ "input": {"kind": 5} })),
        ("BAD_REQUEST", "{ nothing }", json!({})),
        ("BAD_REQUEST", "{", json!({})),
        ("NOT_FOUND", "mutation { cancelTask(input: { id: \"x\" }) { task { id } } }", json!({})),
        ("NOT_FOUND", "mutation { retryTask(input: { id: \"task_0000000000001\" }) { task { id } } }", json!({})),
        ("LIMIT_EXCEEDED", "{ tasks(first: 100000) { nodes { id } } }", json!({})),
        ("INVALID_INPUT", "{ tasks(first: 1, last: 1) { nodes { id } } }", json!({})),
        ("INVALID_INPUT", "{ tasks(first: -1) { nodes { id } } }", json!({})),
        ("CURSOR_INVALID", "{ tasks(after: \"x\") { nodes { id } } }", json!({})),
        (
            "CURSOR_INVALID",
            "query($id: ID!) { task(id: $id) { events(after: \"x\") { nodes { seq } } } }",
            json!({ "id": id }),
        ),
    ] {
        assert_eq!(server.code(document, variables).await, expected, "{document}");
    }
}

#[tokio::test]
async fn a_subscription_that_cannot_be_says_why_and_ends() {
    let server = server().await;
    let mine = server.start(json!({ "kind": "echo" })).await;
    let other = server.start(json!({ "kind": "echo" })).await;
    let cursor = server.events(&other).await[0]["cursor"].clone();
    let mut ahead: meanwhile::journal::EventCursor =
        server.events(&mine).await[0]["cursor"].as_str().unwrap().parse().unwrap();
    ahead.seq = 1_000_000;
    for (expected, document, variables) in [
        ("NOT_FOUND", "subscription { taskEvents(id: \"x\") { seq } }", json!({})),
        ("NOT_FOUND", "subscription { taskProgress(id: \"task_0000000000001\") { status } }", json!({})),
        ("NOT_FOUND", "subscription { taskEvents(id: \"task_0000000000001\") { seq } }", json!({})),
        (
            "CURSOR_INVALID",
            "subscription($id: ID!, $after: String) { taskEvents(id: $id, after: $after) { seq } }",
            json!({ "id": mine, "after": cursor }),
        ),
        (
            "CURSOR_INVALID",
            "subscription($id: ID!) { taskEvents(id: $id, after: \"no\") { seq } }",
            json!({ "id": mine }),
        ),
        (
            "CURSOR_AHEAD",
            "subscription($id: ID!, $after: String) { taskEvents(id: $id, after: $after) { seq } }",
            json!({ "id": mine, "after": ahead.to_string() }),
        ),
        (
            "CURSOR_AHEAD",
            "subscription($id: ID!, $after: String) { taskProgress(id: $id, after: $after) { status } }",
            json!({ "id": mine, "after": ahead.to_string() }),
        ),
        ("UNKNOWN_SOURCE", "subscription { dataStream(source: \"no\") { id } }", json!({})),
        ("INVALID_INPUT", "subscription { dataStream(source: \"random\", args: {x: 1}) { id } }", json!({})),
        ("INVALID_INPUT", "subscription { dataStream(source: \"random\", first: -1) { id } }", json!({})),
    ] {
        let responses: Vec<Value> = server.subscribe(request(document, variables)).collect().await;
        assert_eq!(responses.len(), 1, "{document}: {responses:?}");
        assert_eq!(responses[0]["errors"][0]["extensions"]["code"], expected, "{document}: {responses:?}");
    }
}

#[tokio::test]
async fn what_was_pruned_is_told_as_one_gap() {
    // A page in memory may still have what was pruned, when the task was read from the store before.
    let journal = JournalOptions { page_cache_bytes: 0, ..JournalOptions::default() };
    let server = server_of(&SqliteOptions::default(), journal).await;
    let id = server.start(json!({ "kind": "simulate", "input": {"steps": 3, "stepMs": 1} })).await;
    let all = server.events(&id).await;
    server.manager.store().prune_events(id.parse().unwrap(), 2).await.unwrap();
    let events = server.events(&id).await;
    assert_eq!((&events[0]["__typename"], &events[0]["seq"]), (&json!("TaskGap"), &json!(2)));
    assert_eq!(events[1..], all[2..]);
    let document = "query($id: ID!) { task(id: $id) { events { nodes { seq ... on TaskGap { from } } } } }";
    let data = server.data(document, json!({ "id": id })).await;
    let nodes = data["task"]["events"]["nodes"].as_array().unwrap();
    assert_eq!((&nodes[0], nodes.len()), (&json!({ "seq": 2, "from": 1 }), all.len() - 1));
}

#[tokio::test]
async fn node_finds_a_task_and_nothing_else() {
    let server = server().await;
    let id = server.start(json!({ "kind": "wait" })).await;
    let document = "query($id: ID!) { node(id: $id) { __typename id ... on Task { kind } } }";
    let data = server.data(document, json!({ "id": id })).await;
    assert_eq!(data["node"], json!({ "__typename": "Task", "id": id, "kind": "wait" }));
    for unknown in ["", "x", "task_0000000000001"] {
        assert_eq!(server.data(document, json!({ "id": unknown })).await["node"], Value::Null);
    }
}

#[tokio::test]
async fn kinds_and_sources_are_listed() {
    let server = server().await;
    let document =
        "{ kinds { name type description maxAttempts timeoutMs inputSchema } sources { name type args timeoutMs } }";
    let data = server.data(document, json!({})).await;
    let names: Vec<&str> =
        data["kinds"].as_array().unwrap().iter().map(|kind| kind["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["collect", "echo", "simulate", "wait"]);
    assert_eq!((&data["kinds"][0]["type"], &data["kinds"][1]["type"]), (&json!("BUILT_IN"), &json!("HANDLER")));
    let sources = data["sources"].as_array().unwrap();
    let random = sources.iter().find(|source| source["name"] == "random").unwrap();
    assert_eq!((&random["type"], &random["args"]), (&json!("SIMULATED"), &json!([])));
}

#[tokio::test]
async fn everything_in_the_schema_is_described() {
    let server = server().await;
    let document = "{ __schema { types { name description fields(includeDeprecated: true) { name description
        args { name description } } inputFields { name description } enumValues { name description } } } }";
    let data = server.data(document, json!({})).await;
    let mut bare = Vec::new();
    for ty in data["__schema"]["types"].as_array().unwrap() {
        find_bare(ty, "", &mut bare);
    }
    assert_eq!(bare, Vec::<String>::new());
}

/// Notes the items without a description, here and below.
fn find_bare(item: &Value, path: &str, bare: &mut Vec<String>) {
    let path = format!("{path}/{}", item["name"].as_str().unwrap());
    // The specification's own.
    if path.starts_with("/__") || path == "/ID" {
        return;
    }
    if item["description"].as_str().is_none_or(str::is_empty) {
        bare.push(path.clone());
    }
    for list in ["fields", "args", "inputFields", "enumValues"] {
        for inner in item[list].as_array().into_iter().flatten() {
            find_bare(inner, &path, bare);
        }
    }
}
