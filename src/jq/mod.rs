//! jq filters: compiled when the configuration is read, run within limits.
//!
//! A filter sees its input and its variables, and nothing else: no environment, no files, no modules, no further
//! inputs. `instrument` puts checks into it wherever it could go on without end or make a value without end; while it
//! runs, `guard` looks there at the time, at the stack, at the value (`weigh`) and at how often definitions call
//! themselves. Natives of jaq that could take long without a check, or much memory before one, are replaced (`natives`,
//! `sort`, `regex`). What takes longer than a moment runs on a `stack` of its own.

mod compile;
mod guard;
mod instrument;
mod natives;
mod regex;
mod run;
mod sort;
mod stack;
mod weigh;

use std::{fmt, sync::Arc};

use jaq_core::{DataT, Lut, data::HasLut};
use jaq_json::Val;

pub use self::run::{JqRunner, Values};

/// How long a filter may run, and how much it may give.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JqLimits {
    /// How long the filters of one step may run, in milliseconds.
    pub filter_timeout_ms: u64,
    /// Values that a filter may give.
    pub max_filter_outputs: usize,
    /// JSON text of all values that a filter gives, in bytes.
    pub max_filter_bytes: usize,
}

impl Default for JqLimits {
    fn default() -> Self {
        Self { filter_timeout_ms: 1000, max_filter_outputs: 10_000, max_filter_bytes: 4 << 20 }
    }
}

/// A compiled filter. Cloning is cheap.
#[derive(Clone)]
pub struct Filter {
    text: Arc<str>,
    compiled: Arc<jaq_core::Filter<Guarded>>,
    /// How many terms the text has.
    terms: usize,
}

impl Filter {
    /// Compiles `text`. `variables` are those it may use, each with its `$`; a run gives their values in this order.
    pub fn compile(text: &str, variables: &[&str]) -> Result<Self, JqError> {
        let (compiled, terms) = compile::compile(text, variables)?;
        Ok(Self { text: text.into(), compiled: Arc::new(compiled), terms })
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Filter").field(&self.text).finish()
    }
}

impl PartialEq for Filter {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

/// What is wrong with a filter, or went wrong in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JqError {
    /// It is not jq. The text says where.
    #[error("is not a jq filter: {0}")]
    Syntax(String),
    /// It says itself that something is wrong, or does what cannot be done with the values it meets.
    #[error("failed: {0}")]
    Failed(String),
    /// It is over one of [`JqLimits`].
    #[error("is over the limit `{name}`, which allows {allowed}")]
    Limit {
        /// The limit's name.
        name: &'static str,
        /// What it allows, in words.
        allowed: String,
    },
}

/// What native filters reach: values of JSON, and the guard of the run.
struct Guarded;

impl DataT for Guarded {
    type V<'a> = Val;
    type Data<'a> = &'a guard::Guard<'a>;
}

impl<'a> HasLut<'a, Guarded> for &'a guard::Guard<'a> {
    fn lut(&self) -> &'a Lut<Guarded> {
        self.lut
    }
}

#[cfg(test)]
mod tests;
