//! The one thread that writes.
//!
//! It takes everything that waits, runs it as one transaction, waits for the disk once, then publishes
//! and answers. Batches form by themselves while the previous one is on its way to the disk.
//!
//! A request checks before it writes, so a refusal leaves nothing behind. What fails otherwise (a full
//! disk, a fault) takes the whole transaction back; then each request runs alone, so that nobody is told
//! "done" for what was rolled back, and a request that can still succeed does.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use rusqlite::{Connection, ErrorCode};
use tokio::sync::{mpsc, oneshot};

use crate::{
    clock::Clock,
    model::TaskId,
    store::{Commit, OpenError, StoreError, feed::FeedSender},
};

/// Requests in one transaction.
const BATCH_REQUESTS: usize = 1024;
/// Bytes of input in one transaction, about.
const BATCH_BYTES: usize = 4 << 20;
/// Time a transaction may take before it is committed and the rest goes into the next one.
const BATCH_TIME: Duration = Duration::from_millis(50);

/// How often at most the log says that the store is full.
const FULL_INTERVAL: Duration = Duration::from_secs(60);

/// Why a request did not do what it should.
pub(super) enum Trouble {
    /// It cannot be done; nothing was written. The others in the transaction are not concerned.
    Refused(StoreError),
    /// The database did not work.
    Database(rusqlite::Error),
    /// A fault of this program.
    Fault(String),
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        Self::Refused(error)
    }
}

impl From<rusqlite::Error> for Trouble {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(error)
    }
}

impl From<serde_json::Error> for Trouble {
    fn from(error: serde_json::Error) -> Self {
        Self::Fault(error.to_string())
    }
}

/// What a request works with.
pub(super) struct Transaction<'a> {
    pub(super) connection: &'a Connection,
    pub(super) now_ms: i64,
    pub(super) session: i64,
    /// What to publish once this is durable.
    pub(super) commits: Vec<Commit>,
    last_id: &'a mut TaskId,
    kinds: &'a mut HashMap<Arc<str>, i64>,
    random: &'a mut dyn FnMut() -> u32,
}

impl Transaction<'_> {
    /// The id for a task that is created now.
    pub(super) fn next_id(&mut self) -> TaskId {
        *self.last_id = TaskId::next(*self.last_id, self.now_ms, (self.random)());
        *self.last_id
    }

    /// The number of a kind that has tasks.
    pub(super) fn known_kind(&mut self, name: &Arc<str>) -> rusqlite::Result<Option<i64>> {
        if let Some(number) = self.kinds.get(name) {
            return Ok(Some(*number));
        }
        let mut select = self.connection.prepare_cached("SELECT id FROM kind WHERE name = ?1")?;
        let mut rows = select.query([name.as_ref()])?;
        let Some(row) = rows.next()? else { return Ok(None) };
        let number = row.get(0)?;
        self.kinds.insert(name.clone(), number);
        Ok(Some(number))
    }

    /// The number of a kind, new or not.
    pub(super) fn kind(&mut self, name: &Arc<str>) -> rusqlite::Result<i64> {
        if let Some(number) = self.known_kind(name)? {
            return Ok(number);
        }
        self.connection.prepare_cached("INSERT INTO kind (name) VALUES (?1)")?.execute([name.as_ref()])?;
        let number = self.connection.last_insert_rowid();
        self.kinds.insert(name.clone(), number);
        Ok(number)
    }
}

