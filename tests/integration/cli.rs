//! The program itself: what it prints and its exit code, without a server that stays.

use std::{
    fs,
    net::TcpListener,
    path::Path,
    process::{Command, Output},
};

use serde_json::json;

use crate::support::server::{Server, data};

pub(crate) fn meanwhile(folder: &Path, args: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_meanwhile"));
    for variable in ["LISTEN", "DATA", "CONFIG", "GRAPHIQL_ASSETS", "TOKEN", "TOKEN_FILE", "LOG"] {
        command.env_remove(format!("MEANWHILE_{variable}"));
    }
    command.current_dir(folder).args(args).envs(variables.iter().copied()).output().unwrap()
}

/// The exit code, and what was printed to stderr.
fn failure(output: &Output) -> (i32, String) {
    (output.status.code().unwrap(), String::from_utf8(output.stderr.clone()).unwrap())
}

#[test]
fn a_wrong_configuration_is_one_line_that_says_where() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("m.toml"), "[server]\nlisten = \"127.0.0.1:0\"\ngraphicl = true\n").unwrap();
    let expected = "meanwhile: m.toml:3:1: `server.graphicl`: unknown key; did you mean `graphiql`?\n";
    for args in [&["--config", "m.toml"][..], &["serve", "--config", "m.toml"]] {
        assert_eq!(failure(&meanwhile(folder.path(), args, &[])), (78, expected.to_owned()));
    }
    for args in [&[][..], &["serve"]] {
        let output = meanwhile(folder.path(), args, &[("MEANWHILE_CONFIG", "m.toml")]);
        assert_eq!(failure(&output), (78, expected.to_owned()), "{args:?}");
    }
}

#[test]
fn a_variable_that_is_empty_says_nothing_and_a_wrong_one_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let output = meanwhile(folder.path(), &["schema"], &[("MEANWHILE_LISTEN", ""), ("MEANWHILE_CONFIG", "")]);
    assert!(output.status.success(), "{output:?}");
    let output = meanwhile(folder.path(), &["serve"], &[("MEANWHILE_LISTEN", "8000")]);
    let (code, message) = failure(&output);
    assert!(code == 2 && message.contains("environment variable MEANWHILE_LISTEN"), "{message}");
    let output = meanwhile(folder.path(), &["serve", "--listen=1"], &[("MEANWHILE_LISTEN", "8000")]);
    assert!(!failure(&output).1.contains("MEANWHILE_LISTEN."), "{output:?}");
}

#[test]
fn a_missing_configuration_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let (code, message) = failure(&meanwhile(folder.path(), &["--config", "no.toml"], &[]));
    assert_eq!(code, 78);
    assert!(message.contains("no.toml") && message.lines().count() == 1, "{message}");
}

#[test]
fn listening_beyond_the_loopback_without_a_token_is_refused_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let (code, message) = failure(&meanwhile(folder.path(), &["--listen", "0.0.0.0:0"], &[]));
    assert_eq!(code, 78);
    assert!(message.contains("--token-file") && message.contains("--insecure"), "{message}");
    assert_eq!(message.lines().count(), 1, "{message}");
    // With either it gets as far as the port, which this user cannot have.
    let taken = TcpListener::bind("0.0.0.0:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for (args, variables) in
        [(&["--insecure"][..], &[][..]), (&[], &[("MEANWHILE_TOKEN", "a-token-of-enough-characters")])]
    {
        let (code, message) = failure(&meanwhile(folder.path(), &[&["--listen", &address], args].concat(), variables));
        assert_eq!(code, 69, "{args:?}: {message}");
    }
}

#[test]
fn a_port_in_use_is_one_line_that_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for (args, variables) in [
        (&["--listen", &address][..], &[][..]),
        (&["serve", "--listen", &address], &[]),
        (&[], &[("MEANWHILE_LISTEN", address.as_str())]),
        (&["serve"], &[("MEANWHILE_LISTEN", address.as_str())]),
        // A flag wins over the variable.
        (&["--listen", &address], &[("MEANWHILE_LISTEN", "127.0.0.1:0")]),
    ] {
        let (code, message) = failure(&meanwhile(folder.path(), args, variables));
        assert_eq!(code, 69, "{args:?} {variables:?}: {message}");
        assert!(message.starts_with("meanwhile: port ") && message.lines().count() == 1, "{message}");
    }
}

