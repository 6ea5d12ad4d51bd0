use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use chrono::{DateTime, Utc};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use schemars::JsonSchema;
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::{Mutex as AsyncMutex, Notify};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Job, JobContext, JobError, KindInfo, KindOptions, KindType, StartTask, TaskOptions, dispatcher,
    job::Handler,
    registry::Registry,
    request::retry_key,
    retention,
    under_way::{Running, UnderWay},
};
use crate::{
    clock::Clock,
    error::{Error, ErrorCode},
    journal::{Journal, JournalOptions},
    model::{NewTask, Task, TaskId, TaskStatus},
    store::{Attempt, AttemptRef, Started, Store, StoreError, TaskFilter, TaskPage, TaskQuery},
};

/// Wait before a write is tried again that found the store full.
const FULL_RETRY: Duration = Duration::from_millis(500);

/// Starts tasks, runs them, and tells about them. A handle: cloning it is cheap, all clones are the same manager.
/// It works until [`close`](Self::close), also when the last handle was dropped: close it to let go of the store.
#[derive(Debug, Clone)]
pub struct TaskManager {
    shared: Arc<Shared>,
}

/// What the manager's parts share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) store: Arc<dyn Store>,
    pub(super) journal: Journal,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) options: Arc<TaskOptions>,
    pub(super) registry: Registry,
    /// Something could be claimed that could not before.
    pub(super) wake: Notify,
    /// No more claims, no more starts.
    pub(super) closing: CancellationToken,
    /// The store does not work any more.
    pub(super) failed: CancellationToken,
    /// Attempts under way are to stop and be given back.
    pub(super) release: CancellationToken,
    /// Held while claimed attempts are not yet in `running`.
    pub(super) claiming: AsyncMutex<()>,
    pub(super) attempts: TaskTracker,
    pub(super) under_way: UnderWay,
    random: Mutex<StdRng>,
}

impl TaskManager {
    /// A manager of the tasks in `store`. Ends the attempts that earlier processes left behind, and begins to
    /// run tasks of the kinds that are registered. Must be called within a Tokio runtime. `seed` is for what
    /// is drawn at random (the jitter of retries).
    pub async fn open(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        options: TaskOptions,
        journal: JournalOptions,
        seed: u64,
    ) -> Result<Self, StoreError> {
        let journal = Journal::new(store.clone(), journal);
        let lost = store.recover().await?;
        if lost > 0 {
            tracing::warn!(lost, "attempts were lost when the server ended");
        }
        let under_way = UnderWay::new(options.concurrency);
        let shared = Arc::new(Shared {
            store,
            journal,
            clock,
            options: Arc::new(options),
            registry: Registry::default(),
            wake: Notify::new(),
            closing: CancellationToken::new(),
            failed: CancellationToken::new(),
            release: CancellationToken::new(),
            claiming: AsyncMutex::new(()),
            attempts: TaskTracker::new(),
            under_way,
            random: Mutex::new(StdRng::seed_from_u64(seed)),
        });
        tokio::spawn(dispatcher::run(shared.clone()));
        tokio::spawn(watch_store(shared.clone()));
        tokio::spawn(retention::run(shared.clone()));
        Ok(Self { shared })
    }

    /// Registers an async function as a kind. Tasks of that kind run from now on.
    ///
    /// The input is read from JSON as an `I`, the output written as JSON. The JSON Schema of `I` is in `kinds`, and a task
    /// whose input does not fit it is not started; an `I` of [`serde_json::Value`] takes everything. `CONFLICT` when the
    /// name is taken.
    pub fn register<I, O, F, Fut>(&self, name: &str, function: F) -> Result<(), Error>
    where
        F: Fn(JobContext, I) -> Fut + Send + Sync + 'static,
        I: DeserializeOwned + JsonSchema + Send + 'static,
        O: Serialize + Send + 'static,
        Fut: Future<Output = Result<O, JobError>> + Send + 'static,
    {
        self.register_with(name, KindOptions::default(), function)
    }

    /// The same, with a description, how its tasks are run, or another schema of the input.
    pub fn register_with<I, O, F, Fut>(&self, name: &str, options: KindOptions, function: F) -> Result<(), Error>
    where
        F: Fn(JobContext, I) -> Fut + Send + Sync + 'static,
        I: DeserializeOwned + JsonSchema + Send + 'static,
        O: Serialize + Send + 'static,
        Fut: Future<Output = Result<O, JobError>> + Send + 'static,
    {
        self.register_job(name, KindType::Handler, options.input_of::<I>(), Arc::new(Handler::new(function)))
    }

    /// Registers a [`Job`] as a kind. It reads its input itself: [`KindOptions::input_of`] says what that has to be.
    pub fn register_job(
        &self,
        name: &str,
        kind_type: KindType,
        mut options: KindOptions,
        job: Arc<dyn Job>,
    ) -> Result<(), Error> {
        if let Some(configured) = self.shared.options.kinds.get(name) {
            options.policy = configured.or(options.policy);
        }
        self.shared.registry.add(KindInfo { name: name.into(), kind_type, options }, job)?;
        self.shared.wake.notify_one();
        Ok(())
    }

