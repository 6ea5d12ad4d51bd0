//! Programs of an earlier server on the same store, which may still be ending when the next server runs.
//!
//! A server that runs programs, and each of their guards, holds a name in the kernel's own space of socket names for as
//! long as its process lives, however that ends: `meanwhile/STORE/SERVER` and `meanwhile/STORE/SERVER/TASK`. A guard
//! whose server has no name any more is ending its program. Until there is none, no program begins: what may run only
//! once at a time, by its kind or by its key, never runs twice.

use std::{
    collections::HashSet,
    fs, io,
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixListener},
    },
    time::Duration,
};

use tokio::sync::OnceCell;

use crate::{
    model::{LogLevel, TaskId},
    task::JobContext,
};

/// How soon it looks again.
const INTERVAL: Duration = Duration::from_millis(10);
/// After so many looks it says what it waits for.
const SILENT_LOOKS: u32 = 100;

/// A store as one server has it open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Opened {
    pub(super) generation: u64,
    pub(super) session: i64,
}

impl Opened {
    fn store(self) -> String {
        format!("meanwhile/{:x}/", self.generation)
    }

    fn server(self) -> String {
        format!("{}{:x}", self.store(), self.session)
    }

    /// What the guard of this task's program holds.
    pub(super) fn guard(self, task: TaskId) -> String {
        format!("{}/{task}", self.server())
    }

    /// Guards of earlier servers. Another server that lives has a copy of the store: that is no concern of this one.
    fn earlier_guards(self, names: &str) -> usize {
        let (store, own) = (self.store(), format!("{:x}", self.session));
        let names = names.lines().filter_map(|line| line.rsplit_once(" @")?.1.strip_prefix(store.as_str()));
        let (guards, servers): (Vec<&str>, Vec<&str>) = names.partition(|name| name.contains('/'));
        let servers: HashSet<&str> = servers.into_iter().collect();
        let server = |guard: &str| guard.split('/').next().is_some_and(|of| of != own && !servers.contains(of));
        guards.into_iter().filter(|guard| server(guard)).count()
    }
}

/// What a kind of programs knows of earlier servers.
#[derive(Debug, Default)]
pub(super) struct Earlier(OnceCell<Option<UnixListener>>);

impl Earlier {
    /// Waits until no program of an earlier server is left.
    pub(super) async fn gone(&self, ctx: &JobContext, opened: Opened) -> io::Result<()> {
        let wait = async || {
            let name = match UnixListener::bind_addr(&SocketAddr::from_abstract_name(opened.server())?) {
                Ok(name) => Some(name),
                // Another kind of this server holds the name already.
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => None,
                Err(error) => return Err(error),
            };
            let mut looks = 0;
            loop {
                let count = opened.earlier_guards(&fs::read_to_string("/proc/net/unix")?);
                if count == 0 {
                    return Ok(name);
                }
                if looks == SILENT_LOOKS {
                    let message = format!("waits for {count} programs of an earlier server to end");
                    let _ = ctx.log(LogLevel::Warn, message).await;
                }
                looks += 1;
                ctx.clock().sleep(INTERVAL).await;
            }
        };
        self.0.get_or_try_init(wait).await.map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "Num       RefCount Protocol Flags    Type St Inode Path\n";

    fn line(name: &str) -> String {
        format!("0000000000000000: 00000002 00000000 00010000 0001 01 20001 {name}\n")
    }

    #[test]
    fn guards_of_servers_that_are_gone_are_waited_for_and_others_are_not() {
        let opened = Opened { generation: 0xab, session: 3 };
        let count = |names: &[&str]| {
            opened.earlier_guards(&(HEAD.to_owned() + &names.iter().map(|name| line(name)).collect::<String>()))
        };
        assert_eq!(count(&["", "/run/other", "@other"]), 0);
        assert_eq!(count(&["@meanwhile/ab/3", "@meanwhile/ab/3/task_1"]), 0, "its own");
        assert_eq!(count(&["@meanwhile/ab/2/task_1", "@meanwhile/ab/2/task_2", "@meanwhile/ab/3/task_3"]), 2);
        assert_eq!(count(&["@meanwhile/ab/2", "@meanwhile/ab/2/task_1"]), 0, "a server on a copy, which lives");
        assert_eq!(count(&["@meanwhile/abc/2/task_1"]), 0, "another store");
    }
}