#[test]
fn a_data_folder_that_cannot_be_used_is_one_line() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), "").unwrap();
    let (code, message) = failure(&meanwhile(folder.path(), &["--listen", "localhost:0", "--data", "file"], &[]));
    assert_eq!(code, 73, "{message}");
    assert!(message.starts_with("meanwhile: ") && message.contains("--data"), "{message}");
    assert_eq!(message.lines().count(), 1, "{message}");
}

#[test]
fn a_policy_of_a_kind_that_is_not_there_is_one_line_that_names_those_there_are() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("m.toml"), "[kinds.simulat]\nmax_attempts = 3\n").unwrap();
    let args = ["--listen", "localhost:0", "--data", "data", "--config", "m.toml"];
    let (_, message) = failure(&meanwhile(folder.path(), &args, &[]));
    assert!(
        message.contains("m.toml:1:") && message.contains("`kinds.simulat`") && message.contains("simulate"),
        "{message}"
    );
    assert_eq!(message.lines().count(), 1, "{message}");
}

#[test]
fn a_new_configuration_is_written_once_and_is_valid() {
    let folder = tempfile::tempdir().unwrap();
    let output = meanwhile(folder.path(), &["init"], &[]);
    assert!(output.status.success(), "{output:?}");
    let written = fs::read_to_string(folder.path().join("meanwhile.toml")).unwrap();
    let (code, message) = failure(&meanwhile(folder.path(), &["init"], &[]));
    assert_eq!((code, message.lines().count()), (73, 1), "{message}");
    assert!(message.contains("meanwhile.toml is there already"), "{message}");
    assert_eq!(fs::read_to_string(folder.path().join("meanwhile.toml")).unwrap(), written);
    let (code, _) = failure(&meanwhile(folder.path(), &["init", "nowhere/m.toml"], &[]));
    assert_eq!(code, 73);
    for (args, variables) in [
        (&["check", "--config", "meanwhile.toml"][..], &[][..]),
        (&["check"], &[("MEANWHILE_CONFIG", "meanwhile.toml")]),
    ] {
        let output = meanwhile(folder.path(), args, variables);
        assert!(output.status.success(), "{output:?}");
        let said = String::from_utf8(output.stdout).unwrap();
        assert_eq!(said, "meanwhile.toml is valid: 3 sources, 1 join, 0 kinds\n");
    }
}

#[tokio::test]
async fn a_new_configuration_is_what_the_server_runs_with() {
    let folder = tempfile::tempdir().unwrap();
    assert!(meanwhile(folder.path(), &["init"], &[]).status.success());
    let server = Server::start(&folder.path().join("data"), Some(&folder.path().join("meanwhile.toml")));
    let document = "{ sources { name } joinedData(join: \"overview\", args: { id: 7 }) { data parts { value } } }";
    let answer = data(server.url(), document, json!({})).await;
    assert_eq!(answer["sources"], json!([{ "name": "health" }, { "name": "task_counts" }, { "name": "user" }]));
    assert_eq!(answer["joinedData"]["data"], json!({ "user": "User", "status": "ready", "tasks": 0 }));
    assert_eq!(answer["joinedData"]["parts"][0]["value"], json!({ "id": 7, "name": "User" }));
}

