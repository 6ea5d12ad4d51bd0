//! Waiting until the system has again what a program needs to begin.
//!
//! That processes, open files or memory are short says nothing about the task: it waits within its attempt, instead of
//! failing attempt after attempt.

use std::time::Duration;

use crate::{model::LogLevel, task::JobContext};

/// The wait before the second try to start a program. It doubles with each.
const FIRST_WAIT: Duration = Duration::from_millis(50);
/// The longest wait between two tries.
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// How long an attempt waits next.
#[derive(Debug, Default)]
pub(super) struct Shortage {
    waited: Option<Duration>,
}

impl Shortage {
    /// Waits before the next try, and says so once. `false`: the attempt is to end, there is no next.
    pub(super) async fn wait(&mut self, ctx: &JobContext, why: &str) -> bool {
        let wait = self.waited.map_or(FIRST_WAIT, |waited| (waited * 2).min(LONGEST_WAIT));
        if self.waited.replace(wait).is_none() {
            let message = format!("the program cannot be started yet, the system is short of what it needs: {why}");
            tracing::warn!(task = %ctx.task(), attempt = ctx.attempt(), "{message}");
            // An attempt that can record nothing any more is about to be stopped.
            let _ = ctx.log(LogLevel::Warn, message).await;
        }
        tokio::select! {
            biased;
            () = stopped(ctx) => false,
            () = ctx.clock().sleep(wait) => true,
        }
    }
}

/// Ends when the attempt should: it was cancelled, its time is over, or the server shuts down.
pub(super) async fn stopped(ctx: &JobContext) {
    tokio::select! {
        () = ctx.hurried() => {}
        () = ctx.cancelled() => {}
    }
}
