//! Lists of tasks: pages, counts, and watching them.

use futures::StreamExt;
use meanwhile::store::sqlite::SqliteOptions;
use serde_json::{Value, json};

use crate::support::api::{request, server, server_with};

#[tokio::test]
async fn lists_page_both_ways_and_count() {
    let server = server().await;
    let document = "mutation($tasks: [StartTaskInput!]!) { startTasks(input: { tasks: $tasks }) { tasks { id } } }";
    let tasks: Vec<Value> =
        (0..7).map(|n| json!({ "kind": "wait", "tags": [if n % 2 == 0 { "even" } else { "odd" }] })).collect();
    let data = server.data(document, json!({ "tasks": tasks })).await;
    let mut ids: Vec<String> = data["startTasks"]["tasks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|task| task["id"].as_str().unwrap().to_owned())
        .collect();
    ids.reverse();
    let document = "query($first: Int, $after: String, $last: Int, $before: String) {
        tasks(first: $first, after: $after, last: $last, before: $before) {
            nodes { id } totalCount pageInfo { hasNextPage hasPreviousPage startCursor endCursor } } }";
    let (mut seen, mut after) = (Vec::new(), Value::Null);
    for page in 0..3 {
        let data = server.data(document, json!({ "first": 3, "after": after })).await;
        let list = &data["tasks"];
        assert_eq!(list["totalCount"], 7);
        assert_eq!(list["pageInfo"]["hasNextPage"], json!(page < 2));
        assert_eq!(list["pageInfo"]["hasPreviousPage"], json!(page > 0));
        seen.extend(list["nodes"].as_array().unwrap().iter().map(|task| task["id"].as_str().unwrap().to_owned()));
        after = list["pageInfo"]["endCursor"].clone();
    }
    assert_eq!(seen, ids);
    let (mut seen, mut before) = (Vec::new(), Value::Null);
    for page in 0..3 {
        let data = server.data(document, json!({ "last": 3, "before": before })).await;
        let list = &data["tasks"];
        assert_eq!(list["pageInfo"]["hasPreviousPage"], json!(page < 2));
        let mut nodes: Vec<String> =
            list["nodes"].as_array().unwrap().iter().map(|task| task["id"].as_str().unwrap().to_owned()).collect();
        nodes.append(&mut seen);
        seen = nodes;
        before = list["pageInfo"]["startCursor"].clone();
    }
    assert_eq!(seen, ids);
    let document = "{ tasks(filter: { kinds: [\"wait\"], tags: [\"odd\"], statuses: [PENDING, RUNNING] }) { totalCount
        nodes { tags } } }";
    let data = server.data(document, json!({})).await;
    assert_eq!(data["tasks"]["totalCount"], 3);
    assert!(data["tasks"]["nodes"].as_array().unwrap().iter().all(|task| task["tags"] == json!(["odd"])));
}

#[tokio::test]
async fn a_list_of_what_seldom_meets_has_short_pages_that_go_on_where_they_ended() {
    let server = server_with(&SqliteOptions { max_filter_lookups: 20, ..SqliteOptions::default() }).await;
    let document = "mutation($tasks: [StartTaskInput!]!) { startTasks(input: { tasks: $tasks }) { tasks { id } } }";
    // One tag or the other in turn; both only at the ends and in the middle.
    let tags = |n: usize| {
        if n.is_multiple_of(50) { json!(["a", "b"]) } else { json!([if n.is_multiple_of(2) { "a" } else { "b" }]) }
    };
    let tasks: Vec<Value> = (0..=100).map(|n| json!({ "kind": "echo", "tags": tags(n) })).collect();
    let data = server.data(document, json!({ "tasks": tasks })).await;
    let started = &data["startTasks"]["tasks"];
    let both = [100, 50, 0].map(|n| started[n]["id"].clone());
    let document = "query($filter: TaskFilter, $first: Int, $after: String, $last: Int, $before: String) {
        tasks(filter: $filter, first: $first, after: $after, last: $last, before: $before) {
            nodes { id } pageInfo { hasNextPage hasPreviousPage startCursor endCursor } } }";
    let filter = json!({ "tags": ["a", "b"] });
    for (size, from, more, end) in
        [("first", "after", "hasNextPage", "endCursor"), ("last", "before", "hasPreviousPage", "startCursor")]
    {
        let (mut pages, mut cursor) = (Vec::new(), Value::Null);
        loop {
            let list = server.data(document, json!({ "filter": filter, size: 5, from: cursor })).await["tasks"].take();
            pages.push(list["nodes"].as_array().unwrap().iter().map(|task| task["id"].clone()).collect::<Vec<_>>());
            cursor = list["pageInfo"][end].clone();
            if list["pageInfo"][more] == json!(false) {
                break;
            }
        }
        assert!(pages.iter().any(Vec::is_empty), "no page is short: {pages:?}");
        if size == "last" {
            pages.reverse();
        }
        assert_eq!(pages.concat(), both);
    }
    let count = "query($filter: TaskFilter) { tasks(filter: $filter) { totalCount } }";
    let refused = server.respond(count, json!({ "filter": filter })).await;
    let extensions = &refused["errors"][0]["extensions"];
    assert_eq!([&extensions["code"], &extensions["limit"]], ["LIMIT_EXCEEDED", "max_filter_lookups"], "{refused}");
    assert!(refused["errors"][0]["message"].as_str().unwrap().contains("createdAfter"), "{refused}");
    // What does not lie together is passed over at once.
    let apart = json!({ "tags": ["a", "b", "c"] });
    assert_eq!(server.data(count, json!({ "filter": apart })).await["tasks"]["totalCount"], 0);
}

