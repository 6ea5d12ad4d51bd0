//! Tasks that run, and what became of them.

use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use meanwhile::{
    clock::{Clock, SystemClock},
    journal::{Followed, JournalOptions},
    model::{Event, EventBody, Task, TaskId, TaskStatus},
    store::{
        Store,
        sqlite::{SqliteOptions, SqliteStore},
    },
    task::{StartTask, TaskManager, TaskOptions},
};

/// A task manager on a store of its own.
pub(crate) struct Tasks {
    pub(crate) manager: TaskManager,
    pub(crate) folder: tempfile::TempDir,
}

impl std::ops::Deref for Tasks {
    type Target = TaskManager;

    fn deref(&self) -> &TaskManager {
        &self.manager
    }
}

impl Tasks {
    pub(crate) async fn new() -> Self {
        Self::with(Arc::new(SystemClock::default()), TaskOptions::default()).await
    }

    pub(crate) async fn with(clock: Arc<dyn Clock>, options: TaskOptions) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let manager = open(folder.path(), clock, options).await;
        Self { manager, folder }
    }

    /// As after a restart: the same folder, no kinds yet.
    pub(crate) async fn restart(self) -> Self {
        self.manager.close(std::future::ready(())).await;
        let clock = self.manager.clock().clone();
        let manager = open(self.folder.path(), clock, self.manager.options().clone()).await;
        Self { manager, folder: self.folder }
    }

    pub(crate) async fn run(&self, request: StartTask) -> Task {
        let task = self.start(request).await.unwrap();
        self.ended(task.id).await
    }

    pub(crate) async fn ended(&self, id: TaskId) -> Task {
        self.journal().follow(id, 0).try_for_each(|_| std::future::ready(Ok(()))).await.unwrap();
        self.get(id).await.unwrap().unwrap()
    }

    pub(crate) async fn events(&self, id: TaskId) -> Vec<Arc<Event>> {
        let followed: Vec<_> = self.journal().follow(id, 0).try_collect().await.unwrap();
        let event = |followed| match followed {
            Followed::Event(event) => event,
            Followed::Gap { .. } => panic!("a gap"),
        };
        followed.into_iter().map(event).collect()
    }

    /// Waits until the task's journal holds an event for which `is` says yes.
    pub(crate) async fn until(&self, id: TaskId, is: impl Fn(&EventBody) -> bool) {
        self.until_event(id, |event| is(&event.body)).await;
    }

    /// Waits until the task's journal holds an event for which `is` says yes.
    pub(crate) async fn until_event(&self, id: TaskId, is: impl Fn(&Event) -> bool) {
        let mut follow = std::pin::pin!(self.journal().follow(id, 0));
        while let Some(followed) = follow.next().await {
            if matches!(followed.unwrap(), Followed::Event(event) if is(&event)) {
                return;
            }
        }
        panic!("the task ended before that");
    }
}

pub(crate) async fn open(folder: &std::path::Path, clock: Arc<dyn Clock>, options: TaskOptions) -> TaskManager {
    let store = SqliteStore::open(folder, &SqliteOptions::default(), clock.clone()).unwrap();
    let store: Arc<dyn Store> = Arc::new(store);
    TaskManager::open(store, clock, options, JournalOptions::default(), 1).await.unwrap()
}

pub(crate) fn status(wanted: TaskStatus) -> impl Fn(&EventBody) -> bool {
    move |body| matches!(body, EventBody::Status(change) if change.status == wanted)
}
