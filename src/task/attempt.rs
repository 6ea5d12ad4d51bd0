//! One attempt: running a handler, and saying how it ended.

use std::{sync::Arc, time::Duration};

use chrono::TimeDelta;
use tokio::task::JoinError;
use tokio_util::sync::CancellationToken;

use super::{
    JobContext, JobError, Retry,
    manager::{Running, Shared},
    recorder::Recorder,
};
use crate::{
    model::{Json, Outcome, TaskError, TaskStatus, code},
    store::{Attempt, AttemptWrite},
};

/// How the handler's run came to its end.
enum End {
    Returned(Result<Json, JobError>),
    Panicked(String),
    TimedOut(u64),
    /// Dropped because the server is shutting down.
    Released,
    /// The store says that this attempt is not the running one.
    Stale,
}

/// Runs an attempt and records how it ended.
pub(super) async fn run(shared: Arc<Shared>, attempt: Attempt, running: Running) {
    let stale = CancellationToken::new();
    let recorder = Recorder::new(&shared, attempt.by, stale.clone());
    let end = handle(&shared, &attempt, &running, recorder.clone(), &stale).await;
    let write = recorder.close().await;
    if let Some(outcome) = outcome(&shared, &attempt, &running, end) {
        let status = finish(&shared, write, outcome).await;
        shared.leave(attempt.by);
        if status == Some(TaskStatus::Pending) {
            shared.wake.notify_one();
        }
    } else {
        shared.leave(attempt.by);
    }
}

async fn handle(
    shared: &Shared,
    attempt: &Attempt,
    running: &Running,
    recorder: Arc<Recorder>,
    stale: &CancellationToken,
) -> End {
    let Some(job) = shared.registry.job(&attempt.kind) else { return End::Released };
    let ctx = JobContext {
        by: attempt.by,
        recorder,
        stop: running.stop.clone(),
        options: shared.options.clone(),
        clock: shared.clock.clone(),
    };
    let input = attempt.input.clone();
    // A task of its own: a panic ends it and nothing else, and it can be dropped at its next await.
    let mut handler = tokio::spawn(async move { job.run(ctx, input).await });
    let timeout = async {
        match attempt.timeout_ms {
            Some(timeout_ms) => {
                shared.clock.sleep(Duration::from_millis(timeout_ms)).await;
                timeout_ms
            }
            None => std::future::pending().await,
        }
    };
    let released = async {
        shared.release.cancelled().await;
        running.stop.cancel();
        shared.clock.sleep(Duration::from_millis(shared.options.release_grace_ms)).await;
    };
    let end = tokio::select! {
        biased;
        joined = &mut handler => return joined.map_or_else(died, End::Returned),
        timeout_ms = timeout => End::TimedOut(timeout_ms),
        () = released => End::Released,
        () = stale.cancelled() => End::Stale,
    };
    handler.abort();
    // For what it may have spawned.
    running.stop.cancel();
    end
}

#[allow(clippy::needless_pass_by_value, reason = "the panic is taken out of it")]
fn died(error: JoinError) -> End {
    match error.try_into_panic() {
        Ok(panic) => {
            let message = panic
                .downcast_ref::<&str>()
                .map(|text| (*text).to_owned())
                .or_else(|| panic.downcast_ref::<String>().cloned());
            End::Panicked(message.unwrap_or_else(|| "without a message".into()))
        }
        // The runtime is going down: the next start finds the attempt lost.
        Err(_) => End::Stale,
    }
}

/// What to record; nothing for a stale attempt.
fn outcome(shared: &Shared, attempt: &Attempt, running: &Running, end: End) -> Option<Outcome> {
    let number = attempt.by.attempt;
    let error = |code: &str, message: String, retryable| TaskError {
        code: code.into(),
        message,
        details: None,
        attempt: number,
        retryable,
    };
    let failed = |error: TaskError, retry: Retry| {
        let wait = match retry {
            Retry::Never => None,
            Retry::After(wait) => Some(wait),
            Retry::Backoff => Some(shared.backoff(attempt.failures)),
        };
        let retry_at = wait.and_then(|wait| shared.clock.now().checked_add_signed(TimeDelta::from_std(wait).ok()?));
        Outcome::Failed { error, retry_at }
    };
    let interrupted = || {
        let message = "the server was shut down before the attempt ended".to_owned();
        Outcome::Released(error(code::INTERRUPTED, message, true))
    };
    Some(match end {
        End::Stale => return None,
        End::Returned(Ok(result)) if result.len() > shared.options.max_result_bytes => {
            let message = format!(
                "the result has {} bytes; the limit `max_result_bytes` allows {}",
                result.len(),
                shared.options.max_result_bytes
            );
            failed(error(code::LIMIT_EXCEEDED, message, false), Retry::Never)
        }
        End::Returned(Ok(result)) => Outcome::Completed(result),
        End::Returned(Err(problem)) if running.cancel_requested() => {
            Outcome::Cancelled(error(code::CANCELLED, format!("cancelled while it ran: {problem}"), false))
        }
        End::Returned(Err(_)) if shared.release.is_cancelled() => interrupted(),
        End::Returned(Err(problem)) => {
            let retry = problem.retry;
            let error = TaskError {
                code: problem.code,
                message: problem.message,
                details: problem.details,
                attempt: number,
                retryable: retry != Retry::Never,
            };
            failed(error, retry)
        }
        End::Panicked(message) => {
            let message = format!("the handler panicked: {message}");
            failed(error(code::HANDLER_PANICKED, message, true), Retry::Backoff)
        }
        End::TimedOut(timeout_ms) => {
            let message = format!("the attempt was under way for more than {timeout_ms} ms");
            failed(error(code::TIMEOUT, message, true), Retry::Backoff)
        }
        End::Released => interrupted(),
    })
}

/// Writes the outcome; waits while the store is full, unless the server is to stop: then the next start finds the
/// attempt lost. The write keeps its number, so it can be repeated.
async fn finish(shared: &Shared, write: AttemptWrite, outcome: Outcome) -> Option<TaskStatus> {
    loop {
        match shared.store.finish(write.clone(), outcome.clone()).await {
            Ok(status) => return Some(status),
            Err(error) if error.passes() && !shared.release.is_cancelled() => shared.wait_for_space().await,
            Err(error) => {
                let (task, attempt) = (write.by.task, write.by.attempt);
                tracing::warn!(%task, attempt, %error, "the end of an attempt could not be recorded");
                return None;
            }
        }
    }
}
