//! What can be watched.

mod changes;
mod progress;

use async_graphql::{Context, ID, Subscription};
use futures::{Stream, StreamExt, TryStreamExt, stream::BoxStream};

use self::changes::{TaskChange, watch_changes};
pub(super) use self::progress::TaskProgress;
use super::{
    api::Shared,
    event::{TaskEvent, TaskEventType},
    filter::TaskFilter,
    mutation::parse_id,
    render::{Feed, Item, Wanted},
    resume::{Position, resume_after},
    scalar::{DateTime, JsonScalar},
    source::DataChunk,
};
use crate::{
    error::Error,
    journal::{EventCursor, Followed},
    model,
    source::{Args, Row},
};

/// What can be watched.
#[derive(Debug)]
pub(super) struct Subscription;

/// What can be watched.
#[allow(clippy::unused_async, reason = "the signature that the macro wants")]
#[Subscription]
impl Subscription {
    /// A task's status and progress: the present state, then each newer one. Progress that is superseded before it
    /// could be sent is skipped, a status never is. Ends after the terminal status.
    async fn task_progress(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The task's id.")] id: ID,
        #[graphql(desc = "An event cursor: what was seen up to that event is not repeated.")] after: Option<String>,
    ) -> Result<BoxStream<'static, Result<TaskProgress, Error>>, Error> {
        let journal = Shared::of(ctx).manager.journal();
        let task = parse_id(&id)?;
        if let Some(feed) = Feed::of(ctx) {
            let items = feed.take(Wanted::Progress { task });
            let progress = |item| async { if let Item::Progress(progress) = item { Some(Ok(progress)) } else { None } };
            return Ok(items.filter_map(progress).boxed());
        }
        let generation = journal.generation();
        let after = resume_after(ctx.data_opt(), after.as_deref(), generation, task)?;
        let position = Position::of(ctx);
        let progress = journal.watch(task, after).map(move |watched| {
            let watched = watched?;
            position.set(EventCursor { generation, task, seq: watched.seq() });
            Ok(TaskProgress { generation, watched })
        });
        Ok(progress.boxed())
    }

    /// Everything that happens to a task, from its first event or after a cursor: each event exactly once and in
    /// order, also over a lost connection and a restart of the server. Ends after the terminal event.
    async fn task_events(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The task's id.")] id: ID,
        #[graphql(desc = "An event cursor: only what happened after that event.")] after: Option<String>,
        #[graphql(desc = "Only of these types; nothing said: of all. A gap is always told.")] types: Option<
            Vec<TaskEventType>,
        >,
    ) -> Result<BoxStream<'static, Result<TaskEvent, Error>>, Error> {
        let journal = Shared::of(ctx).manager.journal();
        let task = parse_id(&id)?;
        let types: Vec<model::EventType> = types.unwrap_or_default().into_iter().map(Into::into).collect();
        if let Some(feed) = Feed::of(ctx) {
            let items = feed.take(Wanted::Events { task, types });
            let event = |item| async { if let Item::Event(event) = item { Some(Ok(event)) } else { None } };
            return Ok(items.filter_map(event).boxed());
        }
        let generation = journal.generation();
        let after = resume_after(ctx.data_opt(), after.as_deref(), generation, task)?.unwrap_or(0);
        let position = Position::of(ctx);
        let wanted = move |followed: &Followed| match followed {
            Followed::Event(event) => types.is_empty() || types.contains(&event.body.event_type()),
            Followed::Gap { .. } => true,
        };
        let events = journal.follow(task, after).try_filter(move |followed| std::future::ready(wanted(followed)));
        let events = events.map(move |followed| {
            let event = TaskEvent::from_followed(generation, followed?);
            position.set(event.event_cursor());
            Ok(event)
        });
        Ok(events.boxed())
    }

    /// Which tasks come to fit the filter, change within it, or leave it. Begins with `SYNC`: from there on nothing is
    /// missed, so that is the moment to read the list. `SYNC` again when changes had to be skipped.
    async fn tasks_changed(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Only those that fit.")] filter: Option<TaskFilter>,
    ) -> Result<impl Stream<Item = Result<TaskChange, Error>> + use<>, Error> {
        let shared = Shared::of(ctx);
        let filter = filter.map(|filter| filter.into_store(&shared.options)).transpose()?.unwrap_or_default();
        let wants_tasks = ctx.look_ahead().field("task").exists();
        Ok(watch_changes(shared.manager.clone(), filter, wants_tasks))
    }

    /// Rows of a source, passing by: read as fast as they are taken, and no further when the client leaves. Not
    /// recorded: start a task of kind `collect` for that.
    async fn data_stream(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "One of `sources`.")] source: String,
        #[graphql(desc = "The source's args, as an object.")] args: Option<JsonScalar>,
        #[graphql(desc = "At most so many rows; nothing said: all.")] first: Option<i32>,
    ) -> Result<impl Stream<Item = Result<DataChunk, Error>> + use<>, Error> {
        let shared = Shared::of(ctx).clone();
        let args = args.map_or_else(|| Ok(Args::none()), |args| Args::from_json(&args.0))?;
        let limit = match first {
            None => usize::MAX,
            Some(first) => usize::try_from(first).map_err(|_| Error::invalid("`first` is at least 0"))?,
        };
        let rows = shared.sources.get(&source)?.read(args)?;
        let stream_id = ID(shared.stream_id());
        Ok(rows.take(limit).enumerate().map(move |(id, row)| {
            let Row { value, metadata } = row?;
            Ok(DataChunk {
                stream_id: stream_id.clone(),
                id: id as u64,
                timestamp: DateTime(shared.manager.clock().now()),
                value: JsonScalar(value),
                metadata: metadata.map(JsonScalar),
            })
        }))
    }
}
