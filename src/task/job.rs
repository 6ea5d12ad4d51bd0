use std::{fmt, marker::PhantomData, time::Duration};

use async_trait::async_trait;
use serde::{Serialize, de::DeserializeOwned};

use super::JobContext;
use crate::{
    error::Error,
    model::{Json, code},
};

/// The work of a kind. Implemented by async closures, see [`TaskManager::register`](super::TaskManager::register).
#[async_trait]
pub trait Job: Send + Sync + 'static {
    /// Does the work of one attempt. May run more than once for the same task: execution is at least once.
    async fn run(&self, ctx: JobContext, input: Json) -> Result<Json, JobError>;

    /// Refuses an input that no attempt could do anything with, before a task is stored; beside the kind's schema, which
    /// an input has passed that comes here.
    fn check(&self, input: &Json) -> Result<(), Error> {
        let _ = input;
        Ok(())
    }

    /// How long it may take to wind up when its time is over ([`JobContext::hurried`]) before it is dropped, in
    /// milliseconds: for work that goes on elsewhere, such as a program, and must not when the attempt has ended. The
    /// details of the error that it then returns are kept.
    fn wind_up_ms(&self) -> u64 {
        0
    }
}

/// Why an attempt failed, and whether another could help.
///
/// Any [`std::error::Error`] becomes one with `?`: code `HANDLER_FAILED`, to be tried again while the task
/// has attempts left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobError {
    pub(super) code: String,
    pub(super) message: String,
    pub(super) details: Option<Json>,
    pub(super) retry: Retry,
}

/// Whether an attempt should be followed by another, while the task has attempts left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Retry {
    /// After the usual wait.
    #[default]
    Backoff,
    /// After this time.
    After(Duration),
    /// No: trying again cannot help.
    Never,
}

impl JobError {
    /// A failure with the code `HANDLER_FAILED`.
    pub fn new(message: impl Into<String>) -> Self {
        Self { code: code::HANDLER_FAILED.into(), message: message.into(), details: None, retry: Retry::default() }
    }

    /// With a code of the handler's own, stable for programs.
    #[must_use]
    pub fn code(mut self, code: impl Into<String>) -> Self {
        self.code = code.into();
        self
    }

    /// With data for programs.
    #[must_use]
    pub fn details(mut self, details: Json) -> Self {
        self.details = Some(details);
        self
    }

    /// With a word on trying again.
    #[must_use]
    pub fn retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }
}

impl fmt::Display for JobError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl<E: std::error::Error> From<E> for JobError {
    #[allow(clippy::needless_pass_by_value, reason = "the trait's signature")]
    fn from(error: E) -> Self {
        Self::new(error.to_string())
    }
}

/// What is said of an input that a job can do nothing with.
pub(super) fn misfit(why: impl fmt::Display) -> String {
    format!("the input does not fit: {why}")
}

/// An async function as a job: its input read from JSON, its output written as JSON.
pub(super) struct Handler<F, I> {
    function: F,
    input: PhantomData<fn(I)>,
}

impl<F, I> Handler<F, I> {
    pub(super) fn new(function: F) -> Self {
        Self { function, input: PhantomData }
    }
}

#[async_trait]
impl<F, I, O, Fut> Job for Handler<F, I>
where
    F: Fn(JobContext, I) -> Fut + Send + Sync + 'static,
    I: DeserializeOwned + Send + 'static,
    O: Serialize + Send + 'static,
    Fut: Future<Output = Result<O, JobError>> + Send + 'static,
{
    /// What the type takes may be less than its schema says.
    fn check(&self, input: &Json) -> Result<(), Error> {
        input.decode::<I>().map(drop).map_err(|error| Error::invalid(misfit(error)))
    }

    async fn run(&self, ctx: JobContext, input: Json) -> Result<Json, JobError> {
        let unfit =
            |error: serde_json::Error| JobError::new(misfit(error)).code(code::INVALID_INPUT).retry(Retry::Never);
        let input = input.decode().map_err(unfit)?;
        let output = (self.function)(ctx, input).await?;
        Ok(Json::from_value(&output)?)
    }
}
