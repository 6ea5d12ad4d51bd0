//! A task's events.

use std::sync::Arc;

use async_graphql::{Enum, ID, Interface, Object};

use super::{
    scalar::{DateTime, JsonScalar},
    task::{TaskErrorObject, TaskStatus},
};
use crate::{
    journal::{EventCursor, Followed},
    model::{self, Event, EventBody, Seq, TaskId},
};

/// The types of a task's events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "model::EventType")]
pub(super) enum TaskEventType {
    /// The status changed, or an attempt ended and another will follow.
    Status,
    /// The attempt came further.
    Progress,
    /// The handler had something to say.
    Log,
    /// The handler gave a piece of data.
    Chunk,
    /// A running attempt is being cancelled.
    Cancellation,
}

/// The ladder from a request to cancel a running attempt to its end. Not every attempt takes every step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "model::CancelStep")]
pub(super) enum CancelStep {
    /// Somebody asked for it.
    Requested,
    /// The handler was told.
    Delivered,
    /// A program was sent SIGTERM.
    TermSent,
    /// A program that did not end in time was sent SIGKILL.
    KillSent,
    /// The handler did not end in time, and was dropped where it waited.
    Dropped,
    /// The handler did not end in time, and cannot be dropped, because it does not wait anywhere: its code goes on.
    Unresponsive,
    /// The attempt has ended: the next event is the task's `CANCELLED`.
    Confirmed,
    /// The attempt completed before it stopped: the next event is the task's `COMPLETED`.
    Overtaken,
}

/// How much a log line matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "model::LogLevel")]
pub(super) enum LogLevel {
    /// For whoever writes the handler.
    Debug,
    /// For whoever follows the task.
    Info,
    /// Something is odd, and the work goes on.
    Warn,
    /// Something failed.
    Error,
}

/// Something that happened to a task. It never changes, and shows only what was true when it happened.
#[derive(Debug, Interface)]
#[graphql(
    field(name = "cursor", ty = "String", desc = "Names this event: give it as `after` to go on from here."),
    field(name = "task_id", ty = "ID", desc = "The task it happened to."),
    field(name = "seq", ty = "u64", desc = "Its number in the task: from 1, without holes."),
    field(name = "attempt", ty = "u32", desc = "The attempt during which it happened; 0 before the first."),
    field(name = "at", ty = "DateTime", desc = "When it happened.")
)]
pub(super) enum TaskEvent {
    /// The status changed.
    StatusChanged(TaskStatusChanged),
    /// The attempt came further.
    Progressed(TaskProgressed),
    /// A log line.
    Logged(TaskLogged),
    /// A piece of data.
    Chunk(TaskChunk),
    /// A step of a cancellation.
    Cancellation(TaskCancellation),
    /// Events that are no longer stored.
    Gap(TaskGap),
}

impl TaskEvent {
    /// The event of a store of this generation.
    pub(super) fn new(generation: u64, event: Arc<Event>) -> Self {
        let stored = Stored { generation, event };
        match &stored.event.body {
            EventBody::Status(_) => Self::StatusChanged(TaskStatusChanged(stored)),
            EventBody::Progress(_) => Self::Progressed(TaskProgressed(stored)),
            EventBody::Log { .. } => Self::Logged(TaskLogged(stored)),
            EventBody::Chunk { .. } => Self::Chunk(TaskChunk(stored)),
            EventBody::Cancellation(_) => Self::Cancellation(TaskCancellation(stored)),
        }
    }

    /// What a follower was given.
    pub(super) fn from_followed(generation: u64, followed: Followed) -> Self {
        match followed {
            Followed::Event(event) => Self::new(generation, event),
            Followed::Gap { task, from, through, attempt, at } => {
                Self::Gap(TaskGap { generation, task, from, through, attempt, at })
            }
        }
    }

    /// Names it.
    pub(super) fn event_cursor(&self) -> EventCursor {
        match self {
            Self::StatusChanged(TaskStatusChanged(stored))
            | Self::Progressed(TaskProgressed(stored))
            | Self::Logged(TaskLogged(stored))
            | Self::Chunk(TaskChunk(stored))
            | Self::Cancellation(TaskCancellation(stored)) => stored.cursor(),
            Self::Gap(gap) => EventCursor { generation: gap.generation, task: gap.task, seq: gap.through },
        }
    }
}

#[derive(Debug)]
struct Stored {
    generation: u64,
    event: Arc<Event>,
}

impl Stored {
    fn cursor(&self) -> EventCursor {
        EventCursor { generation: self.generation, task: self.event.task, seq: self.event.seq }
    }
}

