use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{Json, Progress, TaskError, TaskId, TaskStatus, json::present};

/// Number of an event in its task: from 1, without holes.
pub type Seq = u64;

/// What happened to a task: an entry of its journal. It never changes.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// The task it happened to.
    pub task: TaskId,
    /// Its number in that task.
    pub seq: Seq,
    /// The attempt during which it happened; 0 before the first.
    pub attempt: u32,
    /// When it happened, to the millisecond.
    pub at: DateTime<Utc>,
    /// What happened.
    pub body: EventBody,
}

impl Event {
    /// Whether this is the event that ended the task; none follows.
    pub fn is_terminal(&self) -> bool {
        matches!(&self.body, EventBody::Status(change) if change.status.is_terminal())
    }

    /// What it occupies in memory, about: the unit of the journal's byte budgets.
    pub fn weight_bytes(&self) -> usize {
        size_of::<Self>() + self.body.weight_bytes()
    }
}

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum EventBody {
    /// The status changed, or an attempt ended and another will follow.
    Status(StatusChange),
    /// The attempt came further.
    Progress(Progress),
    /// The handler had something to say.
    Log {
        /// How much it matters.
        level: LogLevel,
        /// What it said.
        message: String,
    },
    /// The handler gave a piece of data.
    Chunk {
        /// Counts the task's chunks from 0, over all attempts.
        index: u64,
        /// The piece.
        value: Json,
    },
    /// A step on the way from a request to cancel to the attempt's end.
    Cancellation(Cancellation),
}

impl EventBody {
    /// Which of them it is.
    pub const fn event_type(&self) -> EventType {
        match self {
            Self::Status(_) => EventType::Status,
            Self::Progress(_) => EventType::Progress,
            Self::Log { .. } => EventType::Log,
            Self::Chunk { .. } => EventType::Chunk,
            Self::Cancellation(_) => EventType::Cancellation,
        }
    }

    /// What its texts occupy, about.
    pub fn weight_bytes(&self) -> usize {
        match self {
            Self::Status(change) => {
                let error = change.error.as_ref().map_or(0, TaskError::weight_bytes);
                change.result.as_ref().map_or(0, Json::len) + error
            }
            Self::Progress(progress) => progress.message.as_ref().map_or(0, String::len),
            Self::Log { message, .. } => message.len(),
            Self::Chunk { value, .. } => value.len(),
            Self::Cancellation(cancellation) => cancellation.message.as_ref().map_or(0, String::len),
        }
    }
}

/// A change of status, with all that was true at that moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StatusChange {
    /// The status from here on.
    pub status: TaskStatus,
    /// How far the attempt had come.
    #[serde(default)]
    pub progress: Progress,
    /// What the handler gave back, on completion.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub result: Option<Json>,
    /// Why the attempt ended, when it ended badly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<TaskError>,
    /// When the next attempt may begin, when one will.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_at: Option<DateTime<Utc>>,
}

/// The sorts of events, to ask for only some of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EventType {
    /// [`EventBody::Status`].
    Status,
    /// [`EventBody::Progress`].
    Progress,
    /// [`EventBody::Log`].
    Log,
    /// [`EventBody::Chunk`].
    Chunk,
    /// [`EventBody::Cancellation`].
    Cancellation,
}

impl EventType {
    /// The number a store's column holds. Never change one: databases outlive programs.
    pub const fn to_i64(self) -> i64 {
        match self {
            Self::Status => 0,
            Self::Progress => 1,
            Self::Log => 2,
            Self::Chunk => 3,
            Self::Cancellation => 4,
        }
    }

    /// The type with this number in a store's column.
    pub fn from_i64(number: i64) -> Option<Self> {
        let all = [Self::Status, Self::Progress, Self::Log, Self::Chunk, Self::Cancellation];
        all.into_iter().find(|t| t.to_i64() == number)
    }
}

/// A step of a running attempt's cancellation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cancellation {
    /// Which step.
    pub step: CancelStep,
    /// More about it, for people: the reason given, what a program was sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// The ladder from a request to cancel a running attempt to its end. Not every attempt takes every step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum CancelStep {
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum LogLevel {
    /// For whoever writes the handler.
    Debug,
    /// For whoever follows the task.
    Info,
    /// Something is odd, and the work goes on.
    Warn,
    /// Something failed.
    Error,
}
