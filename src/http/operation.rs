//! An operation while it is executed, whatever transport it came by.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use async_graphql::{Data, Request, Response, ServerError, parser::types::OperationType};
use futures::{FutureExt, Stream, stream::BoxStream};

use super::refused::Refused;
use crate::{
    error::{Error, ErrorCode, add_codes},
    graphql::{DocumentLimits, GraphqlService, Payload, Reply, prepare},
};

/// One response of an operation.
#[derive(Debug)]
pub(super) enum Outcome {
    /// Of execution, with or without errors.
    Next(Box<Response>),
    /// The same, rendered already.
    Rendered(Payload),
    /// There was no execution: the document or the variables do not allow it. The last one.
    RequestError(Box<Response>),
}

impl From<Response> for Outcome {
    /// The engine marks neither. But an error that a field raised has the field's path, and nothing else has one:
    /// so where there is no data and no path, no field was reached.
    fn from(response: Response) -> Self {
        let no_data = response.data == async_graphql::Value::Null;
        if no_data && !response.errors.is_empty() && response.errors.iter().all(|error| error.path.is_empty()) {
            Self::RequestError(Box::new(response))
        } else {
            Self::Next(Box::new(response))
        }
    }
}

impl From<Reply> for Outcome {
    fn from(reply: Reply) -> Self {
        match reply {
            Reply::Response(response) => response.into(),
            Reply::Rendered(payload) => Self::Rendered(payload),
        }
    }
}

/// A request error as a response, with its code.
pub(super) fn request_error(error: ServerError) -> Box<Response> {
    let mut response = Response::from_errors(vec![error]);
    add_codes(&mut response);
    Box::new(response)
}

/// An expected failure as a response.
pub(super) fn failure(error: Error) -> Box<Response> {
    let mut server_error = ServerError::new(error.to_string(), None);
    server_error.source = Some(Arc::new(error));
    request_error(server_error)
}

/// Executes a query or a mutation, to its one outcome.
pub(super) async fn execute<S: GraphqlService>(service: &S, request: Request) -> Result<Outcome, Refused> {
    match AssertUnwindSafe(service.execute(request)).catch_unwind().await {
        Ok(response) => Ok(response.into()),
        Err(panic) => {
            report(&*panic);
            Err(Refused::fault())
        }
    }
}

/// Execution as a stream of responses: one of a query or a mutation, as many as there are of a subscription.
pub(super) struct Operation {
    operation_type: Option<OperationType>,
    state: State,
}

enum State {
    Refused(Box<Response>),
    Running(BoxStream<'static, Reply>),
    Ended,
}

impl Operation {
    /// Starts the execution; it goes on when it is polled, and stops when it is dropped.
    pub(super) fn start<S: GraphqlService>(
        service: &S,
        mut request: Request,
        session: Option<Arc<Data>>,
        limits: &DocumentLimits,
    ) -> Self {
        match prepare(&mut request, limits) {
            Ok(operation_type) => Self { operation_type, state: State::Running(service.subscribe(request, session)) },
            Err(error) => Self::refused(request_error(error)),
        }
    }

    /// One that ends with this request error.
    pub(super) fn refused(response: Box<Response>) -> Self {
        Self { operation_type: None, state: State::Refused(response) }
    }

    pub(super) fn is_subscription(&self) -> bool {
        self.operation_type == Some(OperationType::Subscription)
    }
}

impl Stream for Operation {
    type Item = Outcome;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Outcome>> {
        let State::Running(responses) = &mut self.state else {
            return Poll::Ready(match std::mem::replace(&mut self.state, State::Ended) {
                State::Refused(response) => Some(Outcome::RequestError(response)),
                State::Running(_) | State::Ended => None,
            });
        };
        let polled = catch_unwind(AssertUnwindSafe(|| responses.as_mut().poll_next(cx)));
        let outcome = match polled {
            Ok(polled) => std::task::ready!(polled).map(Outcome::from),
            Err(panic) => Some(Outcome::RequestError(panicked(&*panic))),
        };
        if !matches!(outcome, Some(Outcome::Next(_) | Outcome::Rendered(_))) {
            self.state = State::Ended;
        }
        Poll::Ready(outcome)
    }
}

/// A fault of the server ends this operation, and nothing else.
fn panicked(panic: &(dyn Any + Send)) -> Box<Response> {
    report(panic);
    failure(Error::new(ErrorCode::Internal, "the operation failed inside the server"))
}

fn report(panic: &(dyn Any + Send)) {
    let what = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    tracing::error!("an operation panicked: {}", what.unwrap_or("no message"));
}
