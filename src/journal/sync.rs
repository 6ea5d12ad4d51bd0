//! The locks of live memory: the standard library's, or, with the feature `shuttle`, those that let a test choose who
//! goes on at each of them.

#[cfg(feature = "shuttle")]
pub(super) use shuttle::sync::{Mutex, MutexGuard};
#[cfg(not(feature = "shuttle"))]
pub(super) use std::sync::{Mutex, MutexGuard};
