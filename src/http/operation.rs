//! An operation while it is executed, whatever transport it came by.

use std::{
    any::Any,
    borrow::Cow,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use async_graphql::{Data, Request, Response, ServerError, Value, parser::types::OperationType};
use futures::{
    FutureExt, Stream,
    future::{self, Either},
    stream::BoxStream,
};

use super::{HttpOptions, alarm::Alarm, refused::Refused};
use crate::{
    clock::Clock,
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

impl Outcome {
    /// How long it is as JSON; a guess where it is not rendered yet.
    pub(super) fn json_bytes(&self) -> usize {
        match self {
            Self::Rendered(payload) => payload.json.len(),
            Self::Next(_) | Self::RequestError(_) => 512,
        }
    }

    /// Writes it as JSON.
    pub(super) fn write_to(&self, out: &mut Vec<u8>) -> serde_json::Result<()> {
        match self {
            Self::Rendered(payload) => {
                out.extend_from_slice(&payload.json);
                Ok(())
            }
            Self::Next(_) | Self::RequestError(_) => serde_json::to_writer(out, self),
        }
    }

    /// The event cursor of what it shows, if that has one.
    pub(super) fn cursor(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Rendered(payload) => payload.cursor.map(|cursor| cursor.to_string().into()),
            Self::Next(response) => match response.extensions.get("cursor") {
                Some(Value::String(cursor)) => Some(cursor.into()),
                _ => None,
            },
            Self::RequestError(_) => None,
        }
    }
}

impl From<Response> for Outcome {
    fn from(response: Response) -> Self {
        Box::new(response).into()
    }
}

impl From<Box<Response>> for Outcome {
    /// The engine marks neither. But an error that a field raised has the field's path, and nothing else has one:
    /// so where there is no data and no path, no field was reached.
    fn from(response: Box<Response>) -> Self {
        let no_data = response.data == Value::Null;
        if no_data && !response.errors.is_empty() && response.errors.iter().all(|error| error.path.is_empty()) {
            Self::RequestError(response)
        } else {
            Self::Next(response)
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

/// Executes what the transports are asked, within the limits that hold for all of them.
pub(super) struct Engine<S> {
    service: S,
    document: DocumentLimits,
    request_timeout_ms: u64,
    clock: Arc<dyn Clock>,
}

impl<S: GraphqlService> Engine<S> {
    pub(super) fn new(service: S, options: &HttpOptions, clock: Arc<dyn Clock>) -> Self {
        let (document, request_timeout_ms) = (options.document.clone(), options.request_timeout_ms);
        Self { service, document, request_timeout_ms, clock }
    }

    /// What sort of operation it is (see [`prepare`]).
    pub(super) fn prepare(&self, request: &mut Request) -> Result<Option<OperationType>, ServerError> {
        prepare(request, &self.document)
    }

    /// Executes a query or a mutation, to its one outcome.
    pub(super) async fn execute(&self, mut request: Request) -> Result<Outcome, Refused> {
        // What is wrong with it execution says.
        let operation_type = self.prepare(&mut request).ok().flatten();
        let execution = std::pin::pin!(AssertUnwindSafe(self.service.execute(request)).catch_unwind());
        let timeout = self.clock.sleep(Duration::from_millis(self.request_timeout_ms));
        match future::select(execution, timeout).await {
            Either::Left((Ok(response), _)) => Ok(response.into()),
            Either::Left((Err(panic), _)) => {
                report(&*panic);
                Err(Refused::fault())
            }
            Either::Right(_) => Ok(Outcome::RequestError(timed_out(operation_type, self.request_timeout_ms))),
        }
    }

    /// Starts any operation; it goes on when it is polled, and stops when it is dropped.
    pub(super) fn start(&self, mut request: Request, session: Option<Arc<Data>>) -> Operation {
        let operation_type = match self.prepare(&mut request) {
            Ok(operation_type) => operation_type,
            Err(error) => return Operation::refused(request_error(error)),
        };
        let mut deadline = Alarm::default();
        if operation_type != Some(OperationType::Subscription) {
            deadline.set(&*self.clock, Duration::from_millis(self.request_timeout_ms));
        }
        let state = State::Running(self.service.subscribe(request, session));
        Operation { operation_type, state, deadline, timeout_ms: self.request_timeout_ms }
    }

    /// Whether nothing comes after this event cursor any more (see [`GraphqlService::is_over`]).
    pub(super) async fn is_over(&self, cursor: &str) -> bool {
        self.service.is_over(cursor).await
    }
}

/// Whoever waits for the answer is told that there is none.
fn timed_out(operation_type: Option<OperationType>, timeout_ms: u64) -> Box<Response> {
    let advice = match operation_type {
        Some(OperationType::Mutation) => ": it may have been done nevertheless, so look before you repeat it",
        _ => "",
    };
    let message = format!("no answer within `request_timeout_ms`, which is {timeout_ms}{advice}");
    failure(Error::new(ErrorCode::Timeout, message))
}

/// Execution as a stream of responses: one of a query or a mutation, as many as there are of a subscription.
pub(super) struct Operation {
    operation_type: Option<OperationType>,
    state: State,
    /// Of a query or a mutation.
    deadline: Alarm,
    timeout_ms: u64,
}

enum State {
    Refused(Box<Response>),
    Running(BoxStream<'static, Reply>),
    Ended,
}

impl Operation {
    /// One that ends with this request error.
    pub(super) fn refused(response: Box<Response>) -> Self {
        Self { operation_type: None, state: State::Refused(response), deadline: Alarm::default(), timeout_ms: 0 }
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
            Ok(Poll::Ready(polled)) => polled.map(Outcome::from),
            Ok(Poll::Pending) if self.deadline.has_come(cx) => {
                Some(Outcome::RequestError(timed_out(self.operation_type, self.timeout_ms)))
            }
            Ok(Poll::Pending) => return Poll::Pending,
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
