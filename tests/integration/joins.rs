//! Joins through the API: the origin's examples in the real program, and what their parts may do.

use std::fs;

use serde_json::{Value, json};

use crate::support::server::{Server, data, post};

const JOINED: &str = "query($join: String!, $args: JSON) { joinedData(join: $join, args: $args) {
    join data elapsedMs sequentialMs
    parts { name source dependsOn required value error { code message } startedMs elapsedMs shared }
} }";

async fn joined(server: &Server, join: &str, args: Value) -> Value {
    data(server.url(), JOINED, json!({ "join": join, "args": args })).await["joinedData"].clone()
}

/// `extensions` of the only error.
async fn refused(server: &Server, document: &str, variables: Value) -> (String, Value) {
    let response = post(server.url(), document, variables).await.unwrap();
    assert_eq!(response["errors"].as_array().map(Vec::len), Some(1), "{response}");
    let error = &response["errors"][0];
    (error["message"].as_str().unwrap().to_owned(), error["extensions"].clone())
}

fn part<'a>(joined: &'a Value, name: &str) -> &'a Value {
    joined["parts"].as_array().unwrap().iter().find(|part| part["name"] == name).unwrap()
}

#[tokio::test]
async fn the_origins_profile_takes_its_critical_path_and_gives_its_whole() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), None);
    let profile = joined(&server, "profile", Value::Null).await;
    assert_eq!(profile["data"], json!({ "userName": "User", "apiStatus": "success", "processedData": 6 }));
    let ms = |value: &Value| value.as_f64().unwrap();
    // A loaded machine can be late; nothing can be early.
    assert!((250.0..2000.0).contains(&ms(&profile["elapsedMs"])), "{profile}");
    assert!(ms(&profile["sequentialMs"]) >= 350.0, "{profile}");
    let process = part(&profile, "process");
    assert_eq!(process["dependsOn"], json!(["user", "api"]));
    assert!(ms(&process["startedMs"]) >= ms(&part(&profile, "api")["elapsedMs"]), "{profile}");
    for first in ["user", "api"] {
        assert!(ms(&part(&profile, first)["startedMs"]) < 50.0, "{profile}");
    }
}

#[tokio::test]
async fn the_origins_three_reads_gain_more_than_half() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), None);
    let document = "{ comparison(join: \"three_reads\") {
        join improvementPercent speedup sequential { data elapsedMs } concurrent { data elapsedMs } } }";
    let compared = &data(server.url(), document, Value::Null).await["comparison"];
    let ms = |value: &Value| value["elapsedMs"].as_f64().unwrap();
    assert!(ms(&compared["sequential"]) >= 450.0 && ms(&compared["concurrent"]) >= 200.0, "{compared}");
    assert!(compared["improvementPercent"].as_f64().unwrap() > 40.0, "{compared}");
    assert!(compared["speedup"].as_f64().unwrap() > 1.6, "{compared}");
    let all = json!({ "io_100": "io_100", "io_150": "io_150", "io_200": "io_200" });
    assert_eq!((&compared["sequential"]["data"], &compared["concurrent"]["data"]), (&all, &all));
}

#[tokio::test]
async fn joins_are_listed_with_their_args_and_parts() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), None);
    let document = "{ joins { name description args argDefinitions { name type required default }
        parts { name source dependsOn required } } }";
    let listed = data(server.url(), document, Value::Null).await;
    let profile = listed["joins"].as_array().unwrap().iter().find(|join| join["name"] == "profile").unwrap();
    assert_eq!(profile["args"], json!([]));
    let process = json!({ "name": "process", "source": "processing", "dependsOn": ["user", "api"], "required": false });
    assert_eq!(profile["parts"][2], process);
}

#[tokio::test]
async fn joins_that_find_no_room_for_their_values_are_told_to_try_again() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("m.toml");
    let echo = r#"
[api]
max_join_bytes = 1024
[sources.echo]
type = "simulated"
args.text = "text"
value = "{text}"
[joins.echo]
args.text = "text"
parts.a = { source = "echo", args.text = "$args.text" }
"#;
    fs::write(&config, echo).unwrap();
    let server = Server::start(folder.path(), Some(&config));
    let document = "query($one: JSON!, $other: JSON!) {
        one: joinedData(join: \"echo\", args: $one) { data } other: joinedData(join: \"echo\", args: $other) { data } }";
    let text = |letter: &str| json!({ "text": letter.repeat(600) });
    // What is held is given back, so that there is room for the next request, and for one of two at once.
    for _ in 0..3 {
        data(server.url(), document, json!({ "one": text("a"), "other": text("a") })).await;
        let (message, extensions) = refused(&server, document, json!({ "one": text("a"), "other": text("b") })).await;
        assert_eq!(extensions, json!({ "code": "UNAVAILABLE", "limit": "max_join_bytes" }), "{message}");
        assert!(message.starts_with("join `echo`: too many joins hold values now"), "{message}");
    }
}

