use std::{sync::Arc, time::Duration};

use futures::{FutureExt, StreamExt};
use rand::{SeedableRng, rngs::StdRng};

use super::*;
use crate::{
    clock::{Clock, ManualClock},
    http::websocket::WebsocketOptions,
    source::{Args, SourceType, Sources, ThisServer, simulated::SimulatedValue},
    task::KindPolicy,
};

fn error(text: &str) -> String {
    let error = Config::parse("meanwhile.toml", text).unwrap_err().to_string();
    assert_eq!(error.lines().count(), 1, "{error}");
    error
}

fn build(config: &Config) -> Result<(Sources, ManualClock), ConfigError> {
    let clock = ManualClock::new(chrono::DateTime::UNIX_EPOCH);
    let shared: Arc<dyn Clock> = Arc::new(clock.clone());
    build_sources(config, &ThisServer::default(), &shared, &mut StdRng::seed_from_u64(1))
        .map(|sources| (sources, clock))
}

#[test]
fn an_empty_file_means_the_defaults() {
    assert_eq!(Config::parse("m.toml", "").unwrap(), Config::default());
}

#[test]
fn every_section_is_read() {
    let text = r#"
        [server]
        listen = "0.0.0.0:9000"
        graphiql = false
        [server.websocket]
        max_operations = 7
        [api]
        max_document_tokens = 5
        [store]
        data = "data"
        [tasks]
        concurrency = 3
        [retention]
        keep_tasks_ms = 86_400_000
        [kinds.simulate]
        max_attempts = 4
        concurrency = 2
        [journal]
        page_events = 9
        [sources.one]
        type = "simulated"
        value = { status = "success" }
        latency_ms = 200
        [sources.items]
        type = "sql"
        file = "shop.db"
        query = "SELECT 1 AS one WHERE :id"
        timeout_ms = 500
    "#;
    let config = Config::parse("/etc/meanwhile/m.toml", text).unwrap();
    let simulate = KindPolicy { max_attempts: Some(4), concurrency: Some(2), ..KindPolicy::default() };
    assert_eq!(config.tasks.kinds, [("simulate".to_owned(), simulate)].into());
    assert_eq!((config.tasks.retention.keep_tasks_ms, config.tasks.retention.keep_events_ms), (Some(86_400_000), None));
    assert_eq!(config.server.listen.to_string(), "0.0.0.0:9000");
    assert!(!config.server.graphiql);
    assert_eq!(config.server.http.websocket, WebsocketOptions { max_operations: 7, ..Default::default() });
    assert_eq!((config.api.document.max_document_tokens, config.server.http.document.max_document_tokens), (5, 5));
    assert_eq!(config.store.data.expose(), Path::new("/etc/meanwhile/data"));
    assert_eq!(config.tasks.concurrency, 3);
    assert_eq!(config.journal.page_events, 9);
    let [one, items] = &config.sources[..] else { panic!("{:?}", config.sources) };
    assert_eq!((one.name.as_str(), one.location.line), ("one", 20));
    let SourceOptions::Sql(sql) = &items.options else { panic!("{items:?}") };
    assert_eq!((sql.limits.timeout_ms, sql.file.expose().as_path()), (500, Path::new("/etc/meanwhile/shop.db")));
}

