//! A small pool of connections that only read.

use std::{
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::{mpsc, oneshot};

use crate::store::{OpenError, StoreError};

type Read = Box<dyn FnOnce(&Connection) + Send>;

/// Threads with a connection each. A read transaction ends with the read it was opened for.
#[derive(Debug)]
pub(super) struct Readers {
    reads: Mutex<Option<mpsc::Sender<Read>>>,
    threads: Mutex<Vec<thread::JoinHandle<()>>>,
}

impl Readers {
    /// A thread for each connection; `queue` reads may wait, further callers wait for room.
    pub(super) fn spawn(connections: Vec<Connection>, queue: usize) -> Result<Self, OpenError> {
        let (sender, receiver) = mpsc::channel::<Read>(queue);
        let receiver = Arc::new(Mutex::new(receiver));
        let mut threads = Vec::new();
        for connection in connections {
            let receiver = receiver.clone();
            let thread = thread::Builder::new()
                .name("store-reader".into())
                .spawn(move || {
                    // One idle thread waits inside the lock, the others for the lock.
                    while let Some(read) = { receiver.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv() } {
                        read(&connection);
                    }
                })
                .map_err(|error| OpenError::Unusable(format!("cannot start the store's thread: {error}")))?;
            threads.push(thread);
        }
        Ok(Self { reads: Mutex::new(Some(sender)), threads: Mutex::new(threads) })
    }

    /// Runs `read` in a read transaction: all it sees is of one moment.
    pub(super) async fn call<T, F>(&self, read: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, ReadTrouble> + Send + 'static,
    {
        let sender = self.reads.lock().unwrap_or_else(PoisonError::into_inner).clone().ok_or(StoreError::Closed)?;
        let (caller, answer) = oneshot::channel();
        let read: Read = Box::new(move |connection| {
            if !caller.is_closed() {
                // A caller that went away does not want to know.
                let _ = caller.send(in_transaction(connection, read));
            }
        });
        sender.send(read).await.map_err(|_| StoreError::Closed)?;
        drop(sender);
        answer.await.map_err(|_| StoreError::Closed)?
    }

    /// Ends the threads after the reads that wait. Blocks until they have ended.
    pub(super) fn close(&self) {
        drop(self.reads.lock().unwrap_or_else(PoisonError::into_inner).take());
        for thread in self.threads.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            // A panic of the thread was already reported by its hook.
            let _ = thread.join();
        }
    }
}

/// Why a read gave nothing.
pub(super) enum ReadTrouble {
    Refused(StoreError),
    Database(rusqlite::Error),
}

impl From<StoreError> for ReadTrouble {
    fn from(error: StoreError) -> Self {
        Self::Refused(error)
    }
}

impl From<rusqlite::Error> for ReadTrouble {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(error)
    }
}

fn in_transaction<T>(
    connection: &Connection,
    read: impl FnOnce(&Connection) -> Result<T, ReadTrouble>,
) -> Result<T, StoreError> {
    let result = rusqlite::Transaction::new_unchecked(connection, TransactionBehavior::Deferred)
        .map_err(ReadTrouble::from)
        .and_then(|transaction| read(&transaction));
    result.map_err(|trouble| match trouble {
        ReadTrouble::Refused(error) => error,
        ReadTrouble::Database(error) => StoreError::Internal(error.to_string()),
    })
}
