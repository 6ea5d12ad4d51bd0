//! A program's output, on its way to the journal: messages as what they mean, any other line as a log line.

use std::{
    collections::VecDeque,
    io,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio_util::sync::CancellationToken;

use super::{
    ProgramOptions,
    lines::{End, Line, Splitter},
    message::{Lost, Meaning, Message},
};
use crate::{
    model::{Json, LogLevel, code},
    task::{JobContext, JobError, Retry},
};

/// What is read at once from a pipe, which holds twice as much.
const BUFFER_BYTES: usize = 32 << 10;
/// What a message has beside its value.
const ENVELOPE_BYTES: usize = 1 << 10;
/// Room for a mark at the end of a line.
const MARK_BYTES: usize = 64;
/// Lines that are kept to explain a failure.
const LAST_LINES: usize = 20;
/// Length of such a line.
const LAST_LINE_BYTES: usize = 500;
/// How long it waits for more from a pipe that a process beyond the guard's reach holds open.
const STRAY_PATIENCE: Duration = Duration::from_secs(1);

/// Which of the two it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stream {
    /// Messages and lines.
    Stdout,
    /// Lines only.
    Stderr,
}

/// The output of one attempt.
pub(super) struct Output<'a> {
    ctx: &'a JobContext,
    options: &'a ProgramOptions,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    result: Option<Json>,
    /// Why the last result could not be understood.
    lost_result: Option<String>,
    /// What was logged.
    log_bytes: usize,
    last_lines: VecDeque<(Stream, String)>,
}

/// What is left of the output when all was read.
#[derive(Debug, Default)]
pub(super) struct Rest {
    /// The last result that the program gave.
    pub(super) result: Option<Json>,
    /// The last one was none, for this reason.
    pub(super) lost_result: Option<String>,
    /// Its last lines, oldest first.
    pub(super) last_lines: Vec<String>,
    /// The one that explains a failure best.
    pub(super) last_words: Option<String>,
}

impl<'a> Output<'a> {
    pub(super) fn new(ctx: &'a JobContext, options: &'a ProgramOptions) -> Self {
        Self { ctx, options, state: Mutex::default() }
    }

    /// Reads a stream to its end. Reads no faster than the store takes what is recorded: then the program waits.
    ///
    /// When `ended` is cancelled, no process of the program is left, and what still comes is only waited for briefly.
    pub(super) async fn read(
        &self,
        stream: Stream,
        mut pipe: impl AsyncRead + Unpin,
        ended: &CancellationToken,
    ) -> Result<(), JobError> {
        let limits = &self.ctx.options;
        let max_message_bytes = limits.max_result_bytes.max(limits.max_chunk_bytes) + ENVELOPE_BYTES;
        let mut splitter = Splitter::new(max_message_bytes, limits.max_message_bytes.saturating_sub(MARK_BYTES));
        let mut buffer = vec![0; BUFFER_BYTES];
        let mut lines = Vec::new();
        loop {
            let count = tokio::select! {
                biased;
                count = pipe.read(&mut buffer) => match count {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    count => count?,
                },
                () = self.is_over(ended) => 0,
            };
            if count == 0 {
                break;
            }
            splitter.push(&buffer[..count], |line| lines.push(line));
            self.take(stream, lines.drain(..)).await?;
        }
        self.take(stream, splitter.finish().into_iter()).await
    }

    async fn is_over(&self, ended: &CancellationToken) {
        ended.cancelled().await;
        self.ctx.clock().sleep(STRAY_PATIENCE).await;
    }

    /// Records lines that came together. Those for people go together too, as far as one log line allows.
    async fn take(&self, stream: Stream, lines: impl Iterator<Item = Line>) -> Result<(), JobError> {
        let mut lines = lines.peekable();
        let mut text = String::new();
        while let Some(line) = lines.next() {
            let is_overwritten = line.end == End::Overwritten && lines.peek().is_some();
            let shown = shown(&line);
            let meaning = match stream {
                Stream::Stderr => Meaning::Text,
                Stream::Stdout if line.end == End::Cut && line.bytes.trim_ascii_start().first() == Some(&b'{') => {
                    return Err(self.too_long(line.bytes.len()));
                }
                Stream::Stdout if std::str::from_utf8(&line.bytes).is_err() => {
                    Meaning::of_altered(&String::from_utf8_lossy(&line.bytes))
                }
                Stream::Stdout => Meaning::of(&shown),
            };
            match meaning {
                Meaning::Messages(messages) => {
                    self.log(stream, &mut text).await?;
                    for message in messages {
                        self.obey(message).await?;
                    }
                }
                Meaning::Malformed(why, lost) => {
                    self.log(stream, &mut text).await?;
                    self.log_as(LogLevel::Warn, format!("a message was not understood, {why}: {shown}")).await?;
                    match lost {
                        // It can come yet: the last one counts.
                        Some(Lost::Result) => self.lock().lost_result = Some(why),
                        Some(Lost::Chunk) => return Err(lost_value(Lost::Chunk, &why)),
                        None => {}
                    }
                }
                Meaning::Text if is_overwritten => {}
                Meaning::Text => {
                    self.remember(stream, &shown);
                    if self.is_full() {
                        continue;
                    }
                    if text.len() + 1 + shown.len() > self.ctx.options.max_message_bytes {
                        self.log(stream, &mut text).await?;
                    }
                    if !text.is_empty() {
                        text.push('\n');
                    }
                    text.push_str(&shown);
                }
            }
        }
        self.log(stream, &mut text).await
    }