#[test]
fn mistakes_say_where_they_are_and_what_to_do() {
    let cases = [
        ("[sever]", "meanwhile.toml:1:2: `sever`: unknown key; did you mean `server`?"),
        ("[tasks]\nconcurency = 3", "meanwhile.toml:2:1: `tasks.concurency`: unknown key; did you mean `concurrency`?"),
        (
            "[server.websocket]\nmax_operations = 0",
            "meanwhile.toml:2:18: `server.websocket.max_operations`: must be a whole number from 1 to 100000, not 0",
        ),
        (
            "[server]\nlisten = \"8000\"",
            "meanwhile.toml:2:10: `server.listen`: must be an address and a port, such as \"127.0.0.1:8000\" or \"0.0.0.0:8000\", not \"8000\"",
        ),
        (
            "[tasks]\nmax_retry_backoff_ms = 10",
            "meanwhile.toml:2:24: `tasks.max_retry_backoff_ms`: must be at least `retry_backoff_ms`, which is 1000: raise this one or lower that one",
        ),
        ("[sources.a]", "meanwhile.toml:1:10: `sources.a.type`: is missing: add it"),
        ("[sources.a]\ntyp = \"sql\"", "meanwhile.toml:2:1: `sources.a.typ`: unknown key; did you mean `type`?"),
        (
            "[sources.a]\ntype = \"csv\"",
            "meanwhile.toml:2:8: `sources.a.type`: must be \"sql\", \"http\", \"simulated\" or \"store\", not \"csv\"",
        ),
        (
            "[sources.a]\ntype = \"sql\"\nfile = \"a.db\"\nsql = \"SELECT 1\"",
            "meanwhile.toml:1:10: `sources.a.query`: is missing: add it",
        ),
        (
            "[sources.a]\ntype = \"simulated\"\nrandom = true\nvalue = 1",
            "meanwhile.toml:3:10: `sources.a.random`: cannot be together with `value`: remove one",
        ),
        (
            "[sources.a]\ntype = \"simulated\"\nfail_after = 1",
            "meanwhile.toml:3:14: `sources.a.fail_after`: needs `fail`, the message it fails with: add it",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(error(text), expected);
    }
    assert!(error("[sources.\"a b\"]\ntype = \"sql\"").starts_with("meanwhile.toml:1:10: `sources.a b`: a name has"));
}

#[test]
fn flags_win_over_the_file() {
    let config = Config::parse("m.toml", "[server]\nlisten = \"0.0.0.0:9000\"\n[store]\ndata = \"/d\"").unwrap();
    let overrides = Overrides { data: Some("/other".into()), ..Default::default() };
    let config = config.with(overrides);
    assert_eq!(config.store.data.expose(), Path::new("/other"));
    assert_eq!(config.server.listen.to_string(), "0.0.0.0:9000");
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let error = Config::load(Some(Path::new("/nowhere/m.toml"))).unwrap_err().to_string();
    assert!(error.contains("/nowhere/m.toml") && error.contains("--config"), "{error}");
}

#[test]
fn a_file_that_is_not_utf8_says_where() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("m.toml");
    fs::write(&file, b"[server]\n# \xc3\xa9 \xe9\n").unwrap();
    let error = Config::load(Some(&file)).unwrap_err().to_string();
    assert!(error.contains("m.toml:2:5: not UTF-8"), "{error}");
}

#[test]
fn the_builtin_configuration_gives_the_random_numbers_of_the_origin() {
    let config = Config::builtin().unwrap();
    let SourceOptions::Simulated(random) = &config.sources[0].options else { panic!("{:?}", config.sources) };
    assert_eq!((random.rows, random.interval_ms, &random.value), (100, 50, &SimulatedValue::Random));

    let (sources, clock) = build(&config).unwrap();
    let source = sources.get("random").unwrap();
    assert_eq!(source.info().source_type, SourceType::Simulated);
    let mut rows = source.read(Args::none()).unwrap();
    for id in 0..3 {
        let row = rows.next().now_or_never().unwrap().unwrap().unwrap();
        assert_eq!(row.metadata.unwrap().as_str(), format!("\"chunk_{id}\""));
        clock.advance(Duration::from_millis(50));
    }
}

#[test]
fn a_query_at_fault_is_an_error_and_a_missing_file_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let source = |query: &str| {
        let text = format!("[sources.items]\ntype = \"sql\"\nfile = \"shop.db\"\nquery = \"{query}\"");
        Config::parse(&folder.path().join("m.toml").to_string_lossy(), &text).unwrap()
    };
    let (sources, _clock) = build(&source("SELECT * FROM item WHERE id = :id")).unwrap();
    assert_eq!(sources.get("items").unwrap().info().args[0].name, "id");
    assert!(build(&source("SELECT ?1")).is_err());

    rusqlite::Connection::open(folder.path().join("shop.db")).unwrap().execute_batch("CREATE TABLE item (id)").unwrap();
    assert!(build(&source("SELECT * FROM item WHERE id = :id")).is_ok());
    let error = build(&source("DELETE FROM item")).unwrap_err().to_string();
    assert!(error.contains("m.toml:4:9: `sources.items.query`: source `items` has a statement that writes"), "{error}");
}

