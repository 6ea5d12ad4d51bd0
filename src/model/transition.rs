use chrono::{DateTime, Utc};

use super::{CancelStep, Json, TaskError, TaskStatus};

/// The stable codes of [`TaskError`] that Meanwhile itself gives.
pub mod code {
    /// The handler returned an error without a code of its own.
    pub const HANDLER_FAILED: &str = "HANDLER_FAILED";
    /// The handler panicked.
    pub const HANDLER_PANICKED: &str = "HANDLER_PANICKED";
    /// The input does not fit what the handler takes, or the result is over a limit.
    pub const INVALID_INPUT: &str = "INVALID_INPUT";
    /// What the handler produced is over a limit.
    pub const LIMIT_EXCEEDED: &str = "LIMIT_EXCEEDED";
    /// The attempt was longer under way than `timeoutMs`.
    pub const TIMEOUT: &str = "TIMEOUT";
    /// The task's deadline passed before it had ended.
    pub const DEADLINE_EXCEEDED: &str = "DEADLINE_EXCEEDED";
    /// The program ended with an exit code that means failure.
    pub const PROGRAM_FAILED: &str = "PROGRAM_FAILED";
    /// The program was ended by a signal.
    pub const PROGRAM_KILLED: &str = "PROGRAM_KILLED";
    /// The program could not be started.
    pub const PROGRAM_NOT_STARTED: &str = "PROGRAM_NOT_STARTED";
    /// The process that ran the attempt ended without a word.
    pub const ATTEMPT_LOST: &str = "ATTEMPT_LOST";
    /// The server was shut down before the attempt ended; it counts as no failure.
    pub const INTERRUPTED: &str = "INTERRUPTED";
    /// A fault of the server: the store could not take what the attempt reported.
    pub const INTERNAL: &str = "INTERNAL";
    /// Somebody asked for it to stop.
    pub const CANCELLED: &str = "CANCELLED";
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// The handler returned a result.
    Completed(Json),
    /// The handler failed. `retry_at`: when to try again, if trying again could help.
    Failed {
        /// Why.
        error: TaskError,
        /// Not before; `None`: do not try again.
        retry_at: Option<DateTime<Utc>>,
    },
    /// The attempt stopped because that was asked for.
    Cancelled(TaskError),
    /// The attempt was given back unfinished (shutdown): it counts as nothing.
    Released(TaskError),
    /// The process that ran the attempt is gone.
    Lost(TaskError),
}

/// What a task's earlier attempts came to, and how much it is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttemptCounts {
    /// Attempts that failed.
    pub failures: u32,
    /// Attempts that were lost to crashes.
    pub lost: u32,
    /// How many may fail.
    pub max_attempts: u32,
    /// How many may be lost.
    pub max_lost: u32,
    /// Whether somebody asked the task to stop.
    pub cancel_requested: bool,
    /// No attempt may begin from this moment on.
    pub deadline: Option<DateTime<Utc>>,
}

/// What the end of an attempt makes of its task.
#[derive(Debug, Clone, PartialEq)]
pub struct Transition {
    /// The status from here on.
    pub status: TaskStatus,
    /// The result, when completed.
    pub result: Option<Json>,
    /// The error, when the attempt ended badly.
    pub error: Option<TaskError>,
    /// When the next attempt may begin, when one will.
    pub run_at: Option<DateTime<Utc>>,
    /// The last step of a cancellation, when one was asked for: told before the status.
    pub cancellation: Option<CancelStep>,
    /// The new count of failures.
    pub failures: u32,
    /// The new count of losses.
    pub lost: u32,
}

/// The state machine: the one place that says what the end of an attempt makes of a task.
///
/// ```text
///                 claim                        Completed
///   ┌─► PENDING ─────────► RUNNING ─┬──────────────────────────► COMPLETED
///   │      │                        │  Failed, no retry or no attempts left;
///   │      │ cancel                 │  Lost for the max_lost-th time
///   │      │                        ├──────────────────────────► FAILED
///   │      └──────► CANCELLED ◄─────┤  Cancelled; or not completed after a request to cancel
///   │                               │
///   └───────────────────────────────┘  Failed with attempts left (later), Lost (now), Released (now)
/// ```
///
/// A handler that completes although it was asked to stop has completed. A retry that would begin at or after the
/// task's deadline does not take place, and the error says so. A terminal status never changes.
pub fn after_attempt(counts: AttemptCounts, outcome: Outcome, now: DateTime<Utc>) -> Transition {
    let AttemptCounts { mut failures, mut lost, .. } = counts;
    let (status, result, error, run_at) = match outcome {
        Outcome::Completed(result) => (TaskStatus::Completed, Some(result), None, None),
        Outcome::Cancelled(error) => (TaskStatus::Cancelled, None, Some(error), None),
        Outcome::Failed { error, retry_at } => {
            failures += 1;
            match retry_at {
                _ if counts.cancel_requested => (TaskStatus::Cancelled, None, Some(error), None),
                Some(at) if failures < counts.max_attempts => match counts.deadline {
                    Some(deadline) if deadline <= at => (TaskStatus::Failed, None, Some(too_late(error)), None),
                    _ => (TaskStatus::Pending, None, Some(error), Some(at)),
                },
                _ => (TaskStatus::Failed, None, Some(error), None),
            }
        }
        Outcome::Released(error) if counts.cancel_requested => (TaskStatus::Cancelled, None, Some(error), None),
        Outcome::Released(error) => (TaskStatus::Pending, None, Some(error), Some(now)),
        Outcome::Lost(error) => {
            lost += 1;
            if counts.cancel_requested {
                (TaskStatus::Cancelled, None, Some(error), None)
            } else if lost >= counts.max_lost {
                (TaskStatus::Failed, None, Some(error), None)
            } else {
                (TaskStatus::Pending, None, Some(error), Some(now))
            }
        }
    };
    let error = error.map(|error| if status == TaskStatus::Cancelled { cancelled(error) } else { error });
    let cancellation = match status {
        TaskStatus::Completed if counts.cancel_requested => Some(CancelStep::Overtaken),
        TaskStatus::Cancelled if counts.cancel_requested => Some(CancelStep::Confirmed),
        _ => None,
    };
    Transition { status, result, error, run_at, cancellation, failures, lost }
}

