//! What is drawn at random: mostly what a client could mean, and a little wrong.

use proptest::{collection::vec, prelude::*};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

/// Pieces that documents are made of, put together without sense.
pub(super) fn words() -> impl Strategy<Value = String> {
    let word = prop::sample::select(vec![
        "{",
        "}",
        "(",
        ")",
        "[",
        "]",
        ":",
        "!",
        "...",
        "@include(if: true)",
        "$v",
        "=",
        "|",
        "&",
        "#",
        "\"",
        "\"\"\"",
        "\\",
        "query",
        "mutation",
        "subscription",
        "fragment",
        "F",
        "on",
        "Query",
        "Subscription",
        "hello",
        "echo",
        "number",
        "slow2",
        "silence",
        "count",
        "to",
        "1",
        "-1.5e9",
        "99999999999999999999",
        "null",
        "true",
        "\u{feff}",
        "é",
        "\n",
        ",",
        "__typename",
        "__schema",
        "x:",
        "{ hello }",
        "...F",
        "fragment F on Query { ...F }",
        "subscription { count(to: 2) }",
    ]);
    vec(word, 0..60).prop_map(|words| words.join(" "))
}

/// Fields of the API's types, and what they lead to. `TASK` stands for the id of a task that is there.
const TYPES: [(&str, &[(&str, &str)]); 12] = [
    (
        "Query",
        &[
            ("task(id: \"TASK\")", "Task"),
            ("task(id: \"task_0000000000001\")", "Task"),
            ("node(id: \"TASK\")", "Node"),
            ("tasks", "TaskConnection"),
            ("tasks(first: 2, filter: { statuses: [COMPLETED], kinds: [\"paced\"] })", "TaskConnection"),
            ("tasks(last: 0)", "TaskConnection"),
            ("kinds", "TaskKind"),
            ("sources", "Source"),
            ("__schema", "__Schema"),
            ("__type(name: \"Task\")", "__Type"),
        ],
    ),
    (
        "Task",
        &[
            ("id", ""),
            ("status", ""),
            ("input", ""),
            ("result", ""),
            ("createdAt", ""),
            ("error", "TaskError"),
            ("events", "TaskEventConnection"),
            ("events(first: 2, types: [CHUNK])", "TaskEventConnection"),
            ("events(first: 0)", "TaskEventConnection"),
        ],
    ),
    ("Node", &[("id", ""), ("... on Task", "Task")]),
    ("TaskConnection", &[("totalCount", ""), ("nodes", "Task"), ("pageInfo { hasNextPage endCursor }", "")]),
    ("TaskEventConnection", &[("nodes", "TaskEvent"), ("edges { cursor }", ""), ("pageInfo { startCursor }", "")]),
    (
        "TaskEvent",
        &[
            ("seq", ""),
            ("at", ""),
            ("... on TaskChunk { index value }", ""),
            ("... on TaskStatusChanged { status }", ""),
        ],
    ),
    ("TaskError", &[("code", ""), ("message", "")]),
    ("TaskKind", &[("name", ""), ("inputSchema", ""), ("type", "")]),
    ("Source", &[("name", ""), ("type", "")]),
    ("__Schema", &[("types", "__Type"), ("queryType { name }", "")]),
    ("__Type", &[("name", ""), ("kind", ""), ("fields", "__Field"), ("ofType", "__Type"), ("possibleTypes", "__Type")]),
    ("__Field", &[("name", ""), ("type", "__Type"), ("args { name }", "")]),
];

/// A document for the API's schema. Most can be executed.
pub(super) fn document() -> impl Strategy<Value = String> {
    let operation =
        prop_oneof![8 => Just("query Q"), 4 => Just(""), 1 => Just("query Q($v: Int = 2)"), 1 => Just("mutation")];
    let more = prop_oneof![
        10 => Just(""), 1 => Just("fragment G on Task { id }"), 1 => Just("query R { kinds { name } }"), 1 => Just("{ x }"),
    ];
    let fragment = prop_oneof![6 => Just(None), 1 => selections("Query", 3).prop_map(Some)];
    (operation, selections("Query", 6), fragment, more).prop_map(|(operation, root, fragment, more)| {
        let spread = fragment.map_or_else(String::new, |inside| format!("fragment F on Query {inside}"));
        let root = if spread.is_empty() { root } else { format!("{{ ...F ... {root} }}") };
        format!("{operation} {root} {spread} {more}")
    })
}

