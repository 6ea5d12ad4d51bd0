//! Programs of an earlier server on the same store, which may still be ending when the next server runs.
//!
//! A server that runs programs, and each of their guards, holds a name in the kernel's own space of socket names for as
//! long as its process lives, however that ends: `meanwhile/STORE/SERVER` and `meanwhile/STORE/SERVER/TASK`. A guard
//! whose server has no name any more is ending its program. Until there is none, no program begins: what may run only
//! once at a time, by its kind or by its key, never runs twice.
//!
//! A program may have stopped its guard: it is told to go on. Anyone can take a name: those that another user holds count
//! as nothing, and so do sockets on which nobody listens (a guard that has not come to that starts nothing any more, now
//! that its server is gone).

use std::{
    collections::{HashMap, HashSet},
    fs, io,
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixListener},
    },
    time::Duration,
};

use rustix::{
    io::Errno,
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with, sockopt::socket_peercred},
    process::{Pid, Signal, geteuid, kill_process},
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
/// The kernel's `__SO_ACCEPTCON`, among the flags of a socket.
const ACCEPTS_CONNECTIONS: u32 = 1 << 16;

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

    /// Of these names, those of guards of earlier servers. Another server that lives has a copy of the store: that is no
    /// concern of this one.
    fn earlier_guards<'a>(self, names: impl Iterator<Item = &'a str>) -> HashSet<&'a str> {
        let (store, own) = (self.store(), format!("{:x}", self.session));
        let of_store = names.filter_map(|name| Some((name, name.strip_prefix(store.as_str())?)));
        let (guards, servers): (Vec<_>, Vec<_>) = of_store.partition(|(_, name)| name.contains('/'));
        let servers: HashSet<&str> = servers.into_iter().map(|(_, name)| name).collect();
        let is_gone = |guard: &str| guard.split('/').next().is_some_and(|of| of != own && !servers.contains(of));
        guards.into_iter().filter(|(_, guard)| is_gone(guard)).map(|(name, _)| name).collect()
    }
}

/// A socket with a name in the kernel's own space, on which somebody listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Socket<'a> {
    name: &'a str,
    /// Names one socket for as long as it is there.
    inode: &'a str,
}

/// Those in `/proc/net/unix`, whose lines are `Num: RefCount Protocol Flags Type St Inode @NAME`.
fn listening(sockets: &str) -> Vec<Socket<'_>> {
    let socket = |line| -> Option<Socket<'_>> {
        let (fields, name) = str::rsplit_once(line, " @")?;
        let mut fields = fields.split_ascii_whitespace().skip(3);
        let flags = u32::from_str_radix(fields.next()?, 16).ok()?;
        let inode = fields.nth(2)?;
        (flags & ACCEPTS_CONNECTIONS != 0).then_some(Socket { name, inode })
    };
    sockets.lines().filter_map(socket).collect()
}

/// Whose a socket is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    /// Another user's: neither a server on this store nor a guard.
    Other,
    /// This user's or root's: its process, if that can be told.
    Own(Option<Pid>),
}

impl Owner {
    /// Asks the kernel who listens there.
    fn of(name: &str) -> io::Result<Self> {
        let socket =
            socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?;
        match connect(&socket, &SocketAddrUnix::new_abstract_name(name.as_bytes())?) {
            Ok(()) => {
                let owner = socket_peercred(&socket)?;
                let is_own = owner.uid == geteuid() || owner.uid.is_root();
                Ok(if is_own { Self::Own(Some(owner.pid)) } else { Self::Other })
            }
            // So many wait for it to answer that it cannot be asked, or that is forbidden.
            Err(Errno::AGAIN | Errno::ACCESS | Errno::PERM) => Ok(Self::Own(None)),
            // It is gone, or of a type that guards do not use.
            Err(Errno::CONNREFUSED | Errno::PROTOTYPE) => Ok(Self::Other),
            Err(error) => Err(error.into()),
        }
    }
}

/// Who was asked already: each is asked once.
#[derive(Debug, Default)]
struct Owners(HashMap<(String, String), Owner>);

impl Owners {
    fn of(&mut self, socket: Socket<'_>) -> io::Result<Owner> {
        // A name may hold anything, also what looks like another line: so an inode alone names nothing.
        let key = (socket.name.to_owned(), socket.inode.to_owned());
        if let Some(owner) = self.0.get(&key) {
            return Ok(*owner);
        }
        let owner = Owner::of(socket.name)?;
        self.0.insert(key, owner);
        Ok(owner)
    }

    /// Tells the guards of earlier servers to go on: then they see that their server is gone. How many there are.
    fn wake_earlier_guards(&mut self, opened: Opened) -> io::Result<usize> {
        let store = opened.store();
        // Anyone's names are in there, whatever they hold.
        let sockets = String::from_utf8_lossy(&fs::read("/proc/net/unix")?).into_owned();
        let mut own = HashMap::new();
        for socket in listening(&sockets).into_iter().filter(|socket| socket.name.starts_with(&store)) {
            if let Owner::Own(process) = self.of(socket)? {
                own.insert(socket.name, process);
            }
        }
        let guards = opened.earlier_guards(own.keys().copied());
        for process in guards.iter().filter_map(|guard| own.get(guard).copied().flatten()) {
            // One that is gone by now needs none.
            let _ = kill_process(process, Signal::CONT);
        }
        Ok(guards.len())
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
            let (mut owners, mut looks) = (Owners::default(), 0);
            loop {
                let count = owners.wake_earlier_guards(opened)?;
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

    fn line(flags: &str, inode: &str, name: &str) -> String {
        format!("0000000000000000: 00000002 00000000 {flags} 0001 01 {inode} {name}\n")
    }

    #[test]
    fn guards_of_servers_that_are_gone_are_waited_for_and_others_are_not() {
        let opened = Opened { generation: 0xab, session: 3 };
        let count = |names: &[&str]| {
            let lines: String = names.iter().map(|name| line("00010000", "20001", name)).collect();
            let lines = HEAD.to_owned() + &lines;
            opened.earlier_guards(listening(&lines).into_iter().map(|socket| socket.name)).len()
        };
        assert_eq!(count(&["", "/run/other", "@other"]), 0);
        assert_eq!(count(&["@meanwhile/ab/3", "@meanwhile/ab/3/task_1"]), 0, "its own");
        assert_eq!(count(&["@meanwhile/ab/2/task_1", "@meanwhile/ab/2/task_2", "@meanwhile/ab/3/task_3"]), 2);
        assert_eq!(count(&["@meanwhile/ab/2", "@meanwhile/ab/2/task_1"]), 0, "a server on a copy, which lives");
        assert_eq!(count(&["@meanwhile/abc/2/task_1"]), 0, "another store");
    }

    #[test]
    fn a_socket_on_which_nobody_listens_is_no_guard() {
        let lines = line("00000000", "1", "@a") + &line("00010000", "2", "@b") + &line("00010000", "3", "/run/c");
        assert_eq!(listening(&(HEAD.to_owned() + &lines)), [Socket { name: "b", inode: "2" }]);
    }
}
