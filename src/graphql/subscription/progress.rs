use async_graphql::{ID, Object};

use crate::{
    graphql::{
        scalar::{DateTime, JsonScalar},
        task::{TaskErrorObject, TaskStatus},
    },
    journal::{EventCursor, Watched},
};

/// A task's status and progress at one moment.
#[derive(Debug)]
pub(in crate::graphql) struct TaskProgress {
    pub(in crate::graphql) generation: u64,
    pub(in crate::graphql) watched: Watched,
}

/// A task's status and progress at one moment.
#[Object]
impl TaskProgress {
    /// The task.
    async fn task_id(&self) -> ID {
        ID(self.watched.task().to_string())
    }

    /// Where it stands.
    async fn status(&self) -> TaskStatus {
        self.watched.status().into()
    }

    /// How far the attempt has come, from 0 to 100.
    async fn percent(&self) -> f64 {
        self.watched.progress().percent
    }

    /// How much is done, in the job's own unit.
    async fn done(&self) -> Option<f64> {
        self.watched.progress().done
    }

    /// How much there is to do, in the same unit; null when nobody knows.
    async fn total(&self) -> Option<f64> {
        self.watched.progress().total
    }

    /// What is being done, for people.
    async fn message(&self) -> Option<&str> {
        self.watched.progress().message.as_deref()
    }

    /// Number of the attempt; 0 before the first.
    async fn attempt(&self) -> u32 {
        self.watched.attempt()
    }

    /// What the handler gave back, on completion.
    async fn result(&self) -> Option<JsonScalar> {
        self.watched.result().cloned().map(JsonScalar)
    }

    /// Why the attempt or the task ended badly.
    async fn error(&self) -> Option<TaskErrorObject> {
        self.watched.error().cloned().map(TaskErrorObject)
    }

    /// When that was so.
    async fn at(&self) -> DateTime {
        DateTime(self.watched.at())
    }

    /// Event cursor: give it as `after` to go on from here.
    async fn cursor(&self) -> String {
        EventCursor { generation: self.generation, task: self.watched.task(), seq: self.watched.seq() }.to_string()
    }
}