/// Selections on a type, at most so many levels of them.
fn selections(on: &'static str, levels: usize) -> BoxedStrategy<String> {
    let (_, fields) = TYPES.iter().find(|(name, _)| *name == on).unwrap();
    let reachable = fields.iter().filter(|(_, to)| to.is_empty() || levels > 0);
    let sound: Vec<_> = reachable
        .map(|(field, to)| selection(field, to, levels))
        .chain([Just("__typename".to_owned()).boxed()])
        .collect();
    let wrong = prop::sample::select(vec![
        "nothing",
        "id { id }",
        "tasks(first: -1) { nodes { id } }",
        "tasks(first: 2, last: 2) { totalCount }",
        "tasks(first: 999999999999) { totalCount }",
        "tasks(after: \"x\") { totalCount }",
        "events(after: \"x\") { nodes { seq } }",
        "tasks(filter: { createdAfter: \"yesterday\" }) { totalCount }",
        "joinedData(join: \"x\", args: { a: [1, {b: null}] }) { data }",
        "id: status",
        "__typename @skip(if: $v)",
        "__typename @nothing",
        "...F",
        "... on Nothing { x }",
        "tasks(x: {)",
    ]);
    let one = prop_oneof![30 => prop::strategy::Union::new(sound), 1 => wrong.prop_map(str::to_owned)];
    vec(one, 1..4).prop_map(|all| format!("{{ {} }}", all.join(" "))).boxed()
}

fn selection(field: &'static str, to: &'static str, levels: usize) -> BoxedStrategy<String> {
    let inside = if to.is_empty() { Just(String::new()).boxed() } else { selections(to, levels - 1) };
    // The same name for different things is a conflict.
    let alias = (0..1000_u16).prop_map(|number| format!("a{number}: "));
    let alias = if field.starts_with("...") { Just(String::new()).boxed() } else { alias.boxed() };
    let directive = prop_oneof![8 => Just(""), 1 => Just("@include(if: true)"), 1 => Just("@skip(if: true)")];
    (alias, directive, inside)
        .prop_map(move |(alias, directive, inside)| match field.split_once('{') {
            Some((name, rest)) => format!("{alias}{name} {directive} {{{rest}"),
            None => format!("{alias}{field} {directive} {inside}"),
        })
        .boxed()
}

pub(super) fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        words().prop_map(Value::from),
        prop::sample::select(vec![
            "connection_init",
            "subscribe",
            "start",
            "stop",
            "ping",
            "pong",
            "complete",
            "1",
            "{ hello }"
        ])
        .prop_map(Value::from),
    ];
    let key = prop::sample::select(vec![
        "type",
        "id",
        "payload",
        "query",
        "variables",
        "operationName",
        "extensions",
        "cursors",
        "x",
    ]);
    leaf.prop_recursive(4, 32, 6, move |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            vec((key.clone(), inner), 0..6)
                .prop_map(|pairs| pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()),
        ]
    })
}

/// Messages of a client that is half sane.
pub(super) fn message() -> impl Strategy<Value = Message> {
    prop_oneof![
        4 => json().prop_map(|json| Message::text(json.to_string())),
        2 => ("[a-z_]{0,3}|subscribe|start|complete|stop|ping", "[12]?", json()).prop_map(|(kind, id, payload)| {
            Message::text(json!({ "type": kind, "id": id, "payload": payload }).to_string())
        }),
        4 => (words(), "[12]").prop_map(|(query, id)| {
            Message::text(json!({ "type": "subscribe", "id": id, "payload": { "query": query } }).to_string())
        }),
        2 => "[12]".prop_map(|id| Message::text(json!({ "type": "complete", "id": id }).to_string())),
        1 => any::<String>().prop_map(Message::text),
        1 => vec(any::<u8>(), 0..100).prop_map(Message::binary),
        1 => vec(any::<u8>(), 0..100).prop_map(|bytes| Message::Ping(bytes.into())),
    ]
}

