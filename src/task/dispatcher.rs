//! Claiming due tasks, in batches, while there is room.

use std::{sync::Arc, time::Duration};

use super::{attempt, manager::Shared};
use crate::store::{Claimed, StoreError};

/// A look at the queue without a signal: what a lost signal costs at most.
const POLL: Duration = Duration::from_secs(30);
/// Wait after a claim that failed.
const PAUSE: Duration = Duration::from_millis(500);

/// Claims until the manager closes.
pub(super) async fn run(shared: Arc<Shared>) {
    loop {
        // Many end together, and one claim does for all of them: whoever is ready to end goes first.
        tokio::task::yield_now().await;
        // Without room, too: deadlines pass.
        let pause = match claim(&shared).await {
            // Whoever ends gives room, and wakes.
            Ok(claimed) if claimed.more && (claimed.attempts.is_empty() || shared.under_way.room().get() > 0) => {
                continue;
            }
            Ok(claimed) => {
                let next = [claimed.next_due, claimed.next_deadline].into_iter().flatten().min();
                next.map_or(POLL, |next| (next - shared.clock.now()).to_std().unwrap_or(Duration::ZERO).min(POLL))
            }
            // Not the dispatcher's to say: see `watch_store`.
            Err(StoreError::Closed | StoreError::Failed(_)) => return,
            Err(error) => {
                tracing::warn!(%error, "tasks could not be claimed");
                PAUSE
            }
        };
        tokio::select! {
            () = shared.wake.notified() => {}
            () = shared.clock.sleep(pause) => {}
            () = shared.closing.cancelled() => return,
        }
    }
}

async fn claim(shared: &Arc<Shared>) -> Result<Claimed, StoreError> {
    // Held until the attempts are known here: who has seen one as running finds it (see `cancel`).
    let _claiming = shared.claiming.lock().await;
    if shared.closing.is_cancelled() {
        return Ok(Claimed::default());
    }
    let claimed = shared.store.claim(&shared.registry.claims(&shared.options), shared.under_way.room().clone()).await?;
    for attempt in &claimed.attempts {
        let running = shared.enter(attempt);
        shared.attempts.spawn(attempt::run(shared.clone(), attempt.clone(), running));
    }
    Ok(claimed)
}
