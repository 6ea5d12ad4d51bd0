//! Programs as tasks: real ones, under real guards. Whatever they do, no process of theirs stays.

use std::fs;

use futures::StreamExt;
use meanwhile::{
    error::ErrorCode,
    model::{
        CancelStep::{Confirmed, Delivered, KillSent, Overtaken, Requested, TermSent},
        EventBody, Json, LogLevel, Progress, TaskStatus, code,
    },
    task::{StartTask, TaskOptions, program::ProgramOptions},
};
use serde_json::{Value, json};

use crate::support::{
    programs::{EVENTS, Programs, START, gone, processes_of, start_server},
    server::{data, subscribe},
};

#[tokio::test]
async fn a_program_reads_its_input_and_says_how_it_goes() {
    let programs = Programs::new().await;
    let script = r#"
        read -r input
        echo starting
        echo '{"progress": {"done": 1, "total": 4, "message": "one"}}'
        echo "{\"chunk\": $input}"
        echo '{"log": {"level": "WARN", "message": "odd"}}'
        echo "{\"result\": {\"input\": $input, \"attempt\": $MEANWHILE_ATTEMPT}}"
    "#;
    let ended = programs.sh_with(script, |_| {}, &json!({ "n": 1 })).await;
    assert_eq!(ended.result(), json!({ "input": { "n": 1 }, "attempt": 1 }));
    assert_eq!(ended.logs(), [(LogLevel::Info, "starting"), (LogLevel::Warn, "odd")]);
    let chunk = EventBody::Chunk { index: 0, value: Json::parse(r#"{"n":1}"#).unwrap() };
    assert!(ended.events.contains(&chunk), "{:?}", ended.events);
    let progress = EventBody::Progress(Progress::of(1.0, 4.0).message("one"));
    assert!(ended.events.contains(&progress), "{:?}", ended.events);
}

#[tokio::test]
async fn a_field_of_the_input_is_one_argument_that_no_shell_sees() {
    let programs = Programs::new().await;
    let script = r#"printf '{"result": "%s %s"}\n' "$#" "$1""#;
    programs.register("args", &["sh", "-c", script, "--", "{input.file}", "{input.size}"], |_| {});
    let ended = programs.run("args", &json!({ "file": "a b $(touch x) ; *", "size": 7 })).await;
    assert_eq!(ended.result(), json!("2 a b $(touch x) ; *"));
    for (input, misfit) in [
        (json!({ "file": "a" }), "`size` is missing"),
        (json!({ "file": "a\u{0}b", "size": 7 }), "cannot hold a NUL character"),
    ] {
        let error = programs.manager.start(StartTask::new("args").input(&input).unwrap()).await.unwrap_err();
        assert!(error.code() == ErrorCode::InvalidInput && error.to_string().contains(misfit), "{error}");
    }
}

#[tokio::test]
async fn a_program_gets_its_own_environment_and_not_the_servers() {
    let programs = Programs::new().await;
    assert!(std::env::var_os("CARGO_MANIFEST_DIR").is_some(), "the test needs a variable to look for");
    let script = r#"echo "{\"result\": [\"$SECRET\", \"$CARGO_MANIFEST_DIR\", \"$(pwd)\"]}""#;
    let secret = |options: &mut ProgramOptions| options.environment.push(("SECRET".into(), "s".into()));
    let ended = programs.sh_with(script, secret, &Value::Null).await;
    let folder = programs.folder.path().canonicalize().unwrap();
    assert_eq!(ended.result(), json!(["s", "", folder]));
}

#[tokio::test]
async fn exit_codes_say_how_it_ended_and_whether_to_try_again() {
    let programs = Programs::new().await;
    let codes = |options: &mut ProgramOptions| {
        options.success_exit_codes = vec![0, 3];
        options.no_retry_exit_codes = vec![64];
    };
    programs.register("exit", &["sh", "-c", "echo out; echo why >&2; exit $1", "--", "{input.code}"], codes);
    for (exit, status, retryable) in [
        (0, TaskStatus::Completed, None),
        (3, TaskStatus::Completed, None),
        (1, TaskStatus::Failed, Some(true)),
        (64, TaskStatus::Failed, Some(false)),
    ] {
        let ended = programs.run("exit", &json!({ "code": exit })).await;
        assert_eq!((ended.task.status, ended.task.error.as_ref().map(|error| error.retryable)), (status, retryable));
        if retryable.is_some() {
            let message = format!("the program ended with exit code {exit}: why");
            assert_eq!(ended.error(), (code::PROGRAM_FAILED, message.as_str()));
            let details: Value = ended.task.error.unwrap().details.unwrap().decode().unwrap();
            assert_eq!(details["exitCode"], json!(exit));
            assert_eq!(details["lastLines"].as_array().unwrap().len(), 2);
        }
    }
}

#[tokio::test]
async fn a_program_that_is_missing_is_not_tried_again() {
    let programs = Programs::new().await;
    programs.register("missing", &["./no-such-program"], |_| {});
    let ended = programs.run("missing", &Value::Null).await;
    assert_eq!(ended.error().0, code::PROGRAM_NOT_STARTED);
    assert!(!ended.task.error.unwrap().retryable);
    programs.register("nowhere", &["sh"], |options| options.folder = "/no/such/folder".into());
    let ended = programs.run("nowhere", &Value::Null).await;
    assert!(ended.error().1.contains("/no/such/folder"), "{:?}", ended.error());
}

#[tokio::test]
async fn a_program_that_dies_by_a_signal_says_which() {
    let ended = Programs::new().await.sh("echo before; kill -SEGV $$").await;
    assert_eq!(ended.error(), (code::PROGRAM_KILLED, "the program was ended by SIGSEGV (signal 11): before"));
}

#[tokio::test]
async fn a_cancelled_program_gets_sigterm() {
    let programs = Programs::new().await;
    let id = programs.ready("echo ready; sleep 1000", |_| {}).await;
    programs.manager.cancel(id, None).await.unwrap();
    let ended = programs.ended(id).await;
    assert_eq!(ended.task.status, TaskStatus::Cancelled);
    assert_eq!(ended.ladder(), [Requested, Delivered, TermSent, Confirmed]);
    let to = |body: &EventBody| matches!(body, EventBody::Cancellation(step) if step.message.as_deref() == Some("to 2 processes"));
    assert!(ended.events.iter().any(to), "{:?}", ended.events);
}

#[tokio::test]
async fn a_program_that_ignores_sigterm_gets_sigkill_after_the_grace() {
    let programs = Programs::new().await;
    let script = "trap '' TERM; echo ready; while :; do sleep 1000; done";
    let id = programs.ready(script, |options| options.stop_grace_ms = 50).await;
    programs.manager.cancel(id, None).await.unwrap();
    let ended = programs.ended(id).await;
    assert_eq!(ended.task.status, TaskStatus::Cancelled);
    assert_eq!(ended.ladder(), [Requested, Delivered, TermSent, KillSent, Confirmed]);
}

#[tokio::test]
async fn a_program_that_completes_although_it_was_asked_to_stop_has_completed() {
    let programs = Programs::new().await;
    let script = r#"trap 'echo "{\"result\": \"saved\"}"; exit 0' TERM; echo ready; while :; do sleep 0.01; done"#;
    let id = programs.ready(script, |_| {}).await;
    programs.manager.cancel(id, None).await.unwrap();
    let ended = programs.ended(id).await;
    assert_eq!(ended.result(), json!("saved"));
    assert_eq!(ended.ladder(), [Requested, Delivered, TermSent, Overtaken]);
}

#[tokio::test]
async fn grandchildren_in_sessions_of_their_own_are_ended_too() {
    let programs = Programs::new().await;
    // Twice detached: parent and session are others.
    let script = "(setsid sh -c '(trap \"\" TERM HUP; setsid sleep 1000) & sleep 1000' &); echo ready; sleep 1000";
    let id = programs.ready(script, |options| options.stop_grace_ms = 50).await;
    programs.manager.cancel(id, None).await.unwrap();
    assert_eq!(programs.ended(id).await.task.status, TaskStatus::Cancelled);
}

#[tokio::test]
async fn what_a_program_leaves_behind_is_ended_after_the_grace() {
    let programs = Programs::new().await;
    let script = "setsid sleep 1000 & setsid sleep 1000 & echo '{\"result\": 1}'";
    let ended = programs.sh_with(script, |options| options.leftover_grace_ms = 50, &Value::Null).await;
    assert_eq!(ended.result(), json!(1));
    assert_eq!(ended.logs(), [(LogLevel::Warn, "the program left 2 processes behind, ended with SIGKILL")]);
}

#[tokio::test]
async fn what_a_program_leaves_behind_may_finish_within_the_grace() {
    let patient = |options: &mut ProgramOptions| options.leftover_grace_ms = 60_000;
    let ended = Programs::new().await.sh_with("(sleep 0.05; echo late) & echo early", patient, &Value::Null).await;
    assert_eq!(ended.text(), "early\nlate");
}

#[tokio::test]
async fn a_program_that_never_reads_its_input_keeps_nobody_waiting() {
    let input = json!({ "text": "x".repeat(1_000_000) });
    let ended = Programs::new().await.sh_with("echo done", |_| {}, &input).await;
    assert_eq!((ended.result(), ended.text()), (Value::Null, "done".to_owned()));
}

#[tokio::test]
async fn a_program_that_closes_its_output_early_goes_on() {
    let ended = Programs::new().await.sh("echo '{\"result\": 1}'; exec >&- 2>&-; sleep 0.05; exit 0").await;
    assert_eq!(ended.result(), json!(1));
}

#[tokio::test]
async fn a_gigabyte_of_output_is_bounded() {
    let programs = Programs::new().await;
    let script = "yes \"$(printf %8000s x)\" | head -c 1073741824; echo; echo the end";
    let ended = programs.sh_with(script, |options| options.max_log_bytes = 100_000, &Value::Null).await;
    assert_eq!(ended.result(), Value::Null);
    assert!(ended.text().len() < 101_000, "{} bytes were logged", ended.text().len());
    let (level, last) = *ended.logs().last().unwrap();
    assert!(level == LogLevel::Warn && last.contains("`max_log_bytes` (100000 bytes)"), "{last}");
}

#[tokio::test]
async fn an_endless_line_is_cut() {
    let programs = Programs::new().await;
    let ended = programs.sh("head -c 50000000 /dev/zero | tr '\\0' x; echo; echo next").await;
    let text = ended.text();
    assert!(text.starts_with("xxx") && text.ends_with("x … (cut)\nnext") && text.len() < 9000, "{} bytes", text.len());
}

#[tokio::test]
async fn an_endless_message_fails_by_its_limit() {
    let ended = Programs::new().await.sh("printf '{\"result\": \"'; tr '\\0' x </dev/zero").await;
    let (code, message) = ended.error();
    assert!(code == code::LIMIT_EXCEEDED && message.contains("`max_result_bytes`"), "{message}");
}

#[tokio::test]
async fn what_is_not_utf_8_is_marked() {
    let ended = Programs::new().await.sh("printf 'a\\377b\\n'; printf 'caf\\303\\251\\n' >&2").await;
    let mut logs = ended.logs();
    logs.sort_unstable_by_key(|(_, text)| *text);
    let expected = [(LogLevel::Info, "a\u{fffd}b … (not valid UTF-8)"), (LogLevel::Info, "café")];
    assert_eq!(logs, expected);
}

#[tokio::test]
async fn lines_that_come_together_are_one_event() {
    let ended = Programs::new().await.sh("printf 'a\\nb\\n10 %%\\r20 %%\\r100 %%\\nc\\n'").await;
    assert_eq!(ended.logs(), [(LogLevel::Info, "a\nb\n100 %\nc")]);
}

#[tokio::test]
async fn a_message_that_makes_no_sense_is_a_warning() {
    let ended = Programs::new().await.sh("echo '{\"progress\": \"much\"}'").await;
    let (level, text) = ended.logs()[0];
    assert!(level == LogLevel::Warn && text.ends_with(": {\"progress\": \"much\"}"), "{text}");
}

#[tokio::test]
async fn a_chunk_over_its_limit_ends_the_program() {
    let options = TaskOptions { max_chunk_bytes: 10, ..TaskOptions::default() };
    let ended = Programs::with(options).await.sh("echo '{\"chunk\": \"0123456789\"}'; sleep 1000").await;
    let (code, message) = ended.error();
    assert!(code == code::LIMIT_EXCEEDED && message.contains("max_chunk_bytes"), "{message}");
}

#[tokio::test]
async fn a_guard_that_is_killed_takes_its_program_with_it() {
    let programs = Programs::new().await;
    // The program's parent is its guard.
    let id = programs.ready("echo ready; kill -KILL $PPID; sleep 1000", |_| {}).await;
    let ended = programs.ended(id).await;
    assert_eq!(ended.error(), (code::PROGRAM_KILLED, "the process that guards the program was killed"));
}

#[tokio::test]
async fn a_shutdown_ends_programs_and_gives_their_tasks_back() {
    let options = TaskOptions { release_grace_ms: 50, ..TaskOptions::default() };
    let programs = Programs::with(options).await;
    let id = programs.ready("trap '' TERM; echo ready; while :; do sleep 1000; done", |_| {}).await;
    programs.manager.close(async {}).await;
    gone(&id.to_string()).await;
}

#[tokio::test]
async fn an_attempt_begins_when_the_processes_of_the_one_before_are_gone() {
    let options = TaskOptions { retry_backoff_ms: 1, ..TaskOptions::default() };
    let programs = Programs::with(options).await;
    // All processes hold the lock, until the last has ended.
    let script = "exec 9>lock; flock -n 9 || exit 64; setsid sh -c 'trap \"\" TERM; sleep 1000' & sleep 1000";
    programs.register("sh", &["sh", "-c", script], |_| {});
    let mut request = StartTask::new("sh");
    (request.max_attempts, request.timeout_ms) = (Some(3), Some(100));
    let id = programs.manager.start(request).await.unwrap().id;
    let ended = programs.finished(id).await;
    assert_eq!((ended.task.attempt, ended.error().0), (3, code::TIMEOUT), "{:?}", ended.error());
    gone(&id.to_string()).await;
}

/// Only one may be there at a time: all its processes hold the lock. The first has many, of which each becomes known to
/// the guard only when the one above it has ended. Later ones have nothing to do.
const ONLY_ONE: &str = "exec 9>lock; flock -n 9 || exit 64; mkdir first 2>/dev/null || exit 0; sh chain.sh 12 & \
    while ! [ -e deep ]; do sleep 0.01; done; echo ready; printf 'the last words'; sleep 1000";

const CHAIN: &str = "trap '' TERM; if [ $1 = 0 ]; then : >deep; else setsid sh chain.sh $(($1 - 1)) & fi; sleep 1000";

#[tokio::test]
async fn nothing_else_begins_before_the_last_process_of_a_program_that_was_too_slow_has_ended() {
    let programs = Programs::new().await;
    fs::write(programs.folder.path().join("chain.sh"), CHAIN).unwrap();
    programs.register("sh", &["sh", "-c", ONLY_ONE], |_| {});
    let request = StartTask { concurrency_key: Some("one".into()), max_attempts: Some(1), ..StartTask::new("sh") };
    let first = StartTask { timeout_ms: Some(1500), ..request.clone() };
    let first = programs.manager.start(first).await.unwrap().id;
    let second = programs.manager.start(request).await.unwrap().id;
    let first = programs.ended(first).await;
    assert_eq!(first.error().0, code::TIMEOUT);
    let details: Value = first.task.error.as_ref().unwrap().details.as_ref().unwrap().decode().unwrap();
    assert_eq!(details["lastLines"], json!(["ready", "the last words"]), "its output is kept to the end");
    let second = programs.ended(second).await;
    assert_eq!(second.task.status, TaskStatus::Completed, "{:?}", second.task.error);
}

#[tokio::test]
async fn a_program_that_stops_its_guard_is_ended_all_the_same() {
    let programs = Programs::new().await;
    let id = programs.ready("echo ready; kill -STOP $PPID; sleep 1000", |_| {}).await;
    programs.manager.cancel(id, None).await.unwrap();
    let ended = programs.ended(id).await;
    assert_eq!(ended.task.status, TaskStatus::Cancelled);
    assert!(ended.ladder().contains(&TermSent), "{:?}", ended.ladder());
}

#[test]
fn a_guard_is_not_for_people() {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_meanwhile"));
    let output = command.args(["guard", "x"]).stdin(std::process::Stdio::null()).output().unwrap();
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && message.contains("[kinds.NAME]") && message.lines().count() == 1, "{message}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_process_outlives_a_server_that_is_killed_and_the_task_runs_again() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("m.toml");
    // The second time the mark is there.
    let script =
        "if mkdir mark; then trap '' TERM HUP; setsid sleep 1000 & echo ready; while :; do sleep 1000; done; fi";
    let text = format!("[kinds.stubborn]\ncommand = [\"sh\", \"-c\", {script:?}]\n");
    fs::write(&config, text).unwrap();
    let mut server = start_server(&folder.path().join("data"), &config).await;
    let started = data(server.url(), START, json!({ "kind": "stubborn" })).await;
    let id = started["startTask"]["task"]["id"].as_str().unwrap().to_owned();
    let mut events = std::pin::pin!(subscribe(server.url(), EVENTS, json!({ "id": id })).await.unwrap());
    while events.next().await.unwrap().unwrap()["data"]["taskEvents"]["message"] != "ready" {}
    assert!(processes_of(&id).len() >= 3);
    server.kill();
    gone(&id).await;

    let server = start_server(&folder.path().join("data"), &config).await;
    let events = subscribe(server.url(), EVENTS, json!({ "id": id })).await.unwrap();
    let events: Vec<Value> = events.map(Result::unwrap).collect().await;
    assert_eq!(events.last().unwrap()["data"]["taskEvents"]["status"], "COMPLETED");
    assert_eq!(processes_of(&id), Vec::<String>::new());
}

/// What each does once it has said that it is ready; none would end by itself.
const NASTY: [(&str, &str); 9] = [
    ("ignores_sigterm", "trap '' TERM HUP INT; while :; do sleep 1000; done"),
    (
        "forks_grandchildren",
        "(setsid sh -c '(trap \"\" TERM HUP; setsid sleep 1000) & sleep 1000' &); setsid sleep 1000",
    ),
    ("writes_without_end", "yes \"$(printf %8000s x)\""),
    ("writes_invalid_utf_8", "yes \"$(printf 'a\\377b')\" >&2"),
    ("writes_one_endless_line", "tr '\\0' x </dev/zero"),
    ("closes_its_output", "exec >&- 2>&-; sleep 1000"),
    ("dies_by_a_signal", "setsid sleep 1000 & kill -SEGV $$"),
    ("never_reads_its_input", "sleep 1000"),
    ("stops_itself", "kill -STOP $$"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_of_any_nasty_program_outlives_a_server_that_is_killed() {
    const START: &str = "mutation($kind: String!, $input: JSON) {
        startTask(input: { kind: $kind, input: $input }) { task { id } } }";
    const CHUNKS: &str =
        "subscription($id: ID!) { taskEvents(id: $id, types: [CHUNK]) { ... on TaskChunk { value } } }";
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("m.toml");
    let kind = |(name, script): &(&str, &str)| {
        // The second time its mark is there, and it has nothing to do.
        let script = format!("mkdir {name} || exit 0; echo '{{\"chunk\": \"ready\"}}'; {script}");
        format!("[kinds.{name}]\nleftover_grace_ms = 3600000\ncommand = [\"sh\", \"-c\", {script:?}]\n")
    };
    fs::write(&config, NASTY.iter().map(kind).collect::<String>()).unwrap();
    let mut server = start_server(&folder.path().join("data"), &config).await;
    // More than a pipe holds.
    let input = json!({ "text": "x".repeat(500_000) });
    let mut tasks = Vec::new();
    for (kind, _) in NASTY {
        let started = data(server.url(), START, json!({ "kind": kind, "input": input })).await;
        tasks.push((kind, started["startTask"]["task"]["id"].as_str().unwrap().to_owned()));
    }
    for (kind, id) in &tasks {
        let mut chunks = std::pin::pin!(subscribe(server.url(), CHUNKS, json!({ "id": id })).await.unwrap());
        assert_eq!(chunks.next().await.unwrap().unwrap()["data"]["taskEvents"]["value"], "ready", "{kind}");
    }
    server.kill();
    for (_, id) in &tasks {
        gone(id).await;
    }

    let server = start_server(&folder.path().join("data"), &config).await;
    for (kind, id) in &tasks {
        let events = subscribe(server.url(), EVENTS, json!({ "id": id })).await.unwrap();
        let events: Vec<Value> = events.map(Result::unwrap).collect().await;
        assert_eq!(events.last().unwrap()["data"]["taskEvents"]["status"], "COMPLETED", "{kind}: {events:?}");
        assert_eq!(processes_of(id), Vec::<String>::new(), "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_begins_before_the_last_program_of_a_server_that_was_killed_has_ended() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("m.toml");
    fs::write(folder.path().join("chain.sh"), CHAIN).unwrap();
    fs::write(
        &config,
        format!("[kinds.one]\nconcurrency = 1\nmax_attempts = 1\ncommand = [\"sh\", \"-c\", {ONLY_ONE:?}]\n"),
    )
    .unwrap();
    let mut server = start_server(&folder.path().join("data"), &config).await;
    let mut ids = Vec::new();
    for _ in 0..2 {
        let started = data(server.url(), START, json!({ "kind": "one" })).await;
        ids.push(started["startTask"]["task"]["id"].as_str().unwrap().to_owned());
    }
    let mut events = std::pin::pin!(subscribe(server.url(), EVENTS, json!({ "id": ids[0] })).await.unwrap());
    while events.next().await.unwrap().unwrap()["data"]["taskEvents"]["message"] != "ready" {}
    server.kill();

    let server = start_server(&folder.path().join("data"), &config).await;
    for id in ids {
        let events = subscribe(server.url(), EVENTS, json!({ "id": id })).await.unwrap();
        let events: Vec<Value> = events.map(Result::unwrap).collect().await;
        assert_eq!(events.last().unwrap()["data"]["taskEvents"]["status"], "COMPLETED", "{events:?}");
    }
}
