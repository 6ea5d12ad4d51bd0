//! Running a program as an attempt.

use async_trait::async_trait;
use futures::future::BoxFuture;
use rustix::process::{Pid, Signal, kill_process};
use std::{ffi::OsString, io, time::Duration};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{
    GuardExecutable, ProgramOptions,
    earlier::{Earlier, Opened},
    guard::{Exit, Launch, Order, Report, is_shortage, processes::kill_session},
    guarded::Line,
    options::KILL_PATIENCE_MS,
    outcome::outcome,
    output::{Output, Stream},
    shortage::{Shortage, stopped},
};
use crate::{
    error::Error,
    model::{CancelStep, Json, LogLevel, code},
    task::{Job, JobContext, JobError, Retry, job::misfit},
};

/// Steps that wait to be recorded: more than one attempt can have.
const MAX_STEPS: usize = 32;
/// How often a guard is told to go on: its program may have stopped it, and would not be seen to end.
const WAKE_INTERVAL: Duration = Duration::from_secs(1);
/// How soon it looks again whether a program without its guard has ended.
const LOST_INTERVAL: Duration = Duration::from_millis(10);
/// How often it does.
const LOST_CHECKS: u32 = 100;

/// A program as the work of a kind, in one manager.
#[derive(Debug)]
pub struct ProgramJob {
    options: ProgramOptions,
    guard: GuardExecutable,
    earlier: Earlier,
    max_open_files: Option<u64>,
}

impl ProgramJob {
    /// A job that runs this program under that guard.
    pub fn new(options: ProgramOptions, guard: GuardExecutable) -> Self {
        Self { options, guard, earlier: Earlier::default(), max_open_files: None }
    }

    /// The soft limit of open files that the program gets, instead of this process's own: for a process that has raised
    /// its own.
    #[must_use]
    pub fn max_open_files(mut self, limit: Option<u64>) -> Self {
        self.max_open_files = limit;
        self
    }

    fn command(&self, input: &Json) -> Result<Vec<OsString>, String> {
        let value = input.decode().map_err(|error| error.to_string());
        let command = value.and_then(|value| self.options.command.fill(&value));
        command.map_err(misfit)
    }

    fn launch(&self, ctx: &JobContext, opened: Opened, input: Json) -> Result<Launch, JobError> {
        let refused = |message| JobError::new(message).code(code::INVALID_INPUT).retry(Retry::Never);
        let command = self.command(&input).map_err(refused)?;
        let mut environment = self.options.environment();
        environment.push(("MEANWHILE_TASK".into(), ctx.task().to_string().into()));
        environment.push(("MEANWHILE_ATTEMPT".into(), ctx.attempt().to_string().into()));
        let (folder, leftover_grace_ms) = (self.options.folder.expose().clone(), self.options.leftover_grace_ms);
        let shown_folder = self.options.folder.to_string();
        let lock = opened.guard(ctx.task());
        let max_open_files = self.max_open_files;
        Ok(Launch { command, folder, shown_folder, environment, input, lock, leftover_grace_ms, max_open_files })
    }

    /// Starts the program, and follows it to its end.
    async fn run_once(&self, ctx: &JobContext, opened: Opened, launch: &Launch) -> Result<Json, Problem> {
        let of_guard = |error: io::Error| Problem::of_system(&error, "its guard: ");
        tokio::select! {
            biased;
            gone = self.earlier.gone(ctx, opened) => gone.map_err(of_guard)?,
            () = stopped(ctx) => return Err(not_started("programs of an earlier server have not ended yet", true).into()),
        }
        let (guard, label) = (self.guard.clone(), format!("{}#{}", ctx.task(), ctx.attempt()));
        let started = tokio::task::spawn_blocking(move || guard.start(&label)).await.map_err(JobError::from)?;
        let mut guarded = started.map_err(of_guard)?;
        guarded.line.say(launch).await;

        let process = guarded.child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        let output = Output::new(ctx, &self.options);
        // Cancelled when no process is left, and when the output cannot be recorded.
        let (ended, fault) = (CancellationToken::new(), CancellationToken::new());
        let (steps, recorded) = mpsc::channel(MAX_STEPS);
        let control = async {
            let options = &self.options;
            let control = Control { ctx, options, guard: process, line: guarded.line, steps, fault: &fault };
            let exit = control.run().await;
            ended.cancel();
            exit
        };
        let read = async {
            let stdout = output.read(Stream::Stdout, guarded.stdout, &ended);
            let stderr = output.read(Stream::Stderr, guarded.stderr, &ended);
            let read = tokio::try_join!(stdout, stderr);
            if read.is_err() {
                fault.cancel();
            }
            read
        };
        let (exit, read, ()) = tokio::join!(control, read, record(ctx, recorded));
        // It has said its last word.
        let _ = guarded.child.wait().await;
        read?;
        Ok(outcome(&self.options, exit?, output.rest())?)
    }
}

