//! What the server and a guard say to each other: JSON, one message per line, over a socket pair.

use std::{ffi::OsString, path::PathBuf};

use serde::{Deserialize, Serialize};

use crate::model::Json;

/// The server's first word: what to run.
#[derive(Serialize, Deserialize)]
pub(in crate::task::program) struct Launch {
    /// The program and its arguments.
    pub(in crate::task::program) command: Vec<OsString>,
    /// Where it runs.
    pub(in crate::task::program) folder: PathBuf,
    /// What messages call that.
    pub(in crate::task::program) shown_folder: String,
    /// All that its environment has. May hold secrets.
    pub(in crate::task::program) environment: Vec<(OsString, OsString)>,
    /// What it reads from stdin.
    pub(in crate::task::program) input: Json,
    /// What no two guards hold at once: whose program it is.
    pub(in crate::task::program) lock: String,
    /// How long processes that the program left behind may go on, in milliseconds.
    pub(in crate::task::program) leftover_grace_ms: u64,
    /// The soft limit of open files that it gets; none: that of the guard.
    pub(in crate::task::program) max_open_files: Option<u64>,
}

/// What the server asks for later. That it says nothing any more, because it has hung up, means [`Order::Kill`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::task::program) enum Order {
    /// Send SIGTERM to all processes.
    Terminate,
    /// Send SIGKILL to all processes, until none is left.
    Kill,
}

/// What a guard tells. `Ended` and `NotStarted` are its last words.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::task::program) enum Report {
    /// The program runs.
    Started,
    /// The program could not be started.
    NotStarted {
        /// What the system says.
        message: String,
        /// Whether it could work another time.
        retryable: bool,
        /// Whether the system was short of something: then it is tried again soon.
        short: bool,
    },
    /// An order was carried out.
    Signalled {
        /// Which.
        order: Order,
        /// To how many processes.
        processes: usize,
    },
    /// The program has ended; processes that it started may still run.
    Exited(Exit),
    /// The program ended and left processes behind, which did not end by themselves: they are being ended.
    Leftovers {
        /// How many.
        processes: usize,
    },
    /// No process is left, but those.
    Ended {
        /// Processes that may not be ended by this user.
        out_of_reach: Vec<i32>,
    },
}

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::task::program) enum Exit {
    /// By itself, with this exit code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}
