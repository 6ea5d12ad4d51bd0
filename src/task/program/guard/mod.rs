//! The guard of one program: a process of this same executable, between the server and the program.
//!
//! It leads a session of its own and is a *subreaper*: whatever the program starts, however often it forks and
//! detaches, stays a descendant of the guard. So the guard knows when the last of them has ended (it has no children
//! any more), and can end them all. It listens to the server over a socket; when that closes, also because the server
//! was killed with SIGKILL, it ends them at once. Signals that the kernel sends on a parent's death would not do: they
//! leave grandchildren running, and come when the *thread* that started the program ends.
//!
//! A guard begins only when an earlier one of the same task is gone, and the first ones of a server when all those of
//! earlier servers are (see `earlier`): two attempts never overlap, not even when the server was killed and has started
//! again meanwhile.
//!
//! The program's stdout and stderr are the server's pipes: no byte of them passes through here.

mod message;
pub(super) mod processes;

use std::{
    fs::File,
    io::{self, Seek, Write},
    os::{
        fd::{AsFd, OwnedFd},
        linux::net::SocketAddrExt,
        unix::{
            net::{SocketAddr, UnixListener, UnixStream as StdUnixStream},
            process::CommandExt,
        },
    },
    path::{self, Path},
    process::Command,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use rustix::{
    fs::{MemfdFlags, memfd_create},
    io::Errno,
    net::{RecvFlags, recv},
    process::{
        Pid, Resource, Rlimit, Signal, WaitOptions, getpid, getrlimit, kill_process_group, set_child_subreaper,
        setrlimit, setsid, wait,
    },
};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    signal::unix::{self, SignalKind, signal},
};

pub(super) use self::message::{Exit, Launch, Order, Report};
use crate::{
    clock::{Clock, SystemClock},
    model::Json,
};

/// How soon it looks again for processes that are to end: those of a parent that has just been killed.
const KILL_INTERVAL: Duration = Duration::from_millis(10);
/// How soon it looks again whether an earlier guard of the same task is gone.
const LOCK_INTERVAL: Duration = Duration::from_millis(10);
/// How often it tries to kill processes that this user may not kill, before it gives up on them.
const MAX_VAIN_KILLS: u32 = 200;

/// Guards a program, as the process that the server has started for it: the command `meanwhile guard`.
///
/// Its stdin is the socket to the server. Ends when no process is left.
pub fn run() -> io::Result<()> {
    let not_by_hand = |error: io::Error| {
        io::Error::new(error.kind(), format!("`guard` is for the server itself to start ({error}); use [kinds.NAME]"))
    };
    let socket = StdUnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    socket.peer_addr().map_err(not_by_hand)?;
    socket.set_nonblocking(true)?;
    // It fails for the leader of a process group, which a process that was just started is not.
    setsid()?;
    set_child_subreaper(Some(getpid()))?;
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(Guard::guard(socket)),
        Err(error) => {
            let mut line = serde_json::to_vec(&Report::not_started(&error))?;
            line.push(b'\n');
            (&socket).write_all(&line)
        }
    }
}

struct Guard {
    clock: Arc<dyn Clock>,
    reports: OwnedWriteHalf,
    /// The program, until its end was noticed.
    program: Option<Pid>,
    /// All processes are to end now.
    killing: bool,
    vain_kills: u32,
}

impl Guard {
    async fn guard(socket: StdUnixStream) -> io::Result<()> {
        let line = socket.try_clone()?;
        let (orders, reports) = UnixStream::from_std(socket)?.into_split();
        let mut orders = BufReader::new(orders).lines();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
        let mut guard = Self { clock, reports, program: None, killing: false, vain_kills: 0 };
        // A server that is gone before it has said what to run wants nothing run.
        let Some(launch) = orders.next_line().await? else { return Ok(()) };
        let launch: Launch = serde_json::from_str(&launch)?;
        let leftover_grace = Duration::from_millis(launch.leftover_grace_ms);
        let mut signals = match Signals::new() {
            Ok(signals) => signals,
            Err(error) => return guard.give_up(&error).await,
        };
        let lock = guard.lock(&launch.lock);
        let lock = tokio::select! {
            biased;
            // Whatever comes before there is a program, it is that there should be none.
            _ = orders.next_line() => return Ok(()),
            lock = lock => lock,
        };
        let _lock = match lock {
            Ok(lock) => lock,
            Err(error) => return guard.give_up(&error).await,
        };
        // A later server that does not see the name yet does not wait for what begins now.
        if has_hung_up(&line) {
            return Ok(());
        }
        match start(launch) {
            Ok(pid) => {
                guard.program = Some(pid);
                guard.report(&Report::Started).await;
            }
            Err(error) => return guard.give_up(&error).await,
        }
        guard.watch(orders, &mut signals, leftover_grace).await
    }

