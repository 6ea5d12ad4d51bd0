use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{Json, Progress, Seq, TaskId, json::present};

/// Where a task stands. The state machine is drawn in [`after_attempt`](super::after_attempt).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum TaskStatus {
    /// Waits for its time and for a free place.
    Pending,
    /// An attempt is under way.
    Running,
    /// Ended well; has a result.
    Completed,
    /// Ended badly; has an error.
    Failed,
    /// Ended by a request.
    Cancelled,
}

impl TaskStatus {
    /// All of them, in the order of a task's life.
    pub const ALL: [Self; 5] = [Self::Pending, Self::Running, Self::Completed, Self::Failed, Self::Cancelled];

    /// True when the task has ended: its status never changes again.
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }

    /// The number a store's column holds. Never change one: databases outlive programs.
    pub const fn to_i64(self) -> i64 {
        match self {
            Self::Pending => 0,
            Self::Running => 1,
            Self::Completed => 2,
            Self::Failed => 3,
            Self::Cancelled => 4,
        }
    }

    /// The status with this number in a store's column.
    pub fn from_i64(number: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.to_i64() == number)
    }
}

/// Why an attempt or a task failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskError {
    /// Stable, for programs: one of [`code`](super::code), or the handler's own.
    pub code: String,
    /// For people.
    pub message: String,
    /// The handler's own data about it.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub details: Option<Json>,
    /// The attempt that failed.
    pub attempt: u32,
    /// Whether trying again could help, as the handler sees it.
    pub retryable: bool,
}

impl TaskError {
    /// What its texts occupy, about.
    pub fn weight_bytes(&self) -> usize {
        self.message.len() + self.code.len() + self.details.as_ref().map_or(0, Json::len)
    }
}

/// One unit of background work, as it stood when it was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Task {
    /// Its name, for ever.
    pub id: TaskId,
    /// What sort of work it is.
    pub kind: Arc<str>,
    /// Where it stands.
    pub status: TaskStatus,
    /// What the handler is given.
    pub input: Json,
    /// What the handler gave back; there when completed.
    pub result: Option<Json>,
    /// Why the newest attempt that failed did so.
    pub error: Option<TaskError>,
    /// How far the newest attempt has come.
    pub progress: Progress,
    /// When `progress` was reported.
    pub progress_at: Option<DateTime<Utc>>,
    /// Number of the newest attempt; 0 before the first.
    pub attempt: u32,
    /// How many attempts may fail before the task does.
    pub max_attempts: u32,
    /// Time limit of one attempt, in milliseconds.
    pub timeout_ms: Option<u64>,
    /// Labels to find it by.
    pub tags: Vec<String>,
    /// Higher runs first.
    pub priority: i32,
    /// Not to run before; moved by an automatic retry.
    pub run_at: DateTime<Utc>,
    /// When the newest attempt began.
    pub started_at: Option<DateTime<Utc>>,
    /// When it ended.
    pub completed_at: Option<DateTime<Utc>>,
    /// The ended task that this one repeats.
    pub retry_of: Option<TaskId>,
    /// Whether somebody asked a running attempt to stop.
    pub cancel_requested: bool,
    /// The task fails when it has not ended by then.
    pub deadline: Option<DateTime<Utc>>,
    /// Of the tasks of its kind with the same key only so many run at once.
    pub concurrency_key: Option<String>,
    /// `seq` of its newest event.
    pub head: Seq,
}

impl Task {
    /// What its input, result and error occupy, about.
    pub fn weight_bytes(&self) -> usize {
        let error = self.error.as_ref().map_or(0, TaskError::weight_bytes);
        self.input.len() + self.result.as_ref().map_or(0, Json::len) + error
    }

    /// When the task was started by its client.
    pub fn created_at(&self) -> DateTime<Utc> {
        self.id.created_at()
    }
}

/// A task to be started: complete and checked, ready to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTask {
    /// What sort of work.
    pub kind: Arc<str>,
    /// What the handler is given.
    pub input: Json,
    /// Labels, without repetition.
    pub tags: Vec<String>,
    /// Higher runs first.
    pub priority: i32,
    /// Not to run before; `None`: at once.
    pub run_at: Option<DateTime<Utc>>,
    /// The same key with the same request gives the same task again.
    pub idempotency: Option<IdempotencyKey>,
    /// How many attempts may fail before the task does.
    pub max_attempts: u32,
    /// How many attempts may be lost to crashes before the task fails.
    pub max_lost: u32,
    /// Time limit of one attempt, in milliseconds.
    pub timeout_ms: Option<u64>,
    /// The task fails when it has not ended so long after it was started, or after its first `run_at` when that is
    /// later; in milliseconds.
    pub deadline_ms: Option<u64>,
    /// Of the tasks of its kind with the same key only so many run at once.
    pub concurrency_key: Option<String>,
    /// How long to wait before a retry.
    pub backoff: Backoff,
}

/// How long to wait before a failed attempt is followed by another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// After the first failure, in milliseconds; doubles with each further one.
    pub first_ms: u64,
    /// At most, in milliseconds.
    pub max_ms: u64,
}

impl Backoff {
    /// The longest wait after a failure that `failures` others came before, in milliseconds. What is really waited is
    /// drawn at random from its upper half, so that tasks that failed together do not come back together.
    pub fn longest_ms(self, failures: u32) -> u64 {
        2_u64.saturating_pow(failures).saturating_mul(self.first_ms).min(self.max_ms)
    }
}

/// A client's own name for a request, so that sending it twice starts one task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// Chosen by the client.
    pub key: String,
    /// SHA-256 of the request as the client wrote it: tells a repetition from a different request.
    pub fingerprint: [u8; 32],
}
