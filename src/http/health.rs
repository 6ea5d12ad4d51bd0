//! Whether the process lives, and whether it can serve: for those who watch over it.

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, Uri, header},
    response::{IntoResponse, Response},
    routing::get,
};
use futures::future::{self, BoxFuture, Either};
use serde_json::json;

use crate::{clock::Clock, shutdown::Shutdown};

/// Whether requests can be served; the error says why not, in a few words.
pub type HealthCheck = Arc<dyn Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

/// How long a check may take until it counts as failed.
const CHECK_TIMEOUT: Duration = Duration::from_secs(5);

/// `/health/live` says 200 as long as the process runs; `/health/ready` says 200 when requests can be served, and
/// 503 with the reason when not: the check fails, or the process is about to stop.
pub fn health(check: HealthCheck, clock: Arc<dyn Clock>, shutdown: Shutdown) -> Router {
    let live = get(async || Json(json!({ "status": "live" })));
    Router::new().route("/health/live", live).route("/health/ready", get(ready)).with_state(Ready {
        check,
        clock,
        shutdown,
    })
}

#[derive(Clone)]
struct Ready {
    check: HealthCheck,
    clock: Arc<dyn Clock>,
    shutdown: Shutdown,
}

async fn ready(State(ready): State<Ready>) -> Response {
    let answer = match ready.ask().await {
        Ok(()) => (StatusCode::OK, Json(json!({ "status": "ready" }))),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "status": "not ready", "reason": reason }))),
    };
    ([(header::CACHE_CONTROL, "no-store")], answer).into_response()
}

impl Ready {
    async fn ask(&self) -> Result<(), String> {
        if self.shutdown.soft().is_cancelled() {
            return Err("stopping".to_owned());
        }
        match future::select((self.check)(), self.clock.sleep(CHECK_TIMEOUT)).await {
            Either::Left((result, _)) => result,
            Either::Right(((), _)) => Err(format!("no answer within {} ms", CHECK_TIMEOUT.as_millis())),
        }
    }
}

/// For every path that nothing is served on: says where something is.
pub async fn not_found(uri: Uri) -> Response {
    let message = format!(
        "nothing is served at {}; the API is at {}, health at /health/live and /health/ready",
        uri.path(),
        super::GRAPHQL_PATH
    );
    (StatusCode::NOT_FOUND, Json(json!({ "error": message }))).into_response()
}
