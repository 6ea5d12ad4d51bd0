use std::{fmt, str::FromStr};

use chrono::{DateTime, Utc};

/// Bits below the creation time in a [`TaskId`].
const LOW_BITS: u32 = 22;
/// Crockford's base 32, lower case: no `i`, `l`, `o`, `u`.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
/// 13 digits of 5 bits hold 63 bits.
const DIGITS: usize = 13;
const PREFIX: &str = "task_";

/// Names a task, for ever: `task_` and 13 base-32 digits, such as `task_01kc3m8x2v9qe`.
///
/// The number holds the creation time (milliseconds since 1970, upper 41 bits) above 22 bits that the
/// store chooses so that ids grow. So ids sort by creation, a range of time is a range of ids, and an id
/// from a data folder that was deleted does not name a stranger's task in the next one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId(i64);

impl TaskId {
    /// The id with this number, as a store keeps it.
    pub const fn from_i64(number: i64) -> Self {
        Self(number)
    }

    /// The number, for a store's column.
    pub const fn as_i64(self) -> i64 {
        self.0
    }

    /// The smallest id that a task created at `time_ms` (milliseconds since 1970) can have.
    pub const fn first_at(time_ms: i64) -> Self {
        let time_ms = if time_ms < 0 { 0 } else { time_ms };
        let limit = i64::MAX >> LOW_BITS;
        Self((if time_ms > limit { limit } else { time_ms }) << LOW_BITS)
    }

    /// The id to give next: of this moment, with `low` as its low bits, but always above `last`.
    pub fn next(last: TaskId, now_ms: i64, low: u32) -> Self {
        let fresh = Self::first_at(now_ms).0 | i64::from(low & ((1 << LOW_BITS) - 1));
        Self(fresh.max(last.0 + 1))
    }

    /// When the task was created, to the millisecond.
    pub fn created_at(self) -> DateTime<Utc> {
        DateTime::from_timestamp_millis(self.0 >> LOW_BITS).unwrap_or_default()
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut digits = [0_u8; DIGITS];
        let mut rest = self.0;
        for digit in digits.iter_mut().rev() {
            *digit = ALPHABET[(rest & 31) as usize];
            rest >>= 5;
        }
        f.write_str(PREFIX)?;
        f.write_str(std::str::from_utf8(&digits).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not the id of a task: it is not `task_` and 13 base-32 digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not the id of a task: an id looks like task_01kc3m8x2v9qe")]
pub struct InvalidTaskId;

impl FromStr for TaskId {
    type Err = InvalidTaskId;

    fn from_str(text: &str) -> Result<Self, InvalidTaskId> {
        let digits = text.strip_prefix(PREFIX).ok_or(InvalidTaskId)?.as_bytes();
        if digits.len() != DIGITS {
            return Err(InvalidTaskId);
        }
        let mut number: i64 = 0;
        for digit in digits {
            let value = ALPHABET.iter().position(|d| d == digit).ok_or(InvalidTaskId)?;
            number = number.checked_mul(32).ok_or(InvalidTaskId)? | value as i64;
        }
        Ok(Self(number))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn text_and_number_are_the_same_id(number in 0..=i64::MAX) {
            let id = TaskId::from_i64(number);
            prop_assert_eq!(id.to_string().parse::<TaskId>().unwrap(), id);
        }

        #[test]
        fn ids_grow_even_when_the_clock_goes_back(last in 0..i64::MAX / 2, now_ms in 0..2_000_000_000_000_i64, low: u32) {
            let last = TaskId::from_i64(last);
            prop_assert!(TaskId::next(last, now_ms, low) > last);
        }

        #[test]
        fn no_text_makes_it_panic(text in ".{0,30}") {
            let _ = text.parse::<TaskId>();
        }
    }

    #[test]
    fn an_id_tells_when_its_task_was_created() {
        let id = TaskId::next(TaskId::from_i64(0), 1_700_000_000_123, 77);
        assert_eq!(id.created_at().timestamp_millis(), 1_700_000_000_123);
    }
}
