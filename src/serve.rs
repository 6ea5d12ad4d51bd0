//! Puts the server together from its configuration, and runs it.

mod open_files;

use std::{
    io::{self, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use axum::Router;
use futures::FutureExt;
use rand::{Rng, rngs::StdRng};
use tokio::net::TcpListener;

use crate::{
    as_written::AsWritten,
    clock::Clock,
    config::{Config, build_joins, build_sources, check_kinds, register_programs},
    exit::StartError,
    graphql::Api,
    http::{self, HealthCheck, HttpContext, graphiql, graphiql::GraphiqlAssets},
    model::TaskStatus,
    shutdown::Shutdown,
    source::ThisServer,
    store::{KindStatistics, OpenError, StatisticsQuery, Store, StoreError, sqlite::SqliteStore},
    task::{TaskManager, jobs},
};

/// Runs the server until it is asked to stop and has done so.
pub async fn serve(
    mut config: Config,
    clock: Arc<dyn Clock>,
    mut random: StdRng,
    shutdown: Shutdown,
) -> Result<(), StartError> {
    // Before anything is opened.
    let max_open_files = open_files::raise_limit();
    config.server.http.access = config.server.access()?;
    let this_server = ThisServer::default();
    let sources = build_sources(&config, &this_server, &clock, &mut random)?;
    let joins = build_joins(&config, &sources)?;
    let graphiql = graphiql_pages(&config)?;
    let (listener, address) = bind(&config.server.listen).await?;
    let store = SqliteStore::open(&config.store.data, &config.store.sqlite_options(), clock.clone())?;
    let store: Arc<dyn Store> = Arc::new(store);
    this_server.listens_at(reachable(address));
    this_server.has_store(store.clone());
    let tasks = store.clone();
    let unexpected = |error: &dyn std::fmt::Display| StartError::Unexpected(format!("cannot start: {error}"));
    let manager =
        TaskManager::open(store, clock.clone(), config.tasks.clone(), config.journal.clone(), random.next_u64())
            .await
            .map_err(|error| match error {
                StoreError::Full => StartError::Store(OpenError::Unusable(format!("cannot start: {error}"))),
                error => unexpected(&error),
            })?;
    jobs::register(&manager, &sources).map_err(|error| unexpected(&error))?;
    register_programs(&config, &manager, max_open_files)?;
    check_kinds(&config, &manager)?;
    warn_of_stranded(&*tasks, &manager).await;
    let api = Api::with_joins(manager.clone(), sources, joins, config.api.clone(), random.next_u64());
    let context = HttpContext::new(clock, shutdown.clone());
    let app = app(&config, api, &manager, context.clone()).merge(graphiql);
    let sockets = &mut config.server.http.sockets;
    sockets.max_sockets = open_files::max_sockets(sockets.max_sockets);
    announce(&config, address);

    let server = async {
        // A request that does not end is not waited for.
        let server = http::serve(listener, app, &config.server.http.sockets, &context);
        shutdown.hard().run_until_cancelled(server).await
    };
    let close = async {
        shutdown.soft().cancelled().await;
        manager.close(shutdown.hard().cancelled()).await;
    };
    let failed = async {
        tokio::select! {
            // Whoever watches over this process starts it again.
            () = manager.failed() => {
                shutdown.hurry();
                Err(StartError::Unexpected("the store has failed: see the log; start the server again".to_owned()))
            }
            () = shutdown.soft().cancelled() => Ok(()),
        }
    };
    let (_, (), failed) = tokio::join!(server, close, failed);
    failed
}

/// Says which tasks wait for a kind that is not there any more.
async fn warn_of_stranded(store: &dyn Store, manager: &TaskManager) {
    // No more are counted than it takes to say so.
    let query = StatisticsQuery { kind: None, max_count: 1000, sample: 0 };
    // A store that cannot be read says so itself.
    let Ok(kinds) = store.statistics(query).await else { return };
    let known = manager.kinds();
    let waits =
        |kind: &KindStatistics| kind.counts.iter().any(|(status, count)| *status == TaskStatus::Pending && *count > 0);
    let is_known = |kind: &KindStatistics| known.iter().any(|known| known.name == kind.kind);
    for kind in kinds.iter().filter(|kind| waits(kind) && !is_known(kind)) {
        tracing::warn!(kind = %kind.kind, "tasks wait for a kind that is not there any more: configure it, or cancel them");
    }
}

/// GraphiQL's pages; none when it is off.
pub(crate) fn graphiql_pages(config: &Config) -> Result<Router, StartError> {
    if !config.server.graphiql {
        return Ok(Router::new());
    }
    let assets = match &config.server.graphiql_assets {
        None => GraphiqlAssets::Cdn,
        Some(folder) => GraphiqlAssets::folder(folder).map_err(StartError::Graphiql)?,
    };
    Ok(graphiql::routes(assets))
}

fn app(config: &Config, api: Api, manager: &TaskManager, context: HttpContext) -> Router {
    let checked = manager.clone();
    let check: HealthCheck = Arc::new(move || {
        let manager = checked.clone();
        async move { manager.check().await.map_err(|error| error.to_string()) }.boxed()
    });
    let health = http::health(check, context.clock.clone(), context.shutdown.clone());
    http::routes(api, config.server.http.clone(), context).merge(health).fallback(http::not_found)
}

/// Listens on the address; says which port it became.
async fn bind(address: &AsWritten<SocketAddr>) -> Result<(TcpListener, SocketAddr), StartError> {
    let failed = |error: io::Error| StartError::Listen { address: address.clone(), error };
    let listener = TcpListener::bind(address.expose()).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

fn announce(config: &Config, address: SocketAddr) {
    // Nobody has to read it.
    let _ = io::stdout().lock().write_all(welcome(config, address).as_bytes());
}

/// What people see when the server has started: where it is, and what to try.
fn welcome(config: &Config, address: SocketAddr) -> String {
    let url = format!("http://{}", reachable(address));
    let mut text = format!(
        "Meanwhile {} is listening on {address}\n  GraphQL   {url}/graphql (POST, GET, SSE, multipart, WebSocket)\n",
        env!("CARGO_PKG_VERSION")
    );
    if config.server.graphiql {
        text += &format!("  GraphiQL  {url}/graphiql\n");
    }
    text += &format!("  data      {}\n", config.store.data);
    if config.server.http.access.token.is_some() {
        text += "  access    for those who send the token: Authorization: Bearer TOKEN\n";
    }
    text += &format!(
        "Try: curl {url}/graphql -H 'content-type: application/json' \
         -d '{{\"query\":\"mutation {{ startTask(input: {{kind: \\\"simulate\\\"}}) {{ task {{ id status }} }} }}\"}}'\n"
    );
    text
}

/// An address that a client on this machine can use.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_port_in_use_is_named() {
        let (_listener, address) = bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).await.unwrap();
        let error = bind(&address.into()).await.unwrap_err();
        assert_eq!(error.exit_code(), 69);
        assert!(error.to_string().contains(&format!("port {} is in use", address.port())), "{error}");
    }

    #[test]
    fn the_first_words_are_an_address_that_works_from_here() {
        let text = welcome(&Config::default(), "0.0.0.0:8000".parse().unwrap());
        assert!(text.contains("http://127.0.0.1:8000/graphql") && text.contains("http://127.0.0.1:8000/graphiql"));
        let text = welcome(&Config::default(), "[::]:8000".parse().unwrap());
        assert!(text.contains("http://[::1]:8000/graphql"), "{text}");
    }

    #[test]
    fn graphiql_is_not_offered_when_it_is_off() {
        let mut config = Config::default();
        config.server.graphiql = false;
        assert!(!welcome(&config, "127.0.0.1:8000".parse().unwrap()).contains("GraphiQL"));
    }
}
