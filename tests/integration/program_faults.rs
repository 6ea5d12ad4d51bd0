//! Programs as tasks when something is not as it should be: a system that is short of what they need, programs that
//! turn against their guard, other users, output that cannot be recorded.

use std::{
    fs,
    os::{
        linux::net::SocketAddrExt,
        unix::{
            fs::PermissionsExt,
            net::{SocketAddr, UnixListener},
        },
    },
    path::Path,
    process::Command,
};

use meanwhile::{
    model::{CancelStep, LogLevel, TaskStatus, code},
    task::{
        StartTask,
        program::{CommandTemplate, GuardExecutable, ProgramOptions},
    },
};
use rustix::{process::Uid, process::getuid, thread::set_thread_res_uid};
use serde_json::{Value, json};

use crate::support::{
    programs::{Ended, Programs, events, gone, says, start_server, start_task},
    server::{Server, post},
};

/// What the executable does as a guard that cannot start its program, as the system is short of something, as often as
/// this; then as one whose program succeeds at once.
fn short_guard(programs: &Programs, times: u32) -> GuardExecutable {
    let path = programs.folder.path().join("guard.sh");
    let script = format!(
        "#!/bin/sh\n\
         read -r launch\n\
         PATH=/bin:/usr/bin; cd \"${{0%/*}}\"; printf x >>tries\n\
         if [ $(wc -c <tries) -le {times} ]; then\n\
             echo '{{\"NotStarted\":{{\"message\":\"Resource temporarily unavailable\",\"retryable\":true,\"short\":true}}}}' >&0\n\
             exit\n\
         fi\n\
         echo '\"Started\"' >&0\n\
         echo '{{\"Exited\":{{\"Code\":0}}}}' >&0\n\
         echo '{{\"Ended\":{{\"out_of_reach\":[]}}}}' >&0\n"
    );
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
    GuardExecutable::at(path)
}

fn register_short(programs: &Programs, times: u32) {
    let options = ProgramOptions::new(CommandTemplate::parse(&["true"]).unwrap());
    programs.register_under(short_guard(programs, times), "short", options);
}

#[tokio::test]
async fn a_shortage_is_waited_for_within_the_attempt() {
    let programs = Programs::new().await;
    register_short(&programs, 3);
    let ended = programs.run("short", &Value::Null).await;
    assert_eq!((ended.task.status, ended.task.attempt), (TaskStatus::Completed, 1), "{:?}", ended.task.error);
    let logs = ended.logs();
    assert!(matches!(logs[..], [(LogLevel::Warn, text)] if text.contains("temporarily unavailable")), "{logs:?}");
}

#[tokio::test]
async fn who_waits_for_a_shortage_to_end_listens() {
    let programs = Programs::new().await;
    register_short(&programs, u32::MAX);
    let cancelled = programs.manager.start(StartTask::new("short")).await.unwrap().id;
    programs.says(cancelled, "temporarily unavailable").await;
    programs.manager.cancel(cancelled, None).await.unwrap();
    let ended = programs.ended(cancelled).await;
    assert_eq!(ended.task.status, TaskStatus::Cancelled);
    assert!(!ended.ladder().contains(&CancelStep::Dropped), "{:?}", ended.ladder());
    let slow = StartTask { timeout_ms: Some(200), ..StartTask::new("short") };
    let slow = programs.manager.start(slow).await.unwrap().id;
    assert_eq!(programs.ended(slow).await.error().0, code::TIMEOUT);
}

