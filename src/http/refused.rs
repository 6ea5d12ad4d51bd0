use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::json;

use super::{
    negotiate::JsonType,
    operation::{self, Outcome},
};
use crate::error::{Error, ErrorCode};

/// A request that did not get as far as a document: what the client is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refused {
    status: StatusCode,
    error: Error,
    /// The methods that would do.
    allow: Option<&'static str>,
}

impl Refused {
    pub(super) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, error: Error::new(ErrorCode::BadRequest, message), allow: None }
    }

    /// The request is not well formed.
    pub(super) fn malformed(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// For an expected failure, such as a limit.
    pub(super) fn failed(status: StatusCode, error: Error) -> Self {
        Self { status, error, allow: None }
    }

    /// The server is at fault.
    pub(super) fn fault() -> Self {
        let error = Error::new(ErrorCode::Internal, "the operation failed inside the server");
        Self { status: StatusCode::INTERNAL_SERVER_ERROR, error, allow: None }
    }

    /// This method does not serve it; these do.
    pub(super) fn method(allow: &'static str, message: impl Into<String>) -> Self {
        Self { allow: Some(allow), ..Self::new(StatusCode::METHOD_NOT_ALLOWED, message) }
    }

    /// As the outcome of one request of several.
    pub(super) fn into_outcome(self) -> Outcome {
        Outcome::RequestError(operation::failure(self.error))
    }

    /// As it is sent, in the form of a GraphQL response.
    pub(super) fn into_response(self, json_type: JsonType) -> Response {
        let body = json!({ "errors": operation::failure(self.error).errors }).to_string();
        let content_type = HeaderValue::from_static(json_type.content_type());
        let mut response = (self.status, [(header::CONTENT_TYPE, content_type)], body).into_response();
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(allow) = self.allow {
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allow));
        }
        response
    }
}
