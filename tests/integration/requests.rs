//! What is asked for when a task is started: whether its input fits, and the same request made twice.

use meanwhile::{
    clock::{Clock, ManualClock},
    error::ErrorCode,
    model::{Json, TaskStatus},
    store::TaskFilter,
    task::{KindOptions, StartTask, TaskOptions},
};
use serde_json::json;

use crate::{
    store_conformance,
    support::{api::server, server::Server as Program, tasks::Tasks},
};

#[derive(serde::Deserialize, schemars::JsonSchema)]
#[allow(dead_code, reason = "what is checked is its schema")]
struct Resize {
    width: u32,
    names: Vec<String>,
}

#[tokio::test]
async fn input_that_does_not_fit_the_kinds_schema_is_refused_with_its_path_and_nothing_is_started() {
    let tasks = Tasks::new().await;
    tasks.register("resize", |_, _: Resize| async { Ok(()) }).unwrap();
    let start = |input: serde_json::Value| tasks.start(StartTask::new("resize").input(&input).unwrap());
    start(json!({"width": 3, "names": ["a"]})).await.unwrap();
    let error = start(json!({"width": 3, "names": ["a", 7]})).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::InvalidInput);
    assert!(error.to_string().contains("`/names/1`"), "{error}");
    assert_eq!(tasks.count(TaskFilter::default(), 10).await.unwrap(), 1);
    let schema = Json::parse(r#"{"type": 7}"#).unwrap();
    let options = KindOptions { input_schema: Some(schema), ..KindOptions::default() };
    let error = tasks.register_with("bad", options, |_, ()| async { Ok(()) }).unwrap_err();
    assert!(error.to_string().contains("kind `bad`"), "{error}");
}

