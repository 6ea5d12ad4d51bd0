use std::{fmt, str::FromStr};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::{
    error::{Error, ErrorCode},
    model::{Seq, TaskId},
};

/// Says how the bytes are laid out, and that they are an event cursor.
const FORMAT: u8 = 1;
const BYTES: usize = 25;

/// Names an event: "after this one". Its text is opaque to clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EventCursor {
    /// The store's generation.
    pub generation: u64,
    /// The event's task.
    pub task: TaskId,
    /// The event's number in its task; 0: before the first.
    pub seq: Seq,
}

impl EventCursor {
    /// The `seq` this cursor names, if it is a cursor of that task in that store; else `CURSOR_INVALID`.
    pub fn seq_in(&self, generation: u64, task: TaskId) -> Result<Seq, Error> {
        if self.generation != generation {
            let message = "the cursor is of another store, perhaps one that was deleted or restored: start without it";
            return Err(Error::new(ErrorCode::CursorInvalid, message));
        }
        if self.task != task {
            let message = format!("the cursor is of task {}, not of {task}", self.task);
            return Err(Error::new(ErrorCode::CursorInvalid, message));
        }
        Ok(self.seq)
    }
}

impl fmt::Display for EventCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = [FORMAT; BYTES];
        bytes[1..9].copy_from_slice(&self.generation.to_be_bytes());
        bytes[9..17].copy_from_slice(&self.task.as_i64().to_be_bytes());
        bytes[17..].copy_from_slice(&self.seq.to_be_bytes());
        f.write_str(&URL_SAFE_NO_PAD.encode(bytes))
    }
}

/// The text is not an event cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an event cursor: use the `cursor` of an event or a task, unchanged")]
pub struct InvalidCursor;

impl From<InvalidCursor> for Error {
    fn from(error: InvalidCursor) -> Self {
        Self::new(ErrorCode::CursorInvalid, error.to_string())
    }
}

impl FromStr for EventCursor {
    type Err = InvalidCursor;

    fn from_str(text: &str) -> Result<Self, InvalidCursor> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| InvalidCursor)?;
        let bytes: [u8; BYTES] = bytes.try_into().map_err(|_| InvalidCursor)?;
        let number = |at: usize| {
            let mut eight = [0; 8];
            eight.copy_from_slice(&bytes[at..at + 8]);
            u64::from_be_bytes(eight)
        };
        if bytes[0] != FORMAT {
            return Err(InvalidCursor);
        }
        let task = TaskId::from_i64(number(9).cast_signed());
        Ok(Self { generation: number(1), task, seq: number(17) })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn text_and_cursor_are_the_same(generation: u64, task in 0..i64::MAX, seq: u64) {
            let cursor = EventCursor { generation, task: TaskId::from_i64(task), seq };
            prop_assert_eq!(cursor.to_string().parse::<EventCursor>(), Ok(cursor));
        }

        #[test]
        fn no_text_makes_it_panic(text in ".{0,60}") {
            let _ = text.parse::<EventCursor>();
        }
    }

    #[test]
    fn a_cursor_of_another_store_or_task_is_refused() {
        let cursor = EventCursor { generation: 1, task: TaskId::from_i64(2), seq: 3 };
        assert_eq!(cursor.seq_in(1, TaskId::from_i64(2)), Ok(3));
        for (generation, task) in [(9, 2), (1, 9)] {
            let error = cursor.seq_in(generation, TaskId::from_i64(task)).unwrap_err();
            assert_eq!(error.code(), ErrorCode::CursorInvalid);
        }
    }
}
