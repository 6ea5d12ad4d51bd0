//! A small schema whose operations the tests hold in their hands, served as an embedder would serve it.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use async_graphql::{Context, Data, EmptyMutation, Executor, Object, Request, Response, Schema, Subscription};
use axum::Router;
use futures::{
    Stream, StreamExt,
    stream::{self, BoxStream},
};
use meanwhile::{
    clock::{Clock, ManualClock},
    error::add_codes,
    graphql::{Plain, ResumeCursor},
    http::{HttpContext, HttpOptions, routes},
    shutdown::Shutdown,
};
use tokio::{
    net::TcpListener,
    sync::{Semaphore, watch},
};

/// What the resolvers share with the test.
#[derive(Debug, Clone)]
pub(crate) struct Hands {
    /// How often the mutation ran.
    pub(crate) touched: Arc<AtomicUsize>,
    /// `slow` answers as often as there are permits.
    pub(crate) gate: Arc<Semaphore>,
    /// How many wait at the gate.
    pub(crate) waiting: Arc<watch::Sender<usize>>,
    /// How many streams live.
    pub(crate) streams: Arc<watch::Sender<usize>>,
}

impl Default for Hands {
    fn default() -> Self {
        let count = || Arc::new(watch::Sender::new(0));
        Self { touched: Arc::default(), gate: Arc::new(Semaphore::new(0)), waiting: count(), streams: count() }
    }
}

impl Hands {
    /// Ends when so many streams live.
    pub(crate) async fn live_streams(&self, count: usize) {
        self.streams.subscribe().wait_for(|streams| *streams == count).await.unwrap();
    }

    /// Ends when so many wait at the gate.
    pub(crate) async fn waiting(&self, count: usize) {
        self.waiting.subscribe().wait_for(|waiting| *waiting == count).await.unwrap();
    }

    async fn pass_the_gate(&self) -> bool {
        let _waiting = Counted::enter(&self.waiting);
        self.gate.acquire().await.unwrap().forget();
        true
    }

    fn of<'a>(ctx: &Context<'a>) -> &'a Self {
        ctx.data_unchecked()
    }

    /// Counts a stream as long as it lives.
    fn counted<S: Stream + Send + 'static>(&self, stream: S) -> impl Stream<Item = S::Item> + use<S> {
        let living = Counted::enter(&self.streams);
        stream.inspect(move |_| {
            let _ = &living;
        })
    }
}

/// Counts as long as it lives.
struct Counted(Arc<watch::Sender<usize>>);