/// Frames of which most could be, and which make messages of several.
pub(super) fn frame() -> impl Strategy<Value = Vec<u8>> {
    let payload = prop_oneof![
        4 => (words(), "[12]").prop_map(|(query, id)| {
            json!({ "type": "subscribe", "id": id, "payload": { "query": query } }).to_string().into_bytes()
        }),
        2 => Just(br#"{"type":"ping"}"#.to_vec()),
        2 => vec(any::<u8>(), 0..130),
        1 => Just(vec![b' '; 70_000]),
        1 => Just(Vec::new()),
    ];
    // Mostly whole texts and pings; continuations; what is reserved.
    let first = prop_oneof![
        6 => Just(0x81_u8), 2 => Just(0x01), 2 => Just(0x80), 2 => Just(0x00), 2 => Just(0x89), 1 => Just(0x8a),
        1 => Just(0x88), 1 => any::<u8>(),
    ];
    let length = prop_oneof![12 => Just(None), 1 => any::<u64>().prop_map(Some), 1 => (0..200_u64).prop_map(Some)];
    (first, payload, any::<[u8; 4]>(), prop::bool::weighted(0.97), length).prop_map(
        |(first, mut payload, mask, masked, length)| {
            let length = length.unwrap_or(payload.len() as u64);
            let bit = if masked { 0x80 } else { 0 };
            let mut frame = vec![first];
            match (u8::try_from(length), u16::try_from(length)) {
                (Ok(length @ 0..126), _) => frame.push(bit | length),
                (_, Ok(length)) => {
                    frame.push(bit | 126);
                    frame.extend(length.to_be_bytes());
                }
                _ => {
                    frame.push(bit | 127);
                    frame.extend(length.to_be_bytes());
                }
            }
            if masked {
                frame.extend(mask);
                payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
            }
            frame.extend(payload);
            frame
        },
    )
}

/// Requests of which most could be.
pub(super) fn request() -> impl Strategy<Value = Vec<u8>> {
    let method = prop_oneof![6 => Just("POST"), 3 => Just("GET"), 1 => Just("HEAD"), 1 => Just("OPTIONS"), 1 => Just("PUT"), 1 => Just("P\0T")];
    let target = prop::sample::select(vec![
        "/graphql",
        "/graphql",
        "/graphql?query=%7Bhello%7D",
        "/graphql?query=%7Bhello%7D&variables=%7B%22x%22%3A1%7D",
        "/graphql?query=%ff&query",
        "/graphql?%%%",
        "http://x/graphql",
        "*",
        "graphql",
        "/",
    ]);
    let version = prop_oneof![8 => Just("HTTP/1.1"), 1 => Just("HTTP/1.0"), 1 => Just("HTTP/2.0")];
    let header = prop_oneof![
        4 => Just("Content-Type: application/json".to_owned()),
        2 => Just("Transfer-Encoding: chunked".to_owned()),
        1 => (0..200_usize).prop_map(|length| format!("Content-Length: {length}")),
        2 => prop::sample::select(vec!["text/event-stream", "multipart/mixed;subscriptionSpec=1.0", "*/*;q=0", "a/b;q=\"", ",;="])
            .prop_map(|accept| format!("Accept: {accept}")),
        1 => prop::sample::select(vec![
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            "Connection: close", "Expect: 100-continue", "Expect: x", "Host: y", "Origin: null", "Sec-Fetch-Site: x",
            "Content-Encoding: gzip", "Authorization: Bearer", "Last-Event-ID: \u{e9}",
        ]).prop_map(str::to_owned),
        1 => ("[A-Za-z-]{1,10}", "[ -~]{0,30}").prop_map(|(name, value)| format!("{name}: {value}")),
        1 => "[ -~]{0,30}".prop_map(|line| line),
    ];
    let body = prop_oneof![
        3 => words().prop_map(|query| json!({ "query": query }).to_string().into_bytes()),
        2 => Just(br#"{"query":"subscription { count(to: 2) }"}"#.to_vec()),
        2 => vec(any::<u8>(), 0..100),
    ];
    let says_length = prop::bool::weighted(0.7);
    (method, target, version, vec(header, 0..6), body, says_length).prop_map(
        |(method, target, version, headers, body, says_length)| {
            let mut request = format!("{method} {target} {version}\r\nHost: x\r\n").into_bytes();
            for header in headers {
                request.extend(header.as_bytes());
                request.extend(b"\r\n");
            }
            if says_length {
                request.extend(format!("Content-Length: {}\r\n", body.len()).as_bytes());
            }
            request.extend(b"\r\n");
            request.extend(body);
            request
        },
    )
}