/// A request on its way to the writer.
trait Request: Send {
    fn weight_bytes(&self) -> usize;
    /// Does it; the result is kept for `answer`. May be called again after a rollback.
    fn run(&mut self, transaction: &mut Transaction<'_>) -> Result<(), Trouble>;
    /// Tells the caller: what `run` gave, or that the transaction failed.
    fn answer(self: Box<Self>, committed: Result<(), StoreError>);
}

struct Pending<T, F> {
    work: F,
    weight_bytes: usize,
    result: Option<Result<T, StoreError>>,
    caller: oneshot::Sender<Result<T, StoreError>>,
}

impl<T, F> Request for Pending<T, F>
where
    T: Send,
    F: FnMut(&mut Transaction<'_>) -> Result<T, Trouble> + Send,
{
    fn weight_bytes(&self) -> usize {
        self.weight_bytes
    }

    fn run(&mut self, transaction: &mut Transaction<'_>) -> Result<(), Trouble> {
        match (self.work)(transaction) {
            Ok(value) => self.result = Some(Ok(value)),
            Err(Trouble::Refused(error)) => self.result = Some(Err(error)),
            Err(trouble) => return Err(trouble),
        }
        Ok(())
    }

    fn answer(self: Box<Self>, committed: Result<(), StoreError>) {
        let result = match (committed, self.result) {
            (Ok(()), Some(result)) => result,
            (Ok(()), None) => Err(StoreError::Closed),
            (Err(error), _) => Err(error),
        };
        // A caller that went away does not want to know.
        let _ = self.caller.send(result);
    }
}

/// The way to the writer thread.
#[derive(Debug)]
pub(super) struct Writer {
    requests: Mutex<Option<mpsc::Sender<Box<dyn Request>>>>,
    thread: Mutex<Option<thread::JoinHandle<()>>>,
    failed: Arc<Mutex<Option<String>>>,
}

impl Writer {
    /// Starts the thread. `queue` requests may wait; further callers wait for room.
    pub(super) fn spawn(
        connection: Connection,
        session: i64,
        queue: usize,
        clock: Arc<dyn Clock>,
        feed: Arc<FeedSender>,
        random: impl FnMut() -> u32 + Send + 'static,
    ) -> Result<Self, OpenError> {
        let (sender, receiver) = mpsc::channel(queue);
        let failed = Arc::new(Mutex::new(None));
        let mut state = Thread {
            connection,
            session,
            clock,
            feed,
            kinds: HashMap::new(),
            random,
            told_full: None,
            failed: failed.clone(),
        };
        let last_id = state.newest_id().map_err(|error| OpenError::Unusable(error.to_string()))?;
        let thread = thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || state.run(receiver, last_id))
            .map_err(|error| OpenError::Unusable(format!("cannot start the store's thread: {error}")))?;
        Ok(Self { requests: Mutex::new(Some(sender)), thread: Mutex::new(Some(thread)), failed })
    }

    /// Has `work` done in a transaction, and returns when that is on disk. `work` must check before it
    /// writes, and may be run again after a rollback.
    pub(super) async fn call<T, F>(&self, weight_bytes: usize, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnMut(&mut Transaction<'_>) -> Result<T, Trouble> + Send + 'static,
    {
        let sender = lock(&self.requests).clone().ok_or(StoreError::Closed)?;
        let (caller, answer) = oneshot::channel();
        let request = Box::new(Pending { work, weight_bytes, result: None, caller });
        sender.send(request).await.map_err(|_| self.ended())?;
        drop(sender);
        answer.await.map_err(|_| self.ended())?
    }

    /// Whether the store still works.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        lock(&self.failed).clone().map_or(Ok(()), |why| Err(StoreError::Failed(why)))
    }

    /// Lets what was accepted be written, then ends the thread. Blocks until it has ended.
    pub(super) fn close(&self) {
        drop(lock(&self.requests).take());
        if let Some(thread) = lock(&self.thread).take() {
            // A panic of the thread was already reported by its hook.
            let _ = thread.join();
        }
    }

    fn ended(&self) -> StoreError {
        self.check().err().unwrap_or(StoreError::Closed)
    }
}

struct Thread<R> {
    connection: Connection,
    session: i64,
    clock: Arc<dyn Clock>,
    feed: Arc<FeedSender>,
    kinds: HashMap<Arc<str>, i64>,
    random: R,
    told_full: Option<Instant>,
    failed: Arc<Mutex<Option<String>>>,
}

impl<R> Drop for Thread<R> {
    /// However the thread ends, also by a panic: nothing more will be told.
    fn drop(&mut self) {
        self.feed.close();
    }
}

impl<R: FnMut() -> u32> Thread<R> {
    fn newest_id(&self) -> rusqlite::Result<TaskId> {
        let newest = "SELECT max((SELECT coalesce(max(id), 0) FROM task), (SELECT last_task FROM store))";
        self.connection.query_row(newest, [], |row| row.get(0)).map(TaskId::from_i64)
    }

    fn run(&mut self, mut requests: mpsc::Receiver<Box<dyn Request>>, mut last_id: TaskId) {
        let mut waiting: VecDeque<Box<dyn Request>> = VecDeque::new();
        loop {
            if waiting.is_empty() {
                match requests.blocking_recv() {
                    Some(request) => waiting.push_back(request),
                    None => break,
                }
            }
            let mut weight: usize = waiting.iter().map(|request| request.weight_bytes()).sum();
            while waiting.len() < BATCH_REQUESTS && weight < BATCH_BYTES {
                let Ok(request) = requests.try_recv() else { break };
                weight += request.weight_bytes();
                waiting.push_back(request);
            }
            self.write(&mut waiting, &mut last_id);
        }
    }

    /// Writes the first of `waiting`, as many as fit into one transaction, and answers them.
    fn write(&mut self, waiting: &mut VecDeque<Box<dyn Request>>, last_id: &mut TaskId) {
        if let Some(why) = lock(&self.failed).clone() {
            waiting.drain(..).for_each(|request| request.answer(Err(StoreError::Failed(why.clone()))));
            return;
        }
        match self.attempt(waiting.make_contiguous(), last_id) {
            Ok(written) => waiting.drain(..written).for_each(|request| request.answer(Ok(()))),
            Err((1, trouble)) => {
                let error = self.judge(trouble);
                waiting.drain(..1).for_each(|request| request.answer(Err(error.clone())));
            }
            Err((tried, _)) => {
                for request in waiting.drain(..tried).collect::<Vec<_>>() {
                    self.write(&mut VecDeque::from([request]), last_id);
                }
            }
        }
    }

    /// One transaction. On success: how many requests it held. On failure: how many it would have held;
    /// nothing was written.
    fn attempt(&mut self, requests: &mut [Box<dyn Request>], last_id: &mut TaskId) -> Result<usize, (usize, Trouble)> {
        let began = Instant::now();
        let mut written = 0;
        let result = self.connection.execute_batch("BEGIN IMMEDIATE").map_err(Trouble::from).and_then(|()| {
            let mut transaction = Transaction {
                connection: &self.connection,
                now_ms: self.clock.now().timestamp_millis(),
                session: self.session,
                commits: Vec::new(),
                last_id,
                kinds: &mut self.kinds,
                random: &mut self.random,
            };
            for request in requests {
                written += 1;
                request.run(&mut transaction)?;
                if began.elapsed() > BATCH_TIME {
                    break;
                }
            }
            let commits = transaction.commits;
            self.connection.execute_batch("COMMIT")?;
            Ok(commits)
        });
        match result {
            Ok(commits) => {
                self.feed.send(&commits);
                Ok(written)
            }
            Err(trouble) => {
                self.kinds.clear();
                if !self.connection.is_autocommit()
                    && let Err(error) = self.connection.execute_batch("ROLLBACK")
                {
                    return Err((1.max(written), Trouble::Database(error)));
                }
                Err((1.max(written), trouble))
            }
        }
    }

    /// Says in the log that there is no room, from time to time.
    fn tell_full(&mut self) {
        let now = Instant::now();
        if self.told_full.is_none_or(|told| now.duration_since(told) > FULL_INTERVAL) {
            self.told_full = Some(now);
            tracing::warn!(
                "the store is full: nothing can be started or recorded until its disk has room, or its limit"
            );
        }
    }

    /// What a request that failed alone is told. A database that does not work any more is not used again.
    fn judge(&mut self, trouble: Trouble) -> StoreError {
        match trouble {
            Trouble::Refused(error) => error,
            Trouble::Fault(why) => StoreError::Internal(why),
            Trouble::Database(error) => match error.sqlite_error_code() {
                Some(ErrorCode::DiskFull) => {
                    self.tell_full();
                    StoreError::Full
                }
                Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::Locked,
                Some(ErrorCode::ConstraintViolation | ErrorCode::TooBig | ErrorCode::TypeMismatch) | None => {
                    StoreError::Internal(error.to_string())
                }
                Some(_) => {
                    let why = error.to_string();
                    tracing::error!(error = %why, "the store has failed");
                    *lock(&self.failed) = Some(why.clone());
                    self.feed.close();
                    StoreError::Failed(why)
                }
            },
        }
    }
}

/// Std mutexes, held for a moment and never across an await or a write.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
