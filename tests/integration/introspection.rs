//! Asking for the schema: within limits, and not at all where it is switched off. GraphiQL, which does so, too.

use std::fs;

use meanwhile::graphql::{ApiOptions, DocumentLimits};
use serde_json::{Value, json};

use crate::support::{
    here::Here,
    server::{Server, client, post},
    subscription::{Said, Subscription, Transport},
};

async fn ask(here: &Here, query: &str) -> Value {
    post(&here.url(), query, Value::Null).await.unwrap()
}

/// Lists of introspection inside each other, so many.
fn nested(lists: usize) -> String {
    let between = "fields { type { ofType { ofType { ofType { ".repeat(lists - 1);
    format!("{{ __schema {{ types {{ {between} name {} }} }} }}", "} } } } }".repeat(lists - 1))
}

#[tokio::test]
async fn introspection_that_multiplies_itself_is_over_max_complexity() {
    let here = Here::start().await;
    assert_eq!(ask(&here, &nested(3)).await.get("errors"), None);
    // What this would give is gigabytes.
    for query in [
        nested(5),
        format!("{{ ...F }} fragment F on Query {}", nested(5)),
        "{ __type(name: \"TaskEvent\") { ...T } } fragment T on __Type { possibleTypes { interfaces { possibleTypes {
            interfaces { possibleTypes { interfaces { possibleTypes { name } } } } } } } }"
            .to_owned(),
    ] {
        let error = ask(&here, &query).await["errors"][0].clone();
        assert_eq!(error["extensions"], json!({ "code": "LIMIT_EXCEEDED", "limit": "max_complexity" }), "{query}");
    }
}

#[tokio::test]
async fn a_document_as_deep_as_the_limit_says_is_executed_and_one_deeper_is_not() {
    const DEPTH: usize = 60;
    let document = DocumentLimits { max_depth: DEPTH, max_document_nesting: 200, ..DocumentLimits::default() };
    let here = Here::with(ApiOptions { document, ..ApiOptions::default() }).await;
    // `__type` and `name` are two of the fields.
    let deep = |depth: usize| {
        let between = depth - 2;
        format!("{{ __type(name: \"Task\") {{ {} name {} }} }}", "ofType { ".repeat(between), "}".repeat(between))
    };
    assert_eq!(ask(&here, &deep(DEPTH)).await, json!({ "data": { "__type": { "ofType": null } } }));
    let error = ask(&here, &deep(DEPTH + 1)).await["errors"][0].clone();
    assert_eq!(error["extensions"], json!({ "code": "LIMIT_EXCEEDED", "limit": "max_depth" }));
}

#[tokio::test]
async fn introspection_that_is_switched_off_is_refused_and_everything_else_goes_on() {
    let here = Here::with(ApiOptions {
        document: DocumentLimits { introspection: false, ..DocumentLimits::default() },
        ..ApiOptions::default()
    })
    .await;
    for query in [
        "{ __schema { types { name } } }",
        "{ __type(name: \"Task\") { name } }",
        "{ kinds { name } ...F } fragment F on Query { ... { x: __schema { types { name } } } }",
    ] {
        let answer = ask(&here, query).await;
        assert_eq!(answer.get("data"), None, "{answer}");
        assert_eq!(answer["errors"][0]["extensions"]["code"], "FORBIDDEN", "{answer}");
        assert!(answer["errors"][0]["message"].as_str().unwrap().contains("api.introspection"), "{answer}");
        for transport in Transport::ALL {
            let said = Subscription::open(transport, &here.url(), query, json!({}), None).await.unwrap().rest().await;
            let [Said::Refused(errors)] = &said[..] else { panic!("{transport:?}: {said:?}") };
            assert_eq!(errors[0]["extensions"]["code"], "FORBIDDEN", "{transport:?}");
        }
    }
    assert_eq!(ask(&here, "{ __typename kinds { __typename } }").await["data"]["__typename"], "Query");
}

#[tokio::test]
async fn graphiql_and_introspection_are_switched_off_by_the_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("meanwhile.toml");
    for (on, text) in [
        (true, "[server]\ngraphiql = true\n[api]\nintrospection = true\n"),
        (false, "[server]\ngraphiql = false\n[api]\nintrospection = false\n"),
    ] {
        fs::write(&config, text).unwrap();
        let server = Server::start(&folder.path().join("data"), Some(&config));
        let base = server.url().trim_end_matches("/graphql").to_owned();
        for path in ["/", "/graphiql"] {
            let response = client().get(format!("{base}{path}")).header("accept", "text/html").send().await.unwrap();
            assert_eq!(response.status(), if on { 200 } else { 404 }, "{path}");
        }
        let answer = post(server.url(), "{ __schema { queryType { name } } }", Value::Null).await.unwrap();
        assert_eq!(answer.get("errors").is_none(), on, "{answer}");
        assert_eq!(post(server.url(), "{ __typename }", Value::Null).await.unwrap()["data"]["__typename"], "Query");
    }
}
