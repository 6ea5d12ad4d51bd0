//! Accepting connections and serving HTTP on them, within limits: how many there are, how long a client may take to
//! ask, and how long it may take to read what was answered.

use std::{io, sync::Arc, time::Duration};

use axum::{Router, body::Body, extract::Request};
use futures::future::{self, Either};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt;

use super::{HttpContext, socket::Socket};
use crate::clock::Clock;

/// What a connection may hold of a request's head, and of an answer that is not read, in bytes.
const BUFFER_BYTES: usize = 64 << 10;
/// How long to wait when the system cannot give another connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(500);
/// To how many of those who come when there are too many it is made sure that they hear so, at the same time.
const MAX_REFUSALS: usize = 64;
/// What they are told.
const TOO_MANY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\nretry-after: 5\r\n\
    content-type: application/json; charset=utf-8\r\n\r\n\
    {\"errors\":[{\"message\":\"over the limit `max_sockets`\",\
    \"extensions\":{\"code\":\"LIMIT_EXCEEDED\",\"limit\":\"max_sockets\"}}]}";

/// Limits of connections. Times are in milliseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketOptions {
    /// Connections of any sort that may be open at the same time.
    pub max_sockets: usize,
    /// How long a client may take to send the head of a request.
    pub head_timeout_ms: u64,
    /// How long a client may take none of what was sent until its connection is closed.
    pub write_timeout_ms: u64,
}

impl Default for SocketOptions {
    fn default() -> Self {
        Self { max_sockets: 60_000, head_timeout_ms: 10_000, write_timeout_ms: 30_000 }
    }
}

/// Serves `app` until the context's shutdown is requested, and then until every connection has ended: those that wait
/// for a request end at once, the others after their answer. Whoever cannot wait stops polling this.
pub async fn serve(listener: TcpListener, app: Router, options: &SocketOptions, context: &HttpContext) {
    let places = Arc::new(Semaphore::new(options.max_sockets.min(Semaphore::MAX_PERMITS)));
    let refusals = Arc::new(Semaphore::new(MAX_REFUSALS));
    let (tasks, stopping) = (TaskTracker::new(), context.shutdown.soft());
    let write_timeout = Duration::from_millis(options.write_timeout_ms);
    let head_timeout = Duration::from_millis(options.head_timeout_ms);
    while let Some(stream) = accept(&listener, &*context.clock, stopping).await {
        // What is written is whole: nothing would be saved by waiting for more.
        let _ = stream.set_nodelay(true);
        let socket = |stream, place| Socket::new(stream, place, context.clock.clone(), write_timeout);
        if let Ok(place) = places.clone().try_acquire_owned() {
            tasks.spawn(connection(socket(stream, place), app.clone(), head_timeout, stopping.clone()));
        } else if let Ok(place) = refusals.clone().try_acquire_owned() {
            tasks.spawn(refuse(socket(stream, place)));
        } else {
            // As far as it fits at once, and arrives.
            let _ = stream.try_write(TOO_MANY);
        }
    }
    drop(listener);
    tasks.close();
    tasks.wait().await;
    context.connections.closed().await;
}

/// Tells a client that there are too many.
async fn refuse(mut socket: Socket) {
    if socket.write_all(TOO_MANY).await.is_ok() {
        let _ = socket.shutdown().await;
    }
}

/// The next connection; `None` when it is time to stop.
async fn accept(listener: &TcpListener, clock: &dyn Clock, stopping: &CancellationToken) -> Option<TcpStream> {
    let next = async {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => return stream,
                Err(error) if is_the_clients(&error) => {}
                Err(error) => {
                    tracing::error!("cannot accept a connection: {error}");
                    clock.sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    };
    stopping.run_until_cancelled(next).await
}

fn is_the_clients(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

async fn connection(socket: Socket, app: Router, head_timeout: Duration, stopping: CancellationToken) {
    let service = service_fn(move |request: Request<Incoming>| app.clone().oneshot(request.map(Body::new)));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head_timeout)
        .max_buf_size(BUFFER_BYTES)
        .serve_connection(TokioIo::new(socket), service)
        .with_upgrades();
    let result = match future::select(std::pin::pin!(connection), std::pin::pin!(stopping.cancelled())).await {
        Either::Left((result, _)) => result,
        Either::Right((_, mut connection)) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!("a connection broke: {error}");
    }
}
