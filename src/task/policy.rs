use super::TaskOptions;
use crate::model::Backoff;

/// How tasks of one kind are run. What is `None` is as [`TaskOptions`] says for all kinds.
///
/// Said at registration, and in the configuration (`[kinds.NAME]`), which wins. A task can ask for other attempts,
/// waits, timeout and deadline when it is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KindPolicy {
    /// How many attempts may fail before the task does.
    pub max_attempts: Option<u32>,
    /// How many attempts may be lost to crashes before the task fails.
    pub max_lost: Option<u32>,
    /// Wait before the first automatic retry, in milliseconds; doubles with each failure.
    pub retry_backoff_ms: Option<u64>,
    /// The longest wait before an automatic retry, in milliseconds.
    pub max_retry_backoff_ms: Option<u64>,
    /// Time limit of one attempt, in milliseconds.
    pub timeout_ms: Option<u64>,
    /// Time limit of the whole task, all attempts and waits together, in milliseconds.
    pub deadline_ms: Option<u64>,
    /// How long a handler may go on after a request to cancel, in milliseconds; then it is dropped.
    pub cancel_grace_ms: Option<u64>,
    /// Attempts of this kind under way at once; `None`: as many as there is room for.
    pub concurrency: Option<usize>,
    /// Attempts of this kind with the same concurrency key under way at once.
    pub concurrency_per_key: Option<usize>,
}

impl KindPolicy {
    /// What this does not say is as `other` says.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            max_attempts: self.max_attempts.or(other.max_attempts),
            max_lost: self.max_lost.or(other.max_lost),
            retry_backoff_ms: self.retry_backoff_ms.or(other.retry_backoff_ms),
            max_retry_backoff_ms: self.max_retry_backoff_ms.or(other.max_retry_backoff_ms),
            timeout_ms: self.timeout_ms.or(other.timeout_ms),
            deadline_ms: self.deadline_ms.or(other.deadline_ms),
            cancel_grace_ms: self.cancel_grace_ms.or(other.cancel_grace_ms),
            concurrency: self.concurrency.or(other.concurrency),
            concurrency_per_key: self.concurrency_per_key.or(other.concurrency_per_key),
        }
    }

    /// How long to wait before a retry. A longest wait below the first wait, which the two places can add up to, counts
    /// as the first wait.
    pub(super) fn backoff(&self, options: &TaskOptions) -> Backoff {
        let first_ms = self.retry_backoff_ms.unwrap_or(options.retry_backoff_ms);
        let max_ms = self.max_retry_backoff_ms.unwrap_or(options.max_retry_backoff_ms);
        Backoff { first_ms, max_ms: max_ms.max(first_ms) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_first_wins_and_the_rest_is_as_said_second() {
        let first = KindPolicy { max_attempts: Some(2), ..KindPolicy::default() };
        let second = KindPolicy { max_attempts: Some(5), timeout_ms: Some(7), ..KindPolicy::default() };
        let both = first.or(second);
        assert_eq!((both.max_attempts, both.timeout_ms, both.concurrency), (Some(2), Some(7), None));
    }

    #[test]
    fn waits_double_up_to_the_longest() {
        let policy =
            KindPolicy { retry_backoff_ms: Some(100), max_retry_backoff_ms: Some(350), ..KindPolicy::default() };
        let backoff = policy.backoff(&TaskOptions::default());
        let waits: Vec<u64> =
            [0, 1, 2, 63, 64, u32::MAX].into_iter().map(|failures| backoff.longest_ms(failures)).collect();
        assert_eq!(waits, [100, 200, 350, 350, 350, 350]);
    }
}
