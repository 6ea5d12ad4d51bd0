//! The integration tests: one binary, a module for each part of the behaviour.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where something is wrong")]

mod api;
mod cli;
mod crash;
mod http;
mod journal;
mod large;
mod power_loss;
mod sqlite_store;
mod store_conformance;
mod store_model;
mod support;
mod task_limits;
mod tasks;
mod websocket;
