//! The words every other module speaks: task, event, progress, JSON, and the state machine.
//!
//! Plain data and pure rules. Nothing here reads a clock, a store or a socket.

mod event;
mod id;
mod json;
mod progress;
mod task;
mod transition;

pub use event::{CancelStep, Cancellation, Event, EventBody, EventType, LogLevel, Seq, StatusChange};
pub use id::{InvalidTaskId, TaskId};
pub use json::{InvalidJson, Json};
pub use progress::Progress;
pub use task::{Backoff, IdempotencyKey, NewTask, Task, TaskError, TaskStatus};
pub use transition::{AttemptCounts, Outcome, Transition, after_attempt, code};
