//! A client that follows a task over one of the transports and resumes as its stock clients do, however often the
//! connection breaks.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::subscription::{Said, Subscription, Transport};

/// What is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    /// `taskEvents`.
    Events,
    /// `taskProgress`.
    Progress,
}

impl Stream {
    fn field(self) -> &'static str {
        match self {
            Self::Events => "taskEvents",
            Self::Progress => "taskProgress",
        }
    }

    fn document(self) -> &'static str {
        match self {
            Self::Events => {
                "subscription($id: ID!, $after: String) { taskEvents(id: $id, after: $after) {
                    __typename seq attempt ... on TaskStatusChanged { status } ... on TaskProgressed { percent }
                    ... on TaskChunk { index value } ... on TaskGap { from } } }"
            }
            Self::Progress => {
                "subscription($id: ID!, $after: String) { taskProgress(id: $id, after: $after) {
                    cursor status percent attempt } }"
            }
        }
    }
}

/// Everything a task's subscriber saw.
pub(crate) struct Follower {
    pub(crate) transport: Transport,
    stream: Stream,
    url: String,
    task: String,
    pub(crate) record: Vec<Value>,
    cursor: Option<String>,
    /// How often it had to connect.
    pub(crate) connections: usize,
    /// Goes away as soon as it has seen so many events.
    pub(crate) leave_at: Option<usize>,
    /// Gets so many permits for each event.
    pub(crate) pace: Option<(Arc<Semaphore>, usize)>,
}

impl Follower {
    pub(crate) fn new(transport: Transport, url: &str, task: &str) -> Self {
        Self {
            transport,
            stream: Stream::Events,
            url: url.to_owned(),
            task: task.to_owned(),
            record: Vec::new(),
            cursor: None,
            connections: 0,
            leave_at: None,
            pace: None,
        }
    }

    pub(crate) fn of(self, stream: Stream) -> Self {
        Self { stream, ..self }
    }

    /// Follows the task to its end, connecting as often as it takes.
    pub(crate) async fn run(&mut self) {
        while !self.connect_once().await {}
    }

    /// Connects once; whether the stream came to its end.
    pub(crate) async fn connect_once(&mut self) -> bool {
        self.follow().await.unwrap_or(false)
    }

    async fn follow(&mut self) -> Option<bool> {
        self.connections += 1;
        let (document, variables) = (self.stream.document(), json!({ "id": self.task }));
        let cursor = self.cursor.as_deref();
        let mut subscription = Subscription::open(self.transport, &self.url, document, variables, cursor).await?;
        loop {
            match subscription.next().await? {
                Said::Next(payload) if payload["data"].is_object() => self.take(&payload),
                // The server goes away.
                Said::Next(payload) => return unavailable(&payload["errors"]),
                Said::Refused(errors) => return unavailable(&errors),
                Said::Complete => return Some(true),
            }
            if self.leave_at == Some(self.record.len()) {
                return Some(false);
            }
        }
    }

    fn take(&mut self, payload: &Value) {
        self.record.push(payload["data"][self.stream.field()].clone());
        if let Some((pace, permits)) = &self.pace {
            pace.add_permits(*permits);
        }
        self.cursor = Some(payload["extensions"]["cursor"].as_str().unwrap().to_owned());
    }
}

/// The one failure after which a client comes again.
fn unavailable(errors: &Value) -> Option<bool> {
    assert_eq!(errors[0]["extensions"]["code"], "UNAVAILABLE", "{errors}");
    None
}
