//! WebSocket messages on a connection that was HTTP.
//!
//! The protocol is tungstenite's. It is polled here, and not by a wrapper for general use, because a connection's task
//! knows at each poll whom to wake: nothing about wakers has to be kept, and fetched again for each event.

use std::{
    future::poll_fn,
    io::{self, Read, Write},
    pin::Pin,
    task::{Context, Poll, ready},
};

use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tungstenite::{
    Error, Message,
    protocol::{Role, WebSocketConfig, WebSocketContext},
};

/// A client's end of the line.
pub(super) struct Socket {
    protocol: WebSocketContext,
    stream: TokioIo<Upgraded>,
    /// A message was taken that could not be written yet.
    full: bool,
    /// Nothing more can be read.
    ended: bool,
}

impl Socket {
    pub(super) fn new(upgraded: Upgraded, config: WebSocketConfig) -> Self {
        let protocol = WebSocketContext::new(Role::Server, Some(config));
        Self { protocol, stream: TokioIo::new(upgraded), full: false, ended: false }
    }

    /// Reads a message; `None` after the last one.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Message, Error>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let read = ready!(pending(self.protocol.read(&mut Io { stream: &mut self.stream, cx })));
        self.ended = read.is_err();
        Poll::Ready(match read {
            Err(Error::AlreadyClosed | Error::ConnectionClosed) => None,
            read => Some(read),
        })
    }

    /// Whether a message can be taken: none is while an earlier one cannot be written.
    pub(super) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if self.full { self.poll_flush(cx) } else { Poll::Ready(Ok(())) }
    }

    /// Takes a message, and writes it once enough have gathered. It must be ready for that.
    pub(super) fn start_send(&mut self, message: Message, cx: &mut Context<'_>) -> Result<(), Error> {
        match pending(self.protocol.write(&mut Io { stream: &mut self.stream, cx }, message)) {
            Poll::Ready(written) => written,
            Poll::Pending => {
                self.full = true;
                Ok(())
            }
        }
    }

    /// Writes everything that was taken.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let flushed = ready!(pending(self.protocol.flush(&mut Io { stream: &mut self.stream, cx })));
        self.full = false;
        Poll::Ready(match flushed {
            // The goodbye has left: that is what was to be written.
            Err(Error::ConnectionClosed) => Ok(()),
            flushed => flushed,
        })
    }

    /// Sends a message.
    pub(super) async fn send(&mut self, message: Message) -> Result<(), Error> {
        let mut message = Some(message);
        poll_fn(|cx| {
            if let Some(message) = message.take() {
                self.start_send(message, cx)?;
            }
            self.poll_flush(cx)
        })
        .await
    }

    /// Waits for a message.
    pub(super) async fn next(&mut self) -> Option<Result<Message, Error>> {
        poll_fn(|cx| self.poll_next(cx)).await
    }
}

/// The stream, for a library that asks whether something would block.
struct Io<'a, 'cx> {
    stream: &'a mut TokioIo<Upgraded>,
    cx: &'a mut Context<'cx>,
}

impl Read for Io<'_, '_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let mut buffer = ReadBuf::new(bytes);
        blocking(Pin::new(&mut *self.stream).poll_read(self.cx, &mut buffer))?;
        Ok(buffer.filled().len())
    }
}

impl Write for Io<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        blocking(Pin::new(&mut *self.stream).poll_write(self.cx, bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        blocking(Pin::new(&mut *self.stream).poll_flush(self.cx))
    }
}

fn blocking<T>(polled: Poll<io::Result<T>>) -> io::Result<T> {
    match polled {
        Poll::Ready(result) => result,
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}

fn pending<T>(result: Result<T, Error>) -> Poll<Result<T, Error>> {
    match result {
        Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
        result => Poll::Ready(result),
    }
}
