//! One subscriber: follows the journal, and has each event rendered.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use async_graphql::{Executor, Request, Response, ServerError};
use futures::{Stream, StreamExt, stream, stream::BoxStream};

use super::{
    Item, Wanted,
    operation::Operation,
    renderer::{Renderer, Renderers},
};
use crate::{
    error::{Error, add_codes},
    graphql::{
        api::Shared,
        event::TaskEvent,
        resume::{ResumeCursor, resume_after},
        service::Reply,
        subscription::TaskProgress,
    },
    journal::{EventCursor, Follow, FollowError, Followed, Watch},
    model::TaskId,
};

/// Events that a subscriber looks at and does not want, until others have their turn.
const MAX_SKIPPED: usize = 1024;

#[allow(clippy::result_large_err, reason = "not an error: it goes on to the engine")]
/// The responses to a subscription whose rendering is shared; the request itself when it is not such a one.
pub(in crate::graphql) fn subscribe<E: Executor>(
    schema: &E,
    shared: &Shared,
    renderers: &Arc<Renderers>,
    mut request: Request,
) -> Result<BoxStream<'static, Reply>, Request> {
    let Some(operation) = Operation::of(&mut request) else { return Err(request) };
    let brought = request.data.get(&std::any::TypeId::of::<ResumeCursor>());
    let brought = brought.and_then(|data| data.downcast_ref::<ResumeCursor>()).cloned();
    let renderer = match renderers.find(&operation.key, schema, || request) {
        Ok(renderer) => renderer,
        Err(mut refused) => {
            add_codes(&mut refused);
            return Ok(once(refused));
        }
    };
    let journal = shared.manager.journal();
    let (generation, task) = (journal.generation(), renderer.wanted().task());
    let after = match resume_after(brought.as_ref(), operation.after.as_deref(), generation, task) {
        Ok(after) => after,
        Err(error) => return Ok(once(failure(error, renderer.wanted()))),
    };
    let reading = match renderer.wanted() {
        Wanted::Events { .. } => Reading::Events(journal.follow(task, after.unwrap_or(0))),
        Wanted::Progress { .. } => Reading::Progress { watch: journal.watch(task, after), present: after.is_none() },
    };
    Ok(Subscriber { generation, task, renderer, reading }.boxed())
}

struct Subscriber {
    generation: u64,
    task: TaskId,
    renderer: Arc<Renderer>,
    reading: Reading,
}

/// Where a subscriber is in the journal.
enum Reading {
    Events(Follow),
    Progress {
        watch: Watch,
        /// What comes next is the state at the beginning.
        present: bool,
    },
}

impl Stream for Subscriber {
    type Item = Reply;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Reply>> {
        let Self { generation, task, renderer, reading } = &mut *self;
        let (generation, task) = (*generation, *task);
        let cursor = |seq| EventCursor { generation, task, seq };
        let ended = |error: FollowError| Some(Reply::Response(failure(error.into(), renderer.wanted())));
        match reading {
            Reading::Events(follow) => {
                for _ in 0..MAX_SKIPPED {
                    let followed = match ready!(follow.poll_next_unpin(cx)) {
                        Some(Ok(followed)) => followed,
                        Some(Err(error)) => return Poll::Ready(ended(error)),
                        None => return Poll::Ready(None),
                    };
                    // A gap depends on where its reader was.
                    let (seq, shared) = match &followed {
                        Followed::Event(event) if !renderer.wanted().includes(event) => continue,
                        Followed::Event(event) => (event.seq, true),
                        Followed::Gap { through, .. } => (*through, false),
                    };
                    let item = || Item::Event(TaskEvent::from_followed(generation, followed));
                    return Poll::Ready(Some(Reply::Rendered(renderer.render(cursor(seq), shared, item))));
                }
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Reading::Progress { watch, present } => {
                let watched = match ready!(watch.poll_next_unpin(cx)) {
                    Some(Ok(watched)) => watched,
                    Some(Err(error)) => return Poll::Ready(ended(error)),
                    None => return Poll::Ready(None),
                };
                // The state at the beginning tells more than the event that led to it.
                let (cursor, shared) = (cursor(watched.seq()), !std::mem::take(present));
                let item = || Item::Progress(TaskProgress { generation, watched });
                Poll::Ready(Some(Reply::Rendered(renderer.render(cursor, shared, item))))
            }
        }
    }
}

/// What a subscription to a task says when it cannot go on.
fn failure(error: Error, wanted: &Wanted) -> Box<Response> {
    let field = match wanted {
        Wanted::Events { .. } => "taskEvents",
        Wanted::Progress { .. } => "taskProgress",
    };
    let mut error = async_graphql::Error::from(error).into_server_error(async_graphql::Pos::default());
    error.path = vec![async_graphql::PathSegment::Field(field.to_owned())];
    error.locations = Vec::new();
    let mut response = Response::from_errors(vec![ServerError { ..error }]);
    add_codes(&mut response);
    Box::new(response)
}

fn once(response: Box<Response>) -> BoxStream<'static, Reply> {
    stream::iter([Reply::Response(response)]).boxed()
}
