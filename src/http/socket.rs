use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::OwnedSemaphorePermit,
};

use super::alarm::Alarm;
use crate::clock::Clock;

/// How long what a client still sends is read and thrown away when the server has said its last.
const LINGER: Duration = Duration::from_secs(1);

/// A client's connection, which breaks when the client takes nothing of what is sent for too long. Whatever is spoken
/// on it ends then.
///
/// It is not closed before the client is: a connection that is closed with something unread is reset, and a reset can
/// overtake an answer, such as that a body is too large.
pub(super) struct Socket {
    stream: TcpStream,
    clock: Arc<dyn Clock>,
    write_timeout: Duration,
    deadline: Alarm,
    lingers: bool,
    _place: OwnedSemaphorePermit,
}

impl Socket {
    /// `place` is given back when it is closed.
    pub(super) fn new(
        stream: TcpStream,
        place: OwnedSemaphorePermit,
        clock: Arc<dyn Clock>,
        write_timeout: Duration,
    ) -> Self {
        Self { stream, clock, write_timeout, deadline: Alarm::default(), lingers: false, _place: place }
    }

    fn wrote(&mut self, cx: &mut Context<'_>, polled: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if polled.is_ready() {
            self.deadline.clear();
            return polled;
        }
        if !self.deadline.is_set() {
            self.deadline.set(&*self.clock, self.write_timeout);
        }
        if self.deadline.has_come(cx) {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not read")));
        }
        Poll::Pending
    }
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.wrote(cx, polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.wrote(cx, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.lingers {
            ready!(Pin::new(&mut this.stream).poll_shutdown(cx))?;
            this.lingers = true;
            this.deadline.set(&*this.clock, LINGER);
        }
        let mut scratch = [0; 4096];
        while !this.deadline.has_come(cx) {
            let mut unread = ReadBuf::new(&mut scratch);
            match ready!(Pin::new(&mut this.stream).poll_read(cx, &mut unread)) {
                Ok(()) if !unread.filled().is_empty() => {}
                Ok(()) | Err(_) => break,
            }
        }
        Poll::Ready(Ok(()))
    }
}
