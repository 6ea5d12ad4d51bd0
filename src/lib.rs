//! Meanwhile: a GraphQL server for slow work.
//!
//! Durable background tasks that a mutation starts, and streams of what happens to them that go on without gap
//! or duplicate after any interruption. This crate is the server, and the library to embed it:
//! `examples/embedded.rs` shows how.
//!
//! # Where things are
//!
//! * [`model`]: what a task, an event and progress are; the state machine.
//! * [`store`]: where tasks and their events live; SQLite.
//! * [`journal`]: following them: replay, then live.
//! * [`task`]: starting tasks and running them: [`TaskManager`](task::TaskManager).
//! * [`task::program`]: any program as the work of a kind, under a guard process.
//! * [`source`]: places data comes from.
//! * [`join`]: several of them at once, made into one whole; [`jq`]: the filters for that, within limits.
//! * [`graphql`]: the API's schema: [`Api`](graphql::Api).
//! * [`http`]: what is served over HTTP: GraphQL by every transport, and who gets in; health; GraphiQL.
//! * [`config`]: file, environment and flags: one validated configuration.
//! * [`cli`], [`serve`], [`shutdown`], [`exit`]: the program: its commands, its start, its end.
//! * [`error`]: the error codes that clients see. [`secret`] and
//!   [`as_written`]: what is never shown.
//! * [`clock`]: time, passed in.
//!
//! # What flows where
//!
//! ```text
//! http ──► graphql ──► task ──► journal ──► store
//!             ├──────► source ◄── task::jobs::collect
//!             └──────► join ───► source, jq
//! ```
//!
//! All speak the words of `model`. Nothing points back: the store offers a feed of commits, it calls nobody.
//!
//! * **A mutation** `startTask` goes through [`task::TaskManager::start_all`] to the store's one writer thread, which
//!   commits everything that waits as one transaction, with fsync, and only then answers. The dispatcher claims the
//!   task, an attempt runs its handler, a recorder writes what the handler reports.
//! * **A subscription** is a [`journal::Journal`] stream: stored events in pages, then live ones from memory, back to
//!   the store whenever memory has moved on. Each transport only frames what the stream gives.
//!
//! # What always holds
//!
//! * A task's change and the event that tells it are one transaction; a task's events are numbered from 1 without
//!   holes.
//! * Every write of an attempt carries its fencing token ([`store::AttemptRef`]); a stale one writes nothing.
//! * Nothing is published before it is committed.
//! * No reader can slow a writer or another reader: who lags reads from the store.
//! * Every queue, buffer, page and batch has a limit with a name and a unit.
//! * Time and randomness are passed in; the library never ends the process.

pub mod as_written;
pub mod cli;
pub mod clock;
pub mod config;
pub mod error;
pub mod exit;
pub mod graphql;
pub mod http;
pub mod join;
pub mod journal;
pub mod jq;
pub mod model;
pub mod secret;
pub mod serve;
pub mod shutdown;
pub mod source;
pub mod store;
mod sync;
pub mod task;

/// Makes the JSON Schema of a handler's input: `#[derive(JsonSchema)]`, with `#[schemars(crate = "meanwhile::schemars")]`
/// where the crate itself is no dependency.
pub use schemars;
