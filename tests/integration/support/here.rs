//! The API in this process, with its parts in the test's hands.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use meanwhile::{
    clock::{Clock, SystemClock},
    config::{Config, build_sources},
    graphql::{Api, ApiOptions},
    http::{HttpContext, HttpOptions, routes},
    journal::JournalOptions,
    model::TaskId,
    shutdown::Shutdown,
    source::ThisServer,
    store::{
        Store,
        sqlite::{SqliteOptions, SqliteStore},
    },
    task::{JobContext, JobError, Retry, StartTask, TaskManager, TaskOptions},
};
use rand::{SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::Semaphore};

use super::{follower::Follower, subscription::Transport};

/// Bytes of a chunk of a `large` task.
const LARGE_BYTES: usize = 50_000;
/// Three rows.
const SOURCES: &str = "[sources.rows]\ntype = \"simulated\"\nrows = 3\nvalue = { n = 1 }\n";

/// The API in this process.
pub(crate) struct Here {
    pub(crate) address: SocketAddr,
    pub(crate) context: HttpContext,
    pub(crate) manager: TaskManager,
    pub(crate) store: Arc<dyn Store>,
    /// A chunk of a `paced` task for each permit.
    pub(crate) pace: Arc<Semaphore>,
    _folder: tempfile::TempDir,
}

impl Here {
    pub(crate) async fn start() -> Self {
        Self::with(ApiOptions::default()).await
    }

    pub(crate) async fn with(api: ApiOptions) -> Self {
        let http = HttpOptions { document: api.document.clone(), ..HttpOptions::default() };
        Self::with_all(api, http).await
    }

    pub(crate) async fn with_all(api: ApiOptions, http: HttpOptions) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
        let store: Arc<dyn Store> =
            Arc::new(SqliteStore::open(folder.path(), &SqliteOptions::default(), clock.clone()).unwrap());
        let (options, journal) = (TaskOptions::default(), JournalOptions::default());
        let manager = TaskManager::open(store.clone(), clock.clone(), options, journal, 1).await.unwrap();
        let pace = Arc::new(Semaphore::new(0));
        let paced = pace.clone();
        let chunks = move |ctx: JobContext, count: u64| {
            let pace = paced.clone();
            async move {
                for number in 0..count {
                    pace.acquire().await.unwrap().forget();
                    ctx.chunk(&json!({ "number": number, "text": "x".repeat(20) })).await?;
                }
                Ok(count)
            }
        };
        manager.register("paced", chunks).unwrap();
        let paced = pace.clone();
        // Fails as often as its input says, and has progress in between.
        let retried = move |ctx: JobContext, failures: u32| {
            let pace = paced.clone();
            async move {
                for percent in [20.0, 40.0, 60.0] {
                    pace.acquire().await.unwrap().forget();
                    ctx.progress(percent);
                }
                match ctx.attempt() <= failures {
                    true => Err(JobError::new("once more").retry(Retry::After(Duration::ZERO))),
                    false => Ok(()),
                }
            }
        };
        manager.register("retried", retried).unwrap();
        // As large as its input says, as fast as they are taken.
        let large = |ctx: JobContext, chunks: u64| async move {
            for _ in 0..chunks {
                ctx.chunk(&"x".repeat(LARGE_BYTES)).await?;
            }
            Ok(())
        };
        manager.register("large", large).unwrap();
        let config = Config::parse("rows.toml", SOURCES).unwrap();
        let sources = build_sources(&config, &ThisServer::default(), &clock, &mut StdRng::seed_from_u64(1)).unwrap();
        let api = Api::new(manager.clone(), sources, api, 1);
        let context = HttpContext::new(clock, Shutdown::new());
        let app = routes(api, http.clone(), context.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let served = context.clone();
        tokio::spawn(async move { meanwhile::http::serve(listener, app, &http.sockets, &served).await });
        Self { address, context, manager, store, pace, _folder: folder }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/graphql", self.address)
    }

    /// A task with so many chunks, each for a permit.
    pub(crate) async fn task(&self, chunks: u64) -> TaskId {
        self.task_of("paced", chunks).await
    }

    pub(crate) async fn task_of(&self, kind: &str, input: u64) -> TaskId {
        let request = StartTask { input: json!(input).into(), max_attempts: Some(10), ..StartTask::new(kind) };
        self.manager.start(request).await.unwrap().id
    }

    /// The events as they are read without any trouble.
    pub(crate) async fn journal(&self, task: &str) -> Vec<Value> {
        let mut follower = Follower::new(Transport::WebSocket, &self.url(), task);
        follower.run().await;
        assert_eq!(follower.connections, 1);
        follower.record
    }
}
