//! One attempt: running a handler, stopping it, and saying how it ended.

use std::{pin::pin, sync::Arc, task::Poll, time::Duration};

use chrono::TimeDelta;
use futures::poll;
use tokio::task::{JoinError, JoinHandle};
use tokio_util::sync::CancellationToken;

use super::{
    JobContext, JobError, Retry, TaskOptions, context::cut, manager::Shared, recorder::Recorder, under_way::Running,
};
use crate::{
    model::{CancelStep, Cancellation, EventBody, Json, LogLevel, Outcome, TaskError, TaskStatus, code},
    store::{Attempt, AttemptWrite, StoreError},
};

/// How long a handler that is dropped may take to come to its next await before that is reported.
const DROP_PATIENCE: Duration = Duration::from_secs(1);

/// The longest code of an error, in bytes.
const MAX_CODE_BYTES: usize = 100;

/// How the handler's run came to its end.
enum End {
    Returned(Result<Json, JobError>),
    Panicked(String),
    TimedOut(u64),
    DeadlinePassed,
    /// Dropped so many milliseconds after a request to cancel.
    Dropped(u64),
    /// The task has more events than it may.
    OverLimit,
    /// Dropped because the server is shutting down.
    Released,
    /// The store says that this attempt is not the running one.
    Stale,
}

