//! Outcomes as HTTP responses.

use std::collections::BTreeMap;

use async_graphql::{Response, ServerError, Value};
use async_graphql_axum::GraphQLResponse;
use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response as HttpResponse},
};
use serde::{Serialize, Serializer};

use super::{negotiate::JsonType, operation::Outcome, refused::Refused};
use crate::error::{Error, ErrorCode};

/// One outcome as a whole response. A document that could not be executed is a 400 where the type says so; in plain
/// `application/json` it is a 200 with errors, which is what its clients expect.
pub(super) fn one(outcome: Outcome, json_type: JsonType) -> HttpResponse {
    let status = match (&outcome, json_type) {
        (Outcome::RequestError(response), JsonType::GraphqlResponse) => status_of(response),
        _ => StatusCode::OK,
    };
    match outcome {
        Outcome::Next(response) => executed(*response, json_type),
        other => whole(status, serde_json::to_vec(&other), json_type),
    }
}

/// What was executed, with the headers that resolvers gave it and how long it may be kept.
fn executed(response: Response, json_type: JsonType) -> HttpResponse {
    let mut response = GraphQLResponse::from(response).into_response();
    let content_type = HeaderValue::from_static(json_type.content_type());
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    response
}

fn status_of(response: &Response) -> StatusCode {
    match response.errors.first().and_then(ServerError::source::<Error>).map(Error::code) {
        Some(ErrorCode::Timeout) => StatusCode::GATEWAY_TIMEOUT,
        _ => StatusCode::BAD_REQUEST,
    }
}

/// The outcomes of a list of requests, in its order.
pub(super) fn list(outcomes: &[Outcome], json_type: JsonType) -> HttpResponse {
    whole(StatusCode::OK, serde_json::to_vec(outcomes), json_type)
}

fn whole(status: StatusCode, body: Result<Vec<u8>, serde_json::Error>, json_type: JsonType) -> HttpResponse {
    let Ok(body) = body else { return Refused::fault().into_response(json_type) };
    let content_type = [(header::CONTENT_TYPE, HeaderValue::from_static(json_type.content_type()))];
    (status, content_type, body).into_response()
}

impl Serialize for Outcome {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        /// There is no `data` at all, not even null.
        #[derive(Serialize)]
        struct RequestError<'a> {
            errors: &'a [ServerError],
            #[serde(skip_serializing_if = "BTreeMap::is_empty")]
            extensions: &'a BTreeMap<String, Value>,
        }
        match self {
            Self::Next(response) => response.serialize(serializer),
            Self::Rendered(payload) => payload.serialize(serializer),
            Self::RequestError(response) => {
                let Response { errors, extensions, .. } = &**response;
                RequestError { errors, extensions }.serialize(serializer)
            }
        }
    }
}
