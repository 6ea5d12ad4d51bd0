//! The GraphQL endpoint: which transport a request is for, and the plain ones.

use std::{sync::Arc, time::Duration};

use async_graphql::{BatchRequest, Request, parser::types::OperationType};
use axum::{
    body::Bytes,
    extract::{FromRequest, Request as HttpRequest, State, rejection::BytesRejection},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use futures::{
    StreamExt,
    future::{self, Either, join_all},
};

use super::{
    HttpContext, HttpOptions, access,
    multipart::Multipart,
    negotiate::{Accepted, StreamType},
    operation::{self, Engine, Operation, Outcome},
    params,
    refused::Refused,
    reply,
    sse::{self, Sse},
    stream::Streams,
    websocket::WebsocketServer,
};
use crate::{
    error::{Error, ErrorCode},
    graphql::{GraphqlService, ResumeCursor},
};

/// What is said to a subscription that came as a plain request.
const WHERE_TO_SUBSCRIBE: &str = "a subscription needs a transport that streams: a WebSocket on this path with the \
    subprotocol `graphql-transport-ws`, or `Accept: text/event-stream`, or \
    `Accept: multipart/mixed; subscriptionSpec=1.0`";
const NOTHING_FITS: &str = "nothing that can be sent is accepted: `Accept` should name application/json, \
    application/graphql-response+json, text/event-stream, or multipart/mixed with subscriptionSpec=1.0";
/// PUT is how graphql-sse reserves the one stream of its single connection mode.
const NO_SINGLE_CONNECTION: &str = "the single connection mode of graphql-sse is not served: send each operation by \
    POST or GET with `Accept: text/event-stream`, as its clients do with `singleConnection: false`";
const METHODS: &str = "GET, POST";

/// One endpoint: a service, and how it is reached.
pub(super) struct Endpoint<S> {
    engine: Arc<Engine<S>>,
    options: HttpOptions,
    context: HttpContext,
    streams: Streams,
    websocket: WebsocketServer<S>,
}

impl<S: GraphqlService> Endpoint<S> {
    pub(super) fn new(service: S, options: HttpOptions, context: HttpContext) -> Self {
        let engine = Arc::new(Engine::new(service, &options, context.clock.clone()));
        let websocket = WebsocketServer::new(engine.clone(), &options, context.clone());
        let streams = Streams::new(&options.streams, context.clone());
        Self { engine, options, context, streams, websocket }
    }
}

/// Serves a request, whatever its transport.
pub(super) async fn serve<S: GraphqlService>(
    State(endpoint): State<Arc<Endpoint<S>>>,
    request: HttpRequest,
) -> Response {
    let accepted = Accepted::read(request.headers());
    let json_type = accepted.json.unwrap_or_default();
    let answer = endpoint.serve(request, accepted).await;
    let mut response = answer.unwrap_or_else(|refused| refused.into_response(json_type));
    response.headers_mut().append(header::VARY, HeaderValue::from_static("Accept"));
    response
}

fn is_upgrade(method: &Method, headers: &HeaderMap) -> bool {
    let to = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"websocket");
    method == Method::GET && headers.get(header::UPGRADE).is_some_and(to)
}

/// How an answer is to be given.
struct Asked {
    reads_only: bool,
    accepted: Accepted,
    last_event_id: Option<String>,
}

impl<S: GraphqlService> Endpoint<S> {
    /// Any request, by whoever may send it.
    async fn serve(&self, request: HttpRequest, accepted: Accepted) -> Result<Response, Refused> {
        let access = &self.options.access;
        access::check_host(request.version(), request.headers())?;
        access.check_way(request.uri(), request.headers())?;
        if is_upgrade(request.method(), request.headers()) {
            let caller = access.caller(request.headers())?;
            return self.websocket.upgrade(request, caller);
        }
        access.check_caller(request.headers())?;
        self.answer(request, accepted).await
    }

    /// A request by POST or GET.
    async fn answer(&self, request: HttpRequest, accepted: Accepted) -> Result<Response, Refused> {
        let reads_only = match *request.method() {
            Method::GET | Method::HEAD => true,
            Method::POST => false,
            Method::PUT => return Err(Refused::method(METHODS, NO_SINGLE_CONNECTION)),
            _ => return Err(Refused::method(METHODS, "GraphQL is served by POST and GET here")),
        };
        if !reads_only {
            params::check_content_type(request.headers())?;
        }
        if accepted.json.is_none() && accepted.stream.is_none() {
            return Err(Refused::new(StatusCode::NOT_ACCEPTABLE, NOTHING_FITS));
        }
        let last_event_id = sse::last_event_id(request.headers());
        let asked = Asked { reads_only, accepted, last_event_id };
        if reads_only {
            return self.single(params::read_uri(request.uri())?, asked).await;
        }
        match params::read_body(&self.read(request).await?, self.options.max_batch_requests)? {
            BatchRequest::Single(request) => self.single(request, asked).await,
            BatchRequest::Batch(requests) => self.list(requests, accepted).await,
        }
    }