    /// The kinds that are registered, by name.
    pub fn kinds(&self) -> Vec<Arc<KindInfo>> {
        self.shared.registry.all()
    }

    /// Starts a task and returns it. When this returns, the task is on disk and survives any crash.
    pub async fn start(&self, request: StartTask) -> Result<Task, Error> {
        let mut started = self.start_all(vec![request]).await?;
        started.pop().map(|started| started.task).ok_or_else(|| Error::new(ErrorCode::Internal, "nothing was started"))
    }

    /// Starts tasks, all or none, in one commit.
    pub async fn start_all(&self, requests: Vec<StartTask>) -> Result<Vec<Started>, Error> {
        self.open_for_starts()?;
        let shared = &self.shared;
        if requests.len() > shared.options.max_batch_tasks {
            return Err(Error::limit("max_batch_tasks", format_args!("{} tasks", shared.options.max_batch_tasks)));
        }
        let mut tasks = Vec::with_capacity(requests.len());
        // Where it stands, its key, and what is wrong with it.
        let mut refused = Vec::new();
        for (index, request) in requests.iter().enumerate() {
            match shared.task(request) {
                Ok(task) => tasks.push(task),
                Err(error) => {
                    let error = if requests.len() == 1 { error } else { error.about(&format!("tasks[{index}]")) };
                    // Without a key, or with one that is wrong itself, it was never started.
                    let Ok(Some(key)) = request.idempotency() else { return Err(error) };
                    refused.push((index, key, error));
                }
            }
        }
        // What was started before is not judged again: since then its kind may have changed, or gone.
        let keys = refused.iter().map(|(_, key, _)| key.clone()).collect();
        let earlier = if refused.is_empty() { Vec::new() } else { shared.store.started(keys).await? };
        let mut existing = Vec::with_capacity(refused.len());
        for ((index, _, error), task) in refused.into_iter().zip(earlier) {
            existing.push((index, Started { task: task.ok_or(error)?, existed: true }));
        }
        let mut started = if tasks.is_empty() { Vec::new() } else { shared.store.start(tasks).await? };
        for (index, task) in existing {
            started.insert(index, task);
        }
        shared.wake.notify_one();
        Ok(started)
    }

    /// Cancels a pending task at once, and asks a running one to stop: its handler sees
    /// [`JobContext::cancelled`], and is dropped when it goes on for longer than the kind's `cancel_grace_ms`. Each step
    /// is an event ([`CancelStep`](crate::model::CancelStep)). Returns the task as it then is.
    pub async fn cancel(&self, id: TaskId, reason: Option<String>) -> Result<Task, Error> {
        let shared = &self.shared;
        if reason.as_ref().is_some_and(|reason| reason.len() > shared.options.max_message_bytes) {
            let allowed = format_args!("{} bytes", shared.options.max_message_bytes).to_string();
            return Err(Error::limit("max_message_bytes", allowed));
        }
        let task = shared.store.cancel(id, reason).await?;
        if task.status == TaskStatus::Running {
            let _claiming = shared.claiming.lock().await;
            shared.under_way.cancel(id);
        } else if task.concurrency_key.is_some() {
            shared.wake.notify_one();
        }
        Ok(task)
    }

    fn open_for_starts(&self) -> Result<(), Error> {
        match self.shared.closing.is_cancelled() {
            false => Ok(()),
            true => Err(Error::new(ErrorCode::Unavailable, "the server is shutting down: try again soon")),
        }
    }

    /// Deletes an ended task with all that belongs to it; streams of it end. Its idempotency key is free again.
    pub async fn delete(&self, id: TaskId) -> Result<(), Error> {
        // In slices, between which others write.
        while !self.shared.store.delete(id).await? {}
        Ok(())
    }

    /// Has tasks of a kind wait; those that run are left alone. Survives restarts.
    pub async fn pause(&self, kind: &str) -> Result<Arc<KindInfo>, Error> {
        let info = self.shared.registry.info(kind)?;
        self.shared.store.pause(info.name.clone(), true).await?;
        Ok(info)
    }

    /// Has tasks of a kind run again.
    pub async fn resume(&self, kind: &str) -> Result<Arc<KindInfo>, Error> {
        let info = self.shared.registry.info(kind)?;
        self.shared.store.pause(info.name.clone(), false).await?;
        self.shared.wake.notify_one();
        Ok(info)
    }

    /// The kinds that are paused, and since when.
    pub async fn paused(&self) -> Result<Vec<(Arc<str>, DateTime<Utc>)>, Error> {
        Ok(self.shared.store.paused().await?)
    }

    /// Starts a new task that repeats an ended one; with an idempotency key once, however often it is asked for.
    /// `INVALID_INPUT` when its kind does not take its input any more.
    pub async fn retry(&self, id: TaskId, idempotency_key: Option<String>) -> Result<Started, Error> {
        self.open_for_starts()?;
        let key = idempotency_key.map(|key| retry_key(id, key, &self.shared.options)).transpose()?;
        // The kind may take other input than it took then.
        if let Some(task) = self.get(id).await?
            && let Err(error) = self.shared.registry.check(&task.kind, &task.input)
        {
            // As for `start_all`: what was started before is not judged again.
            let earlier = self.shared.store.started(key.into_iter().collect()).await?.pop().flatten();
            return Ok(Started { task: earlier.ok_or(error)?, existed: true });
        }
        let started = self.shared.store.retry(id, key).await?;
        self.shared.wake.notify_one();
        Ok(started)
    }

