//! What the environment gives to the configuration shows nowhere: not in the output of the commands, the log, the API.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use futures::StreamExt;
use meanwhile::config::Config;
use serde_json::{Value, json};

use crate::{
    cli::meanwhile,
    support::server::{Server, data, subscribe},
};

/// A part of every value that comes from the environment.
const SECRET: &str = "hunter2";
/// An address where nobody listens; a secret, too.
const ADDRESS: &str = "127.47.11.8:1";

struct Secrets {
    folder: tempfile::TempDir,
}

impl Secrets {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join(SECRET)).unwrap();
        Self { folder }
    }

    /// The value of `${DIR}`.
    fn path(&self) -> PathBuf {
        self.folder.path().join(SECRET)
    }

    fn config(&self, text: &str) -> PathBuf {
        let file = self.folder.path().join("m.toml");
        fs::write(&file, text).unwrap();
        file
    }

    fn run(&self, args: &[&str], variables: &[(&str, &str)]) -> Output {
        let dir = self.path();
        let dir = [("DIR", dir.to_str().unwrap()), ("NAME", SECRET), ("MEANWHILE_LOG", "trace")];
        meanwhile(self.folder.path(), args, &[&dir[..], variables].concat())
    }
}

/// Everything that a command has printed.
fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

#[test]
fn what_cannot_be_used_is_named_as_it_was_written() {
    let secrets = Secrets::new();
    let at = |name: &str| secrets.path().join(name);
    fs::write(at("notes.txt"), "not a database, but long enough to look at ".repeat(100)).unwrap();
    fs::write(at("token"), "short").unwrap();
    fs::write(at("file"), "").unwrap();
    fs::create_dir(at("foreign")).unwrap();
    fs::write(at("foreign/meanwhile.db"), "not a database, but long enough to look at ".repeat(100)).unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let unknown = &format!("{SECRET}:1")[..];
    let sql = |file: &str| format!("[sources.a]\ntype = \"sql\"\nfile = \"{file}\"\nquery = \"SELECT 1 FROM a\"");
    // Each with what `check` and `serve` say; `check` starts nothing, so it has nothing to say about some.
    for (text, listen, checked, started) in [
        (sql("${DIR}/missing.db"), "", Some("${DIR}/missing.db"), None),
        (sql("${NAME}/missing.db"), "", Some("${NAME}/missing.db, which does not exist"), None),
        (sql("${DIR}/notes.txt"), "", Some("${DIR}/notes.txt: file is not a database"), None),
        (sql("${DIR}"), "", Some("but ${DIR} is a folder"), None),
        ("[server]\ntoken_file = \"${DIR}/none\"".into(), "", Some("${DIR}/none: cannot be read"), Some(78)),
        ("[server]\ntoken_file = \"${NAME}/token\"".into(), "", Some("${NAME}/token: "), Some(78)),
        ("[server]\ngraphiql_assets = \"${DIR}\"".into(), "", Some("${DIR}/graphiql/graphiql.min.css"), Some(78)),
        ("[server]\nlisten = \"${LISTEN}\"".into(), unknown, Some("not \"${LISTEN}\""), Some(78)),
        ("[server]\nlisten = \"${LISTEN}\"".into(), "x", Some("not \"${LISTEN}\""), Some(78)),
        ("[server]\nlisten = \"${LISTEN}\"".into(), "0.0.0.0:0", Some("${LISTEN} can be reached"), Some(78)),
        ("[server]\nlisten = \"${LISTEN}\"".into(), &taken, None, Some(69)),
        ("[store]\ndata = \"${DIR}/file\"".into(), "", None, Some(73)),
        ("[store]\ndata = \"${DIR}/foreign\"".into(), "", None, Some(73)),
        ("[store]\ndata = \"${NAME}/file/x\"".into(), "", None, Some(73)),
        (
            "[kinds.a]\ncommand = [\"ls\"]\nfolder = \"${DIR}/none\"".into(),
            "",
            Some("its folder ${DIR}/none is not there"),
            None,
        ),
    ] {
        secrets.config(&text);
        let hidden = if text.contains("LISTEN") { listen } else { SECRET };
        let check = said(&secrets.run(&["check", "--config", "m.toml"], &[("LISTEN", listen)]));
        assert!(checked.is_none_or(|checked| check.contains(checked)), "{text}: {check}");
        assert!(!check.contains(hidden) || hidden == "x", "{text}: {check}");
        let config = Config::parse_with("m.toml", &text, &|name| match name {
            "LISTEN" => Ok("127.0.0.1:4711".to_owned()),
            _ => Ok(format!("/{SECRET}")),
        });
        let config = format!("{:?}", config.unwrap());
        assert!(!config.contains(SECRET) && !config.contains("4711"), "{config}");
        let Some(code) = started else { continue };
        let listens: &[&str] = if text.contains("LISTEN") { &[] } else { &["--listen", "127.0.0.1:0"] };
        let output = secrets.run(&[&["serve", "--config", "m.toml"], listens].concat(), &[("LISTEN", listen)]);
        let start = said(&output);
        assert_eq!(output.status.code(), Some(code), "{start}");
        assert!(start.contains("${") && (!start.contains(hidden) || hidden == "x"), "{text}: {start}");
    }
    for (data, code) in [("none", 66), ("foreign", 66)] {
        secrets.config(&format!("[store]\ndata = \"${{DIR}}/{data}\""));
        let output = secrets.run(&["backup", "--config", "m.toml", "copy.db"], &[]);
        assert_eq!(output.status.code(), Some(code));
        let said = said(&output);
        assert!(said.contains(&format!("${{DIR}}/{data}/meanwhile.db")) && !said.contains(SECRET), "{said}");
    }
}