const SHOP: &str = r#"
[sources.orders]
type = "sql"
file = "shop.db"
query = "SELECT id, item FROM orders WHERE customer = :customer ORDER BY id LIMIT :limit"
args.customer = "text"
args.limit = { type = "number", default = 2 }

[sources.customer]
type = "simulated"
latency_ms = 10
args.name = "text"
value = { name = "{name}" }

[sources.broken]
type = "simulated"
fail = "no route"

[sources.never]
type = "simulated"
latency_ms = 3600000
timeout_ms = 7200000

[joins.shop]
args.name = "text"
args.limit = { type = "number", required = false }
shape = "{name: .customer.name, items: [.orders[].item], broken: $errors.broken.code, asked: $args.name}"
[joins.shop.parts.customer]
source = "customer"
required = true
args.name = "$args.name"
[joins.shop.parts.orders]
source = "orders"
depends_on = ["customer"]
args = { customer = ".customer.name", limit = "$args.limit // empty" }
[joins.shop.parts.broken]
source = "broken"

[joins.first]
parts.orders = { source = "orders", gives = "value", args.customer = '"Ada"' }

[joins.late]
timeout_ms = 50
parts.customer = { source = "customer", args.name = "\"x\"" }
parts.never = { source = "never" }

[joins.fails]
parts.broken = { source = "broken", required = true }

[joins.misshapen]
shape = ".customer.name.first"
parts.customer = { source = "customer", args.name = "\"x\"" }

[joins.endless]
shape = "[repeat(1)]"
filter_timeout_ms = 50
parts.customer = { source = "customer", args.name = "\"x\"" }
"#;

fn shop() -> (Server, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let connection = rusqlite::Connection::open(folder.path().join("shop.db")).unwrap();
    let orders = "CREATE TABLE orders (id INTEGER PRIMARY KEY, customer TEXT, item TEXT);
        INSERT INTO orders (customer, item) VALUES ('Ada', 'lamp'), ('Ada', 'book'), ('Ada', 'chair'), ('Bob', 'hat');";
    connection.execute_batch(orders).unwrap();
    let file = folder.path().join("m.toml");
    fs::write(&file, SHOP).unwrap();
    (Server::start(&folder.path().join("data"), Some(&file)), folder)
}

#[tokio::test]
async fn args_flow_from_the_join_through_its_parts_and_a_failed_part_stands_beside_the_others() {
    let (server, _folder) = shop();
    let shop = joined(&server, "shop", json!({ "name": "Ada" })).await;
    let expected = json!({ "name": "Ada", "items": ["lamp", "book"], "broken": "UNAVAILABLE", "asked": "Ada" });
    assert_eq!(shop["data"], expected);
    assert_eq!(part(&shop, "orders")["value"], json!([{ "id": 1, "item": "lamp" }, { "id": 2, "item": "book" }]));
    let broken = json!({ "code": "UNAVAILABLE", "message": "source `broken` failed: no route" });
    assert_eq!((&part(&shop, "broken")["error"], &part(&shop, "broken")["value"]), (&broken, &Value::Null));
    let shop = joined(&server, "shop", json!({ "name": "Ada", "limit": 3 })).await;
    assert_eq!(shop["data"]["items"], json!(["lamp", "book", "chair"]));
    let first = joined(&server, "first", Value::Null).await;
    assert_eq!(first["data"], json!({ "orders": { "id": 1, "item": "lamp" } }));
}

#[tokio::test]
async fn what_looks_like_sql_or_jq_in_an_arg_is_only_a_text() {
    let (server, _folder) = shop();
    for text in ["' OR 1=1 --", "Ada'; DROP TABLE orders; --", "\") | env", "\\(env)", "$ENV.PATH", "{name}", ":limit"]
    {
        let shop = joined(&server, "shop", json!({ "name": text })).await;
        let expected = json!({ "name": text, "items": [], "broken": "UNAVAILABLE", "asked": text });
        assert_eq!(shop["data"], expected, "{text}");
    }
    assert_eq!(joined(&server, "shop", json!({ "name": "Bob" })).await["data"]["items"], json!(["hat"]));
}

#[tokio::test]
async fn what_cannot_be_joined_is_an_error_with_a_code() {
    let (server, _folder) = shop();
    for (join, args, code, expected) in [
        ("shopp", Value::Null, "UNKNOWN_JOIN", "there is no join `shopp`; there are: "),
        ("shop", Value::Null, "INVALID_INPUT", "join `shop`, arg `name`: it must be given"),
        ("shop", json!({ "name": 1 }), "INVALID_INPUT", "join `shop`, arg `name`: must be a text"),
        ("shop", json!({ "name": "a", "x": 1 }), "INVALID_INPUT", "join `shop` has no arg `x`"),
        ("shop", json!([1]), "INVALID_INPUT", "args must be an object"),
        ("fails", Value::Null, "UNAVAILABLE", "join `fails`, part `broken`: source `broken` failed: no route"),
        ("misshapen", Value::Null, "INVALID_INPUT", "join `misshapen`: its `shape` failed: "),
        ("endless", Value::Null, "LIMIT_EXCEEDED", "its `shape` is over the limit `filter_timeout_ms`"),
    ] {
        for field in ["joinedData", "comparison"] {
            let document =
                format!("query($join: String!, $args: JSON) {{ {field}(join: $join, args: $args) {{ join }} }}");
            let (message, extensions) = refused(&server, &document, json!({ "join": join, "args": args })).await;
            assert_eq!(extensions["code"], code, "{message}");
            assert!(message.contains(expected), "{message}");
        }
    }
}

