use tokio_util::task::{TaskTracker, task_tracker::TaskTrackerToken};

/// Counts the connections that outlive the request which opened them (WebSockets, streams), so that a server that
/// stops can wait until they have said goodbye. All clones are one.
#[derive(Debug, Clone, Default)]
pub struct Connections(TaskTracker);

impl Connections {
    /// How many are open.
    pub fn open(&self) -> usize {
        self.0.len()
    }

    /// Ends when none is open. For after the shutdown was requested: until then new ones may come.
    pub async fn closed(&self) {
        self.0.close();
        self.0.wait().await;
    }

    /// Counts one as open until the token is dropped.
    pub(super) fn enter(&self) -> TaskTrackerToken {
        self.0.token()
    }
}