#[test]
fn what_a_kind_says_of_its_waits_has_to_fit_together() {
    let text = "[kinds.k]\nretry_backoff_ms = 500\nmax_retry_backoff_ms = 100";
    assert!(error(text).contains("`kinds.k.max_retry_backoff_ms`: must be at least"));
    assert!(error("[kinds.k]\ntimeot_ms = 3").contains("did you mean `timeout_ms`?"));
}

#[test]
fn no_error_shows_what_stands_where_secrets_do() {
    for wrong in [
        "headers = \"authorization: TOPSECRET7\"",
        "headers = { authorization = 987654321 }",
        "headers = { authorization = [\"TOPSECRET7\"] }",
    ] {
        let error = error(&format!("[sources.a]\ntype = \"http\"\nurl = \"http://h/\"\n{wrong}\n"));
        assert!(!error.contains("TOPSECRET7") && !error.contains("987654321"), "{error}");
    }
    assert!(!error("[sources.a]\ntype = \"http\"\nurl = 987654321\n").contains("987654321"));
}

#[test]
fn what_the_environment_gives_is_no_place_for_an_arg() {
    let read = |source: &str| {
        let text =
            format!("[sources.a]\ntype = \"http\"\nmethod = \"POST\"\nargs.x = {{ type = \"text\" }}\n{source}\n");
        Config::parse_with("m.toml", &text, &|name| Ok(if name == "P" { "{x}".into() } else { "p{x}y".into() }))
    };
    for refused in [
        "url = \"http://h/{x}\"\nbody = { password = \"${P}\" }",
        "url = \"http://h/${P}\"",
        "url = \"http://h/{x}/${Q}\"",
        "url = \"http://h/{${Q}}\"",
    ] {
        let error = read(refused).unwrap_err().to_string();
        assert!(error.contains("the environment") && error.contains("place for an arg"), "{error}");
    }
    assert!(read("url = \"http://h/{x}\"\nbody = { password = \"${Q}\" }").is_ok());
}

#[test]
fn what_is_wrong_with_an_http_source_is_told_with_its_key_and_line() {
    for (wrong, line, key) in [
        ("url = \"ftp://h/\"", "m.toml:4", "`sources.a.url`: "),
        ("url = \"http://h/{x}\"", "m.toml:4", "`sources.a.url`: "),
        ("url = \"http://h/\"\nbody = { a = 1 }", "m.toml:5", "`sources.a.body`: a GET has no"),
        ("url = \"http://h/\"\nargs.x = \"text\"", "m.toml:5", "`sources.a.args`: its arg `x` is not used"),
        ("url = \"http://h/\"\nheaders = { \"a b\" = \"1\" }", "m.toml:5", "`sources.a.headers.a b`: `a b` cannot"),
        (
            "url = \"http://h/\"\n[sources.a.headers]\na = \"1\"\nb = \"1\\n2\"",
            "m.toml:7:5",
            "`sources.a.headers.b`: the",
        ),
        ("url = \"http://h/\"\n[sources.a.headers]\na = \"1\"\nA = \"2\"", "m.toml:7:5", "`sources.a.headers.A`: the"),
        (
            "url = \"http://h/{x}\"\nmethod = \"POST\"\nargs.x = \"text\"\n[sources.a.body]\na = 1\nb.c = [\"d\", \"{e}\"]",
            "m.toml:9:13",
            "`sources.a.body.b.c`: its `body` has a place `{e}`",
        ),
        (
            "url = \"http://h/\"\nmethod = \"POST\"\n[sources.a.body]\na = 1\nb = \"${\"",
            "m.toml:8:5",
            "`sources.a.body.b`: has a `${` without",
        ),
    ] {
        let text = format!("\n[sources.a]\ntype = \"http\"\n{wrong}\n");
        let error = Config::parse("m.toml", &text).unwrap_err().to_string();
        assert!(error.starts_with(line) && error.contains(key), "{error}");
    }
}
