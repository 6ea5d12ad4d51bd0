//! The GraphQL schema, by noun; no rules of its own.

mod resume;

pub use resume::ResumeCursor;