#[test]
fn checking_finds_what_starting_would_and_starts_nothing() {
    let folder = tempfile::tempdir().unwrap();
    assert!(meanwhile(folder.path(), &["check"], &[]).status.success());
    for (text, expected) in [
        ("[server]\nlisten = \"0.0.0.0:8000\"", "meanwhile: `server.listen`: "),
        (
            "[joins.a]\nparts.b.source = \"c\"",
            "meanwhile: m.toml:2:18: `joins.a.parts.b.source`: there is no source `c`",
        ),
        (
            "[sources.a]\ntype = \"http\"\nurl = \"${NO_SUCH_VARIABLE}\"",
            "meanwhile: m.toml:3:7: `sources.a.url`: needs",
        ),
        (
            "[joins.a]\nshape = \".[\"\nparts.b.source = \"c\"",
            "meanwhile: m.toml:2:9: `joins.a.shape`: is not a jq filter",
        ),
        ("[sources", "meanwhile: m.toml:1:"),
        ("[kinds.simulat]\nmax_attempts = 3", "meanwhile: m.toml:1:8: `kinds.simulat`: there is no such kind"),
        ("[kinds.collect]\ncommand = [\"ls\"]", "meanwhile: m.toml:2:11: `kinds.collect`: there is already a kind"),
        (
            "[kinds.a]\ncommand = [\"ls\"]\ninput_schema = { type = 1 }",
            "meanwhile: m.toml:2:11: `kinds.a`: the input schema of kind `a` is not a valid JSON Schema",
        ),
        (
            "[kinds.a]\ncommand = [\"ls\"]\nenvironment.KEY = \"${NO_SUCH_VARIABLE}\"",
            "meanwhile: m.toml:3:19: `kinds.a.environment.KEY`: needs the environment variable `NO_SUCH_VARIABLE`",
        ),
        ("[server]\ngraphiql_assets = \"nowhere\"", "meanwhile: "),
    ] {
        fs::write(folder.path().join("m.toml"), text).unwrap();
        let (code, message) = failure(&meanwhile(folder.path(), &["check", "--config", "m.toml"], &[]));
        assert_eq!((code, message.lines().count()), (78, 1), "{message}");
        assert!(message.starts_with(expected), "{message}");
        // Starting says the same.
        let args = ["--listen", "127.0.0.1:0", "--data", "data", "--config", "m.toml"];
        let listens_elsewhere = text.contains("listen =");
        let args = if listens_elsewhere { &args[2..] } else { &args[..] };
        assert_eq!(failure(&meanwhile(folder.path(), args, &[])), (78, message));
        let _ = fs::remove_dir_all(folder.path().join("data"));
    }
    // What may be there by the time it is needed is a warning.
    fs::write(folder.path().join("m.toml"), "[kinds.a]\ncommand = [\"./no-such-program\"]").unwrap();
    let output = meanwhile(folder.path(), &["check", "--config", "m.toml"], &[]);
    let log = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && log.contains("no-such-program"), "{log}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_program_gets_values_of_the_servers_environment_and_nobody_else_sees_them() {
    use futures::StreamExt;

    use crate::support::server::subscribe;

    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("m.toml");
    let script = r#"[ "$KEY" = "Bearer correct horse" ] && [ "$MODE" = fast ] && echo '{"result": "both"}'"#;
    let text = format!(
        "[kinds.keyed]\ncommand = [\"sh\", \"-c\", '''{script}''']\nenvironment.KEY = \"Bearer ${{API_KEY}}\"\n\
         environment.MODE = \"${{NO_SUCH_VARIABLE:-fast}}\"\n"
    );
    fs::write(&config, text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_meanwhile"));
    command.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(folder.path().join("data"));
    command.arg("--config").arg(&config).env("API_KEY", "correct horse");
    let log = fs::File::create(folder.path().join("log")).unwrap();
    let server = Server::spawn_with_log(&mut command, "meanwhile=trace", log.into());
    let start = "mutation { startTask(input: { kind: \"keyed\" }) { task { id } } }";
    let id = data(server.url(), start, json!({})).await["startTask"]["task"]["id"].clone();
    let events = "subscription($id: ID!) { taskEvents(id: $id) { __typename
        ... on TaskStatusChanged { status result error { message details } } ... on TaskLogged { message } } }";
    let events = subscribe(server.url(), events, json!({ "id": id })).await.unwrap();
    let events: Vec<_> = events.map(|event| event.unwrap()["data"]["taskEvents"].take()).collect().await;
    assert_eq!(events.last().unwrap()["result"], "both", "{events:?}");
    let kinds = data(server.url(), "{ kinds { name description inputSchema } }", json!({})).await;
    let log = fs::read_to_string(folder.path().join("log")).unwrap();
    for said in [format!("{events:?}"), kinds.to_string(), log] {
        assert!(!said.contains("correct horse"), "{said}");
    }
}