impl Counted {
    fn enter(count: &Arc<watch::Sender<usize>>) -> Self {
        count.send_modify(|count| *count += 1);
        Self(count.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

pub(crate) struct Query;

#[Object]
#[allow(clippy::unused_async)] // The engine wants them async.
impl Query {
    async fn hello(&self) -> &str {
        "world"
    }

    async fn echo(&self, number: i32) -> i32 {
        number
    }

    async fn fail(&self) -> Result<i32, meanwhile::error::Error> {
        Err(meanwhile::error::Error::not_found("nothing there"))
    }

    async fn maybe(&self) -> Option<Result<i32, meanwhile::error::Error>> {
        Some(Err(meanwhile::error::Error::not_found("nothing there")))
    }

    async fn slow(&self, ctx: &Context<'_>) -> bool {
        Hands::of(ctx).pass_the_gate().await
    }

    async fn panic(&self, ctx: &Context<'_>) -> bool {
        assert!(ctx.path_node.is_none(), "on purpose");
        true
    }
}

pub(crate) struct Mutation;

#[Object]
impl Mutation {
    async fn touch(&self, ctx: &Context<'_>) -> usize {
        Hands::of(ctx).touched.fetch_add(1, Ordering::SeqCst) + 1
    }

    async fn slow(&self, ctx: &Context<'_>) -> bool {
        Hands::of(ctx).pass_the_gate().await
    }
}

pub(crate) struct Streams;

#[Subscription(name = "Subscription")]
impl Streams {
    async fn count(&self, to: usize) -> impl Stream<Item = usize> {
        stream::iter(0..to)
    }

    /// Gives nothing, and does not end.
    async fn silence(&self, ctx: &Context<'_>) -> impl Stream<Item = usize> {
        Hands::of(ctx).counted(stream::pending())
    }

    /// Always has something: `bytes` bytes.
    async fn flood(&self, ctx: &Context<'_>, bytes: usize) -> impl Stream<Item = String> {
        Hands::of(ctx).counted(stream::repeat("x".repeat(bytes)))
    }

    /// The cursor that the transport brought.
    async fn cursor(&self, ctx: &Context<'_>) -> impl Stream<Item = Option<String>> {
        let cursor = ctx.data_opt::<ResumeCursor>().map(|cursor| cursor.0.clone());
        stream::iter([cursor])
    }

    #[allow(clippy::unused_async)] // The engine wants it async.
    async fn refuse(&self) -> Result<stream::Empty<usize>, meanwhile::error::Error> {
        Err(meanwhile::error::Error::not_found("no such thing"))
    }

    /// `from` and on to `to`, each with its number as its cursor; goes on after the one that the transport brought.
    /// Without `ends` it then waits.
    async fn resume(&self, ctx: &Context<'_>, to: u64, ends: bool) -> impl Stream<Item = u64> {
        let after = ctx.data_opt::<ResumeCursor>().map_or(0, |cursor| cursor.0.parse().unwrap());
        let numbers = stream::iter(after + 1..=to);
        let rest = if ends { stream::empty().left_stream() } else { stream::pending().right_stream() };
        Hands::of(ctx).counted(numbers.chain(rest))
    }

    async fn break_off(&self) -> impl Stream<Item = Result<usize, meanwhile::error::Error>> {
        stream::iter([Ok(1), Err(meanwhile::error::Error::not_found("gone")), Ok(2)])
    }

    async fn panic(&self) -> impl Stream<Item = usize> {
        stream::iter(0..2).map(|number| if number == 1 { panic!("on purpose") } else { number })
    }
}

/// The schema, with codes on its errors.
#[derive(Clone)]
pub(crate) struct Toy(Schema<Query, Mutation, Streams>);

impl Toy {
    pub(crate) fn new(hands: &Hands) -> Self {
        Self(Schema::build(Query, Mutation, Streams).data(hands.clone()).finish())
    }
}

impl Executor for Toy {
    async fn execute(&self, request: Request) -> Response {
        let mut response = self.0.execute(request).await;
        add_codes(&mut response);
        response
    }

    fn execute_stream(&self, request: Request, session: Option<Arc<Data>>) -> BoxStream<'static, Response> {
        let responses = self.0.execute_stream_with_session_data(request, session.unwrap_or_default());
        let with_codes = |mut response: Response| {
            add_codes(&mut response);
            // What the API does with an event's cursor.
            if let async_graphql::Value::Object(data) = &response.data
                && let Some(async_graphql::Value::Number(number)) = data.get("resume")
            {
                response.extensions.insert("cursor".to_owned(), number.to_string().into());
            }
            response
        };
        responses.map(with_codes).boxed()
    }
}

/// A running server.
pub(crate) struct ToyServer {
    pub(crate) address: SocketAddr,
    pub(crate) hands: Hands,
    pub(crate) clock: ManualClock,
    pub(crate) shutdown: Shutdown,
    pub(crate) context: HttpContext,
}

impl ToyServer {
    pub(crate) async fn start() -> Self {
        Self::with(HttpOptions::default(), |_| {}).await
    }

    pub(crate) async fn with(options: HttpOptions, change: impl FnOnce(&mut HttpContext)) -> Self {
        let clock = ManualClock::new(chrono::DateTime::UNIX_EPOCH);
        let shutdown = Shutdown::new();
        let as_clock: Arc<dyn Clock> = Arc::new(clock.clone());
        let mut context = HttpContext::new(as_clock, shutdown.clone());
        change(&mut context);
        let hands = Hands::default();
        let app: Router = routes(Plain(Toy::new(&hands)), options.clone(), context.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let served = context.clone();
        tokio::spawn(async move { meanwhile::http::serve(listener, app, &options.sockets, &served).await });
        Self { address, hands, clock, shutdown, context }
    }

    /// Ends when no connection outlives its request.
    pub(crate) async fn none_open(&self) {
        while self.context.connections.open() > 0 {
            tokio::task::yield_now().await;
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/graphql", self.address)
    }
}

/// Serves it on a port of its own, as long as the test runs.
pub(crate) async fn serve(app: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    address
}

/// A schema that has nothing to do with ours.
pub(crate) fn foreign_schema() -> Schema<Foreign, EmptyMutation, async_graphql::EmptySubscription> {
    Schema::new(Foreign, EmptyMutation, async_graphql::EmptySubscription)
}

pub(crate) struct Foreign;

#[Object]
impl Foreign {
    async fn two(&self) -> i32 {
        2
    }
}
