//! The GraphQL API in this process, without a transport.

use std::sync::Arc;

use async_graphql::{Executor, Request, Variables};
use futures::{Stream, StreamExt};
use meanwhile::{
    clock::SystemClock,
    config::{Config, build_sources},
    graphql::{Api, ApiOptions, GraphqlService, Reply},
    journal::JournalOptions,
    source::{Sources, ThisServer},
    store::sqlite::{SqliteOptions, SqliteStore},
    task::{JobContext, JobError, Stopped, TaskManager, TaskOptions, jobs},
};
use rand::{SeedableRng, rngs::StdRng};
use serde_json::{Value, json};

/// The API, and what is behind it.
pub(crate) struct Server {
    pub(crate) api: Api,
    pub(crate) manager: TaskManager,
    _folder: tempfile::TempDir,
}

/// Kinds of the tests: `echo` completes with its input, `wait` runs until it is cancelled.
pub(crate) async fn server() -> Server {
    server_with(&SqliteOptions::default()).await
}

pub(crate) async fn server_with(store: &SqliteOptions) -> Server {
    server_of(store, JournalOptions::default()).await
}

pub(crate) async fn server_of(store: &SqliteOptions, journal: JournalOptions) -> Server {
    server_beside(store, journal, |_| {}).await
}

/// With what is added to the built-in sources.
pub(crate) async fn server_with_sources(add: impl FnOnce(&mut Sources)) -> Server {
    server_beside(&SqliteOptions::default(), JournalOptions::default(), add).await
}

async fn server_beside(store: &SqliteOptions, journal: JournalOptions, add: impl FnOnce(&mut Sources)) -> Server {
    let folder = tempfile::tempdir().unwrap();
    let clock: Arc<dyn meanwhile::clock::Clock> = Arc::new(SystemClock::default());
    let store = SqliteStore::open(folder.path(), store, clock.clone()).unwrap();
    let manager = TaskManager::open(Arc::new(store), clock.clone(), TaskOptions::default(), journal, 1).await.unwrap();
    manager.register("echo", |_ctx, input: Value| async move { Ok(input) }).unwrap();
    let wait = |ctx: JobContext, _input: Value| async move {
        ctx.cancelled().await;
        Err::<Value, _>(JobError::from(Stopped))
    };
    manager.register("wait", wait).unwrap();
    let config = Config::builtin().unwrap();
    let mut sources = build_sources(&config, &ThisServer::default(), &clock, &mut StdRng::seed_from_u64(1)).unwrap();
    add(&mut sources);
    jobs::register(&manager, &sources).unwrap();
    let api = Api::new(manager.clone(), sources, ApiOptions::default(), 1);
    Server { api, manager, _folder: folder }
}

pub(crate) fn request(document: &str, variables: Value) -> Request {
    Request::new(document).variables(Variables::from_json(variables))
}

impl Server {
    pub(crate) async fn respond(&self, document: &str, variables: Value) -> Value {
        serde_json::to_value(Executor::execute(&self.api, request(document, variables)).await).unwrap()
    }

    pub(crate) async fn data(&self, document: &str, variables: Value) -> Value {
        let response = self.respond(document, variables).await;
        assert_eq!(response.get("errors"), None, "{document}");
        response["data"].clone()
    }

    /// `extensions.code` of the only error.
    pub(crate) async fn code(&self, document: &str, variables: Value) -> String {
        let response = self.respond(document, variables).await;
        assert_eq!(response["errors"].as_array().map(Vec::len), Some(1), "{response}");
        response["errors"][0]["extensions"]["code"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn start(&self, input: Value) -> String {
        let document = "mutation($input: StartTaskInput!) { startTask(input: $input) { task { id } } }";
        let data = self.data(document, json!({ "input": input })).await;
        data["startTask"]["task"]["id"].as_str().unwrap().to_owned()
    }

    pub(crate) fn subscribe(&self, request: Request) -> impl Stream<Item = Value> + use<> {
        let replies = GraphqlService::subscribe(&self.api, request, None);
        replies.map(|reply| match reply {
            Reply::Response(response) => serde_json::to_value(response).unwrap(),
            Reply::Rendered(payload) => serde_json::from_slice(&payload.json).unwrap(),
        })
    }

    /// Everything that happens to the task until it has ended.
    pub(crate) async fn events(&self, id: &str) -> Vec<Value> {
        let document = "subscription($id: ID!) { taskEvents(id: $id) { __typename seq cursor
            ... on TaskStatusChanged { status } ... on TaskChunk { index value } } }";
        let responses: Vec<Value> = self.subscribe(request(document, json!({ "id": id }))).collect().await;
        responses.into_iter().map(|response| response["data"]["taskEvents"].clone()).collect()
    }
}
