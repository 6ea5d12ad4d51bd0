//! How many files the system lets this process open, and so how many connections it may have: they must not take from
//! the store, from programs and from sources what those need.

/// The most that is kept for everything but connections.
const MAX_KEPT: usize = 1024;

/// Raises the soft limit of open files to the hard one, as a process may that does not use `select`. Gives the soft limit
/// that was there before, which other programs should have; `None`: nothing was changed.
#[cfg(target_os = "linux")]
pub(super) fn raise_limit() -> Option<u64> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return None;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        Ok(()) => limit.current,
        Err(error) => {
            tracing::info!(%error, "the limit of open files stays as it is");
            None
        }
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) fn raise_limit() -> Option<u64> {
    None
}

/// As many connections as are wanted, and fit.
pub(super) fn max_sockets(wanted: usize) -> usize {
    let Some(open_files) = allowed() else { return wanted };
    let fit = beside_others(open_files);
    if wanted > fit {
        tracing::info!(
            "connections are limited to {fit} instead of `server.max_sockets`, {wanted}: the system allows this process \
             {open_files} open files (see `ulimit -Hn`, or LimitNOFILE= of systemd)"
        );
    }
    wanted.min(fit)
}

fn beside_others(open_files: usize) -> usize {
    open_files - (open_files / 2).min(MAX_KEPT)
}

/// `None`: nobody says.
#[cfg(target_os = "linux")]
fn allowed() -> Option<usize> {
    use rustix::process::{Resource, getrlimit};
    getrlimit(Resource::Nofile).current.and_then(|limit| usize::try_from(limit).ok())
}

#[cfg(not(target_os = "linux"))]
fn allowed() -> Option<usize> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_are_kept_for_the_store_and_for_programs() {
        for (open_files, connections) in [(256, 128), (1024, 512), (4096, 3072), (65_536, 64_512), (0, 0)] {
            assert_eq!(beside_others(open_files), connections);
        }
        assert!(max_sockets(10) == 10 && max_sockets(usize::MAX) >= 128);
    }
}
