//! Meanwhile: a GraphQL server for slow work.
//!
//! What flows where: `journal → store`; both speak the words of `model`. Nothing points back: the store
//! offers a feed of commits, it does not call anybody.
//!
//! * [`model`]: what a task, an event and progress are; the state machine.
//! * [`store`]: where tasks and their events live; SQLite.
//! * [`journal`]: following them: replay, then live.
//! * [`source`]: places data comes from.
//! * [`task`]: starting tasks and running them.
//! * [`graphql`]: the API's schema.
//! * [`config`]: file, environment and flags: one validated configuration.
//! * [`cli`], [`serve`], [`shutdown`], [`exit`]: the program: its commands, its start, its end.
//! * [`error`]: the error codes that clients see.
//! * [`clock`]: time, passed in.

pub mod cli;
pub mod clock;
pub mod config;
pub mod error;
pub mod exit;
pub mod graphql;
pub mod http;
pub mod journal;
pub mod model;
pub mod serve;
pub mod shutdown;
pub mod source;
pub mod store;
pub mod task;
