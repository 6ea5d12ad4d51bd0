//! Runs filters, away from the threads that serve requests.

use std::{
    fmt::{self, Write as _},
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use jaq_core::{Ctx, Vars};
use jaq_json::{Val, read, write};
use tokio::sync::Semaphore;

use super::{
    Filter, JqError, JqLimits,
    guard::{
        Guard, MAX_CALLS, MAX_DIGITS, MAX_NESTING, OVER_CALLS, OVER_DEPTH, OVER_DIGITS, OVER_PATTERN, OVER_ROOM,
        OVER_SOUGHT, OVER_STACK, Time,
    },
    stack::on_large_stack,
    weigh::outline,
};
use crate::{clock::Clock, model::Json};

/// What may be run on the spot: so many filters, on so many bytes of JSON text, with so many brackets inside each other.
const BRIEF_FILTERS: usize = 8;
const BRIEF_BYTES: usize = 8 << 10;
const BRIEF_NESTING: usize = 32;
/// The longest message of a filter, in bytes.
const MAX_ERROR_BYTES: usize = 500;

/// What filters work on.
#[derive(Debug, Clone)]
pub struct Values {
    /// `.`
    pub input: Json,
    /// Values of the variables, in the order in which the filters were compiled with them.
    pub variables: Vec<Json>,
}

/// Runs filters: on the spot those that end soon, all others on the pool for blocking work, few at a time. Cloning is
/// cheap.
#[derive(Debug, Clone)]
pub struct JqRunner {
    clock: Arc<dyn Clock>,
    turns: Arc<Semaphore>,
}

impl JqRunner {
    /// Runs as many at the same time as the machine has processors.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self::with_turns(clock, std::thread::available_parallelism().map_or(1, usize::from))
    }

    pub(crate) fn with_turns(clock: Arc<dyn Clock>, turns: usize) -> Self {
        Self { clock, turns: Arc::new(Semaphore::new(turns)) }
    }

    /// All that each of the filters gives for these values. The error names the filter by its number here. Dropping the
    /// future stops them.
    pub async fn run(&self, filters: Vec<Filter>, values: Values, limits: JqLimits) -> Ran {
        if filters.is_empty() {
            return Ok(Vec::new());
        }
        if let Some(ran) = run_briefly(&filters, &values, &limits) {
            return ran;
        }
        let closed = |_| (0, JqError::Failed("the server is about to stop".to_owned()));
        let turn = self.turns.clone().acquire_owned().await.map_err(closed)?;
        let clock = self.clock.clone();
        let wanted = Wanted::default();
        let abandoned = wanted.abandoned.clone();
        let work = move || {
            let _turn = turn;
            run(&filters, &values, &limits, &*clock, &abandoned)
        };
        // Its panic was reported by the hook.
        tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| Err((0, panicked())))
    }
}

/// What each filter gave; or which of them failed, and why.
type Ran = Result<Vec<Vec<Json>>, (usize, JqError)>;

/// Tells the thread when nobody waits for it any more.
#[derive(Default)]
struct Wanted {
    abandoned: Arc<AtomicBool>,
}

impl Drop for Wanted {
    fn drop(&mut self) {
        self.abandoned.store(true, Ordering::Relaxed);
    }
}

/// Runs them in some microseconds, or not: then nothing has happened, since filters have no effects. Going to another
/// thread and back takes longer than most filters do.
fn run_briefly(filters: &[Filter], values: &Values, limits: &JqLimits) -> Option<Ran> {
    if filters.len() > BRIEF_FILTERS || values.bytes() > BRIEF_BYTES {
        return None;
    }
    let run = || {
        // Whatever is wrong is told by a run that is not brief.
        let Ok(values) = values.parse(BRIEF_NESTING) else { return None };
        let mut all = Vec::with_capacity(filters.len());
        for (number, filter) in filters.iter().enumerate() {
            match run_one(filter, &Guard::brief(&filter.compiled.lut), &values, limits) {
                Ok(outputs) => all.push(outputs),
                Err(Ended::Stopped(_)) => return None,
                Err(Ended::Failed(error)) => return Some(Err((number, error))),
            }
        }
        Some(Ok(all))
    };
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| Some(Err((0, panicked()))))
}

/// Blocks until the filters have ended, are over a limit, or are not wanted any more.
pub(super) fn run(
    filters: &[Filter],
    values: &Values,
    limits: &JqLimits,
    clock: &dyn Clock,
    abandoned: &AtomicBool,
) -> Ran {
    on_large_stack(|| run_here(filters, values, limits, clock, abandoned)).unwrap_or_else(|| Err((0, panicked())))
}

fn run_here(filters: &[Filter], values: &Values, limits: &JqLimits, clock: &dyn Clock, abandoned: &AtomicBool) -> Ran {
    let until = clock.elapsed() + Duration::from_millis(limits.filter_timeout_ms);
    let time = Time { clock, until, abandoned };
    let given = values.bytes().max(limits.max_filter_bytes);
    let values = values.parse(MAX_NESTING).map_err(|error| (0, error))?;
    let one = |(number, filter): (usize, &Filter)| {
        let outputs = run_one(filter, &Guard::new(&filter.compiled.lut, filter.terms, time, given), &values, limits);
        outputs.map_err(|ended| match ended {
            Ended::Failed(error) => (number, error),
            Ended::Stopped(reason) => (number, stopped(reason, limits)),
        })
    };
    filters.iter().enumerate().map(one).collect()
}

