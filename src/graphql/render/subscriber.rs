//! One subscriber: follows the journal, and has each event rendered.

use std::sync::Arc;

use async_graphql::{Executor, Request, Response, ServerError};
use futures::{StreamExt, future, stream, stream::BoxStream};

use super::{Item, Wanted, operation::Operation, renderer::Renderers};
use crate::{
    error::{Error, add_codes},
    graphql::{
        api::Shared,
        event::TaskEvent,
        resume::{ResumeCursor, resume_after},
        service::Reply,
        subscription::TaskProgress,
    },
    journal::{EventCursor, FollowError, Followed},
};

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
            return Ok(once(*refused));
        }
    };
    let journal = shared.manager.journal();
    let generation = journal.generation();
    let task = match *renderer.wanted() {
        Wanted::Events { task, .. } | Wanted::Progress { task } => task,
    };
    let after = match resume_after(brought.as_ref(), operation.after.as_deref(), generation, task) {
        Ok(after) => after,
        Err(error) => return Ok(once(failure(error, &renderer.wanted().clone()))),
    };
    let wanted = renderer.wanted().clone();
    let ended = move |error: FollowError| Reply::Response(failure(error.into(), &wanted));
    Ok(match renderer.wanted().clone() {
        Wanted::Events { types, .. } => {
            let render = move |followed: Followed| {
                // A gap depends on where its reader was.
                let (seq, shared) = match &followed {
                    Followed::Event(event) => (event.seq, true),
                    Followed::Gap { through, .. } => (*through, false),
                };
                let cursor = EventCursor { generation, task, seq };
                Reply::Rendered(
                    renderer.render(cursor, shared, || Item::Event(TaskEvent::from_followed(generation, followed))),
                )
            };
            let fits = move |followed: &Followed| match followed {
                Followed::Event(event) => types.is_empty() || types.contains(&event.body.event_type()),
                Followed::Gap { .. } => true,
            };
            let (render, fits) = (Arc::new(render), Arc::new(fits));
            let batches = journal.follow(task, after.unwrap_or(0));
            batches
                .flat_map(move |batch| {
                    let (render, fits) = (render.clone(), fits.clone());
                    match batch {
                        Err(error) => stream::iter(vec![ended(error)]).left_stream(),
                        Ok(batch) => stream::iter(batch)
                            .filter(move |followed| future::ready(fits(followed)))
                            .map(move |followed| render(followed))
                            .right_stream(),
                    }
                })
                .boxed()
        }
        Wanted::Progress { .. } => {
            let mut present = after.is_none();
            let batches = journal.watch(task, after);
            batches
                .flat_map(move |batch| {
                    let renderer = renderer.clone();
                    // The state at the beginning tells more than the event that led to it.
                    let shared = !std::mem::take(&mut present);
                    match batch {
                        Err(error) => stream::iter(vec![ended(error)]).left_stream(),
                        Ok(batch) => stream::iter(batch)
                            .map(move |watched| {
                                let cursor = EventCursor { generation, task, seq: watched.seq };
                                let item = || Item::Progress(TaskProgress { generation, watched });
                                Reply::Rendered(renderer.render(cursor, shared, item))
                            })
                            .right_stream(),
                    }
                })
                .boxed()
        }
    })
}

/// What a subscription to a task says when it cannot go on.
fn failure(error: Error, wanted: &Wanted) -> Response {
    let field = match wanted {
        Wanted::Events { .. } => "taskEvents",
        Wanted::Progress { .. } => "taskProgress",
    };
    let mut error = async_graphql::Error::from(error).into_server_error(async_graphql::Pos::default());
    error.path = vec![async_graphql::PathSegment::Field(field.to_owned())];
    error.locations = Vec::new();
    let mut response = Response::from_errors(vec![ServerError { ..error }]);
    add_codes(&mut response);
    response
}

fn once(response: Response) -> BoxStream<'static, Reply> {
    stream::iter([Reply::Response(response)]).boxed()
}