#[tokio::test]
async fn the_schema_of_a_kinds_input_is_that_of_its_rust_type_unless_another_is_said() {
    let tasks = Tasks::new().await;
    tasks.register("resize", |_, _: Resize| async { Ok(()) }).unwrap();
    tasks.register("anything", |_, _: serde_json::Value| async { Ok(()) }).unwrap();
    tasks.register("unread", |_, _: Json| async { Ok(()) }).unwrap();
    let said = Json::parse(r#"{"type":"object"}"#).unwrap();
    let options = KindOptions { input_schema: Some(said.clone()), ..KindOptions::default() };
    tasks.register_with("said", options, |_, _: Resize| async { Ok(()) }).unwrap();
    let schema = |name: &str| {
        let kind = tasks.kinds().into_iter().find(|kind| &*kind.name == name).unwrap();
        kind.options.input_schema.clone()
    };
    let derived: serde_json::Value = schema("resize").unwrap().decode().unwrap();
    assert_eq!(derived["required"], json!(["width", "names"]));
    assert_eq!((schema("anything"), schema("unread"), schema("said")), (None, None, Some(said)));
}

#[tokio::test]
async fn input_that_fits_the_schema_and_not_the_type_is_not_started() {
    let tasks = Tasks::new().await;
    let options = KindOptions { input_schema: Some(Json::parse("true").unwrap()), ..KindOptions::default() };
    tasks.register_with("resize", options, |_, _: Resize| async { Ok(()) }).unwrap();
    let error = tasks.start(StartTask::new("resize").input(&json!({ "width": 3 })).unwrap()).await.unwrap_err();
    assert!(error.code() == ErrorCode::InvalidInput && error.to_string().contains("`names`"), "{error}");
}

#[tokio::test]
async fn an_ended_task_whose_input_does_not_fit_any_more_is_not_retried() {
    let tasks = Tasks::new().await;
    tasks.register("resize", |_, _: serde_json::Value| async { Ok(()) }).unwrap();
    let id = tasks.run(StartTask::new("resize").input(&json!({"width": "3"})).unwrap()).await.id;
    let tasks = tasks.restart().await;
    tasks.register("resize", |_, _: Resize| async { Ok(()) }).unwrap();
    let error = tasks.retry(id, None).await.unwrap_err();
    assert!(error.code() == ErrorCode::InvalidInput && error.to_string().contains("`/width`"), "{error}");
    assert_eq!(tasks.count(TaskFilter::default(), 10).await.unwrap(), 1);
}

#[tokio::test]
async fn a_request_with_the_keys_of_its_input_in_another_order_is_the_same_request() {
    let tasks = Tasks::new().await;
    tasks.register("k", |_, _: serde_json::Value| async { Ok(()) }).unwrap();
    let request = |input: &str| StartTask {
        input: Json::parse(input).unwrap(),
        idempotency_key: Some("once".into()),
        ..StartTask::new("k")
    };
    let first = tasks.start(request(r#"{"a": [{"x": 1, "y": 2}], "b": 3}"#)).await.unwrap();
    let again = tasks.start(request(r#"{"b":3,"a":[{"y":2,"x":1}]}"#)).await.unwrap();
    assert_eq!((again.id, again.input), (first.id, first.input));
    let error = tasks.start(request(r#"{"b":3,"a":[{"y":1,"x":2}]}"#)).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::Conflict);
}

#[tokio::test]
async fn a_request_made_again_gives_its_task_although_its_kind_would_not_take_it_any_more() {
    let tasks = Tasks::new().await;
    for kind in ["resize", "gone"] {
        tasks.register(kind, |_, _: Json| async { Ok(()) }).unwrap();
    }
    let request = |kind: &str, key: &str| StartTask {
        input: json!({ "width": "3" }).into(),
        idempotency_key: Some(key.to_owned()),
        ..StartTask::new(kind)
    };
    let (resize, gone) = (request("resize", "a"), request("gone", "b"));
    let (first, second) = (tasks.run(resize.clone()).await, tasks.run(gone.clone()).await);
    let tasks = tasks.restart().await;
    tasks.register("resize", |_, _: Resize| async { Ok(()) }).unwrap();
    tasks.register("other", |_, ()| async { Ok(()) }).unwrap();
    let batch = vec![StartTask::new("other"), gone, StartTask::new("other"), resize];
    let started = tasks.start_all(batch.clone()).await.unwrap();
    assert_eq!(started.iter().map(|started| started.existed).collect::<Vec<_>>(), [false, true, false, true]);
    assert_eq!((started[1].task.id, started[3].task.id), (second.id, first.id));
    assert_eq!((&*started[0].task.kind, &*started[2].task.kind), ("other", "other"));

    // Another request, or none that was made before, is judged; and then nothing is started.
    let count = tasks.count(TaskFilter::default(), 10).await.unwrap();
    for (change, code, what) in [
        (request("resize", "c"), ErrorCode::InvalidInput, "tasks[4]: the input does not fit kind `resize`"),
        (request("gone", "a"), ErrorCode::Conflict, "`a` was used before with a different request"),
        (StartTask::new("nothing"), ErrorCode::UnknownKind, "tasks[4]: there is no kind `nothing`"),
    ] {
        let mut batch = batch.clone();
        batch.push(change);
        let error = tasks.start_all(batch).await.unwrap_err();
        assert!(error.code() == code && error.to_string().contains(what), "{error}");
    }
    assert_eq!(tasks.count(TaskFilter::default(), 10).await.unwrap(), count);
}

#[tokio::test]
async fn a_task_is_repeated_once_for_each_key() {
    let tasks = Tasks::new().await;
    tasks.register("k", |_, ()| async { Ok(()) }).unwrap();
    let (one, other) = (tasks.run(StartTask::new("k")).await.id, tasks.run(StartTask::new("k")).await.id);
    let again = |id, key: &str| tasks.retry(id, Some(key.to_owned()));
    let first = again(one, "again").await.unwrap();
    assert_eq!((first.existed, first.task.retry_of), (false, Some(one)));
    let repeated = again(one, "again").await.unwrap();
    assert_eq!((repeated.existed, repeated.task.id), (true, first.task.id));
    assert_eq!(again(other, "again").await.unwrap_err().code(), ErrorCode::Conflict);
    assert_ne!(again(one, "and again").await.unwrap().task.id, first.task.id);
    assert_eq!(again(one, "").await.unwrap_err().code(), ErrorCode::InvalidInput);
}

#[tokio::test]
async fn what_is_started_together_says_which_were_there_and_which_is_wrong() {
    let server = server().await;
    let document = "mutation($tasks: [StartTaskInput!]!) {
        startTasks(input: { tasks: $tasks }) { tasks { id } existed } }";
    let keyed = json!({ "kind": "echo", "idempotencyKey": "once" });
    let data = server.data(document, json!({ "tasks": [keyed, { "kind": "echo" }, keyed] })).await;
    assert_eq!(data["startTasks"]["existed"], json!([false, false, true]));
    let data = server.data(document, json!({ "tasks": [keyed] })).await;
    assert_eq!(data["startTasks"]["existed"], json!([true]));
    let wrong = json!({ "tasks": [keyed, { "kind": "echo", "priority": 1000 }] });
    let response = server.respond(document, wrong).await;
    assert_eq!(response["errors"][0]["message"], "tasks[1]: priority is 1000; it goes from -100 to 100");
    let retry = "mutation($input: RetryTaskInput!) { retryTask(input: $input) { existed task { id } } }";
    let id = server.start(json!({ "kind": "echo" })).await;
    server.events(&id).await;
    let input = json!({ "input": { "id": id, "idempotencyKey": "again" } });
    let (first, second) = (server.data(retry, input.clone()).await, server.data(retry, input).await);
    assert_eq!((&first["retryTask"]["existed"], &second["retryTask"]["existed"]), (&json!(false), &json!(true)));
    assert_eq!(first["retryTask"]["task"], second["retryTask"]["task"]);
}

#[tokio::test]
async fn what_collect_cannot_read_is_not_started() {
    let server = server().await;
    let document = "mutation($input: JSON) { startTask(input: { kind: \"collect\", input: $input }) { task { id } } }";
    for (input, code) in [
        (json!({ "source": "nowhere" }), "UNKNOWN_SOURCE"),
        (json!({ "source": "random", "args": { "nothing": 1 } }), "INVALID_INPUT"),
        (json!({ "source": 7 }), "INVALID_INPUT"),
    ] {
        assert_eq!(server.code(document, json!({ "input": input })).await, code, "{input}");
    }
    assert_eq!(server.manager.count(TaskFilter::default(), 10).await.unwrap(), 0);
}

#[tokio::test]
async fn a_deadline_is_never_beyond_the_times_that_can_be_said() {
    let clock = ManualClock::new(store_conformance::clock().now());
    let tasks = Tasks::with(std::sync::Arc::new(clock), TaskOptions::default()).await;
    tasks.register("k", |_, ()| async { Ok(()) }).unwrap();
    let last = chrono::DateTime::parse_from_rfc3339("9999-12-31T23:59:59.999Z").unwrap().to_utc();
    let request = StartTask { run_at: Some(last), deadline_ms: Some(1000), ..StartTask::new("k") };
    let task = tasks.start(request).await.unwrap();
    assert_eq!((task.status, task.run_at, task.deadline), (TaskStatus::Pending, last, Some(last)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_says_at_its_start_that_tasks_wait_for_a_kind_that_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let (data, config, log) = (folder.path().join("data"), folder.path().join("m.toml"), folder.path().join("log"));
    std::fs::write(&config, "[kinds.gone]\ncommand = [\"true\"]\n").unwrap();
    let start = |config: Option<&std::path::Path>| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_meanwhile"));
        command.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(&data);
        config.map(|config| command.arg("--config").arg(config));
        let log = std::fs::File::create(&log).unwrap();
        tokio::task::block_in_place(|| Program::spawn_with_log(&mut command, "warn", log.into()))
    };
    let mut server = start(Some(&config));
    let pause = "mutation { pauseKind(input: { kind: \"gone\" }) { kind { name } } }";
    crate::support::server::data(server.url(), pause, json!({})).await;
    let request = "mutation { startTask(input: { kind: \"gone\" }) { task { id } } }";
    crate::support::server::data(server.url(), request, json!({})).await;
    server.kill();
    let _server = start(None);
    let said = std::fs::read_to_string(&log).unwrap();
    assert!(said.contains("tasks wait for a kind that is not there any more") && said.contains("gone"), "{said}");
}
