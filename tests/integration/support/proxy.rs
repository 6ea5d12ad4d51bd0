//! A proxy that breaks connections.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// How many bytes of the server's answers the connection with this number lets through before it breaks.
type Budget = Box<dyn FnMut(usize) -> usize + Send>;

/// Passes bytes on until each connection's budget is used up; then the connection breaks on both sides.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    upstream: watch::Sender<Option<SocketAddr>>,
    budget: Arc<Mutex<Budget>>,
    cuts: Arc<AtomicUsize>,
    open: Arc<watch::Sender<usize>>,
}

impl Proxy {
    pub(crate) async fn start(upstream: Option<SocketAddr>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Self {
            address: listener.local_addr().unwrap(),
            upstream: watch::channel(upstream).0,
            budget: Arc::new(Mutex::new(Box::new(|_| usize::MAX))),
            cuts: Arc::default(),
            open: Arc::new(watch::Sender::new(0)),
        };
        let (upstream, budget, cuts) = (proxy.upstream.subscribe(), proxy.budget.clone(), proxy.cuts.clone());
        let open = proxy.open.clone();
        tokio::spawn(async move {
            for number in 0.. {
                let (client, _) = listener.accept().await.unwrap();
                let (mut upstream, budget, cuts) = (upstream.clone(), budget.clone(), cuts.clone());
                let open = open.clone();
                tokio::spawn(async move {
                    let Ok(server) = upstream.wait_for(Option::is_some).await.map(|address| address.unwrap()) else {
                        return;
                    };
                    let Ok(server) = TcpStream::connect(server).await else { return };
                    let budget = (budget.lock().unwrap())(number);
                    open.send_modify(|open| *open += 1);
                    if pass(client, server, budget).await {
                        cuts.fetch_add(1, Ordering::Relaxed);
                    }
                    open.send_modify(|open| *open -= 1);
                });
            }
        });
        proxy
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/graphql", self.address)
    }

    /// From the next connection on; their numbers go on.
    pub(crate) fn set_budget(&self, budget: impl FnMut(usize) -> usize + Send + 'static) {
        *self.budget.lock().unwrap() = Box::new(budget);
    }

    /// Where the server is; while it is nowhere, connections wait.
    pub(crate) fn set_upstream(&self, upstream: Option<SocketAddr>) {
        self.upstream.send_replace(upstream);
    }

    /// How many connections there are to the server.
    pub(crate) fn open(&self) -> watch::Receiver<usize> {
        self.open.subscribe()
    }

    /// How many connections were broken.
    pub(crate) fn cuts(&self) -> usize {
        self.cuts.load(Ordering::Relaxed)
    }
}

/// Whether the budget ended it.
async fn pass(client: TcpStream, server: TcpStream, budget: usize) -> bool {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let mut left = budget;
    let down = async {
        let mut buffer = [0; 2048];
        while left > 0 {
            let room = buffer.len().min(left);
            match from_server.read(&mut buffer[..room]).await {
                Ok(0) | Err(_) => return false,
                Ok(count) if to_client.write_all(&buffer[..count]).await.is_err() => return count == left,
                Ok(count) => left -= count,
            }
        }
        true
    };
    let up = async {
        let _ = tokio::io::copy(&mut from_client, &mut to_server).await;
        // A client that has said all still listens.
        std::future::pending::<()>().await;
    };
    tokio::select! {
        cut = down => cut,
        () = up => false,
    }
}