/// Why a program did not run, or what came of it.
enum Problem {
    /// The attempt has failed.
    Failed(JobError),
    /// The system was short of what it takes to start it.
    Short(String),
}

impl Problem {
    fn of_system(error: &io::Error, what: &str) -> Self {
        let message = format!("{what}{error}");
        if is_shortage(error) { Self::Short(message) } else { Self::Failed(not_started(&message, true)) }
    }
}

impl From<JobError> for Problem {
    fn from(error: JobError) -> Self {
        Self::Failed(error)
    }
}

#[async_trait]
impl Job for ProgramJob {
    /// Whether its fields can be arguments.
    fn check(&self, input: &Json) -> Result<(), Error> {
        self.command(input).map(drop).map_err(Error::invalid)
    }

    async fn run(&self, ctx: JobContext, input: Json) -> Result<Json, JobError> {
        let opened = Opened { generation: ctx.generation, session: ctx.by.session };
        let launch = self.launch(&ctx, opened, input)?;
        let mut shortage = Shortage::default();
        loop {
            match self.run_once(&ctx, opened, &launch).await {
                Ok(result) => return Ok(result),
                Err(Problem::Failed(error)) => return Err(error),
                Err(Problem::Short(why)) if shortage.wait(&ctx, &why).await => {}
                Err(Problem::Short(why)) => return Err(not_started(&why, true)),
            }
        }
    }

    /// Until its last process has ended: nothing else may begin before.
    fn wind_up_ms(&self) -> u64 {
        KILL_PATIENCE_MS
    }
}

/// Follows a program from its start to the end of its last process.
struct Control<'a> {
    ctx: &'a JobContext,
    options: &'a ProgramOptions,
    /// The guard's process, which leads a session.
    guard: Option<Pid>,
    line: Line,
    steps: mpsc::Sender<Step>,
    fault: &'a CancellationToken,
}

/// How far stopping it has come.
enum Stopping {
    No,
    /// SIGTERM was ordered; SIGKILL follows when this ends.
    Asked(BoxFuture<'static, ()>),
    Forced,
}

impl Control<'_> {
    async fn run(mut self) -> Result<Exit, Problem> {
        let mut stopping = Stopping::No;
        let mut exit = None;
        let (ctx, fault) = (self.ctx, self.fault);
        // Its output cannot be recorded, or its time is over.
        let must_end = async || {
            tokio::select! {
                () = fault.cancelled() => {}
                () = ctx.hurried() => {}
            }
        };
        let mut wake = ctx.clock().sleep(WAKE_INTERVAL);
        loop {
            let report = tokio::select! {
                report = self.line.hear() => report,
                () = &mut wake => {
                    self.wake();
                    wake = ctx.clock().sleep(WAKE_INTERVAL);
                    continue;
                }
                () = must_end(), if !matches!(stopping, Stopping::Forced) => {
                    self.order(Order::Kill).await;
                    stopping = Stopping::Forced;
                    continue;
                }
                () = self.ctx.cancelled(), if matches!(stopping, Stopping::No) => {
                    if ctx.is_hurried() {
                        // Its time is over, which was said before that it should stop.
                        self.order(Order::Kill).await;
                        stopping = Stopping::Forced;
                        continue;
                    }
                    self.order(Order::Terminate).await;
                    let grace = Duration::from_millis(self.options.stop_grace_ms);
                    stopping = Stopping::Asked(self.ctx.clock().sleep(grace));
                    continue;
                }
                () = over(&mut stopping) => {
                    self.order(Order::Kill).await;
                    stopping = Stopping::Forced;
                    continue;
                }
            };
            match report {
                Some(Report::Started) => {}
                Some(Report::NotStarted { message, short: true, .. }) => return Err(Problem::Short(message)),
                Some(Report::NotStarted { message, retryable, .. }) => {
                    return Err(not_started(&message, retryable).into());
                }
                // The last one has just ended by itself.
                Some(Report::Signalled { processes: 0, .. }) => {}
                Some(Report::Signalled { order, processes }) => self.step(Step::Signalled(order, processes)),
                Some(Report::Exited(how)) => exit = Some(how),
                Some(Report::Leftovers { processes }) => self.step(Step::Leftovers(processes)),
                Some(Report::Ended { out_of_reach }) => {
                    if !out_of_reach.is_empty() {
                        self.step(Step::OutOfReach(out_of_reach));
                    }
                    return exit.ok_or_else(|| guard_lost().into());
                }
                None => {
                    // What the guard would have done, as far as it can be done without it.
                    self.kill_without_guard().await;
                    return Err(guard_lost().into());
                }
            }
        }
    }

