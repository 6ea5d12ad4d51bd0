use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use async_graphql::{Context, Data, Executor, Request, Response, SDLExportOptions, Schema};
use futures::{
    StreamExt,
    stream::{self, BoxStream},
};
use rand::{Rng, SeedableRng, rngs::StdRng};

use super::{
    limits::DocumentLimits,
    mutation::Mutation,
    prepare::prepare,
    query::Query,
    render::{self, Renderers},
    resume::Position,
    service::{GraphqlService, Reply},
    shape::MAX_NESTING,
    subscription::Subscription,
};
use crate::{
    error::add_codes,
    join::{JoinRoom, Joins},
    journal::EventCursor,
    source::Sources,
    task::TaskManager,
};

/// Limits of the schema. Those of transports and of tasks are theirs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiOptions {
    /// How large a document may be, and whether it may ask for the schema.
    pub document: DocumentLimits,
    /// Entries in a page of a list, where the client does not say; `document.page_entries` should be the same.
    pub default_page_size: usize,
    /// The most entries in a page of a list.
    pub max_page_size: usize,
    /// Where counting a list stops.
    pub max_total_count: u64,
    /// Values in one list of a filter (kinds, tags).
    pub max_filter_values: usize,
    /// JSON text in one page of a task's events, in bytes, about; a single larger event is a page of its own.
    pub max_page_bytes: usize,
    /// Joins that one request may run; a comparison counts as two.
    pub max_request_joins: usize,
    /// JSON text of parts' values that the joins of all requests hold at the same time, in bytes. A join that finds no
    /// room for a value fails with `UNAVAILABLE`.
    pub max_join_bytes: usize,
    /// Responses kept for subscribers of the same operation, of all operations together, in bytes.
    pub render_cache_bytes: usize,
}

impl Default for ApiOptions {
    fn default() -> Self {
        Self {
            document: DocumentLimits::default(),
            default_page_size: 50,
            max_page_size: 1000,
            max_total_count: 10_000,
            max_filter_values: 100,
            max_page_bytes: 4 << 20,
            max_request_joins: 20,
            max_join_bytes: 256 << 20,
            render_cache_bytes: 16 << 20,
        }
    }
}

/// The GraphQL API of one server: every transport executes its requests here. Cloning is cheap.
#[derive(Clone)]
pub struct Api {
    schema: Schema<Query, Mutation, Subscription>,
    shared: Arc<Shared>,
    renderers: Arc<Renderers>,
    document: Arc<DocumentLimits>,
}

/// What resolvers need.
pub(super) struct Shared {
    pub(super) manager: TaskManager,
    pub(super) sources: Sources,
    pub(super) joins: Joins,
    pub(super) join_room: JoinRoom,
    pub(super) options: ApiOptions,
    random: Mutex<StdRng>,
    streams: AtomicU64,
}

impl Api {
    /// The API to these tasks and sources. `seed` is for what is drawn at random (the ids of data streams).
    pub fn new(manager: TaskManager, sources: Sources, options: ApiOptions, seed: u64) -> Self {
        Self::with_joins(manager, sources, Joins::default(), options, seed)
    }

    /// The same, with joins.
    pub fn with_joins(manager: TaskManager, sources: Sources, joins: Joins, options: ApiOptions, seed: u64) -> Self {
        let document = Arc::new(options.document.clone());
        let random = Mutex::new(StdRng::seed_from_u64(seed));
        let renderers = Arc::new(Renderers::new(options.render_cache_bytes));
        let (join_room, streams) = (JoinRoom::new(options.max_join_bytes), AtomicU64::new(0));
        let shared = Arc::new(Shared { manager, sources, joins, join_room, options, random, streams });
        // Depth is limited before the engine looks at it.
        let schema = Schema::build(Query, Mutation, Subscription).limit_recursive_depth(MAX_NESTING);
        Self { schema: schema.data(shared.clone()).finish(), shared, renderers, document }
    }
}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Api").finish_non_exhaustive()
    }
}

impl GraphqlService for Api {
    async fn execute(&self, request: Request) -> Response {
        Executor::execute(self, request).await
    }

    /// Responses to subscriptions to tasks are rendered once for all subscribers of the same operation.
    fn subscribe(&self, mut request: Request, session: Option<Arc<Data>>) -> BoxStream<'static, Reply> {
        // What is wrong with the document the engine's stream says.
        if prepare(&mut request, &self.document).is_err() {
            return self.execute_stream(request, session).map(Reply::from).boxed();
        }
        match render::subscribe(&self.schema, &self.shared, &self.renderers, request) {
            Ok(replies) => replies,
            Err(request) => self.execute_stream(request, session).map(Reply::from).boxed(),
        }
    }

    async fn is_over(&self, cursor: &str) -> bool {
        let Ok(cursor) = cursor.parse::<EventCursor>() else { return false };
        let known = cursor.generation == self.shared.manager.journal().generation();
        let task = if known { self.shared.manager.get(cursor.task).await } else { Ok(None) };
        matches!(task, Ok(Some(task)) if task.status.is_terminal())
    }
}

impl Executor for Api {
    async fn execute(&self, mut request: Request) -> Response {
        let mut response = match prepare(&mut request, &self.document) {
            Ok(_) => self.schema.execute(request).await,
            Err(error) => Response::from_errors(vec![error]),
        };
        add_codes(&mut response);
        response
    }

    fn execute_stream(&self, mut request: Request, session_data: Option<Arc<Data>>) -> BoxStream<'static, Response> {
        if let Err(error) = prepare(&mut request, &self.document) {
            let mut response = Response::from_errors(vec![error]);
            add_codes(&mut response);
            return stream::iter([response]).boxed();
        }
        let position = Position::default();
        let request = request.data(position.clone());
        let responses = Executor::execute_stream(&self.schema, request, session_data);
        let finish = move |mut response: Response| {
            add_codes(&mut response);
            position.tell(&mut response);
            response
        };
        responses.map(finish).boxed()
    }
}

impl Shared {
    /// What [`Api::new`] put there.
    pub(super) fn of<'a>(ctx: &Context<'a>) -> &'a Arc<Self> {
        ctx.data_unchecked()
    }

    /// A name for a data stream that no other one has, in this process or another.
    pub(super) fn stream_id(&self) -> String {
        let number = self.streams.fetch_add(1, Ordering::Relaxed);
        let drawn = self.random.lock().unwrap_or_else(PoisonError::into_inner).next_u64();
        format!("stream_{drawn:016x}{number:x}")
    }
}

/// The schema, as a text in the schema definition language.
pub fn sdl() -> String {
    let options = SDLExportOptions::new()
        .include_specified_by()
        .prefer_single_line_descriptions()
        .use_space_ident()
        .indent_width(2);
    Schema::build(Query, Mutation, Subscription).finish().sdl_with_options(options)
}