/// Runs an attempt and records how it ended.
pub(super) async fn run(shared: Arc<Shared>, attempt: Attempt, running: Running) {
    let stale = CancellationToken::new();
    let recorder = Recorder::new(&shared, &attempt, stale.clone());
    let (end, details) = handle(&shared, &attempt, &running, recorder.clone(), &stale).await;
    let over = recorder.over();
    let write = recorder.close().await;
    let outcome = match (recorder.refused(), over) {
        (Some(why), _) => Some(refused(&attempt, &why)),
        // Whatever the handler made of it: not all that it said is recorded.
        (None, Some(limit)) if !matches!(end, End::Stale) => Some(over_limit(&shared, &attempt, limit, details)),
        _ => outcome(&shared, &attempt, &running, end, details.as_ref()),
    };
    if let Some(outcome) = outcome.map(|outcome| bounded(&shared.options, outcome)) {
        let mut finishing = pin!(finish(&shared, &attempt, write, outcome));
        // Its end is before the next claim in the store's queue, so that no more are seen running than may run.
        let status = match poll!(&mut finishing) {
            Poll::Ready(status) => status,
            Poll::Pending => {
                shared.ending(attempt.by);
                finishing.await
            }
        };
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
) -> (End, Option<Json>) {
    let Some(job) = shared.registry.job(&attempt.kind) else { return (End::Released, None) };
    let (hurry, wind_up_ms) = (CancellationToken::new(), job.wind_up_ms());
    let ctx = JobContext {
        by: attempt.by,
        recorder: recorder.clone(),
        stop: running.stop.clone(),
        cancel: running.cancel.clone(),
        hurry: hurry.clone(),
        generation: shared.store.generation(),
        options: shared.options.clone(),
        clock: shared.clock.clone(),
    };
    let input = attempt.input.clone();
    // A task of its own: a panic ends it and nothing else, and it can be dropped at its next await.
    let mut handler = tokio::spawn(async move { job.run(ctx, input).await });
    let end = tokio::select! {
        biased;
        joined = &mut handler => return (joined.map_or_else(died, End::Returned), None),
        end = overdue(shared, attempt) => end,
        end = cancelled(shared, running, &recorder) => end,
        () = released(shared, running) => End::Released,
        () = recorder.limit_reached() => End::OverLimit,
        () = stale.cancelled() => End::Stale,
    };
    let winds_up = wind_up_ms > 0 && matches!(end, End::TimedOut(_) | End::DeadlinePassed | End::OverLimit);
    if winds_up {
        // First: who is told to stop can see whether there is no time for that.
        hurry.cancel();
    }
    // It may listen although it did not wait for this.
    running.stop.cancel();
    if winds_up {
        tokio::select! {
            biased;
            joined = &mut handler => match joined {
                // It was done before its time was over.
                Ok(Ok(result)) => return (End::Returned(Ok(result)), None),
                Ok(Err(problem)) => return (end, problem.details),
                Err(error) => return (died(error), None),
            },
            () = shared.clock.sleep(Duration::from_millis(wind_up_ms)) => {}
            () = released(shared, running) => {}
        }
    }
    (stop(shared, running, &recorder, handler, end).await, None)
}

/// Ends when the attempt or the task has taken too long.
async fn overdue(shared: &Shared, attempt: &Attempt) -> End {
    let timeout = async {
        match attempt.timeout_ms {
            Some(timeout_ms) => {
                shared.clock.sleep(Duration::from_millis(timeout_ms)).await;
                End::TimedOut(timeout_ms)
            }
            None => std::future::pending().await,
        }
    };
    let deadline = async {
        match attempt.deadline {
            Some(deadline) => {
                let left = (deadline - shared.clock.now()).to_std().unwrap_or_default();
                shared.clock.sleep(left).await;
                End::DeadlinePassed
            }
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        end = deadline => end,
        end = timeout => end,
    }
}

/// Ends when a handler that was asked to stop has had its grace.
async fn cancelled(shared: &Shared, running: &Running, recorder: &Arc<Recorder>) -> End {
    running.cancel.cancelled().await;
    step(recorder, CancelStep::Delivered, None).await;
    shared.clock.sleep(Duration::from_millis(running.cancel_grace_ms)).await;
    End::Dropped(running.cancel_grace_ms)
}

/// Ends when a handler that was told of a shutdown has had its grace.
async fn released(shared: &Shared, running: &Running) {
    shared.release.cancelled().await;
    running.stop.cancel();
    shared.clock.sleep(Duration::from_millis(shared.options.release_grace_ms)).await;
}

async fn step(recorder: &Arc<Recorder>, step: CancelStep, message: Option<String>) {
    // Whoever cannot record any more has nobody to tell it to.
    let _ = recorder.add(EventBody::Cancellation(Cancellation { step, message })).await;
}

/// Drops the handler. One that does not come to an await is waited for, because what it does goes on: the task must not
/// be seen as ended, or run again, while it is still being done.
async fn stop(
    shared: &Shared,
    running: &Running,
    recorder: &Arc<Recorder>,
    mut handler: JoinHandle<Result<Json, JobError>>,
    end: End,
) -> End {
    handler.abort();
    let joined = tokio::select! {
        biased;
        joined = &mut handler => joined,
        () = shared.clock.sleep(DROP_PATIENCE) => match end {
            End::Released | End::Stale => return end,
            _ => {
                unresponsive(recorder, &end).await;
                tokio::select! {
                    joined = handler => joined,
                    () = released(shared, running) => return End::Released,
                }
            }
        },
    };
    match (joined, &end) {
        (_, End::Stale) => end,
        // It was done before it could be dropped.
        (Ok(returned), _) => End::Returned(returned),
        (Err(error), _) if error.is_panic() => died(error),
        (Err(_), End::Dropped(grace_ms)) => {
            step(recorder, CancelStep::Dropped, Some(format!("it did not end within {grace_ms} ms"))).await;
            end
        }
        (Err(_), _) => end,
    }
}

async fn unresponsive(recorder: &Arc<Recorder>, end: &End) {
    let message = "the handler does not wait anywhere, so it cannot be dropped: its code goes on".to_owned();
    if matches!(end, End::Dropped(_)) {
        step(recorder, CancelStep::Unresponsive, Some(message)).await;
    } else {
        let _ = recorder
            .add(EventBody::Log { level: LogLevel::Warn, message: format!("out of time, but {message}") })
            .await;
    }
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

fn error(attempt: &Attempt, code: &str, message: String, retryable: bool) -> TaskError {
    TaskError { code: code.into(), message, details: None, attempt: attempt.by.attempt, retryable }
}

fn over_limit(shared: &Shared, attempt: &Attempt, limit: &str, details: Option<Json>) -> Outcome {
    let allowed = match limit {
        "max_task_events" => shared.options.max_task_events,
        _ => shared.options.max_task_bytes,
    };
    let message = format!("the task's events are over the limit `{limit}`, which allows {allowed}");
    let error = TaskError { details, ..error(attempt, code::LIMIT_EXCEEDED, message, false) };
    Outcome::Failed { error, retry_at: None }
}

/// The outcome, with an error that is no larger than it may be.
fn bounded(options: &TaskOptions, mut outcome: Outcome) -> Outcome {
    if let Outcome::Failed { error, .. } | Outcome::Cancelled(error) | Outcome::Released(error) = &mut outcome {
        cut(&mut error.code, MAX_CODE_BYTES);
        if error.details.as_ref().is_some_and(|details| details.len() > options.max_result_bytes) {
            error.details = None;
            error.message.insert_str(0, "(details left out: over the limit `max_result_bytes`) ");
        }
        cut(&mut error.message, options.max_message_bytes);
    }
    outcome
}

/// What to record; nothing for a stale attempt.
fn outcome(shared: &Shared, attempt: &Attempt, running: &Running, end: End, details: Option<&Json>) -> Option<Outcome> {
    let error = |code: &str, message: String, retryable| TaskError {
        details: details.cloned(),
        ..error(attempt, code, message, retryable)
    };
    let failed = |error: TaskError, retry: Retry| {
        let wait = match retry {
            Retry::Never => None,
            Retry::After(wait) => Some(wait),
            Retry::Backoff => Some(shared.backoff(attempt)),
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
        End::Returned(Err(problem)) if running.cancel.is_cancelled() => {
            let error = error(code::CANCELLED, format!("cancelled while it ran: {problem}"), false);
            Outcome::Cancelled(TaskError { details: problem.details, ..error })
        }
        End::Returned(Err(_)) if shared.release.is_cancelled() => interrupted(),
        End::Returned(Err(problem)) => {
            let retry = problem.retry;
            let error = TaskError {
                code: problem.code,
                message: problem.message,
                details: problem.details,
                attempt: attempt.by.attempt,
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
        End::DeadlinePassed => {
            let message = "the task's deadline passed while the attempt was under way".to_owned();
            failed(error(code::DEADLINE_EXCEEDED, message, false), Retry::Never)
        }
        End::Dropped(grace_ms) => {
            let message = format!("cancelled while it ran: dropped {grace_ms} ms after it was asked to stop");
            Outcome::Cancelled(error(code::CANCELLED, message, false))
        }
        // `run` has seen to it.
        End::OverLimit => return None,
        End::Released => interrupted(),
    })
}

/// The store would not take what the handler reported.
fn refused(attempt: &Attempt, why: &str) -> Outcome {
    let message = format!("what the attempt reported could not be recorded: {why}");
    Outcome::Failed { error: error(attempt, code::INTERNAL, message, false), retry_at: None }
}

/// Writes the outcome; waits while the store is full, unless the server is to stop: then the next start finds the
/// attempt lost. The write keeps its number, so it can be repeated.
async fn finish(
    shared: &Shared,
    attempt: &Attempt,
    mut write: AttemptWrite,
    mut outcome: Outcome,
) -> Option<TaskStatus> {
    let mut plain = false;
    loop {
        match shared.store.finish(write.clone(), outcome.clone()).await {
            Ok(status) => return Some(status),
            Err(error) if error.passes() && !shared.release.is_cancelled() => shared.wait_for_space().await,
            // What it cannot take is left out, so that the task ends all the same.
            Err(StoreError::Internal(why)) if !plain => {
                plain = true;
                write.events.clear();
                outcome = refused(attempt, &why);
            }
            Err(error) => {
                let (task, attempt) = (write.by.task, write.by.attempt);
                tracing::warn!(%task, attempt, %error, "the end of an attempt could not be recorded");
                return None;
            }
        }
    }
}
