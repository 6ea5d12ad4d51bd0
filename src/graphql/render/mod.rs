//! Rendering what a task's subscribers get: once for all who ask for the same.
//!
//! What a subscription shows of an event is a pure function of the operation and the event, so all subscribers
//! of one operation share a [`Renderer`]: it keeps one stream of the GraphQL engine, into which each event is put
//! when the first of them needs it, and the newest results as bytes, which the others take.
//!
//! ```text
//! journal ──► follower of each subscriber ──► renderer of the operation ──► bytes, in the transport's envelope
//!                                              │ not kept: ▼ ▲
//!                                              └── feed ─► the engine's stream
//! ```
//!
//! An operation is its document, its name and its variables, all but the root's `after` (where to begin differs
//! from subscriber to subscriber, and changes nothing of what an event looks like).

mod feed;
mod operation;
mod renderer;
mod subscriber;

pub(super) use feed::{Feed, Item, Wanted};
pub(super) use renderer::Renderers;
pub(super) use subscriber::subscribe;
