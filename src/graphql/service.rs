use std::sync::Arc;

use async_graphql::{Data, Executor, Request, Response};
use futures::{StreamExt, stream::BoxStream};

use super::Payload;

/// What transports ask: to execute an operation. [`Api`](super::Api) is one; [`Plain`] makes one of any schema.
pub trait GraphqlService: Clone + Send + Sync + Unpin + 'static {
    /// Executes a query or a mutation.
    fn execute(&self, request: Request) -> impl Future<Output = Response> + Send;

    /// Executes any operation as a stream of responses: one of a query or a mutation, as many as there are of a
    /// subscription. Stops when the stream is dropped.
    fn subscribe(&self, request: Request, session: Option<Arc<Data>>) -> BoxStream<'static, Reply>;

    /// Whether what this event cursor belongs to has ended, so that a stream after it gives what is left and ends
    /// without waiting. A browser that has seen all comes again nevertheless, and has to be told.
    fn is_over(&self, cursor: &str) -> impl Future<Output = bool> + Send {
        let _ = cursor;
        std::future::ready(false)
    }
}

/// One response in a stream.
#[derive(Debug)]
pub enum Reply {
    /// To be rendered.
    Response(Box<Response>),
    /// Rendered already, perhaps for others, too.
    Rendered(Payload),
}

impl From<Response> for Reply {
    fn from(response: Response) -> Self {
        Self::Response(Box::new(response))
    }
}

/// Serves a schema of your own. Errors that it gives should have their `extensions.code`
/// (see [`crate::error::add_codes`]).
#[derive(Debug, Clone)]
pub struct Plain<E>(pub E);

impl<E: Executor> GraphqlService for Plain<E> {
    async fn execute(&self, request: Request) -> Response {
        self.0.execute(request).await
    }

    fn subscribe(&self, request: Request, session: Option<Arc<Data>>) -> BoxStream<'static, Reply> {
        self.0.execute_stream(request, session).map(Reply::from).boxed()
    }
}