fn start(secrets: &Secrets, config: &Path, log: &Path) -> Server {
    let mut command = Command::new(env!("CARGO_BIN_EXE_meanwhile"));
    command.args(["serve", "--config"]).arg(config).current_dir(secrets.folder.path());
    command.env("DIR", secrets.path()).env("LISTEN", "127.0.0.1:0").env("NAME", SECRET);
    command.env("ADDRESS", ADDRESS);
    // Whoever names a library asks for more of it than `trace` does.
    let levels = "trace,hyper_util::client=trace,reqwest::connect=trace";
    Server::spawn_with_log(&mut command, levels, fs::File::create(log).unwrap().into())
}

/// The events of a task of this kind, as far as they tell why it failed.
async fn failed(server: &Server, kind: &str) -> Vec<Value> {
    let start = "mutation($kind: String!) { startTask(input: { kind: $kind, maxAttempts: 1 }) { task { id } } }";
    let id = data(server.url(), start, json!({ "kind": kind })).await["startTask"]["task"]["id"].clone();
    let events = "subscription($id: ID!) { taskEvents(id: $id) { __typename
        ... on TaskStatusChanged { status error { code message details } } ... on TaskLogged { message } } }";
    let events = subscribe(server.url(), events, json!({ "id": id })).await.unwrap();
    events.map(|event| event.unwrap()).collect().await
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_running_server_shows_no_value_of_its_environment_whatever_fails() {
    let secrets = Secrets::new();
    fs::write(secrets.path().join("notes.txt"), "not a database, but long enough to look at ".repeat(100)).unwrap();
    let config = secrets.config(
        r#"
        [server]
        listen = "${LISTEN}"
        [store]
        data = "${DIR}/data"
        [sources.missing]
        type = "sql"
        file = "${DIR}/missing.db"
        query = "SELECT 1"
        [sources.broken]
        type = "sql"
        file = "${DIR}/notes.txt"
        query = "SELECT 1 FROM a"
        [sources.host]
        type = "http"
        url = "http://127.0.0.1:1/${NAME}"
        max_retries = 0
        [sources.address]
        type = "http"
        url = "http://${ADDRESS}/"
        max_retries = 0
        [kinds.nowhere]
        command = ["ls"]
        folder = "${DIR}/none"
        [joins.all.parts]
        missing.source = "missing"
        broken.source = "broken"
        host.source = "host"
        address.source = "address"
        "#,
    );
    let log = secrets.folder.path().join("log");
    let server = start(&secrets, &config, &log);
    let join = r#"{ joinedData(join: "all") { parts { name error { code message } } } sources { name description }
        joins { name } kinds { name description } }"#;
    let joined = data(server.url(), join, json!({})).await;
    let parts = joined["joinedData"]["parts"].as_array().unwrap();
    assert_eq!(parts.iter().filter(|part| part["error"]["code"] == "UNAVAILABLE").count(), 4, "{joined}");
    assert!(joined.to_string().contains("${DIR}/missing.db"), "{joined}");
    let events = failed(&server, "nowhere").await;
    assert!(format!("{events:?}").contains("its folder ${DIR}/none is not there"), "{events:?}");
    drop(server);
    let log = fs::read_to_string(log).unwrap();
    assert!(log.contains("${DIR}"), "{log}");
    for said in [joined.to_string(), format!("{events:?}"), log] {
        assert!(!said.contains(SECRET) && !said.contains("127.47.11.8"), "{said}");
    }
}
