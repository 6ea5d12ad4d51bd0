//! The GraphQL endpoint: which transport a request is for, and the plain ones.

use std::sync::Arc;

use async_graphql::{BatchRequest, Request, parser::types::OperationType};
use axum::{
    body::Bytes,
    extract::{FromRequest, Request as HttpRequest, State, rejection::BytesRejection},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    response::Response,
};
use futures::future::try_join_all;

use super::{
    HttpContext, HttpOptions,
    negotiate::Accepted,
    operation::{self, Outcome},
    params,
    refused::Refused,
    reply,
    websocket::WebsocketServer,
};
use crate::{
    error::{Error, ErrorCode},
    graphql::{GraphqlService, prepare},
};

/// What is said to a subscription that came as a plain request.
const WHERE_TO_SUBSCRIBE: &str = "a subscription needs a transport that streams: a WebSocket on this path with the \
    subprotocol `graphql-transport-ws`";

/// One endpoint: a service, and how it is reached.
pub(super) struct Endpoint<S> {
    service: S,
    options: HttpOptions,
    websocket: WebsocketServer<S>,
}

impl<S: GraphqlService> Endpoint<S> {
    pub(super) fn new(service: S, options: HttpOptions, context: HttpContext) -> Self {
        let websocket = WebsocketServer::new(service.clone(), &options, context);
        Self { service, options, websocket }
    }
}

/// Serves a request, whatever its transport.
pub(super) async fn serve<S: GraphqlService>(
    State(endpoint): State<Arc<Endpoint<S>>>,
    request: HttpRequest,
) -> Response {
    if is_upgrade(request.method(), request.headers()) {
        return endpoint.websocket.upgrade(request).await;
    }
    let accepted = Accepted::read(request.headers());
    let json_type = accepted.json.unwrap_or_default();
    let mut response =
        endpoint.plain(request, accepted).await.unwrap_or_else(|refused| refused.into_response(json_type));
    response.headers_mut().append(header::VARY, HeaderValue::from_static("Accept"));
    response
}

fn is_upgrade(method: &Method, headers: &HeaderMap) -> bool {
    let to = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"websocket");
    method == Method::GET && headers.get(header::UPGRADE).is_some_and(to)
}

impl<S: GraphqlService> Endpoint<S> {
    /// A request that is answered at once and in one piece.
    async fn plain(&self, request: HttpRequest, accepted: Accepted) -> Result<Response, Refused> {
        let reads_only = match *request.method() {
            Method::GET | Method::HEAD => true,
            Method::POST => false,
            _ => return Err(Refused::method("GET, POST", "GraphQL is served by POST and GET here")),
        };
        if !reads_only {
            params::check_content_type(request.headers())?;
        }
        let Some(json_type) = accepted.json else {
            let message = "nothing that can be sent is accepted: `Accept` should name application/json or \
                application/graphql-response+json";
            return Err(Refused::new(StatusCode::NOT_ACCEPTABLE, message));
        };
        if reads_only {
            let request = params::read_uri(request.uri())?;
            return Ok(reply::one(self.execute(request, reads_only).await?, json_type));
        }
        let body = Bytes::from_request(request, &()).await.map_err(|rejection| self.unread(&rejection))?;
        match params::read_body(&body, self.options.max_batch_requests)? {
            BatchRequest::Single(request) => Ok(reply::one(self.execute(request, reads_only).await?, json_type)),
            BatchRequest::Batch(requests) => {
                let outcomes = requests.into_iter().map(|request| self.execute(request, reads_only));
                Ok(reply::list(&try_join_all(outcomes).await?, json_type))
            }
        }
    }

    async fn execute(&self, mut request: Request, reads_only: bool) -> Result<Outcome, Refused> {
        match prepare(&mut request, &self.options.document) {
            Err(error) => Ok(Outcome::RequestError(operation::request_error(error))),
            Ok(Some(OperationType::Mutation)) if reads_only => {
                Err(Refused::method("POST", "a mutation is not executed by GET: send it by POST"))
            }
            Ok(Some(OperationType::Subscription)) => {
                let error = Error::new(ErrorCode::BadRequest, WHERE_TO_SUBSCRIBE);
                Ok(Outcome::RequestError(operation::failure(error)))
            }
            Ok(_) => operation::execute(&self.service, request).await,
        }
    }

    /// Why a body was not read.
    fn unread(&self, rejection: &BytesRejection) -> Refused {
        let status = rejection.status();
        if status == StatusCode::PAYLOAD_TOO_LARGE {
            let allowed = format!("{} bytes in a request", self.options.max_body_bytes);
            return Refused::limit(status, Error::limit("max_body_bytes", allowed));
        }
        Refused::malformed("the body did not arrive whole")
    }
}
