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

/// How much of the server's answers the connection with this number lets through before it breaks.
type Budget = Box<dyn FnMut(usize) -> Cut + Send>;

/// Where a connection breaks.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Cut {
    Never,
    /// After so many bytes.
    Bytes(usize),
    /// After so many events: before the first byte of the next one's data.
    Events(usize),
}

/// What an event's data begins with.
const EVENT: &[u8] = b"{\"data\":{\"";

/// Finds the beginnings of events, however the bytes are cut into pieces.
#[derive(Default)]
struct Events {
    /// How much of a beginning has been seen.
    matched: usize,
}

impl Events {
    /// The place in these bytes where the first event begins after `left` others; what is left of them otherwise. The
    /// place may lie before these bytes: the beginning of a beginning is let through.
    fn find(&mut self, bytes: &[u8], mut left: usize) -> Result<usize, usize> {
        for (place, &byte) in bytes.iter().enumerate() {
            // Only its first byte is a brace: there is no other way to begin again.
            self.matched = match byte == EVENT[self.matched] {
                true => self.matched + 1,
                false => usize::from(byte == EVENT[0]),
            };
            if self.matched == EVENT.len() {
                self.matched = 0;
                match left {
                    0 => return Ok((place + 1).saturating_sub(EVENT.len())),
                    _ => left -= 1,
                }
            }
        }
        Err(left)
    }
}

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
            budget: Arc::new(Mutex::new(Box::new(|_| Cut::Never))),
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
    pub(crate) fn set_budget(&self, budget: impl FnMut(usize) -> Cut + Send + 'static) {
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
async fn pass(client: TcpStream, server: TcpStream, mut budget: Cut) -> bool {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let mut events = Events::default();
    let down = async {
        let mut buffer = [0; 2048];
        loop {
            let room = match budget {
                Cut::Bytes(left) => buffer.len().min(left),
                Cut::Never | Cut::Events(_) => buffer.len(),
            };
            if room == 0 {
                return true;
            }
            let mut count = match from_server.read(&mut buffer[..room]).await {
                Ok(0) | Err(_) => return false,
                Ok(count) => count,
            };
            let mut is_cut = false;
            match &mut budget {
                Cut::Never => {}
                Cut::Bytes(left) => {
                    *left -= count;
                    is_cut = *left == 0;
                }
                Cut::Events(left) => match events.find(&buffer[..count], *left) {
                    Ok(place) => (count, is_cut) = (place, true),
                    Err(rest) => *left = rest,
                },
            }
            if to_client.write_all(&buffer[..count]).await.is_err() || is_cut {
                return is_cut;
            }
        }
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