/// Makes the GraphQL object of one type of stored event: the fields that all events have, and its own.
macro_rules! stored_event {
    ($(#[$doc:meta])* $name:ident { $($fields:tt)* }) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub(super) struct $name(Stored);

        $(#[$doc])*
        #[Object]
        impl $name {
            /// Names this event: give it as `after` to go on from here.
            async fn cursor(&self) -> String {
                self.0.cursor().to_string()
            }

            /// The task it happened to.
            async fn task_id(&self) -> ID {
                ID(self.0.event.task.to_string())
            }

            /// Its number in the task: from 1, without holes.
            async fn seq(&self) -> u64 {
                self.0.event.seq
            }

            /// The attempt during which it happened; 0 before the first.
            async fn attempt(&self) -> u32 {
                self.0.event.attempt
            }

            /// When it happened.
            async fn at(&self) -> DateTime {
                DateTime(self.0.event.at)
            }

            $($fields)*
        }
    };
}

impl TaskStatusChanged {
    fn change(&self) -> Option<&model::StatusChange> {
        if let EventBody::Status(change) = &self.0.event.body { Some(change) } else { None }
    }
}

stored_event! {
    /// The task's status changed, or an attempt ended and another will follow.
    TaskStatusChanged {
        /// The status from here on.
        async fn status(&self) -> TaskStatus {
            self.change().map_or(model::TaskStatus::Pending, |change| change.status).into()
        }

        /// What the handler gave back, on completion.
        async fn result(&self) -> Option<JsonScalar> {
            self.change()?.result.clone().map(JsonScalar)
        }

        /// Why the attempt ended, when it ended badly.
        async fn error(&self) -> Option<TaskErrorObject> {
            self.change()?.error.clone().map(TaskErrorObject)
        }

        /// When the next attempt may begin, when one will.
        async fn run_at(&self) -> Option<DateTime> {
            self.change()?.run_at.map(DateTime)
        }
    }
}

impl TaskProgressed {
    fn progress(&self) -> Option<&model::Progress> {
        if let EventBody::Progress(progress) = &self.0.event.body { Some(progress) } else { None }
    }
}

stored_event! {
    /// The task's attempt came further.
    TaskProgressed {
        /// How far it has come, from 0 to 100.
        async fn percent(&self) -> f64 {
            self.progress().map_or(0.0, |progress| progress.percent)
        }

        /// How much is done, in the job's own unit.
        async fn done(&self) -> Option<f64> {
            self.progress()?.done
        }

        /// How much there is to do, in the same unit.
        async fn total(&self) -> Option<f64> {
            self.progress()?.total
        }

        /// What is being done, for people.
        async fn message(&self) -> Option<&str> {
            self.progress()?.message.as_deref()
        }
    }
}

impl TaskLogged {
    fn line(&self) -> Option<(model::LogLevel, &str)> {
        if let EventBody::Log { level, message } = &self.0.event.body { Some((*level, message)) } else { None }
    }
}

stored_event! {
    /// The task's handler had something to say.
    TaskLogged {
        /// How much it matters.
        async fn level(&self) -> LogLevel {
            self.line().map_or(model::LogLevel::Info, |(level, _)| level).into()
        }

        /// What it said.
        async fn message(&self) -> &str {
            self.line().map_or("", |(_, message)| message)
        }
    }
}

impl TaskChunk {
    fn chunk(&self) -> Option<(u64, &model::Json)> {
        if let EventBody::Chunk { index, value } = &self.0.event.body { Some((*index, value)) } else { None }
    }
}

stored_event! {
    /// The task's handler gave a piece of data.
    TaskChunk {
        /// Counts the task's chunks from 0, over all attempts.
        async fn index(&self) -> u64 {
            self.chunk().map_or(0, |(index, _)| index)
        }

        /// The piece.
        async fn value(&self) -> JsonScalar {
            JsonScalar(self.chunk().map_or_else(model::Json::null, |(_, value)| value.clone()))
        }
    }
}

impl TaskCancellation {
    fn cancellation(&self) -> Option<&model::Cancellation> {
        if let EventBody::Cancellation(cancellation) = &self.0.event.body { Some(cancellation) } else { None }
    }
}

stored_event! {
    /// A step on the way from a request to cancel a running attempt to its end.
    TaskCancellation {
        /// Which step.
        async fn step(&self) -> CancelStep {
            self.cancellation().map_or(model::CancelStep::Requested, |cancellation| cancellation.step).into()
        }

        /// More about it, for people: the reason given, what a program was sent.
        async fn message(&self) -> Option<&str> {
            self.cancellation()?.message.as_deref()
        }
    }
}

/// The events `from` to `seq` are no longer stored; the next one has `seq + 1`.
#[derive(Debug)]
pub(super) struct TaskGap {
    pub(super) generation: u64,
    pub(super) task: TaskId,
    pub(super) from: Seq,
    pub(super) through: Seq,
    pub(super) attempt: u32,
    pub(super) at: chrono::DateTime<chrono::Utc>,
}

/// The events `from` to `seq` are no longer stored; the next one has `seq + 1`.
#[Object]
impl TaskGap {
    /// Names the last missing event: give it as `after` to go on from here.
    async fn cursor(&self) -> String {
        EventCursor { generation: self.generation, task: self.task, seq: self.through }.to_string()
    }

    /// The task they happened to.
    async fn task_id(&self) -> ID {
        ID(self.task.to_string())
    }

    /// The last one missing.
    async fn seq(&self) -> u64 {
        self.through
    }

    /// The attempt of the first event after the gap.
    async fn attempt(&self) -> u32 {
        self.attempt
    }

    /// The time of the first event after the gap.
    async fn at(&self) -> DateTime {
        DateTime(self.at)
    }

    /// The first one missing.
    async fn from(&self) -> u64 {
        self.from
    }
}