/// Why a filter gives nothing (more).
enum Ended {
    /// By itself.
    Failed(JqError),
    /// By its guard.
    Stopped(i32),
}

fn run_one(filter: &Filter, guard: &Guard<'_>, values: &Parsed, limits: &JqLimits) -> Result<Vec<Json>, Ended> {
    let context = Ctx::<super::Guarded>::new(guard, Vars::new(values.variables.iter().cloned()));
    let mut outputs = Vec::new();
    let mut room = limits.max_filter_bytes;
    for value in filter.compiled.id.run((context, values.input.clone())) {
        let value = match value {
            Ok(value) => value,
            Err(stop) => {
                return Err(match stop.get_err() {
                    Ok(error) => Ended::Failed(JqError::Failed(shortened(&error))),
                    Err(stop) => Ended::Stopped(stop.get_halt().unwrap_or_default()),
                });
            }
        };
        if outputs.len() >= limits.max_filter_outputs {
            let allowed = format!("{} values", limits.max_filter_outputs);
            return Err(Ended::Failed(JqError::Limit { name: "max_filter_outputs", allowed }));
        }
        outputs.push(render(&value, &mut room, limits).map_err(Ended::Failed)?);
    }
    Ok(outputs)
}

/// [`Values`], as jaq has them.
struct Parsed {
    input: Val,
    variables: Vec<Val>,
}

impl Values {
    fn bytes(&self) -> usize {
        self.input.len() + self.variables.iter().map(Json::len).sum::<usize>()
    }

    fn parse(&self, max_nesting: usize) -> Result<Parsed, JqError> {
        let variables = self.variables.iter().map(|value| parse(value, max_nesting)).collect::<Result<_, _>>()?;
        Ok(Parsed { input: parse(&self.input, max_nesting)?, variables })
    }
}

fn panicked() -> JqError {
    JqError::Failed("it ran into a fault of the server".to_owned())
}

fn stopped(reason: i32, limits: &JqLimits) -> JqError {
    let what = match reason {
        OVER_STACK => "its definitions call each other too deeply",
        OVER_CALLS => {
            let what = "its definitions call themselves too often, or its paths have too many steps";
            return JqError::Failed(format!("{what}: {MAX_CALLS}, fewer for a long filter"));
        }
        OVER_ROOM => "it makes values that are too large, or too many",
        OVER_DEPTH => "it makes a value with too many brackets inside each other",
        OVER_DIGITS => "it makes a number with too many digits",
        OVER_PATTERN => "a pattern of it is too large, or too large for so long a text",
        OVER_SOUGHT => "it looks for a text or list that is too large in one that is too large",
        _ => {
            let allowed = format!("{} ms", limits.filter_timeout_ms);
            return JqError::Limit { name: "filter_timeout_ms", allowed };
        }
    };
    JqError::Failed(what.to_owned())
}

/// The error's text, which can have whole values in it, as far as there is room.
fn shortened(error: &jaq_json::Error) -> String {
    let mut text = Shortened(String::new());
    if write!(text, "{error}").is_err() {
        text.0.push('…');
    }
    text.0
}

struct Shortened(String);

impl fmt::Write for Shortened {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = MAX_ERROR_BYTES - self.0.len();
        let end = text.floor_char_boundary(room.min(text.len()));
        self.0.push_str(&text[..end]);
        if end < text.len() { Err(fmt::Error) } else { Ok(()) }
    }
}

fn parse(json: &Json, max_nesting: usize) -> Result<Val, JqError> {
    let outline = outline(json.as_str().as_bytes());
    if outline.nesting > max_nesting {
        return Err(JqError::Failed(format!("its input has more than {max_nesting} brackets inside each other")));
    }
    if outline.digits > MAX_DIGITS {
        return Err(JqError::Failed(format!("its input has a number with more than {MAX_DIGITS} digits")));
    }
    read::parse_single(json.as_str().as_bytes()).map_err(|error| JqError::Failed(error.to_string()))
}

fn render(value: &Val, room: &mut usize, limits: &JqLimits) -> Result<Json, JqError> {
    let mut text = Bounded { text: Vec::new(), room: *room };
    if write::write(&mut text, &write::Pp::<String>::default(), 0, value).is_err() {
        let allowed = format!("{} bytes", limits.max_filter_bytes);
        return Err(JqError::Limit { name: "max_filter_bytes", allowed });
    }
    *room = text.room;
    // jq has values that JSON has not.
    let text = String::from_utf8(text.text).ok();
    text.and_then(|text| Json::parse(&text).ok())
        .ok_or_else(|| JqError::Failed("it gives what JSON has no text for: NaN, Infinity or bytes".to_owned()))
}

/// A text with an end.
struct Bounded {
    text: Vec<u8>,
    room: usize,
}

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.room = self.room.checked_sub(bytes.len()).ok_or(io::ErrorKind::FileTooLarge)?;
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