/// A server that may open so many files: `ulimit`'s options and figures.
async fn start_limited(folder: &Path, limits: &str, config: &str) -> Server {
    let file = folder.join("m.toml");
    fs::write(&file, config).unwrap();
    let mut command = Command::new("sh");
    command.args(["-c", &format!("{limits} && exec \"$@\""), "--", env!("CARGO_BIN_EXE_meanwhile")]);
    command.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(folder.join("data")).arg("--config").arg(file);
    tokio::task::spawn_blocking(move || Server::spawn(&mut command)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_programs_than_there_are_files_for_all_run_in_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let config = "[tasks]\nconcurrency = 100\n[kinds.sleep]\ncommand = [\"sleep\", \"0.5\"]\n";
    let server = start_limited(folder.path(), "ulimit -n 160", config).await;
    let mut ids = Vec::new();
    for _ in 0..60 {
        ids.push(start_task(&server, "sleep").await);
    }
    // Reading may fail meanwhile, too, and is tried again.
    const TASK: &str = "query($id: ID!) { task(id: $id) { status error { message } } }";
    for id in ids {
        let ended = loop {
            let Ok(mut response) = post(server.url(), TASK, json!({ "id": id })).await else { continue };
            let task = response["data"]["task"].take();
            if !matches!(task["status"].as_str(), None | Some("PENDING" | "RUNNING")) {
                break task;
            }
        };
        assert_eq!(ended["status"], "COMPLETED", "{ended}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_may_open_what_the_system_allows_and_programs_what_the_server_was_started_with() {
    let folder = tempfile::tempdir().unwrap();
    let limits = "ulimit -Sn 300 && ulimit -Hn 900";
    let config = "[kinds.limits]\ncommand = [\"sh\", \"-c\", \"ulimit -Sn; ulimit -Hn; grep 'Max open files' /proc/$(awk '/^PPid/ { print $2 }' /proc/$PPID/status)/limits\"]\n";
    let server = start_limited(folder.path(), limits, config).await;
    let id = start_task(&server, "limits").await;
    let events = events(&server, &id).await;
    let text: Vec<&str> = events.iter().filter_map(|event| event["message"].as_str()).collect();
    let figures: Vec<u64> = text.join("\n").split_whitespace().filter_map(|word| word.parse().ok()).collect();
    assert_eq!(figures, [300, 900, 900, 900], "{events:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guard_that_was_stopped_keeps_no_later_server_waiting() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("m.toml");
    let stops = "mkdir mark || exit 0; kill -STOP $PPID; echo ready; while :; do sleep 1000; done";
    let kinds = format!("[kinds.stops]\ncommand = [\"sh\", \"-c\", {stops:?}]\n[kinds.other]\ncommand = [\"true\"]\n");
    fs::write(&config, kinds).unwrap();
    let mut server = start_server(&folder.path().join("data"), &config).await;
    let stopped = start_task(&server, "stops").await;
    says(&server, &stopped, "ready").await;
    server.kill();

    let server = start_server(&folder.path().join("data"), &config).await;
    for id in [start_task(&server, "other").await, stopped.clone()] {
        let events = events(&server, &id).await;
        assert_eq!(events.last().unwrap()["status"], "COMPLETED", "{events:?}");
    }
    gone(&stopped).await;
}

#[tokio::test]
async fn a_program_that_stops_its_guard_and_ends_has_ended() {
    let ended = Programs::new().await.sh("kill -STOP $PPID; echo '{\"result\": 1}'").await;
    assert_eq!(ended.result(), json!(1));
}

/// What a guard of an earlier server on this store holds.
fn name_of_a_guard(programs: &Programs) -> SocketAddr {
    let name = format!("meanwhile/{:x}/fff/task_x", programs.store.generation());
    SocketAddr::from_abstract_name(name).unwrap()
}

#[tokio::test]
async fn who_waits_for_programs_of_an_earlier_server_listens() {
    let programs = Programs::new().await;
    let guard = UnixListener::bind_addr(&name_of_a_guard(&programs)).unwrap();
    programs.register("true", &["true"], |_| {});
    let id = programs.manager.start(StartTask::new("true")).await.unwrap().id;
    programs.says(id, "an earlier server").await;
    programs.manager.cancel(id, None).await.unwrap();
    let ended = programs.ended(id).await;
    assert_eq!(ended.task.status, TaskStatus::Cancelled);
    assert!(!ended.ladder().contains(&CancelStep::Dropped), "{:?}", ended.ladder());
    drop(guard);
    assert_eq!(programs.run("true", &Value::Null).await.task.status, TaskStatus::Completed);
}

#[tokio::test]
async fn other_users_keep_no_program_waiting() {
    if !getuid().is_root() {
        println!("only root can be another user: not tried");
        return;
    }
    let programs = Programs::new().await;
    let address = name_of_a_guard(&programs);
    // Of this thread alone.
    let other = std::thread::spawn(move || {
        let nobody = Uid::from_raw(65534);
        set_thread_res_uid(nobody, nobody, nobody).unwrap();
        // Also a name that is no text, which the kernel lists among the others.
        let any = SocketAddr::from_abstract_name(b"\xff\xfe meanwhile").unwrap();
        [UnixListener::bind_addr(&address).unwrap(), UnixListener::bind_addr(&any).unwrap()]
    });
    let _squatters = other.join().unwrap();
    let ended = programs.sh("echo '{\"result\": 1}'").await;
    assert_eq!(ended.result(), json!(1));
}

#[tokio::test]
async fn a_result_that_cannot_be_recorded_fails_the_attempt() {
    for line in [
        r#"{"result": NaN}"#,
        r#"{"result": "\\ud800"}"#,
        r#"{"result": "\377"}"#,
        r#"{"progress": 1, "result": "\377"}"#,
        r#" { "result" : {"a": 1}"#,
    ] {
        let ended = writes(line).await;
        let (code, message) = ended.error();
        assert!(code == code::PROGRAM_FAILED && message.contains("`result`"), "{line}: {message}");
        assert!(matches!(ended.logs()[..], [(LogLevel::Warn, _)]), "{line}: {:?}", ended.logs());
    }
    let ended = writes(r#"{"result": NaN}\n{"result": 1}"#).await;
    assert_eq!(ended.result(), json!(1), "the last one counts");
    let ended = writes(r#"{"chunk": NaN}"#).await;
    let (code, message) = ended.error();
    assert!(code == code::PROGRAM_FAILED && message.contains("`chunk`"), "{message}");
}

/// Runs a program that writes this, as `printf` understands it.
async fn writes(format: &str) -> Ended {
    Programs::new().await.sh(&format!("printf '{format}\\n'")).await
}

#[tokio::test]
async fn a_program_over_its_time_gets_sigkill_and_no_sigterm() {
    let programs = Programs::new().await;
    let script = "trap 'echo told; exit' TERM; echo ready; while :; do sleep 0.01; done";
    programs.register("slow", &["sh", "-c", script], |_| {});
    let mut ids = Vec::new();
    for _ in 0..30 {
        let request = StartTask { timeout_ms: Some(300), ..StartTask::new("slow") };
        ids.push(programs.manager.start(request).await.unwrap().id);
    }
    for id in ids {
        let ended = programs.ended(id).await;
        assert_eq!(ended.error().0, code::TIMEOUT);
        assert!(!ended.text().contains("SIGTERM") && !ended.text().contains("told"), "{}", ended.text());
    }
}
