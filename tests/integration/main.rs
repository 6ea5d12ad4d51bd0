//! The integration tests: one binary, a module for each part of the behaviour.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where something is wrong")]

mod access;
mod api;
mod backup;
mod cli;
#[cfg(target_os = "linux")]
mod crash;
mod deploy;
mod fuzz;
mod http;
mod http_source;
mod https_source;
mod introspection;
mod joins;
mod journal;
mod large;
mod leaving;
mod legacy_websocket;
mod limits;
mod lists;
mod multipart;
mod power_loss;
#[cfg(target_os = "linux")]
mod program_examples;
#[cfg(target_os = "linux")]
mod program_faults;
#[cfg(target_os = "linux")]
mod programs;
mod protocol_map;
mod raw_http;
mod requests;
mod resume;
mod secrets;
mod sources;
mod sqlite_store;
mod sse;
mod stalled;
mod store_conformance;
mod store_model;
mod streams;
mod support;
mod task_limits;
mod tasks;
mod websocket;
mod websocket_frames;
