//! Meanwhile: a GraphQL server for slow work.

pub mod cli;
pub mod clock;
pub mod config;
pub mod error;
pub mod exit;
pub mod model;
pub mod serve;
pub mod shutdown;
pub mod source;
pub mod store;
