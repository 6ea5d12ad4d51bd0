use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{KindInfo, KindPolicy, TaskOptions};
use crate::{
    error::Error,
    model::{IdempotencyKey, InvalidJson, Json, NewTask, TaskId},
};

/// The priorities a task can have.
const PRIORITIES: std::ops::RangeInclusive<i32> = -100..=100;
/// The most attempts a task can ask for.
const MAX_ATTEMPTS: u32 = 1000;
/// The longest time a task can ask for, in milliseconds: what GraphQL's `Int` can carry, almost 25 days.
const MAX_MS: u64 = i32::MAX as u64;

/// A request to start a task, as its client makes it.
///
/// Its serialised form is what the fingerprint of an idempotency key is taken of, and databases outlive programs: a
/// field that is added must be left out of it while nothing is said.
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
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_at: Option<DateTime<Utc>>,
    /// The same key with the same request gives the same task.
    #[serde(skip)]
    pub idempotency_key: Option<String>,
    /// How many attempts may fail; else what the kind says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_attempts: Option<u32>,
    /// Time limit of one attempt, in milliseconds; else what the kind says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// Time limit of the whole task, from its start or its `run_at`, in milliseconds; else what the kind says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<u64>,
    /// Wait before the first automatic retry, in milliseconds; else what the kind says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_backoff_ms: Option<u64>,
    /// The longest wait before an automatic retry, in milliseconds; else what the kind says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_retry_backoff_ms: Option<u64>,
    /// Of the tasks of its kind with the same key only so many run at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency_key: Option<String>,
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
            deadline_ms: None,
            retry_backoff_ms: None,
            max_retry_backoff_ms: None,
            concurrency_key: None,
        }
    }

    /// With this input.
    pub fn input<T: Serialize + ?Sized>(mut self, input: &T) -> Result<Self, InvalidJson> {
        self.input = Json::from_value(input)?;
        Ok(self)
    }

    /// Names what is asked for, for comparing: that keys of an object come in another order makes no other request.
    fn fingerprint(&self) -> Result<[u8; 32], Error> {
        let input = self.input.decode::<Value>().map(|mut input| {
            input.sort_all_objects();
            Json::from(input)
        });
        // What is too deep to be read is compared as it is written.
        let request = Self { input: input.unwrap_or_else(|_| self.input.clone()), ..self.clone() };
        let request = serde_json::to_vec(&request).map_err(|error| Error::invalid(error.to_string()))?;
        Ok(Sha256::digest(request).into())
    }

    /// Its key, with what it stands for.
    pub(super) fn idempotency(&self) -> Result<Option<IdempotencyKey>, Error> {
        let Some(key) = &self.idempotency_key else { return Ok(None) };
        Ok(Some(IdempotencyKey { key: key.clone(), fingerprint: self.fingerprint()? }))
    }

    /// Checks it against the limits and fills in what its kind says.
    pub(super) fn to_task(&self, kind: &KindInfo, options: &TaskOptions) -> Result<NewTask, Error> {
        if self.input.len() > options.max_input_bytes {
            return Err(Error::limit("max_input_bytes", format_args!("{} bytes", options.max_input_bytes)));
        }
        // Bounded, however many there are.
        let mut tags: Vec<String> = Vec::new();
        for tag in &self.tags {
            check_label("tags", tag, options)?;
            if !tags.contains(tag) {
                tags.push(tag.clone());
            }
            if tags.len() > options.max_tags {
                return Err(Error::limit("max_tags", format_args!("{} tags", options.max_tags)));
            }
        }
        for (name, key) in [("idempotencyKey", &self.idempotency_key), ("concurrencyKey", &self.concurrency_key)] {
            key.as_ref().map_or(Ok(()), |key| check_label(name, key, options))?;
        }
        if !PRIORITIES.contains(&self.priority) {
            return Err(Error::invalid(format!("priority is {}; it goes from -100 to 100", self.priority)));
        }
        if self.max_attempts.is_some_and(|attempts| attempts == 0 || attempts > MAX_ATTEMPTS) {
            return Err(Error::invalid(format!("maxAttempts goes from 1 to {MAX_ATTEMPTS}")));
        }
        for (name, ms) in [
            ("timeoutMs", self.timeout_ms),
            ("deadlineMs", self.deadline_ms),
            ("retryBackoffMs", self.retry_backoff_ms),
            ("maxRetryBackoffMs", self.max_retry_backoff_ms),
        ] {
            if ms.is_some_and(|ms| ms == 0 || ms > MAX_MS) {
                return Err(Error::invalid(format!("{name} goes from 1 to {MAX_MS}")));
            }
        }
        if let (Some(first_ms), Some(max_ms)) = (self.retry_backoff_ms, self.max_retry_backoff_ms)
            && max_ms < first_ms
        {
            let message =
                format!("maxRetryBackoffMs is {max_ms}; it must be at least retryBackoffMs, which is {first_ms}");
            return Err(Error::invalid(message));
        }
        let idempotency = self.idempotency()?;
        let policy = KindPolicy {
            max_attempts: self.max_attempts,
            timeout_ms: self.timeout_ms,
            deadline_ms: self.deadline_ms,
            retry_backoff_ms: self.retry_backoff_ms,
            max_retry_backoff_ms: self.max_retry_backoff_ms,
            ..KindPolicy::default()
        };
        let policy = policy.or(kind.options.policy);
        Ok(NewTask {
            kind: kind.name.clone(),
            input: self.input.clone(),
            tags,
            priority: self.priority,
            run_at: self.run_at,
            idempotency,
            max_attempts: policy.max_attempts.unwrap_or(options.max_attempts),
            max_lost: policy.max_lost.unwrap_or(options.max_lost),
            timeout_ms: policy.timeout_ms,
            deadline_ms: policy.deadline_ms,
            backoff: policy.backoff(options),
            concurrency_key: self.concurrency_key.clone(),
        })
    }
}

/// The key of a request to repeat this task.
pub(super) fn retry_key(id: TaskId, key: String, options: &TaskOptions) -> Result<IdempotencyKey, Error> {
    check_label("idempotencyKey", &key, options)?;
    Ok(IdempotencyKey { key, fingerprint: Sha256::digest(format!("retry {id}")).into() })
}

/// Checks a tag or a key; the error names the field.
fn check_label(field: &str, label: &str, options: &TaskOptions) -> Result<(), Error> {
    let error = if label.is_empty() {
        Error::invalid("has to have at least one character")
    } else if label.len() > options.max_tag_bytes {
        Error::limit("max_tag_bytes", format_args!("{} bytes", options.max_tag_bytes))
    } else {
        return Ok(());
    };
    Err(error.about(field))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_fingerprint_is_taken_of_never_changes() {
        let request = StartTask { idempotency_key: Some("key".into()), ..StartTask::new("resize") };
        let text = serde_json::to_string(&request).unwrap();
        assert_eq!(text, r#"{"kind":"resize","input":null,"tags":[],"priority":0}"#);
    }
}
