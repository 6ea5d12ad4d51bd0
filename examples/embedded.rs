//! Meanwhile inside an axum application of your own: its tasks, its API beside your routes.
//!
//! `cargo run --example embedded`, then open <http://127.0.0.1:8000/api/graphiql>, or
//!
//! ```sh
//! curl http://127.0.0.1:8000/resize -H 'content-type: application/json' -d '{"image": "cat.png", "width": 640}'
//! ```

use std::{path::Path, sync::Arc, time::Duration};

use axum::{Json, Router, extract::State, http::StatusCode, routing::post};
use meanwhile::{
    clock::{Clock, SystemClock},
    error::ErrorCode,
    graphql::{Api, ApiOptions},
    http::{self, HttpContext, HttpOptions, graphiql::GraphiqlAssets},
    journal::JournalOptions,
    model::{LogLevel, Progress},
    schemars::JsonSchema,
    shutdown::Shutdown,
    source::Sources,
    store::sqlite::{SqliteOptions, SqliteStore},
    task::{JobContext, JobError, StartTask, Stopped, TaskManager, TaskOptions},
};
use serde::{Deserialize, Serialize};

/// What the kind `resize` takes.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(crate = "meanwhile::schemars")]
struct Resize {
    image: String,
    width: u32,
}

/// What it gives.
#[derive(Debug, Serialize)]
struct Resized {
    file: String,
}

async fn resize(ctx: JobContext, input: Resize) -> Result<Resized, JobError> {
    ctx.log(LogLevel::Info, format!("resizing {} to {} pixels", input.image, input.width)).await?;
    for tile in 1..=20_u32 {
        // Here the work would be.
        tokio::select! {
            () = ctx.clock().sleep(Duration::from_millis(250)) => {}
            () = ctx.cancelled() => return Err(Stopped.into()),
        }
        ctx.progress(Progress::of(f64::from(tile), 20.0).message(format!("tile {tile}")));
        ctx.chunk(&tile).await?;
    }
    Ok(Resized { file: format!("{}-{}", input.width, input.image) })
}

/// A route of yours: starts a task and says where to watch it.
async fn start_resize(State(tasks): State<TaskManager>, Json(input): Json<Resize>) -> (StatusCode, String) {
    let started = match StartTask::new("resize").input(&input) {
        Ok(request) => tasks.start(request).await,
        Err(error) => return (StatusCode::BAD_REQUEST, error.to_string()),
    };
    match started {
        Ok(task) => (StatusCode::ACCEPTED, format!("started {}\n", task.id)),
        Err(error) => {
            let status = match error.code() {
                ErrorCode::InvalidInput => StatusCode::BAD_REQUEST,
                _ => StatusCode::SERVICE_UNAVAILABLE,
            };
            (status, format!("{}: {error}\n", error.code()))
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let store = SqliteStore::open(Path::new("./embedded-data"), &SqliteOptions::default(), clock.clone())?;
    let tasks = TaskManager::open(
        Arc::new(store),
        clock.clone(),
        TaskOptions::default(),
        JournalOptions::default(),
        rand::random(),
    )
    .await?;
    // What does not fit the JSON Schema of `Resize` is not started.
    tasks.register("resize", resize)?;

    let shutdown = Shutdown::new();
    let api = Api::new(tasks.clone(), Sources::new(clock.clone()), ApiOptions::default(), rand::random());
    let context = HttpContext::new(clock, shutdown.clone());
    let graphql = http::routes(api, HttpOptions::default(), context).merge(http::graphiql::routes(GraphiqlAssets::Cdn));
    let app = Router::new().route("/resize", post(start_resize)).with_state(tasks.clone()).nest("/api", graphql);

    let listener = tokio::net::TcpListener::bind("127.0.0.1:8000").await?;
    println!("http://{0}/resize takes images; http://{0}/api/graphiql shows them", listener.local_addr()?);
    let signal = shutdown.clone();
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            signal.request();
        }
    });
    axum::serve(listener, app).with_graceful_shutdown(shutdown.soft().clone().cancelled_owned()).await?;
    // Handlers are told to stop at once; their tasks go on at the next start.
    tasks.close(std::future::ready(())).await;
    Ok(())
}
