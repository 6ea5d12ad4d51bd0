//! The server itself, as a place data comes from.

use std::{
    net::SocketAddr,
    sync::{Arc, OnceLock},
};

use crate::store::Store;

/// What sources that ask this server need of it: known once it has started. Cloning gives another handle to the same.
#[derive(Debug, Clone, Default)]
pub struct ThisServer {
    parts: Arc<Parts>,
}

#[derive(Debug, Default)]
struct Parts {
    url: OnceLock<String>,
    store: OnceLock<Arc<dyn Store>>,
}

impl ThisServer {
    /// Says at which address it can be reached from itself. Said again it changes nothing.
    pub fn listens_at(&self, address: SocketAddr) {
        let _ = self.parts.url.set(format!("http://{address}"));
    }

    /// Says where its tasks are. Said again it changes nothing.
    pub fn has_store(&self, store: Arc<dyn Store>) {
        let _ = self.parts.store.set(store);
    }

    /// `http://` and the address, without a path.
    pub(super) fn url(&self) -> Option<&str> {
        self.parts.url.get().map(String::as_str)
    }

    pub(super) fn store(&self) -> Option<&Arc<dyn Store>> {
        self.parts.store.get()
    }
}