    /// A task as it now stands.
    pub async fn get(&self, id: TaskId) -> Result<Option<Task>, Error> {
        Ok(self.shared.store.tasks(vec![id]).await?.pop().flatten())
    }

    /// The first of these tasks as they now stand, in the order asked for: as many as weigh about
    /// [`MAX_TASKS_BYTES`](crate::store::MAX_TASKS_BYTES), and at least one.
    pub async fn get_first(&self, ids: Vec<TaskId>) -> Result<Vec<Option<Task>>, Error> {
        Ok(self.shared.store.tasks(ids).await?)
    }

    /// A page of tasks.
    pub async fn list(&self, query: TaskQuery) -> Result<TaskPage, Error> {
        Ok(self.shared.store.list(query).await?)
    }

    /// How many tasks fit the filter; counting stops at `cap`.
    pub async fn count(&self, filter: TaskFilter, cap: u64) -> Result<u64, Error> {
        Ok(self.shared.store.count(filter, cap).await?)
    }

    /// The journal, to follow and to watch tasks.
    pub fn journal(&self) -> &Journal {
        &self.shared.journal
    }

    /// The clock it goes by.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.shared.clock
    }

    /// Its limits.
    pub fn options(&self) -> &TaskOptions {
        &self.shared.options
    }

    /// The store.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.shared.store
    }

    /// Whether tasks can be started and run.
    pub async fn check(&self) -> Result<(), Error> {
        if self.shared.closing.is_cancelled() {
            return Err(Error::new(ErrorCode::Unavailable, "the server is shutting down"));
        }
        Ok(self.shared.store.check().await?)
    }

    /// Ends when the store has failed (see [`StoreError::Failed`]): nothing can be started or run any more until
    /// the process is started again. Ends never while the store works.
    pub async fn failed(&self) {
        self.shared.failed.cancelled().await;
    }

    /// Stops claiming and starting, lets attempts end until `hurry` does, then tells handlers to stop and
    /// gives their tasks back to run again later, and closes the store.
    pub async fn close(&self, hurry: impl Future<Output = ()>) {
        let shared = &self.shared;
        shared.closing.cancel();
        // After this no claim is under way any more that would begin further attempts.
        drop(shared.claiming.lock().await);
        shared.attempts.close();
        tokio::select! {
            () = shared.attempts.wait() => {}
            () = hurry => {
                shared.release.cancel();
                shared.attempts.wait().await;
            }
        }
        shared.store.close().await;
    }
}

/// A store that ends its feed before it was closed has failed.
async fn watch_store(shared: Arc<Shared>) {
    shared.journal.closed().await;
    if !shared.closing.is_cancelled() {
        tracing::error!("the store has failed: no task can be started or run any more");
        shared.failed.cancel();
    }
}

impl Shared {
    /// What is stored for a request.
    fn task(&self, request: &StartTask) -> Result<NewTask, Error> {
        let kind = self.registry.info(&request.kind)?;
        let task = request.to_task(&kind, &self.options)?;
        // Only once it is known not to be too large.
        self.registry.check(&task.kind, &task.input)?;
        Ok(task)
    }

    /// Waits before a write is tried again that found the store full; not longer than until handlers are told to stop.
    pub(super) async fn wait_for_space(&self) {
        tokio::select! {
            () = self.clock.sleep(FULL_RETRY) => {}
            () = self.release.cancelled() => {}
        }
    }

    /// Notes that an attempt is under way.
    pub(super) fn enter(&self, attempt: &Attempt) -> Running {
        let policy = self.registry.info(&attempt.kind).map(|kind| kind.options.policy).unwrap_or_default();
        let cancel_grace_ms = policy.cancel_grace_ms.unwrap_or(self.options.cancel_grace_ms);
        let running = Running::new(cancel_grace_ms, attempt.has_key || policy.concurrency.is_some());
        self.under_way.enter(attempt.by, running.clone());
        running
    }

    /// Notes that an attempt's handler has ended and that its end is on its way to the disk: another one may begin.
    pub(super) fn ending(&self, by: AttemptRef) {
        if self.under_way.ending(by) {
            self.wake.notify_one();
        }
    }

    /// Notes that an attempt has ended.
    pub(super) fn leave(&self, by: AttemptRef) {
        if self.under_way.leave(by) {
            self.wake.notify_one();
        }
    }

    /// Wait before the attempt after this one, which failed. Half of it is left to chance.
    pub(super) fn backoff(&self, attempt: &Attempt) -> Duration {
        let wait_ms = attempt.backoff.longest_ms(attempt.failures);
        let mut random = self.random.lock().unwrap_or_else(PoisonError::into_inner);
        Duration::from_millis(random.random_range(wait_ms / 2..=wait_ms))
    }
}
