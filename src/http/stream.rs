//! A response that goes on: the outcomes of one operation as the body of an HTTP response, in the form of its
//! [`Framing`].
//!
//! The body is polled by the connection, and only while there is room in its buffer, so that a client that does not
//! read stops its operation. What is ready together leaves together.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::{Body, Bytes, HttpBody},
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use futures::{FutureExt, StreamExt, future::BoxFuture};
use http_body::Frame;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::{
    HttpContext,
    alarm::Alarm,
    operation::{Operation, Outcome},
    refused::Refused,
};
use crate::{clock::Clock, error::Error};

/// Bytes that are gathered before they are handed on, about.
const GATHERED_BYTES: usize = 4 << 10;

/// Limits of streams over HTTP (SSE and multipart). Times are in milliseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamOptions {
    /// Streams that may be open at the same time.
    pub max_streams: usize,
    /// How long an SSE stream is silent before a comment is sent in it.
    pub sse_heartbeat_ms: u64,
    /// How long a browser waits before it connects again.
    pub sse_retry_ms: u64,
    /// How long a multipart stream is silent before an empty part is sent in it.
    pub multipart_heartbeat_ms: u64,
}

impl Default for StreamOptions {
    fn default() -> Self {
        Self { max_streams: 50_000, sse_heartbeat_ms: 10_000, sse_retry_ms: 1_000, multipart_heartbeat_ms: 5_000 }
    }
}

/// How outcomes are written. Each writes what it says to the end of `out`.
pub(super) trait Framing: Send + Unpin + 'static {
    /// The response's `Content-Type`.
    const CONTENT_TYPE: &'static str;

    /// How long the stream may be silent.
    fn heartbeat_interval(&self) -> Duration;
    /// At once, before anything else.
    fn begin(&self, out: &mut Vec<u8>);
    /// An outcome.
    fn outcome(&self, out: &mut Vec<u8>, outcome: &Outcome) -> serde_json::Result<()>;
    /// A sign of life.
    fn heartbeat(&self, out: &mut Vec<u8>);
    /// The operation has ended.
    fn complete(&self, out: &mut Vec<u8>);
    /// The server stops before the operation has ended: the client should come again.
    fn interrupted(&self, out: &mut Vec<u8>);
}

/// Opens streams, as many as may be.
pub(super) struct Streams {
    context: HttpContext,
    places: Arc<Semaphore>,
    max_streams: usize,
}

impl Streams {
    pub(super) fn new(options: &StreamOptions, context: HttpContext) -> Self {
        let places = Arc::new(Semaphore::new(options.max_streams.min(Semaphore::MAX_PERMITS)));
        Self { context, places, max_streams: options.max_streams }
    }

    /// The response whose body is the operation. `first`: what it has given already.
    pub(super) fn open<F: Framing>(
        &self,
        framing: F,
        operation: Operation,
        first: Option<&Outcome>,
    ) -> Result<Response, Refused> {
        let Ok(place) = self.places.clone().try_acquire_owned() else {
            let error = Error::limit("max_streams", format!("{} streams at the same time", self.max_streams));
            return Err(Refused::failed(StatusCode::SERVICE_UNAVAILABLE, error));
        };
        let shutdown = &self.context.shutdown;
        let stopping = if operation.is_subscription() { shutdown.soft() } else { shutdown.hard() };
        let mut begun = Vec::new();
        framing.begin(&mut begun);
        let body = StreamBody {
            heartbeat: Heartbeat::new(self.context.clock.clone(), framing.heartbeat_interval()),
            stopping: stopping.clone().cancelled_owned().boxed(),
            operation: Some(operation),
            begun,
            framing,
            _place: place,
            _open: self.context.connections.enter(),
        };
        let body = match first {
            Some(outcome) => body.after(outcome)?,
            None => body,
        };
        let headers = [
            (header::CONTENT_TYPE, HeaderValue::from_static(F::CONTENT_TYPE)),
            (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
            // Nginx would collect what is sent.
            (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
        ];
        Ok((headers, Body::new(body)).into_response())
    }
}

struct StreamBody<F> {
    framing: F,
    /// `None`: it has ended, and so has the body, as soon as all is written.
    operation: Option<Operation>,
    begun: Vec<u8>,
    heartbeat: Heartbeat,
    stopping: BoxFuture<'static, ()>,
    _place: OwnedSemaphorePermit,
    _open: TaskTrackerToken,
}

impl<F: Framing> StreamBody<F> {
    fn after(mut self, outcome: &Outcome) -> Result<Self, Refused> {
        self.framing.outcome(&mut self.begun, outcome).map_err(|_| Refused::fault())?;
        Ok(self)
    }

    /// Writes what the operation has; an operation that has no more is gone then.
    fn gather(&mut self, cx: &mut Context<'_>, out: &mut Vec<u8>) {
        if self.operation.is_some() && self.stopping.poll_unpin(cx).is_ready() {
            self.framing.interrupted(out);
            self.operation = None;
        }
        while let Some(operation) = &mut self.operation
            && out.len() < GATHERED_BYTES
        {
            match operation.poll_next_unpin(cx) {
                Poll::Pending => return,
                Poll::Ready(None) => {
                    self.framing.complete(out);
                    self.operation = None;
                }
                Poll::Ready(Some(outcome)) => {
                    if let Err(error) = self.framing.outcome(out, &outcome) {
                        tracing::error!("a response is no JSON: {error}");
                        self.framing.interrupted(out);
                        self.operation = None;
                    }
                }
            }
        }
    }
}

impl<F: Framing> HttpBody for StreamBody<F> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = self.get_mut();
        let mut out = std::mem::take(&mut this.begun);
        this.gather(cx, &mut out);
        if !out.is_empty() {
            this.heartbeat.sent();
        } else if this.operation.is_none() {
            return Poll::Ready(None);
        } else if this.heartbeat.is_due(cx) {
            this.framing.heartbeat(&mut out);
        } else {
            return Poll::Pending;
        }
        Poll::Ready(Some(Ok(Frame::data(out.into()))))
    }

    fn is_end_stream(&self) -> bool {
        self.operation.is_none() && self.begun.is_empty()
    }
}

/// Notices silence.
struct Heartbeat {
    clock: Arc<dyn Clock>,
    interval: Duration,
    last: Duration,
    alarm: Alarm,
}

impl Heartbeat {
    fn new(clock: Arc<dyn Clock>, interval: Duration) -> Self {
        Self { last: clock.elapsed(), interval, alarm: Alarm::default(), clock }
    }

    fn sent(&mut self) {
        self.last = self.clock.elapsed();
    }

    /// Whether it is time for a sign of life; wakes `cx` when it is.
    fn is_due(&mut self, cx: &mut Context<'_>) -> bool {
        if !self.alarm.is_set() {
            self.rest();
        }
        while self.alarm.has_come(cx) {
            let now = self.clock.elapsed();
            if now.saturating_sub(self.last) >= self.interval {
                self.last = now;
                return true;
            }
            self.rest();
        }
        false
    }

    /// Sets the alarm to what is left of the silence that may be.
    fn rest(&mut self) {
        let silent = self.clock.elapsed().saturating_sub(self.last);
        // One of no length would have to be asked again at once.
        let left = self.interval.saturating_sub(silent).max(Duration::from_millis(1));
        self.alarm.set(&*self.clock, left);
    }
}
