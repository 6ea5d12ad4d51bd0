//! Meanwhile: a GraphQL server for slow work.

pub mod clock;
pub mod config;
pub mod error;
pub mod model;
pub mod source;
pub mod store;
