//! A guard, as the server sees it: starting it, and talking to it.

use std::{
    io,
    os::{fd::OwnedFd, unix::net::UnixStream as StdUnixStream},
    path::PathBuf,
    process::Stdio,
};

use serde::Serialize;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    process::{Child, ChildStderr, ChildStdout, Command},
};

use super::guard::Report;

/// The executable that guards programs: one whose command `guard` is [`guard::run`](super::guard::run).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuardExecutable(PathBuf);

impl GuardExecutable {
    /// The program that runs here. It must be `meanwhile`, or one that does what [`Cli`](crate::cli::Cli) does with the
    /// command `guard`. It stays the same one when its file is replaced.
    pub fn this_one() -> Self {
        Self("/proc/self/exe".into())
    }

    /// The `meanwhile` program in this file: for applications that embed the library.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// Starts a guard, which waits for what it is to run. Blocks for about a millisecond. Must be called within a
    /// Tokio runtime.
    pub(super) fn start(&self, label: &str) -> io::Result<Guarded> {
        let (ours, its) = StdUnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let mut child = Command::new(&self.0)
            .arg0("meanwhile")
            .args(["guard", label])
            // It has no use for the server's environment, which may hold secrets.
            .env_clear()
            .stdin(Stdio::from(OwnedFd::from(its)))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let missing = || io::Error::other("a pipe is missing");
        let stdout = child.stdout.take().ok_or_else(missing)?;
        let stderr = child.stderr.take().ok_or_else(missing)?;
        let (reports, orders) = UnixStream::from_std(ours)?.into_split();
        let line = Line { reports: BufReader::new(reports).lines(), orders };
        Ok(Guarded { child, line, stdout, stderr })
    }
}

/// A guard that was started. When it is dropped, the guard ends all processes of the program.
#[derive(Debug)]
pub(super) struct Guarded {
    pub(super) child: Child,
    pub(super) line: Line,
    pub(super) stdout: ChildStdout,
    pub(super) stderr: ChildStderr,
}

/// The line to a guard.
#[derive(Debug)]
pub(super) struct Line {
    reports: Lines<BufReader<OwnedReadHalf>>,
    orders: OwnedWriteHalf,
}

impl Line {
    /// Says something to the guard. One that is gone does not hear it: `hear` tells.
    pub(super) async fn say<T: Serialize>(&mut self, message: &T) {
        let Ok(mut line) = serde_json::to_vec(message) else { return };
        line.push(b'\n');
        let _ = self.orders.write_all(&line).await;
    }

    /// What the guard says next; `None` when it is gone.
    pub(super) async fn hear(&mut self) -> Option<Report> {
        serde_json::from_str(&self.reports.next_line().await.ok()??).ok()
    }
}
