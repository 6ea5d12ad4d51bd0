//! The GraphQL schema, by noun; no rules of its own.
//!
//! [`Api`] is the schema with what it needs: transports execute requests on it. Resolvers call the task
//! manager, the journal and the sources, and return [`crate::error::Error`]; `Api` gives every error its
//! `extensions.code`.

mod api;
mod event;
mod event_connection;
mod filter;
mod join;
mod kind;
mod limits;
mod mutation;
mod payload;
mod prepare;
mod query;
mod render;
mod resume;
mod scalar;
mod service;
mod shape;
mod source;
mod subscription;
mod subscription_root;
mod task;
mod task_connection;

pub use api::{Api, ApiOptions, sdl};
pub use limits::DocumentLimits;
pub use payload::Payload;
pub use prepare::prepare;
pub use resume::ResumeCursor;
pub use service::{GraphqlService, Plain, Reply};