    async fn order(&mut self, order: Order) {
        self.line.say(&order).await;
        self.wake();
    }

    /// The program may have stopped its guard.
    fn wake(&self) {
        if let Some(guard) = self.guard {
            let _ = kill_process(guard, Signal::CONT);
        }
    }

    /// Kills the session that the guard has led: all processes of the program but those that lead one themselves.
    async fn kill_without_guard(&self) {
        let Some(session) = self.guard else { return };
        for _ in 0..LOST_CHECKS {
            // As long as there is one, no other session can have the number.
            if !matches!(kill_session(session), Ok(1..)) {
                return;
            }
            self.ctx.clock().sleep(LOST_INTERVAL).await;
        }
    }

    fn step(&self, step: Step) {
        // There are never more of them.
        let _ = self.steps.try_send(step);
    }
}

async fn over(stopping: &mut Stopping) {
    match stopping {
        Stopping::Asked(grace) => grace.await,
        Stopping::No | Stopping::Forced => std::future::pending().await,
    }
}

/// What was done to a program, for those who follow the task.
enum Step {
    Signalled(Order, usize),
    Leftovers(usize),
    OutOfReach(Vec<i32>),
}

/// Records steps. Apart from what takes them: a store that is behind keeps no signal waiting.
async fn record(ctx: &JobContext, mut steps: mpsc::Receiver<Step>) {
    while let Some(step) = steps.recv().await {
        let (level, message) = match step {
            Step::Signalled(order, count) => {
                let (step, level, signal) = match order {
                    Order::Terminate => (CancelStep::TermSent, LogLevel::Info, "SIGTERM"),
                    Order::Kill => (CancelStep::KillSent, LogLevel::Warn, "SIGKILL"),
                };
                let to = format!("to {}", many(count));
                if ctx.is_cancel_requested() {
                    let _ = ctx.cancel_step(step, Some(to)).await;
                    continue;
                }
                (level, format!("sent {signal} {to}"))
            }
            Step::Leftovers(count) => {
                (LogLevel::Warn, format!("the program left {} behind, ended with SIGKILL", many(count)))
            }
            Step::OutOfReach(ids) => {
                (LogLevel::Error, format!("processes that belong to another user could not be ended: {ids:?}"))
            }
        };
        // An attempt that can record nothing any more is over.
        let _ = ctx.log(level, message).await;
    }
}

fn many(processes: usize) -> String {
    if processes == 1 { "1 process".to_owned() } else { format!("{processes} processes") }
}

fn not_started(message: &str, retryable: bool) -> JobError {
    let retry = if retryable { Retry::Backoff } else { Retry::Never };
    JobError::new(format!("the program could not be started: {message}")).code(code::PROGRAM_NOT_STARTED).retry(retry)
}

fn guard_lost() -> JobError {
    JobError::new("the process that guards the program was killed").code(code::PROGRAM_KILLED)
}
