//! HTTP sources against a real server that misbehaves in every way we know.

use std::{
    env::VarError,
    fs,
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use futures::{FutureExt, StreamExt};
use meanwhile::{
    clock::{Clock, ManualClock, SystemClock},
    config::{Config, ConfigError, build_sources},
    error::ErrorCode,
    model::Json,
    source::{Args, SourceError, Sources, ThisServer},
};
use rand::{SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::support::{
    peer::{Peer, Request},
    server::{Server, data, post as post_to, subscribe},
};

/// What no read may take longer than, whatever the server does.
const PATIENCE: Duration = Duration::from_secs(30);

fn build(clock: impl Clock, config: &str) -> Result<Sources, ConfigError> {
    let clock: Arc<dyn Clock> = Arc::new(clock);
    let variable = |name: &str| match name {
        "TOKEN" => Ok("hunter2-token".to_owned()),
        _ => Err(VarError::NotPresent),
    };
    let config = Config::parse_with("m.toml", config, &variable)?;
    assert!(!format!("{config:?}").contains("hunter2"));
    build_sources(&config, &ThisServer::default(), &clock, &mut StdRng::seed_from_u64(1))
}

/// One source, `api`, at this path of the server.
fn api(peer: &Peer, path: &str, more: &str) -> Sources {
    let config = format!("[sources.api]\ntype = \"http\"\nurl = \"{}\"\n{more}", peer.url(path));
    build(SystemClock::default(), &config).unwrap()
}

async fn read(sources: &Sources, args: Value) -> Result<Vec<Value>, SourceError> {
    let args = Args::from_json(&Json::from(args))?;
    let mut stream = sources.get("api").unwrap().read(args)?;
    let mut rows = Vec::new();
    let all = async {
        while let Some(row) = stream.next().await {
            rows.push(row?.value.decode().unwrap());
        }
        Ok(())
    };
    tokio::time::timeout(PATIENCE, all).await.expect("a read ends")?;
    Ok(rows)
}

async fn one(peer: &Peer, path: &str, more: &str) -> Result<Vec<Value>, SourceError> {
    read(&api(peer, path, more), Value::Null).await
}

#[tokio::test]
async fn a_json_answer_is_one_row_as_it_was_written() {
    let peer = Peer::start().await;
    let sources = api(&peer, "/json", "");
    let mut rows = sources.get("api").unwrap().read(Args::none()).unwrap();
    assert_eq!(rows.next().await.unwrap().unwrap().value.as_str(), r#"{"b": 1.50, "a": [null]}"#);
    assert!(rows.next().await.is_none());
}

#[tokio::test]
async fn lines_are_rows_each_as_soon_as_it_is_there() {
    let peer = Peer::start().await;
    let rows = one(&peer, "/lines", "format = \"ndjson\"").await.unwrap();
    assert_eq!(rows, [json!({ "n": 1 }), json!({ "n": 2 }), json!({ "n": 3 })]);
    let sources = api(&peer, "/stall", "format = \"ndjson\"");
    let mut rows = sources.get("api").unwrap().read(Args::none()).unwrap();
    assert_eq!(rows.next().await.unwrap().unwrap().value.as_str(), r#"{"n":1}"#);
}

#[tokio::test]
async fn requests_share_one_pool_of_connections() {
    let peer = Peer::start().await;
    let url = peer.url("/json");
    let config =
        format!("[sources.api]\ntype = \"http\"\nurl = \"{url}\"\n[sources.b]\ntype = \"http\"\nurl = \"{url}\"");
    let sources = build(SystemClock::default(), &config).unwrap();
    for name in ["api", "b", "api", "b"] {
        let mut rows = sources.get(name).unwrap().read(Args::none()).unwrap();
        while rows.next().await.is_some() {}
    }
    assert_eq!((peer.requests().len(), peer.connections()), (4, 1));
}

#[tokio::test]
async fn a_get_whose_connection_was_lost_before_an_answer_is_sent_again() {
    let peer = Peer::start().await;
    let sources = api(&peer, "/forgetful", "");
    for _ in 0..3 {
        assert!(read(&sources, Value::Null).await.is_ok());
    }
    // Each but the first was asked on the connection that had been kept, and then on a new one.
    assert_eq!((peer.requests().len(), peer.connections()), (5, 3));
    // A redirect on the connection that is kept; then the same.
    let peer = Peer::start().await;
    assert!(one(&peer, "/redirect/302/forgetful", "").await.is_ok());
    assert_eq!((peer.requests().len(), peer.connections()), (3, 2));
    // Not without end, and not at all where nothing is to be tried again.
    for (more, asked) in [("", 3), ("max_retries = 0", 1), ("max_retries = 5", 6)] {
        let peer = Peer::start().await;
        let error = one(&peer, "/hang-up", more).await.unwrap_err();
        assert!(error.message.contains("lost the connection to its server"), "{error}");
        assert_eq!(peer.requests().len(), asked, "{more}");
    }
    // What was answered, however badly, and what must not be done twice.
    for (path, more) in [
        ("/no-http", ""),
        ("/cut", ""),
        ("/endless-head/fields", ""),
        ("/silence", "timeout_ms = 100"),
        ("/hang-up", "method = \"POST\"\nbody = 1"),
    ] {
        let peer = Peer::start().await;
        assert!(one(&peer, path, more).await.is_err());
        assert_eq!(peer.requests().len(), 1, "{path}");
    }
}

#[tokio::test]
async fn every_misbehaviour_is_its_documented_error_and_nothing_hangs() {
    let peer = Peer::start().await;
    let quick = "timeout_ms = 300";
    let lines = "format = \"ndjson\"";
    for (path, more, code, expected) in [
        ("/silence", quick, ErrorCode::Timeout, "gave no row within 300 ms (its `timeout_ms`)"),
        ("/stall", quick, ErrorCode::Timeout, "gave no row within 300 ms"),
        ("/stall", "format = \"ndjson\"\ntimeout_ms = 300", ErrorCode::Timeout, "gave no row within 300 ms"),
        ("/hang-up", "", ErrorCode::Unavailable, "lost the connection to its server"),
        ("/cut", "", ErrorCode::Unavailable, "lost the connection to its server"),
        ("/cut", lines, ErrorCode::Unavailable, "lost the connection to its server"),
        ("/cut-chunks", lines, ErrorCode::Unavailable, "lost the connection to its server"),
        ("/no-http", "", ErrorCode::Unavailable, "lost the connection to its server: invalid HTTP"),
        ("/loop", "", ErrorCode::LimitExceeded, "over its limit `max_redirects`, which allows 5 redirects"),
        ("/redirect/302/json", "max_redirects = 0", ErrorCode::LimitExceeded, "`max_redirects`"),
        ("/nowhere", "", ErrorCode::Unavailable, "redirects to nowhere"),
        ("/location?to=ftp://x/", "", ErrorCode::Unavailable, "redirects to what is not HTTP"),
        ("/location?to=file:///etc/passwd", "", ErrorCode::Unavailable, "redirects to what is not HTTP"),
        (
            "/bytes/1001",
            "max_bytes = 1000",
            ErrorCode::LimitExceeded,
            "over its limit `max_bytes`, which allows 1000 bytes",
        ),
        ("/says-much", "", ErrorCode::LimitExceeded, "over its limit `max_bytes`"),
        ("/flood/spaces", "max_bytes = 1000000", ErrorCode::LimitExceeded, "over its limit `max_bytes`"),
        ("/flood/spaces", lines, ErrorCode::LimitExceeded, "over its limit `max_row_bytes`"),
        (
            "/flood/rows",
            "format = \"ndjson\"\nmax_rows = 1000",
            ErrorCode::LimitExceeded,
            "over its limit `max_rows`, which allows 1000 rows",
        ),
        (
            "/flood/rows",
            "format = \"ndjson\"\nmax_bytes = 100000",
            ErrorCode::LimitExceeded,
            "over its limit `max_bytes`",
        ),
        ("/flood/blank-lines", "format = \"ndjson\"\nmax_bytes = 100000", ErrorCode::LimitExceeded, "`max_bytes`"),
        ("/lines/long", "format = \"ndjson\"\nmax_row_bytes = 99", ErrorCode::LimitExceeded, "`max_row_bytes`"),
        ("/endless-head/fields", "", ErrorCode::Unavailable, "lost the connection to its server"),
        ("/endless-head/answers", quick, ErrorCode::Timeout, "gave no row within 300 ms"),
        ("/compressed", "", ErrorCode::Unavailable, "compressed, which was not asked for"),
        ("/compressed", lines, ErrorCode::Unavailable, "compressed, which was not asked for"),
        ("/text/%7B%22a%22:", "", ErrorCode::Unavailable, "was answered with what is not JSON: "),
        ("/text/1,2", "", ErrorCode::Unavailable, "what is not JSON: "),
        ("/text/", "", ErrorCode::Unavailable, "was answered without content (status 200 OK)"),
        ("/no-content", "", ErrorCode::Unavailable, "was answered without content (status 204 No Content)"),
        ("/broken-line", lines, ErrorCode::Unavailable, "was answered on line 2 with what is not JSON: "),
        ("/text/1e999999", "", ErrorCode::Unavailable, "was answered with JSON that not everybody can read: number"),
        ("/text/1e999999", lines, ErrorCode::Unavailable, "on line 1 with JSON that not everybody can read: "),
        ("/lone-surrogate", "", ErrorCode::Unavailable, "JSON that not everybody can read: "),
        ("/nested", "", ErrorCode::Unavailable, "JSON that not everybody can read: recursion limit exceeded"),
        ("/nested", lines, ErrorCode::Unavailable, "JSON that not everybody can read: recursion limit exceeded"),
        ("/long-location", "max_retries = 0", ErrorCode::Unavailable, "to its server: "),
        ("/status/500", "", ErrorCode::Unavailable, "was answered with status 500"),
        ("/status/401", "", ErrorCode::Unavailable, "was answered with status 401"),
        ("/status/404", "", ErrorCode::NotFound, "was answered with status 404"),
    ] {
        let error = one(&peer, path, more).await.unwrap_err();
        assert_eq!(error.code, code, "{path}: {error}");
        assert!(error.message.starts_with("source `api` ") && error.message.contains(expected), "{path}: {error}");
        assert!(error.message.len() < 400, "{path}: {error}");
        assert!(
            !error.message.contains("secret") && !error.message.contains(&peer.address.to_string()),
            "{path}: {error}"
        );
    }
    assert_eq!(one(&peer, "/bytes/1000", "max_bytes = 1000").await.unwrap().len(), 1);
    assert_eq!(one(&peer, "/lines/long", "format = \"ndjson\"\nmax_row_bytes = 100").await.unwrap().len(), 3);
}

#[tokio::test]
async fn no_row_and_a_mark_of_the_byte_order_are_no_errors() {
    let peer = Peer::start().await;
    assert_eq!(one(&peer, "/no-content", "format = \"ndjson\"").await.unwrap(), [] as [Value; 0]);
    for more in ["", "format = \"ndjson\""] {
        assert_eq!(one(&peer, "/byte-order-mark", more).await.unwrap(), [json!({ "n": 1 })]);
    }
}

#[tokio::test]
async fn a_slash_that_stands_twice_is_asked_twice() {
    let peer = Peer::start().await;
    assert_eq!(one(&peer, "//echo", "").await.unwrap().len(), 1);
    assert_eq!(peer.requests()[0].path, "//echo");
}

#[tokio::test]
async fn a_header_is_sent_once_and_what_is_accepted_is_told_everybody() {
    let (peer, other) = (Peer::start().await, Peer::start().await);
    let more =
        "method = \"POST\"\nbody = 1\nheaders = { content-type = \"application/vnd.x+json\", accept = \"text/x\" }";
    one(&peer, &format!("/redirect/303/{}", other.url("/json")), more).await.unwrap();
    let sent = |request: &Request, name: &str| -> Vec<String> {
        request.headers.iter().filter(|(known, _)| known == name).map(|(_, value)| value.clone()).collect()
    };
    let (first, second) = (&peer.requests()[0], &other.requests()[0]);
    assert_eq!(sent(first, "content-type"), ["application/vnd.x+json"]);
    assert_eq!(sent(first, "accept"), ["text/x"]);
    assert_eq!((sent(second, "content-type"), sent(second, "accept")), (vec![], vec!["application/json".to_owned()]));
}

#[tokio::test]
async fn rows_before_a_cut_are_given_out() {
    let peer = Peer::start().await;
    let sources = api(&peer, "/cut", "format = \"ndjson\"");
    let mut rows = sources.get("api").unwrap().read(Args::none()).unwrap();
    assert!(rows.next().await.unwrap().is_ok());
    assert_eq!(rows.next().await.unwrap().unwrap_err().code, ErrorCode::Unavailable);
    assert!(rows.next().await.is_none());
}

#[tokio::test]
async fn who_leaves_closes_the_connection() {
    let peer = Peer::start().await;
    for (path, row_first) in [("/silence", false), ("/stall", true), ("/flood/rows", true)] {
        let sources = api(&peer, path, "format = \"ndjson\"");
        let mut rows = sources.get("api").unwrap().read(Args::none()).unwrap();
        if row_first {
            rows.next().await.unwrap().unwrap();
        } else {
            let asked = peer.requests().len();
            while peer.requests().len() == asked {
                assert!(rows.next().now_or_never().is_none());
                tokio::task::yield_now().await;
            }
        }
        drop(rows);
        tokio::time::timeout(PATIENCE, peer.left()).await.expect("the connection is closed");
    }
}

const SECRETS: &str = r#"
headers = { authorization = "Bearer ${TOKEN}", x-api-key = "${TOKEN}", x-plain = "${NONE:-default}" }"#;

#[tokio::test]
async fn secrets_are_sent_to_their_host_and_to_no_other() {
    let (peer, other) = (Peer::start().await, Peer::start().await);
    one(&peer, "/redirect/302/redirect/307/json?key=${TOKEN}", SECRETS).await.unwrap();
    for request in peer.requests() {
        assert_eq!(request.header("authorization"), Some("Bearer hunter2-token"), "{request:?}");
        assert_eq!((request.header("x-api-key"), request.header("x-plain")), (Some("hunter2-token"), Some("default")));
    }
    assert_eq!(peer.requests().len(), 3);
    assert!(peer.requests()[0].path.ends_with("?key=hunter2-token"));

    for (status, path) in [(301, "/json"), (302, "/json"), (303, "/json"), (307, "/json"), (308, "/json")] {
        let _ = status;
        let path = format!("/location?to={}", other.url(path));
        one(&peer, &path, SECRETS).await.unwrap();
    }
    // Also not after a way back.
    let back = format!("/location?to={}", other.url(&format!("/location?to={}", peer.url("/json"))));
    one(&peer, &back, SECRETS).await.unwrap();
    assert!(!other.requests().is_empty());
    for request in other.requests().iter().chain(peer.requests().last()) {
        assert!(!format!("{request:?}").contains("hunter2"), "{request:?}");
        assert_eq!((request.header("authorization"), request.header("referer")), (None, None), "{request:?}");
    }
}

#[tokio::test]
async fn secrets_show_in_no_error_and_no_debug_output() {
    let peer = Peer::start().await;
    for path in ["/hang-up/${TOKEN}", "/status/500?k=${TOKEN}", "/text/${TOKEN}", "/loop?${TOKEN}", "/nowhere/${TOKEN}"]
    {
        let sources = api(&peer, path, SECRETS);
        assert!(!format!("{sources:?}").contains("hunter2"));
        let error = read(&sources, Value::Null).await.unwrap_err();
        assert!(!format!("{error:?} {error}").contains("hunter2"), "{error}");
    }
    for wrong in [
        "url = \"hunter2://${TOKEN}/\"",
        "url = \"http://u:${TOKEN}@h/\"",
        "url = \"http://h/\"\nheaders = { a = \"${TOKEN}\\n\" }",
        "url = \"http://h/${TOKEN}/{x}\"",
        "url = \"http://h/\"\nmethod = \"${TOKEN}\"",
        "url = \"http://h/\"\nheaders = { a = \"${TOKEN} ${NONE}\" }",
        "url = \"http://h/${TOKEN\"",
    ] {
        let error = build(SystemClock::default(), &format!("[sources.api]\ntype = \"http\"\n{wrong}")).unwrap_err();
        assert!(!error.to_string().contains("hunter2-token"), "{error}");
        assert!(error.to_string().starts_with("m.toml:"), "{error}");
    }
}

#[tokio::test]
async fn secrets_show_in_no_log_and_no_answer_of_the_program() {
    let peer = Peer::start().await;
    let folder = tempfile::tempdir().unwrap();
    let source = |name: &str, url: &str, more: &str| {
        format!(
            "[sources.{name}]\ntype = \"http\"\nurl = \"{url}\"\n{more}\n[joins.{name}]\nparts.{name}.source = \"{name}\"\n"
        )
    };
    let post = "method = \"POST\"\nbody = { key = \"${TOKEN}\" }";
    let config = [
        source("right", &peer.url("/json?key=${TOKEN}"), SECRETS),
        source("refused", &peer.url("/status/500/${TOKEN}"), SECRETS),
        source("broken", &peer.url("/text/${TOKEN}"), post),
        source("redirected", &peer.url("/loop?${TOKEN}"), SECRETS),
        source("cut", &peer.url("/cut/${TOKEN}"), SECRETS),
        source("nowhere", "https://${HOST}:1/${TOKEN}", SECRETS),
        source("no-tls", &format!("https://${{HOST}}:{}/${{TOKEN}}", peer.address.port()), "timeout_ms = 300"),
    ];
    fs::write(folder.path().join("m.toml"), config.concat()).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_meanwhile"));
    command.args(["--listen", "127.0.0.1:0", "--data", "data", "--config", "m.toml"]).current_dir(folder.path());
    command.env("TOKEN", "hunter2-token").env("HOST", "localhost");
    let log = fs::File::create(folder.path().join("log")).unwrap();
    let mut server = Server::spawn_with_log(&mut command, "trace", Stdio::from(log));
    let mut answers = String::new();
    for name in ["right", "refused", "broken", "redirected", "cut", "nowhere", "no-tls"] {
        let join = format!("{{ joinedData(join: \"{name}\") {{ data parts {{ value error {{ code message }} }} }} }}");
        answers += &post_to(server.url(), &join, json!({})).await.unwrap().to_string();
        let collect = format!(
            "mutation {{ startTask(input: {{ kind: \"collect\", input: {{ source: \"{name}\" }} }}) {{ task {{ id }} }} }}"
        );
        let id = data(server.url(), &collect, json!({})).await["startTask"]["task"]["id"].clone();
        let events =
            "subscription($id: ID!) { taskEvents(id: $id) { ... on TaskStatusChanged { error { message } } } }";
        let events = subscribe(server.url(), events, json!({ "id": id })).await.unwrap();
        answers += &format!("{:?}", events.collect::<Vec<_>>().await);
    }
    let all = "{ sources { name description type args argDefinitions { name default } }
        joins { name description args parts { name source } } }";
    answers += &data(server.url(), all, json!({})).await.to_string();
    server.kill();
    let log = fs::read_to_string(folder.path().join("log")).unwrap();
    assert!(log.contains("TRACE") || log.contains("DEBUG"), "nothing is logged: {log}");
    assert!(answers.contains("\"b\":1.5") && answers.contains("cannot connect"), "{answers}");
    assert_eq!(peer.requests()[0].header("authorization"), Some("Bearer hunter2-token"));
    for text in [&log, &answers] {
        for line in text.lines() {
            assert!(!line.contains("hunter2") && !line.contains("localhost"), "{line}");
        }
    }
}

const ARGS: &str = r#"
args.id = "text"
args.days = { type = "number", default = 3 }
args.detailed = { type = "boolean", required = false }
"#;

#[tokio::test]
async fn args_never_leave_their_place_in_the_address() {
    let peer = Peer::start().await;
    let sources = api(&peer, "/echo/{id}/end?days={days}&detailed={detailed}&fixed=1", ARGS);
    for (id, encoded) in [
        ("Bern", "Bern"),
        ("a/b?c=d#e", "a%2Fb%3Fc%3Dd%23e"),
        ("../../status/500", "..%2F..%2Fstatus%2F500"),
        ("x HTTP/1.1\r\nhost: evil\r\n\r\nGET /", "x%20HTTP%2F1.1%0D%0Ahost%3A%20evil%0D%0A%0D%0AGET%20%2F"),
        ("@evil.example:1", "%40evil.example%3A1"),
        ("{days}", "%7Bdays%7D"),
        ("${TOKEN}", "%24%7BTOKEN%7D"),
        ("日本", "%E6%97%A5%E6%9C%AC"),
    ] {
        let rows = read(&sources, json!({ "id": id, "detailed": true })).await.unwrap();
        assert_eq!(rows[0]["path"], format!("/echo/{encoded}/end?days=3&detailed=true&fixed=1"), "{id}");
    }
    assert_eq!(read(&sources, json!({ "id": "a" })).await.unwrap()[0]["path"], "/echo/a/end?days=3&fixed=1");
    for args in
        [json!({ "id": ".." }), json!({ "id": "" }), json!({ "id": 1 }), json!({}), json!({ "id": "a", "b": 1 })]
    {
        assert_eq!(read(&sources, args.clone()).await.unwrap_err().code, ErrorCode::InvalidInput, "{args}");
    }
}

#[tokio::test]
async fn a_body_takes_args_as_whole_values() {
    let peer = Peer::start().await;
    let more = format!(
        "{ARGS}method = \"POST\"\nbody = {{ find = {{ id = \"{{id}}\", days = [\"{{days}}\", \"{{detailed}}\"] }}, note = \"{{id}}!\" }}"
    );
    let sources = api(&peer, "/echo", &more);
    let rows = read(&sources, json!({ "id": "\", \"admin\": true, \"x\": \"" })).await.unwrap();
    let body: Value = serde_json::from_str(rows[0]["body"].as_str().unwrap()).unwrap();
    let expected = json!({ "find": { "id": "\", \"admin\": true, \"x\": \"", "days": [3, null] }, "note": "{id}!" });
    assert_eq!((&rows[0]["method"], body), (&json!("POST"), expected));
    assert_eq!(peer.requests()[0].header("content-type"), Some("application/json"));
}

#[tokio::test]
async fn a_redirected_post_keeps_its_body_on_its_host_only() {
    let (peer, other) = (Peer::start().await, Peer::start().await);
    let post = "method = \"POST\"\nbody = { secret = \"${TOKEN}\" }";
    let rows = one(&peer, "/redirect/307/echo", post).await.unwrap();
    assert_eq!((&rows[0]["method"], &rows[0]["body"]), (&json!("POST"), &json!(r#"{"secret":"hunter2-token"}"#)));
    let rows = one(&peer, "/redirect/303/echo", post).await.unwrap();
    assert_eq!((&rows[0]["method"], &rows[0]["body"]), (&json!("GET"), &json!("")));
    let away = format!("/redirect/307/{}", other.url("/echo"));
    let error = one(&peer, &away, post).await.unwrap_err();
    assert!(error.message.contains("body to another host"), "{error}");
    assert_eq!(other.requests().len(), 0);
}

#[tokio::test]
async fn a_get_is_sent_again_when_nothing_listens_and_a_post_is_not() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let clock = ManualClock::new(chrono::DateTime::UNIX_EPOCH);
    let source = |more: &str| {
        let config = format!("[sources.api]\ntype = \"http\"\nurl = \"http://{address}/json\"\n{more}");
        build(clock.clone(), &config).unwrap()
    };
    let refused = |error: &SourceError| error.message.contains("cannot connect to its server");
    let error = read(&source("method = \"POST\""), Value::Null).await.unwrap_err();
    assert!(refused(&error), "{error}");
    let error = read(&source("max_retries = 0"), Value::Null).await.unwrap_err();
    assert!(refused(&error), "{error}");

    let sources = source("");
    let reading = tokio::spawn(async move { read(&sources, Value::Null).await });
    let waits = |ms: u64| {
        let clock = clock.clone();
        let waits = async move {
            while clock.next_wake() != Some(Duration::from_millis(ms)) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, waits)
    };
    waits(50).await.unwrap();
    clock.advance(Duration::from_millis(50));
    waits(100).await.unwrap();
    let peer = Peer::on(TcpListener::bind(address).await.unwrap());
    clock.advance(Duration::from_millis(100));
    assert_eq!(reading.await.unwrap().unwrap().len(), 1);
    assert_eq!(peer.requests().len(), 1);
}

#[tokio::test]
async fn what_does_not_fit_is_refused_when_the_configuration_is_read() {
    for (wrong, expected) in [
        ("url = \"http://h/\"\nbody = { a = 1 }", "a GET has no `body`"),
        ("url = \"http://h/\"\nargs.id = \"text\"", "its arg `id` is not used"),
        ("url = \"http://h/{id}\"", "a place `{id}` for an arg that is not one of its `args`"),
        ("url = \"http://{id}/\"\nargs.id = \"text\"", "the host is fixed"),
        ("url = \"http://h/\"\nmethod = \"PUT\"", "must be \"GET\" or \"POST\""),
        ("url = \"http://h/\"\nformat = \"xml\"", "must be \"json\" or \"ndjson\""),
        ("url = \"http://h/\"\nheaders = { \"a b\" = \"x\" }", "`a b` cannot be the name of a header"),
        ("url = \"http://h/\"\nheaders = { host = \"x\" }", "the header `host` is not for the configuration"),
        (
            "url = \"http://h/\"\nheaders = { authorization = \"a\", Authorization = \"b\" }",
            "the header `Authorization` is there twice",
        ),
        ("url = \"http://h/\"\nheaders.a = 1", "`sources.api.headers.a`: must be a text in quotes, not a number"),
        ("url = \"http://h/${NONE}\"", "`sources.api.url`: needs the environment variable `NONE`"),
        ("url = \"http://h/\"\nmax_redirect = 1", "did you mean `max_redirects`?"),
    ] {
        let config = format!("[sources.api]\ntype = \"http\"\n{wrong}");
        let error = build(SystemClock::default(), &config).unwrap_err().to_string();
        assert!(error.contains(expected) && error.starts_with("m.toml:"), "{error}");
    }
}