#[test]
fn wrong_usage_is_exit_code_2() {
    let folder = tempfile::tempdir().unwrap();
    for args in [&["--prot", "1"][..], &["--listen", "8000"]] {
        assert_eq!(failure(&meanwhile(folder.path(), args, &[])).0, 2);
    }
}

#[test]
fn help_and_version_succeed() {
    let folder = tempfile::tempdir().unwrap();
    for args in [&["--help"][..], &["serve", "--help"], &["--version"]] {
        let output = meanwhile(folder.path(), args, &[]);
        assert!(output.status.success() && output.stderr.is_empty() && !output.stdout.is_empty(), "{args:?}");
    }
}

#[test]
fn the_committed_schema_is_the_one_the_program_prints() {
    let folder = tempfile::tempdir().unwrap();
    let output = meanwhile(folder.path(), &["schema"], &[]);
    assert!(output.status.success());
    let printed = String::from_utf8(output.stdout).unwrap();
    let committed = include_str!("../../schema.graphql");
    assert!(printed == committed, "schema.graphql is out of date: run `cargo run -- schema > schema.graphql`");
}

/// What `meanwhile` says that is asked to use this folder.
fn refused(data: &Path) -> (i32, String) {
    let folder = tempfile::tempdir().unwrap();
    failure(&meanwhile(folder.path(), &["--listen", "localhost:0", "--data", data.to_str().unwrap()], &[]))
}

#[test]
fn a_folder_in_use_and_a_newer_database_have_exit_codes_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let server = Server::start(&data, None);
    let (code, message) = refused(&data);
    assert!(code == 73 && message.contains("in use") && message.lines().count() == 1, "{code}: {message}");
    drop(server);
    let database = rusqlite::Connection::open(data.join("meanwhile.db")).unwrap();
    database.pragma_update(None, "user_version", 9_999).unwrap();
    drop(database);
    let (code, message) = refused(&data);
    assert!(code == 65 && message.contains("newer") && message.lines().count() == 1, "{code}: {message}");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn sigterm_stops_the_server_gracefully_and_a_second_one_at_once() {
    use futures::StreamExt;

    use crate::support::server::{signal, subscribe};

    let folder = tempfile::tempdir().unwrap();
    let start = "mutation($input: JSON) { startTask(input: { kind: \"simulate\", input: $input }) { task { id } } }";
    let path = folder.path().join("data");
    // One that ends in time, and one that does not.
    for (steps, signals, status) in [(20, 1, "COMPLETED"), (1_000_000, 2, "PENDING")] {
        let server = Server::start(&path, None);
        let input = json!({ "input": { "steps": steps, "stepMs": 20 } });
        let id = data(server.url(), start, input).await["startTask"]["task"]["id"].clone();
        let progress = "subscription($id: ID!) { taskProgress(id: $id) { status percent } }";
        let mut states = subscribe(server.url(), progress, json!({ "id": id })).await.unwrap();
        // It runs.
        while states.next().await.unwrap().unwrap()["data"]["taskProgress"]["status"] != "RUNNING" {}
        for _ in 0..signals {
            signal(&server, "TERM");
        }
        assert_eq!(server.ended().await, Some(0), "a graceful end is exit code 0");
        let journal = rusqlite::Connection::open(path.join("meanwhile.db")).unwrap();
        let found: u32 = journal.query_row("SELECT status FROM task ORDER BY id DESC", [], |row| row.get(0)).unwrap();
        assert_eq!(["PENDING", "RUNNING", "COMPLETED"][found as usize], status);
    }
}
