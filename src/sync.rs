//! The locks of live memory and of the feed of commits: the standard library's, or, with the feature `shuttle`, those that
//! let a test choose who goes on at each of them.

#[cfg(feature = "shuttle")]
pub(crate) use shuttle::sync::{Mutex, MutexGuard};
#[cfg(not(feature = "shuttle"))]
pub(crate) use std::sync::{Mutex, MutexGuard};