/// The error of a task that was cancelled, however its last attempt ended.
fn cancelled(error: TaskError) -> TaskError {
    if error.code == code::CANCELLED {
        return error;
    }
    let message = format!("cancelled; its attempt ended with {}: {}", error.code, error.message);
    TaskError { code: code::CANCELLED.to_owned(), message, retryable: false, ..error }
}

/// The error of an attempt that only the deadline keeps from being tried again.
fn too_late(mut error: TaskError) -> TaskError {
    error.message.push_str(" (not tried again: the task's deadline would pass before the next attempt)");
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts() -> AttemptCounts {
        AttemptCounts { failures: 0, lost: 0, max_attempts: 2, max_lost: 3, cancel_requested: false, deadline: None }
    }

    fn error(code: &str) -> TaskError {
        TaskError { code: code.into(), message: "so".into(), details: None, attempt: 1, retryable: true }
    }

    fn failed() -> Outcome {
        Outcome::Failed { error: error(code::HANDLER_FAILED), retry_at: Some(DateTime::UNIX_EPOCH) }
    }

    fn status(counts: AttemptCounts, outcome: Outcome) -> TaskStatus {
        after_attempt(counts, outcome, DateTime::UNIX_EPOCH).status
    }

    #[test]
    fn a_failure_is_tried_again_until_the_attempts_are_used_up() {
        assert_eq!(status(counts(), failed()), TaskStatus::Pending);
        assert_eq!(status(AttemptCounts { failures: 1, ..counts() }, failed()), TaskStatus::Failed);
    }

    #[test]
    fn a_failure_that_no_retry_can_help_ends_the_task() {
        let outcome = Outcome::Failed { error: error("NO"), retry_at: None };
        assert_eq!(status(counts(), outcome), TaskStatus::Failed);
    }

    #[test]
    fn a_lost_attempt_eats_no_failure_and_a_poisonous_task_ends() {
        let first = after_attempt(counts(), Outcome::Lost(error(code::ATTEMPT_LOST)), DateTime::UNIX_EPOCH);
        assert_eq!((first.status, first.failures, first.lost), (TaskStatus::Pending, 0, 1));
        let last = AttemptCounts { lost: 2, ..counts() };
        assert_eq!(status(last, Outcome::Lost(error(code::ATTEMPT_LOST))), TaskStatus::Failed);
    }

    #[test]
    fn after_a_request_to_cancel_nothing_starts_again_but_a_completion_stands() {
        let asked = AttemptCounts { cancel_requested: true, ..counts() };
        assert_eq!(status(asked, failed()), TaskStatus::Cancelled);
        assert_eq!(status(asked, Outcome::Lost(error("L"))), TaskStatus::Cancelled);
        assert_eq!(status(asked, Outcome::Released(error("R"))), TaskStatus::Cancelled);
        assert_eq!(status(asked, Outcome::Completed(Json::null())), TaskStatus::Completed);
    }

    #[test]
    fn how_a_cancellation_came_out_is_told() {
        let asked = AttemptCounts { cancel_requested: true, ..counts() };
        let step = |counts, outcome| after_attempt(counts, outcome, DateTime::UNIX_EPOCH).cancellation;
        assert_eq!(step(asked, Outcome::Completed(Json::null())), Some(CancelStep::Overtaken));
        assert_eq!(step(asked, Outcome::Cancelled(error(code::CANCELLED))), Some(CancelStep::Confirmed));
        assert_eq!(step(counts(), Outcome::Completed(Json::null())), None);
    }

    #[test]
    fn no_retry_begins_at_or_after_the_deadline() {
        let after = DateTime::UNIX_EPOCH + chrono::TimeDelta::milliseconds(1);
        assert_eq!(
            status(AttemptCounts { deadline: Some(DateTime::UNIX_EPOCH), ..counts() }, failed()),
            TaskStatus::Failed
        );
        assert_eq!(status(AttemptCounts { deadline: Some(after), ..counts() }, failed()), TaskStatus::Pending);
    }

    #[test]
    fn only_a_failure_that_the_deadline_keeps_from_a_retry_says_so() {
        let message = |counts, outcome| after_attempt(counts, outcome, DateTime::UNIX_EPOCH).error.unwrap().message;
        let late = AttemptCounts { deadline: Some(DateTime::UNIX_EPOCH), ..counts() };
        let said = "so (not tried again: the task's deadline would pass before the next attempt)";
        assert_eq!(message(late, failed()), said);
        assert_eq!(message(counts(), failed()), "so");
        assert_eq!(message(AttemptCounts { failures: 1, ..late }, failed()), "so");
        let cancelled = "cancelled; its attempt ended with HANDLER_FAILED: so";
        assert_eq!(message(AttemptCounts { cancel_requested: true, ..late }, failed()), cancelled);
        assert_eq!(message(late, Outcome::Failed { error: error("NO"), retry_at: None }), "so");
    }

    #[test]
    fn an_attempt_given_back_counts_as_nothing() {
        let next = after_attempt(counts(), Outcome::Released(error(code::INTERRUPTED)), DateTime::UNIX_EPOCH);
        assert_eq!((next.status, next.failures, next.lost), (TaskStatus::Pending, 0, 0));
    }
}
