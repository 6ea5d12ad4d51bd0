//! Any program as the work of a kind.
//!
//! # What a program sees
//!
//! Its stdin holds the task's input, as one line of JSON. The input is nowhere on its command line, unless the command
//! has a place for a field of it (`{input.width}`), which becomes one argument; no shell is involved. It runs in its
//! folder, with a few variables of the server's environment ([`PASSED_ON`]), those that were configured, and
//! `MEANWHILE_TASK` and `MEANWHILE_ATTEMPT`.
//!
//! # What it can say
//!
//! On stdout, a line that is a JSON object with one of these keys is a message:
//!
//! | message | means |
//! | --- | --- |
//! | `{"progress": 42}` | a percentage |
//! | `{"progress": {"done": 3, "total": 10, "message": "resizing"}}` | how many of how many; each may be left out |
//! | `{"chunk": …}` | a piece of data: any value that every reader of JSON takes |
//! | `{"log": "text"}`, `{"log": {"level": "WARN", "message": "text"}}` | a log line |
//! | `{"result": …}` | the task's result, once the program has succeeded; the last one counts |
//!
//! Any other line, and every line on stderr, is a log line. Log lines that come together are one event. A line that
//! ends with a bare carriage return is left out when the next is there already. What is not valid UTF-8 and what is
//! too long is marked. Beyond `max_log_bytes` log lines are left out. Output is read as fast as it can be recorded: a
//! program that is faster waits.
//!
//! # How it ends
//!
//! | end | the attempt |
//! | --- | --- |
//! | an exit code of `success_exit_codes` | completes with the last result, or `null` |
//! | another exit code | fails with `PROGRAM_FAILED`, the last lines, and no retry for `no_retry_exit_codes` |
//! | a signal | fails with `PROGRAM_KILLED` |
//! | it cannot be started | fails with `PROGRAM_NOT_STARTED`; while the system is short of processes, open files or memory, the attempt waits |
//! | a result or chunk that cannot be recorded | fails with `PROGRAM_FAILED` |
//! | over a limit of chunks or results | fails with `LIMIT_EXCEEDED` |
//! | over the time limit, or the task's deadline | fails with `TIMEOUT` or `DEADLINE_EXCEEDED`, and the last lines |
//!
//! The attempt ends when the *last* process of the program has ended, whose output is then recorded. Processes that the program leaves behind have
//! `leftover_grace_ms` to end by themselves, then they are killed.
//!
//! Over its time it gets SIGKILL, and no SIGTERM before. When the task is cancelled or the server shuts down, all processes get SIGTERM, and after `stop_grace_ms` SIGKILL. A
//! program that ends with an exit code of success then has completed: one that stopped half-way says another.
//!
//! # How it is kept under control
//!
//! Each program runs under a guard, see `guard`: nothing of it outlives its attempt or the server, however they end.
//! Only on Linux; elsewhere a kind with a command is an error of the configuration.

#[cfg(target_os = "linux")]
mod earlier;
#[cfg(target_os = "linux")]
pub mod guard;
#[cfg(target_os = "linux")]
mod guarded;
mod interpreter;
#[cfg(target_os = "linux")]
mod job;
#[cfg(target_os = "linux")]
mod lines;
#[cfg(target_os = "linux")]
mod message;
mod options;
#[cfg(target_os = "linux")]
mod outcome;
#[cfg(target_os = "linux")]
mod output;
#[cfg(target_os = "linux")]
mod shortage;
mod template;

#[cfg(target_os = "linux")]
pub use self::{guarded::GuardExecutable, job::ProgramJob};
pub use self::{
    options::{PASSED_ON, ProgramOptions},
    template::{CommandTemplate, InvalidCommand},
};
