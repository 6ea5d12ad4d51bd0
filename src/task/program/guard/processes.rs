//! Finding processes in `/proc`, and sending them signals.

use std::{fs, io, str::FromStr};

use rustix::{
    io::Errno,
    process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal},
};

/// A process, as it was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) pid: Pid,
    parent: i32,
    session: i32,
    /// With the pid it names one process for as long as the machine is up.
    start_time: u64,
    /// It has ended; only its parent has not noticed.
    ended: bool,
}

impl Process {
    fn read(pid: i32) -> Option<Self> {
        fs::read_to_string(format!("/proc/{pid}/stat")).ok()?.parse().ok()
    }

    /// Sends a signal, unless another process has the pid by now. Whether there was one to send it to.
    pub(super) fn signal(&self, signal: Signal) -> io::Result<bool> {
        let sent = pidfd_open(self.pid, PidfdFlags::empty()).and_then(|handle| {
            // Seen after the handle was taken: so the handle is that of the process seen before.
            match Self::read(self.pid.as_raw_pid()) {
                Some(now) if now.start_time == self.start_time => pidfd_send_signal(handle, signal).map(|()| true),
                _ => Ok(false),
            }
        });
        match sent {
            Err(Errno::SRCH) => Ok(false),
            other => Ok(other?),
        }
    }
}

impl FromStr for Process {
    type Err = ();

    /// A line of `/proc/PID/stat`: `PID (NAME) STATE PARENT …`, where the name may hold anything.
    fn from_str(line: &str) -> Result<Self, ()> {
        let (pid, rest) = line.split_once(" (").ok_or(())?;
        let (_, rest) = rest.rsplit_once(") ").ok_or(())?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        let number = |at: usize| fields.get(at).ok_or(());
        Ok(Self {
            pid: pid.parse().ok().and_then(Pid::from_raw).ok_or(())?,
            parent: number(1)?.parse().map_err(|_| ())?,
            session: number(3)?.parse().map_err(|_| ())?,
            start_time: number(19)?.parse().map_err(|_| ())?,
            ended: matches!(*number(0)?, "Z" | "X"),
        })
    }
}

/// All processes there are.
fn all() -> io::Result<Vec<Process>> {
    let mut all = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        // Others are no processes; one that is gone by now is none of ours.
        all.extend(name.to_str().and_then(|name| name.parse().ok()).and_then(Process::read));
    }
    Ok(all)
}

/// Sends SIGKILL to the processes of a session. How many there were.
pub(in crate::task::program) fn kill_session(session: Pid) -> io::Result<usize> {
    let all = all()?;
    let members = all.iter().filter(|process| process.session == session.as_raw_pid() && !process.ended);
    // One that may not be reached is counted all the same: it is still there.
    let mut count = 0;
    for process in members {
        count += 1;
        let _ = process.signal(Signal::KILL);
    }
    Ok(count)
}

/// All processes that descend from this one and have not ended.
pub(super) fn descendants(of: Pid) -> io::Result<Vec<Process>> {
    let all = all()?;
    let mut found: Vec<Process> = Vec::new();
    let mut parents = vec![of.as_raw_pid()];
    while let Some(parent) = parents.pop() {
        for child in all.iter().filter(|process| process.parent == parent) {
            parents.push(child.pid.as_raw_pid());
            found.push(*child);
        }
    }
    found.retain(|process| !process.ended);
    Ok(found)
}

/// Sends SIGKILL to the children of this process. How many could be reached, and those that could not.
///
/// A child's pid is its own until its parent waits for it, so a kill by pid cannot hit another process.
pub(super) fn kill_children(of: Pid) -> io::Result<(usize, Vec<Pid>)> {
    let children = descendants(of)?.into_iter().filter(|process| process.parent == of.as_raw_pid());
    let mut reached = 0;
    let mut out_of_reach = Vec::new();
    for child in children {
        match kill_process(child.pid, Signal::KILL) {
            Err(Errno::PERM) => out_of_reach.push(child.pid),
            _ => reached += 1,
        }
    }
    Ok((reached, out_of_reach))
}

#[cfg(test)]
mod tests {
    use rustix::process::getpid;

    use super::*;

    const LINE: &str = "4242 (a) R 1 (b) S 17 4242 4241 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 1 0 987654 1 1 1";

    #[test]
    fn a_name_may_hold_anything() {
        let process: Process = LINE.parse().unwrap();
        let numbers = (process.pid.as_raw_pid(), process.parent, process.session, process.start_time);
        assert_eq!(numbers, (4242, 17, 4241, 987_654));
        assert!(!process.ended);
        for line in ["", "1", "1 (a)", "x (a) S 1", "1 (a) S"] {
            assert!(line.parse::<Process>().is_err(), "{line}");
        }
    }

    #[test]
    fn a_process_that_was_replaced_gets_no_signal() {
        let this = Process::read(getpid().as_raw_pid()).unwrap();
        let earlier = Process { start_time: this.start_time + 1, ..this };
        assert!(!earlier.signal(Signal::KILL).unwrap());
    }
}