    async fn obey(&self, message: Message) -> Result<(), JobError> {
        match message {
            Message::Log(level, message) => self.log_as(level, message).await?,
            Message::Progress(progress) => self.ctx.progress(progress),
            Message::Chunk(value) => self.ctx.chunk_json(value).await?,
            Message::Result(value) => {
                let mut state = self.lock();
                (state.result, state.lost_result) = (Some(value), None);
            }
        }
        Ok(())
    }

    /// Whether no log line is recorded any more.
    fn is_full(&self) -> bool {
        self.lock().log_bytes > self.options.max_log_bytes
    }

    async fn log(&self, stream: Stream, text: &mut String) -> Result<(), JobError> {
        let level = match stream {
            Stream::Stdout => LogLevel::Info,
            Stream::Stderr => self.options.stderr_level,
        };
        let text = std::mem::take(text);
        if text.trim().is_empty() { Ok(()) } else { self.log_as(level, text).await }
    }

    async fn log_as(&self, level: LogLevel, message: String) -> Result<(), JobError> {
        let limit = self.options.max_log_bytes;
        let before = {
            let mut state = self.lock();
            let before = state.log_bytes;
            state.log_bytes = before.saturating_add(message.len());
            before
        };
        if before > limit {
            return Ok(());
        }
        if before.saturating_add(message.len()) > limit {
            let message = format!("the program writes more than `max_log_bytes` ({limit} bytes): the rest is left out");
            self.ctx.log(LogLevel::Warn, message).await?;
        } else {
            self.ctx.log(level, message).await?;
        }
        Ok(())
    }

    fn too_long(&self, bytes: usize) -> JobError {
        let limits = &self.ctx.options;
        let message = format!(
            "a line that begins with `{{` has more than {bytes} bytes; the limits `max_chunk_bytes` and \
             `max_result_bytes` allow values of {} and {}",
            limits.max_chunk_bytes, limits.max_result_bytes
        );
        JobError::new(message).code(code::LIMIT_EXCEEDED).retry(Retry::Never)
    }

    fn remember(&self, stream: Stream, line: &str) {
        let line = line.trim_end();
        if line.is_empty() {
            return;
        }
        let mut state = self.lock();
        if state.last_lines.len() == LAST_LINES {
            state.last_lines.pop_front();
        }
        state.last_lines.push_back((stream, line[..line.floor_char_boundary(LAST_LINE_BYTES)].to_owned()));
    }

    /// What is left when all was read.
    pub(super) fn rest(&self) -> Rest {
        let state = std::mem::take(&mut *self.lock());
        let last = |of: Stream| state.last_lines.iter().rev().find(|(stream, _)| *stream == of);
        let last_words = last(Stream::Stderr).or_else(|| last(Stream::Stdout)).map(|(_, line)| line.clone());
        let last_lines = state.last_lines.into_iter().map(|(_, line)| line).collect();
        Rest { result: state.result, lost_result: state.lost_result, last_lines, last_words }
    }

    /// A std mutex: held for moments, never across an await.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The attempt fails: what the program gave is not there.
pub(super) fn lost_value(lost: Lost, why: &str) -> JobError {
    let message = format!("the program gave a `{}` that cannot be recorded, {why}", lost.key());
    JobError::new(message).code(code::PROGRAM_FAILED)
}

/// A line as it is shown: valid UTF-8, and marked where it is not what the program wrote.
fn shown(line: &Line) -> String {
    let mut shown = match std::str::from_utf8(&line.bytes) {
        Ok(text) => text.to_owned(),
        // The limit may fall within a character.
        Err(error) if line.end == End::Cut && error.error_len().is_none() => {
            String::from_utf8_lossy(&line.bytes[..error.valid_up_to()]).into_owned()
        }
        Err(_) => String::from_utf8_lossy(&line.bytes).into_owned() + " … (not valid UTF-8)",
    };
    if line.end == End::Cut {
        shown.push_str(" … (cut)");
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_marked_where_it_differs() {
        let shown = |bytes: &[u8], end| shown(&Line { bytes: bytes.to_vec(), end });
        assert_eq!(shown("grün".as_bytes(), End::Whole), "grün");
        assert_eq!(shown(b"a\xffb", End::Whole), "a\u{fffd}b … (not valid UTF-8)");
        assert_eq!(shown(&"grün".as_bytes()[..3], End::Cut), "gr … (cut)");
    }
}