#[tokio::test]
async fn a_late_part_is_a_timeout_beside_the_others() {
    let (server, _folder) = shop();
    let late = joined(&server, "late", Value::Null).await;
    assert_eq!(late["data"], json!({ "customer": { "name": "x" }, "never": null }));
    assert_eq!(part(&late, "never")["error"]["code"], "TIMEOUT");
    assert!(late["elapsedMs"].as_f64().unwrap() >= 50.0);
}

#[tokio::test]
async fn identical_parts_of_one_request_are_fetched_once_and_requests_are_bounded() {
    let (server, _folder) = shop();
    let field = "joinedData(join: \"shop\", args: {name: \"Ada\"}) { data parts { name shared } }";
    let both = data(server.url(), &format!("{{ a: {field} b: {field} }}"), Value::Null).await;
    assert_eq!(both["a"]["data"], both["b"]["data"]);
    for name in ["customer", "orders", "broken"] {
        let shared = ["a", "b"].map(|join| part(&both[join], name)["shared"].as_bool().unwrap());
        assert_eq!(shared.iter().filter(|shared| **shared).count(), 1, "{name}");
    }
    let many: String = (0..21).map(|number| format!("j{number}: {field} ")).collect();
    let response = post(server.url(), &format!("{{ {many} }}"), Value::Null).await.unwrap();
    let extensions = &response["errors"][0]["extensions"];
    assert_eq!((&extensions["code"], &extensions["limit"]), (&json!("LIMIT_EXCEEDED"), &json!("max_request_joins")));
}

#[tokio::test]
async fn a_configuration_whose_joins_cannot_run_is_refused_with_its_place() {
    for (change, expected) in [
        (
            ("depends_on = [\"customer\"]", "depends_on = [\"customr\"]"),
            "m.toml:34:15: `joins.shop.parts.orders.depends_on`: part `orders` depends on `customr`",
        ),
        (
            ("source = \"customer\"\nrequired", "source = \"customr\"\nrequired"),
            "m.toml:29:10: `joins.shop.parts.customer.source`: there is no source `customr`",
        ),
        (
            ("required = true\nargs", "required = true\ndepends_on = [\"orders\"]\nargs"),
            "m.toml:35:15: `joins.shop.parts.orders.depends_on`: its parts wait for each other: customer → orders → customer",
        ),
        (
            ("\"$args.name\"", "\"$arg.name\""),
            "`joins.shop.parts.customer.args.name`: is not a jq filter: there is no variable `$arg`",
        ),
        (("args.name = \"$args.name\"", ""), "source `customer` needs the arg `name`: add `args.name`"),
        (
            ("args.name = \"$args.name\"", "args.nam = \"1\""),
            "m.toml:31:12: `joins.shop.parts.customer.args.nam`: source `customer` has no arg `nam`; its args: name",
        ),
        (
            ("args.name = \"$args.name\"", "args.name = 1"),
            "m.toml:31:13: `joins.shop.parts.customer.args.name`: must be a jq expression in quotes, such as \"$args.id\", not 1",
        ),
        (("depends_on", "depend_on"), "`joins.shop.parts.orders.depend_on`: unknown key; did you mean `depends_on`?"),
        (
            ("args.customer = \"text\"\n", ""),
            "`sources.orders.query`: source `orders` has a parameter `:customer` in its query",
        ),
        (("default = 2", "default = \"2\""), "`sources.orders.args.limit.default`: must be a number"),
        (("args.customer = \"text\"", "args.customer = \"txt\""), "must be \"text\", \"number\" or \"boolean\""),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let text = SHOP.replacen(change.0, change.1, 1);
        assert_ne!(text, SHOP);
        fs::write(folder.path().join("m.toml"), text).unwrap();
        let program = std::process::Command::new(env!("CARGO_BIN_EXE_meanwhile"))
            .args(["--listen", "127.0.0.1:0", "--config", "m.toml"])
            .current_dir(folder.path())
            .output()
            .unwrap();
        let message = String::from_utf8(program.stderr).unwrap();
        assert_eq!(program.status.code(), Some(78), "{message}");
        assert!(
            message.contains(expected) && message.lines().filter(|l| l.starts_with("meanwhile: ")).count() == 1,
            "{message}"
        );
    }
}
