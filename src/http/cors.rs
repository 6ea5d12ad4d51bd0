//! Pages of other sites that may use the API.

use std::time::Duration;

use axum::http::{HeaderName, HeaderValue, Method, header};
use tower_http::cors::{AllowOrigin, Any, CorsLayer};

use super::access::ANY_ORIGIN;

/// How long a browser may remember what it was told.
const MAX_AGE: Duration = Duration::from_secs(600);

/// Tells browsers that pages of these origins may read the answers; `None` when there are none.
pub(super) fn layer(allowed_origins: &[String]) -> Option<CorsLayer> {
    if allowed_origins.is_empty() {
        return None;
    }
    let origins = match allowed_origins.iter().any(|origin| origin == ANY_ORIGIN) {
        true => AllowOrigin::from(Any),
        false => AllowOrigin::list(allowed_origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok())),
    };
    let last_event_id = HeaderName::from_static("last-event-id");
    let headers = [header::ACCEPT, header::AUTHORIZATION, header::CONTENT_TYPE, last_event_id];
    let layer = CorsLayer::new().allow_origin(origins).allow_methods([Method::GET, Method::POST]);
    Some(layer.allow_headers(headers).max_age(MAX_AGE))
}
