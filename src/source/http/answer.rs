//! Rows of an answer.

use std::{str, sync::Arc};

use futures::{StreamExt, stream, stream::BoxStream};
use reqwest::Response;

use super::{HttpFormat, exchange::Exchange};
use crate::{
    model::Json,
    source::{Row, SourceError},
};

/// What some programs write before a text to say that it is UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
/// An answer up to this size is parsed where it arrives, a larger one on a thread that may block, in bytes.
const PARSE_AT_ONCE_BYTES: usize = 256 << 10;

/// The rows of this answer.
pub(super) fn rows(response: Response, exchange: Arc<Exchange>) -> BoxStream<'static, Result<Row, SourceError>> {
    match exchange.format {
        HttpFormat::Json => stream::once(whole(response, exchange)).boxed(),
        HttpFormat::NdJson => {
            let lines = Lines {
                response,
                exchange,
                buffer: Vec::new(),
                begin: 0,
                searched: 0,
                line: 0,
                blank_bytes: 0,
                ended: false,
            };
            let next = |mut lines: Lines| async move { Some((lines.next().await?, lines)) };
            stream::unfold(lines, next).boxed()
        }
    }
}

async fn whole(mut response: Response, exchange: Arc<Exchange>) -> Result<Row, SourceError> {
    let max_bytes = exchange.max_bytes;
    let within = |bytes: u64| {
        if bytes <= max_bytes {
            return Ok(());
        }
        Err(SourceError::limit(&exchange.source, "max_bytes", format!("{max_bytes} bytes")))
    };
    let status = response.status();
    within(response.content_length().unwrap_or(0))?;
    let mut body = Vec::new();
    while let Some(bytes) = response.chunk().await.map_err(|error| exchange.broken(&error))? {
        within((body.len() + bytes.len()) as u64)?;
        body.extend_from_slice(&bytes);
    }
    if body.is_empty() {
        return Err(exchange.failed(&format!("was answered without content (status {status}), and not with JSON")));
    }
    let value = if body.len() <= PARSE_AT_ONCE_BYTES {
        parse(without_mark(&body))
    } else {
        let parsed = tokio::task::spawn_blocking(move || parse(without_mark(&body))).await;
        parsed.unwrap_or_else(|_| Err("what could not be read".to_owned()))
    };
    let value = value.map_err(|what| exchange.failed(&format!("was answered with {what}")))?;
    Ok(Row { value, metadata: None })
}

fn without_mark(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes)
}

/// The error fits behind "was answered with ", and has nothing of the answer in it.
fn parse(bytes: &[u8]) -> Result<Json, String> {
    let text = str::from_utf8(bytes).map_err(|error| format!("what is not JSON: {error}"))?;
    Json::parse_readable(text).map_err(|error| match Json::parse(text) {
        Ok(_) => format!("JSON that not everybody can read: {error}"),
        Err(_) => format!("what is not JSON: {error}"),
    })
}

/// Newline-delimited JSON, as it arrives.
struct Lines {
    response: Response,
    exchange: Arc<Exchange>,
    buffer: Vec<u8>,
    /// Where the line begins that is next.
    begin: usize,
    /// How far it was searched for its end.
    searched: usize,
    /// Its number.
    line: u64,
    /// What was received beside rows: white space around them and between them, in bytes.
    blank_bytes: u64,
    ended: bool,
}

impl Lines {
    async fn next(&mut self) -> Option<Result<Row, SourceError>> {
        let row = self.row().await.transpose();
        if matches!(row, Some(Err(_))) {
            // It is the last item.
            self.ended = true;
            self.buffer.clear();
            (self.begin, self.searched) = (0, 0);
        }
        row
    }

    async fn row(&mut self) -> Result<Option<Row>, SourceError> {
        loop {
            let Some(line) = self.take_line() else {
                if self.ended {
                    return Ok(None);
                }
                self.fits(self.buffer.len() - self.begin)?;
                self.receive().await?;
                continue;
            };
            self.line += 1;
            self.fits(line.len())?;
            let bytes = &self.buffer[line.clone()];
            let bytes = if self.line == 1 { without_mark(bytes) } else { bytes }.trim_ascii();
            self.blank_bytes += (line.len() + 1 - bytes.len()) as u64;
            let max_bytes = self.exchange.max_bytes;
            if self.blank_bytes > max_bytes {
                return Err(SourceError::limit(&self.exchange.source, "max_bytes", format!("{max_bytes} bytes")));
            }
            if !bytes.is_empty() {
                let value = parse(bytes)
                    .map_err(|what| self.exchange.failed(&format!("was answered on line {} with {what}", self.line)))?;
                return Ok(Some(Row { value, metadata: None }));
            }
        }
    }

    fn fits(&self, line_bytes: usize) -> Result<(), SourceError> {
        let max_row_bytes = self.exchange.max_row_bytes;
        if line_bytes <= max_row_bytes {
            return Ok(());
        }
        Err(SourceError::limit(&self.exchange.source, "max_row_bytes", format!("{max_row_bytes} bytes")))
    }

    /// The next whole line; at the end what is left.
    fn take_line(&mut self) -> Option<std::ops::Range<usize>> {
        let found = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n');
        let (end, next) = match found {
            Some(at) => (self.searched + at, self.searched + at + 1),
            None if self.ended && self.begin < self.buffer.len() => (self.buffer.len(), self.buffer.len()),
            None => {
                self.searched = self.buffer.len();
                return None;
            }
        };
        let line = self.begin..end;
        (self.begin, self.searched) = (next, next);
        Some(line)
    }

    async fn receive(&mut self) -> Result<(), SourceError> {
        self.buffer.drain(..self.begin);
        self.searched -= self.begin;
        self.begin = 0;
        match self.response.chunk().await.map_err(|error| self.exchange.broken(&error))? {
            Some(bytes) => self.buffer.extend_from_slice(&bytes),
            None => self.ended = true,
        }
        Ok(())
    }
}