#[tokio::test]
async fn a_list_is_watched_from_sync_on() {
    let server = server().await;
    let document = "subscription { tasksChanged(filter: { statuses: [RUNNING], tags: [\"mine\"] }) {
        change id task { id kind status } } }";
    let mut changes = std::pin::pin!(server.subscribe(request(document, json!({}))));
    let first = changes.next().await.unwrap();
    assert_eq!(first["data"]["tasksChanged"], json!({ "change": "SYNC", "id": null, "task": null }));
    server.start(json!({ "kind": "echo", "tags": ["other"] })).await;
    let id = server.start(json!({ "kind": "wait", "tags": ["mine"] })).await;
    let entered = changes.next().await.unwrap()["data"]["tasksChanged"].clone();
    assert_eq!(
        entered,
        json!({ "change": "ENTERED", "id": id, "task": {"id": id, "kind": "wait", "status": "RUNNING"} })
    );
    let document =
        "mutation($id: ID!) { cancelTask(input: { id: $id, reason: \"enough\" }) { task { cancelRequested } } }";
    let data = server.data(document, json!({ "id": id })).await;
    assert_eq!(data["cancelTask"]["task"]["cancelRequested"], true);
    loop {
        let change = changes.next().await.unwrap()["data"]["tasksChanged"].clone();
        assert_eq!(change["id"], json!(id));
        if change["change"] == "LEFT" {
            assert_eq!(change["task"]["status"], "CANCELLED");
            break;
        }
        assert_eq!(change["change"], "UPDATED");
    }
}

#[tokio::test]
async fn a_watched_list_tells_each_change_with_its_whole_task_also_when_tasks_are_large() {
    let server = server().await;
    let document = "subscription { tasksChanged(filter: { statuses: [PENDING] }) { change id task { id input } } }";
    let mut changes = std::pin::pin!(server.subscribe(request(document, json!({}))));
    assert_eq!(changes.next().await.unwrap()["data"]["tasksChanged"]["change"], "SYNC");
    let later = "2999-01-01T00:00:00Z";
    let tasks: Vec<_> = (0..20)
        .map(|number| json!({ "kind": "wait", "runAt": later, "input": format!("{number}{}", "x".repeat(100_000)) }))
        .collect();
    let document = "mutation($tasks: [StartTaskInput!]!) { startTasks(input: { tasks: $tasks }) { tasks { id } } }";
    let started = server.data(document, json!({ "tasks": tasks })).await["startTasks"]["tasks"].clone();
    for (number, task) in started.as_array().unwrap().iter().enumerate() {
        let change = changes.next().await.unwrap()["data"]["tasksChanged"].clone();
        assert_eq!((&change["change"], &change["id"]), (&json!("ENTERED"), &task["id"]));
        assert_eq!((&change["task"]["id"], &change["task"]["input"]), (&task["id"], &tasks[number]["input"]));
    }
}