    async fn single(&self, mut request: Request, asked: Asked) -> Result<Response, Refused> {
        let Accepted { json, stream } = asked.accepted;
        let streams = match self.engine.prepare(&mut request) {
            Ok(Some(OperationType::Mutation)) if asked.reads_only => {
                return Err(Refused::method("POST", "a mutation is not executed by GET: send it by POST"));
            }
            Ok(Some(OperationType::Subscription)) => stream.is_some(),
            _ => json.is_none(),
        };
        match stream {
            Some(stream) if streams => self.stream(stream, request, asked.last_event_id).await,
            _ => Ok(reply::one(self.execute(request).await?, json.unwrap_or_default())),
        }
    }

    async fn list(&self, mut requests: Vec<Request>, accepted: Accepted) -> Result<Response, Refused> {
        let Some(json_type) = accepted.json else {
            let message = "a list of requests is answered in one piece: accept application/json";
            return Err(Refused::new(StatusCode::NOT_ACCEPTABLE, message));
        };
        let outcomes = requests
            .drain(..)
            .map(|request| async { self.execute(request).await.unwrap_or_else(Refused::into_outcome) });
        Ok(reply::list(&join_all(outcomes).await, json_type))
    }

    /// In one piece.
    async fn execute(&self, mut request: Request) -> Result<Outcome, Refused> {
        match self.engine.prepare(&mut request) {
            Err(error) => Ok(Outcome::RequestError(operation::request_error(error))),
            Ok(Some(OperationType::Subscription)) => {
                let error = Error::new(ErrorCode::BadRequest, WHERE_TO_SUBSCRIBE);
                Ok(Outcome::RequestError(operation::failure(error)))
            }
            Ok(_) => self.engine.execute(request).await,
        }
    }

    /// Piece by piece, after the event that the client names.
    async fn stream(
        &self,
        stream: StreamType,
        mut request: Request,
        last_event_id: Option<String>,
    ) -> Result<Response, Refused> {
        if let Some(cursor) = &last_event_id {
            request.data.insert(ResumeCursor(cursor.clone()));
        }
        let mut operation = self.engine.start(request, None);
        let first = match last_event_id {
            Some(cursor) if operation.is_subscription() => match self.first(&mut operation, &cursor).await {
                // The one answer after which a browser does not come again.
                First::End => return Ok(StatusCode::NO_CONTENT.into_response()),
                First::Outcome(outcome) => Some(outcome),
                First::Later => None,
            },
            _ => None,
        };
        let options = &self.options.streams;
        match stream {
            StreamType::Sse => self.streams.open(Sse::new(options), operation, first.as_ref()),
            StreamType::Multipart => self.streams.open(Multipart::new(options), operation, first.as_ref()),
        }
    }

    /// What comes after this cursor, as far as it can be said without waiting for what has not happened.
    async fn first(&self, operation: &mut Operation, cursor: &str) -> First {
        let is_over = std::pin::pin!(self.engine.is_over(cursor));
        let first = match future::select(operation.next(), is_over).await {
            Either::Left((first, _)) => first,
            Either::Right((true, next)) => next.await,
            Either::Right((false, _)) => return First::Later,
        };
        first.map_or(First::End, First::Outcome)
    }

    async fn read(&self, request: HttpRequest) -> Result<Bytes, Refused> {
        let timeout_ms = self.options.request_timeout_ms;
        let timeout = self.context.clock.sleep(Duration::from_millis(timeout_ms));
        match future::select(std::pin::pin!(Bytes::from_request(request, &())), timeout).await {
            Either::Left((body, _)) => body.map_err(|rejection| self.unread(&rejection)),
            Either::Right(_) => {
                let message = format!("the body did not arrive within `request_timeout_ms`, which is {timeout_ms}");
                Err(Refused::failed(StatusCode::REQUEST_TIMEOUT, Error::new(ErrorCode::Timeout, message)))
            }
        }
    }

    /// Why a body was not read.
    fn unread(&self, rejection: &BytesRejection) -> Refused {
        let status = rejection.status();
        if status == StatusCode::PAYLOAD_TOO_LARGE {
            let allowed = format!("{} bytes in a request", self.options.max_body_bytes);
            return Refused::failed(status, Error::limit("max_body_bytes", allowed));
        }
        Refused::malformed("the body did not arrive whole")
    }
}

/// How a stream begins.
enum First {
    Outcome(Outcome),
    End,
    Later,
}
