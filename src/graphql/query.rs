//! What can be asked.

use async_graphql::{Context, ID, Object};

use super::{
    api::Shared,
    filter::TaskFilter,
    join::{Comparison, Join, JoinedData, RequestJoins},
    kind::TaskKind,
    scalar::JsonScalar,
    source::Source,
    task::{Node, TaskObject},
    task_connection::{PageArguments, TaskConnection},
};
use crate::{error::Error, join::Order, model::TaskId, source::Args};

/// What can be asked.
#[derive(Debug)]
pub(super) struct Query;

/// What can be asked.
#[Object]
impl Query {
    /// Fetches the parts of a join, each as soon as the parts it waits for are there. A part that fails or is late
    /// leaves its error beside the others' values, unless it is required. Identical parts in one request are fetched
    /// once. A client that leaves stops what is outstanding.
    async fn joined_data(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "One of `joins`.")] join: String,
        #[graphql(desc = "The join's args, as an object.")] args: Option<JsonScalar>,
    ) -> Result<JoinedData, Error> {
        let shared = Shared::of(ctx);
        let join = shared.joins.get(&join)?;
        let request = ctx.data_unchecked::<RequestJoins>();
        request.begin(1, shared.options.max_request_joins)?;
        Ok(JoinedData::new(
            join,
            join.run(join_args(args)?, Order::Concurrent, request.fetches(&shared.join_room)).await?,
        ))
    }

    /// Runs a join twice, concurrently and one part after another, and says what is gained. It really does: every source
    /// of the join is asked twice. The concurrent run comes first, so that what it warms up (connections, caches) helps
    /// the other one. Where the two did not do the same, there is no figure.
    async fn comparison(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "One of `joins`.")] join: String,
        #[graphql(desc = "The join's args, as an object.")] args: Option<JsonScalar>,
    ) -> Result<Comparison, Error> {
        let shared = Shared::of(ctx);
        let join = shared.joins.get(&join)?;
        let request = ctx.data_unchecked::<RequestJoins>();
        request.begin(2, shared.options.max_request_joins)?;
        Ok(Comparison::new(join, join.compare(join_args(args)?, request.fetches(&shared.join_room)).await?))
    }

    /// The task of this id; null when there is none.
    async fn task(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The task's id.")] id: ID,
    ) -> Result<Option<TaskObject>, Error> {
        find(Shared::of(ctx), &id).await
    }

    /// Tasks, newest first, a page at a time: `first` and `after` to go on to older ones, `last` and `before` to go
    /// back to newer ones.
    #[allow(clippy::too_many_arguments, reason = "the arguments of the Relay specification")]
    async fn tasks(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Only those that fit.")] filter: Option<TaskFilter>,
        #[graphql(desc = "At most so many, from the newest on; nothing said: 50.")] first: Option<i32>,
        #[graphql(desc = "A page cursor: only tasks older than that one.")] after: Option<String>,
        #[graphql(desc = "At most so many, from the oldest on, shown newest first.")] last: Option<i32>,
        #[graphql(desc = "A page cursor: only tasks newer than that one.")] before: Option<String>,
    ) -> Result<TaskConnection, Error> {
        let shared = Shared::of(ctx);
        let filter = filter.map(|filter| filter.into_store(&shared.options)).transpose()?.unwrap_or_default();
        TaskConnection::read(shared, filter, PageArguments { first, after, last, before }).await
    }

    /// The kinds of tasks that can be started here, by name.
    async fn kinds(&self, ctx: &Context<'_>) -> Result<Vec<TaskKind>, Error> {
        TaskKind::read_all(Shared::of(ctx)).await
    }

    /// The sources there are, by name.
    async fn sources(&self, ctx: &Context<'_>) -> Vec<Source> {
        Shared::of(ctx).sources.iter().cloned().map(Source).collect()
    }

    /// The joins there are, by name.
    async fn joins(&self, ctx: &Context<'_>) -> Vec<Join> {
        Shared::of(ctx).joins.iter().cloned().map(Join).collect()
    }

    /// Whatever has this id; null when nothing has.
    async fn node(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The id of a task.")] id: ID,
    ) -> Result<Option<Node>, Error> {
        Ok(find(Shared::of(ctx), &id).await?.map(Node::Task))
    }
}

fn join_args(args: Option<JsonScalar>) -> Result<Args, Error> {
    Ok(args.map_or_else(|| Ok(Args::none()), |args| Args::from_json(&args.0))?)
}

/// A text that cannot be an id names nothing.
async fn find(shared: &Shared, id: &ID) -> Result<Option<TaskObject>, Error> {
    let Ok(id) = id.parse::<TaskId>() else { return Ok(None) };
    Ok(shared.manager.get(id).await?.map(TaskObject))
}
