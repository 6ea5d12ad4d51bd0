//! Runs filters, away from the threads that serve requests.

use std::{
    fmt::{self, Write as _},
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use jaq_core::{Ctx, Vars};
use jaq_json::{Val, read, write};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{
    Filter, JqError, JqLimits,
    guard::{Guard, MAX_DIGITS, MAX_NESTING, OVER_DEPTH, OVER_DIGITS, OVER_ROOM, OVER_SOUGHT, OVER_STACK},
    weigh::outline,
};
use crate::{clock::Clock, model::Json};

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

/// Runs filters on the pool for blocking work, few at a time. Cloning is cheap.
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

    pub(super) fn with_turns(clock: Arc<dyn Clock>, turns: usize) -> Self {
        Self { clock, turns: Arc::new(Semaphore::new(turns)) }
    }

    /// All that each of the filters gives for these values. The error names the filter by its number here. Dropping the
    /// future stops them.
    pub async fn run(
        &self,
        filters: Vec<Filter>,
        values: Values,
        limits: JqLimits,
    ) -> Result<Vec<Vec<Json>>, (usize, JqError)> {
        if filters.is_empty() {
            return Ok(Vec::new());
        }
        let until = self.clock.elapsed() + Duration::from_millis(limits.filter_timeout_ms);
        let turn = self.turn(&limits).await.map_err(|error| (0, error))?;
        let clock = self.clock.clone();
        let wanted = Wanted::default();
        let abandoned = wanted.abandoned.clone();
        let work = move || {
            let _turn = turn;
            run(&filters, &values, &limits, &*clock, until, &abandoned)
        };
        match tokio::task::spawn_blocking(work).await {
            Ok(outputs) => outputs,
            // Its panic was reported by the hook.
            Err(_) => Err((0, JqError::Failed("it ran into a fault of the server".to_owned()))),
        }
    }

    /// Waits for a processor, no longer than a filter may take.
    async fn turn(&self, limits: &JqLimits) -> Result<OwnedSemaphorePermit, JqError> {
        if let Ok(turn) = self.turns.clone().try_acquire_owned() {
            return Ok(turn);
        }
        tokio::select! {
            turn = self.turns.clone().acquire_owned() => {
                turn.map_err(|_| JqError::Failed("the server is about to stop".to_owned()))
            }
            () = self.clock.sleep(Duration::from_millis(limits.filter_timeout_ms)) => Err(over_time(limits)),
        }
    }
}

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

/// Blocks until the filters have ended, are over a limit, or are not wanted any more.
pub(super) fn run(
    filters: &[Filter],
    values: &Values,
    limits: &JqLimits,
    clock: &dyn Clock,
    until: Duration,
    abandoned: &AtomicBool,
) -> Result<Vec<Vec<Json>>, (usize, JqError)> {
    let at_first = |error| (0, error);
    let input = parse(&values.input).map_err(at_first)?;
    let variables: Vec<Val> = values.variables.iter().map(parse).collect::<Result<_, _>>().map_err(at_first)?;
    let given = values.variables.iter().map(Json::len).sum::<usize>() + values.input.len();
    let one = |(number, filter): (usize, &Filter)| {
        let given = given.max(limits.max_filter_bytes);
        let guard = Guard::new(&filter.compiled.lut, clock, until, abandoned, given);
        run_one(filter, &guard, input.clone(), variables.clone(), limits).map_err(|error| (number, error))
    };
    filters.iter().enumerate().map(one).collect()
}

fn run_one(
    filter: &Filter,
    guard: &Guard<'_>,
    input: Val,
    variables: Vec<Val>,
    limits: &JqLimits,
) -> Result<Vec<Json>, JqError> {
    let context = Ctx::<super::Guarded>::new(guard, Vars::new(variables));
    let mut outputs = Vec::new();
    let mut room = limits.max_filter_bytes;
    for value in filter.compiled.id.run((context, input)) {
        let value = match value {
            Ok(value) => value,
            Err(stop) => {
                return Err(match stop.get_err() {
                    Ok(error) => JqError::Failed(shortened(&error)),
                    Err(stop) => stopped(stop.get_halt().unwrap_or_default(), limits),
                });
            }
        };
        if outputs.len() >= limits.max_filter_outputs {
            let allowed = format!("{} values", limits.max_filter_outputs);
            return Err(JqError::Limit { name: "max_filter_outputs", allowed });
        }
        outputs.push(render(&value, &mut room, limits)?);
    }
    Ok(outputs)
}

fn stopped(reason: i32, limits: &JqLimits) -> JqError {
    let what = match reason {
        OVER_STACK => "its definitions call each other too deeply",
        OVER_ROOM => "it makes values that are too large, or too many",
        OVER_DEPTH => "it makes a value with too many brackets inside each other",
        OVER_DIGITS => "it makes a number with too many digits",
        OVER_SOUGHT => "it looks for a text or list that is too large in one that is too large",
        _ => return over_time(limits),
    };
    JqError::Failed(what.to_owned())
}

fn over_time(limits: &JqLimits) -> JqError {
    JqError::Limit { name: "filter_timeout_ms", allowed: format!("{} ms", limits.filter_timeout_ms) }
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

fn parse(json: &Json) -> Result<Val, JqError> {
    let outline = outline(json.as_str().as_bytes());
    if outline.nesting > MAX_NESTING {
        return Err(JqError::Failed(format!("its input has more than {MAX_NESTING} brackets inside each other")));
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
