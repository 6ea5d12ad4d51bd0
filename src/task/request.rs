use chrono::{DateTime, Utc};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::{KindInfo, TaskOptions};
use crate::{
    error::Error,
    model::{IdempotencyKey, InvalidJson, Json, NewTask},
};

/// The priorities a task can have.
const PRIORITIES: std::ops::RangeInclusive<i32> = -100..=100;
/// The most attempts a task can ask for.
const MAX_ATTEMPTS: u32 = 1000;
/// The longest time limit of an attempt: what GraphQL's `Int` can carry, almost 25 days.
const MAX_TIMEOUT_MS: u64 = i32::MAX as u64;

/// A request to start a task, as its client makes it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StartTask {
    /// What sort of work.
    pub kind: String,
    /// What the handler is given; nothing said: `null`.
    pub input: Json,
    /// Labels to find it by.
    pub tags: Vec<String>,
    /// From -100 to 100; higher runs first.
    pub priority: i32,
    /// Not to run before.
    pub run_at: Option<DateTime<Utc>>,
    /// The same key with the same request gives the same task.
    #[serde(skip)]
    pub idempotency_key: Option<String>,
    /// How many attempts may fail; else what the kind says.
    pub max_attempts: Option<u32>,
    /// Time limit of one attempt, in milliseconds; else what the kind says.
    pub timeout_ms: Option<u64>,
}

impl StartTask {
    /// A task of this kind, with `null` as its input.
    pub fn new(kind: impl Into<String>) -> Self {
        Self {
            kind: kind.into(),
            input: Json::null(),
            tags: Vec::new(),
            priority: 0,
            run_at: None,
            idempotency_key: None,
            max_attempts: None,
            timeout_ms: None,
        }
    }

    /// With this input.
    pub fn input<T: Serialize + ?Sized>(mut self, input: &T) -> Result<Self, InvalidJson> {
        self.input = Json::from_value(input)?;
        Ok(self)
    }

    /// Checks it against the limits and fills in what its kind says.
    pub(super) fn into_task(self, kind: &KindInfo, options: &TaskOptions) -> Result<NewTask, Error> {
        if self.input.len() > options.max_input_bytes {
            return Err(Error::limit("max_input_bytes", format_args!("{} bytes", options.max_input_bytes)));
        }
        if self.tags.len() > options.max_tags {
            return Err(Error::limit("max_tags", format_args!("{} tags", options.max_tags)));
        }
        let key = self.idempotency_key.as_deref();
        if key.is_some_and(str::is_empty) || self.tags.iter().any(String::is_empty) {
            return Err(Error::invalid("a tag or an idempotency key has at least one character"));
        }
        if self.tags.iter().map(String::as_str).chain(key).any(|text| text.len() > options.max_tag_bytes) {
            return Err(Error::limit("max_tag_bytes", format_args!("{} bytes", options.max_tag_bytes)));
        }
        if !PRIORITIES.contains(&self.priority) {
            return Err(Error::invalid(format!("priority is {}; it goes from -100 to 100", self.priority)));
        }
        if self.max_attempts.is_some_and(|attempts| attempts == 0 || attempts > MAX_ATTEMPTS) {
            return Err(Error::invalid(format!("maxAttempts goes from 1 to {MAX_ATTEMPTS}")));
        }
        if self.timeout_ms.is_some_and(|timeout_ms| timeout_ms == 0 || timeout_ms > MAX_TIMEOUT_MS) {
            return Err(Error::invalid(format!("timeoutMs goes from 1 to {MAX_TIMEOUT_MS}")));
        }
        let idempotency = match &self.idempotency_key {
            None => None,
            Some(key) => {
                let request = serde_json::to_vec(&self).map_err(|error| Error::invalid(error.to_string()))?;
                Some(IdempotencyKey { key: key.clone(), fingerprint: Sha256::digest(request).into() })
            }
        };
        let mut tags: Vec<String> = Vec::with_capacity(self.tags.len());
        for tag in self.tags {
            if !tags.contains(&tag) {
                tags.push(tag);
            }
        }
        Ok(NewTask {
            kind: kind.name.clone(),
            input: self.input,
            tags,
            priority: self.priority,
            run_at: self.run_at,
            idempotency,
            max_attempts: self.max_attempts.or(kind.options.max_attempts).unwrap_or(options.max_attempts),
            max_lost: options.max_lost,
            timeout_ms: self.timeout_ms.or(kind.options.timeout_ms),
        })
    }
}
