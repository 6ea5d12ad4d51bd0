//! What is served over HTTP.

pub mod graphiql;

use async_graphql::{Executor, http::ALL_WEBSOCKET_PROTOCOLS};
use async_graphql_axum::{
    GraphQLProtocol, GraphQLRequest, GraphQLResponse, GraphQLWebSocket, rejection::GraphQLRejection,
};
use axum::{
    Router,
    extract::{State, WebSocketUpgrade, ws::rejection::WebSocketUpgradeRejection},
    response::{IntoResponse, Response},
    routing::get,
};

use crate::graphql::Api;

/// `/graphql` for POST, GET and WebSocket, and the health routes.
pub fn routes(api: Api) -> Router {
    Router::new().route("/graphql", get(ask).post(post)).route("/health/live", get(|| async { "ok" })).with_state(api)
}

async fn post(State(api): State<Api>, request: GraphQLRequest) -> GraphQLResponse {
    Executor::execute(&api, request.into_inner()).await.into()
}

async fn ask(
    State(api): State<Api>,
    protocol: Result<GraphQLProtocol, axum::http::StatusCode>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
    request: Result<GraphQLRequest, GraphQLRejection>,
) -> Response {
    match (protocol, upgrade, request) {
        (Ok(protocol), Ok(upgrade), _) => upgrade
            .protocols(ALL_WEBSOCKET_PROTOCOLS)
            .on_upgrade(move |socket| GraphQLWebSocket::new(socket, api, protocol).serve())
            .into_response(),
        (_, _, Ok(request)) => {
            GraphQLResponse::from(Executor::execute(&api, request.into_inner()).await).into_response()
        }
        (_, _, Err(error)) => error.into_response(),
    }
}