    /// There is no program.
    async fn give_up(&mut self, why: &io::Error) -> io::Result<()> {
        self.report(&Report::not_started(why)).await;
        Ok(())
    }

    /// Waits until no other guard holds the lock. It is held as long as this lives, and by nobody else.
    ///
    /// A name in the kernel's own space of socket names: it goes when its process goes, however that ends.
    async fn lock(&self, name: &str) -> io::Result<UnixListener> {
        let address = SocketAddr::from_abstract_name(name)?;
        loop {
            match UnixListener::bind_addr(&address) {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => self.clock.sleep(LOCK_INTERVAL).await,
                bound => return bound,
            }
        }
    }

    /// Until no process is left.
    async fn watch(
        mut self,
        mut orders: Lines<BufReader<OwnedReadHalf>>,
        signals: &mut Signals,
        leftover_grace: Duration,
    ) -> io::Result<()> {
        let mut grace: Option<futures::future::BoxFuture<'static, ()>> = None;
        let mut connected = true;
        loop {
            let pause = self.clock.sleep(KILL_INTERVAL);
            tokio::select! {
                order = orders.next_line(), if connected => match order.ok().flatten() {
                    Some(order) => self.obey(serde_json::from_str(&order)?).await?,
                    None => {
                        connected = false;
                        self.kill()?;
                    }
                },
                // For the processes, from whoever thinks that this is the program.
                () = terminated(&mut signals.terminate) => self.obey(Order::Terminate).await?,
                _ = signals.child.recv() => {}
                () = async { if let Some(grace) = &mut grace { grace.await } }, if grace.is_some() => {
                    grace = None;
                    let processes = processes::descendants(getpid())?.len();
                    if processes > 0 {
                        self.report(&Report::Leftovers { processes }).await;
                    }
                    self.kill()?;
                }
                () = pause, if self.killing => self.kill()?,
            }
            loop {
                match wait(WaitOptions::NOHANG) {
                    Ok(Some((pid, status))) if Some(pid) == self.program => {
                        self.program = None;
                        grace = Some(self.clock.sleep(leftover_grace));
                        let by_signal = || status.terminating_signal().map_or(Exit::Code(-1), Exit::Signal);
                        let exit = status.exit_status().map_or_else(by_signal, Exit::Code);
                        self.report(&Report::Exited(exit)).await;
                    }
                    Ok(Some(_)) | Err(Errno::INTR) => {}
                    Ok(None) => break,
                    // Nothing that was ever started here is left.
                    Err(Errno::CHILD) => {
                        self.report(&Report::Ended { out_of_reach: Vec::new() }).await;
                        return Ok(());
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            if self.vain_kills >= MAX_VAIN_KILLS {
                let out_of_reach = processes::descendants(getpid())?;
                let out_of_reach = out_of_reach.iter().map(|process| process.pid.as_raw_pid()).collect();
                self.report(&Report::Ended { out_of_reach }).await;
                return Ok(());
            }
        }
    }

    async fn obey(&mut self, order: Order) -> io::Result<()> {
        let targets = processes::descendants(getpid())?;
        let processes = match order {
            Order::Terminate => {
                // One that may not be reached now may not be reached later: the end will tell.
                targets.iter().filter(|process| process.signal(Signal::TERM).unwrap_or(false)).count()
            }
            Order::Kill => {
                self.kill()?;
                targets.len()
            }
        };
        self.report(&Report::Signalled { order, processes }).await;
        Ok(())
    }

    /// Kills the children. Theirs become children of this process then, and come next.
    fn kill(&mut self) -> io::Result<()> {
        self.killing = true;
        if let Some(program) = self.program {
            // All at once: none of the group can fork in between. A group is gone at worst.
            let _ = kill_process_group(program, Signal::KILL);
        }
        let (reached, out_of_reach) = processes::kill_children(getpid())?;
        if reached == 0 && !out_of_reach.is_empty() {
            self.vain_kills += 1;
        }
        Ok(())
    }

    /// Tells the server. One that is gone needs no reports.
    async fn report(&mut self, report: &Report) {
        let Ok(mut line) = serde_json::to_vec(report) else { return };
        line.push(b'\n');
        let _ = self.reports.write_all(&line).await;
    }
}

/// Whether nobody is at the other end any more.
fn has_hung_up(line: &StdUnixStream) -> bool {
    match recv(line, &mut [0_u8][..], RecvFlags::PEEK | RecvFlags::DONTWAIT) {
        Ok((_, count)) => count == 0,
        Err(error) => error != Errno::AGAIN,
    }
}

/// Signals to the guard. Once listened for, they do not end it by themselves.
struct Signals {
    child: unix::Signal,
    terminate: [unix::Signal; 3],
}

impl Signals {
    fn new() -> io::Result<Self> {
        let terminate =
            [signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?, signal(SignalKind::hangup())?];
        Ok(Self { child: signal(SignalKind::child())?, terminate })
    }
}

async fn terminated(signals: &mut [unix::Signal]) {
    futures::future::poll_fn(|cx| {
        let came = signals.iter_mut().any(|signal| signal.poll_recv(cx).is_ready());
        if came { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

/// Starts the program, and leaves its stdout and stderr to it.
fn start(launch: Launch) -> io::Result<Pid> {
    let Launch { command, folder, shown_folder, environment, input, max_open_files, .. } = launch;
    let (program, arguments) = command.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    if !folder.is_dir() {
        let message = format!("its folder {shown_folder} is not there");
        return Err(io::Error::new(io::ErrorKind::NotFound, message));
    }
    if max_open_files.is_some() {
        // The guard itself needs few.
        setrlimit(Resource::Nofile, Rlimit { current: max_open_files, ..getrlimit(Resource::Nofile) })?;
    }
    // Found from here, not from its folder.
    let program = if Path::new(program).components().count() > 1 { &path::absolute(program)?.into() } else { program };
    let child = Command::new(program)
        .args(arguments)
        .current_dir(folder)
        .env_clear()
        .envs(environment)
        .stdin(File::from(input_file(&input)?))
        .process_group(0)
        .spawn()?;
    let nowhere = File::options().write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdout(&nowhere)?;
    rustix::stdio::dup2_stderr(&nowhere)?;
    i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// The input as a file in memory: a program that never reads it keeps nobody waiting.
fn input_file(input: &Json) -> io::Result<OwnedFd> {
    let mut file = File::from(memfd_create("input", MemfdFlags::CLOEXEC)?);
    file.write_all(input.as_str().as_bytes())?;
    // What reads lines gets a whole one.
    file.write_all(b"\n")?;
    file.rewind()?;
    Ok(file.into())
}

impl Report {
    fn not_started(why: &io::Error) -> Self {
        let short = is_shortage(why);
        Self::NotStarted { message: why.to_string(), retryable: short || is_transient(why), short }
    }
}

/// Whether the system, or what this user may have of it, is short of processes, open files or memory.
pub(super) fn is_shortage(error: &io::Error) -> bool {
    let shortages = [Errno::AGAIN, Errno::MFILE, Errno::NFILE, Errno::NOMEM].map(Errno::raw_os_error);
    error.raw_os_error().is_some_and(|code| shortages.contains(&code))
}

/// Whether starting the program could work later, as things are.
fn is_transient(error: &io::Error) -> bool {
    use io::ErrorKind::{ExecutableFileBusy, Interrupted, QuotaExceeded, ResourceBusy};
    matches!(error.kind(), ExecutableFileBusy | Interrupted | QuotaExceeded | ResourceBusy)
}
