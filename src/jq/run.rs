//! Runs filters, away from the threads that serve requests.

use std::{io, sync::Arc, time::Duration};

use jaq_core::{Ctx, Vars};
use jaq_json::{Val, read, write};
use tokio::sync::Semaphore;

use super::{
    Filter, JqError, JqLimits,
    guard::{Guard, OVER_STACK, OVER_TEXT},
};
use crate::{clock::Clock, model::Json};

/// Brackets inside each other in an input: what reads it recurses.
const MAX_NESTING: usize = 256;
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
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Self { clock, turns: Arc::new(Semaphore::new(processors)) }
    }

    /// All that each of the filters gives for these values. The error names the filter by its number here.
    pub async fn run(
        &self,
        filters: Vec<Filter>,
        values: Values,
        limits: JqLimits,
    ) -> Result<Vec<Vec<Json>>, (usize, JqError)> {
        if filters.is_empty() {
            return Ok(Vec::new());
        }
        let closed = |_| (0, JqError::Failed("the server is about to stop".to_owned()));
        let turn = self.turns.clone().acquire_owned().await.map_err(closed)?;
        let clock = self.clock.clone();
        let work = move || {
            let _turn = turn;
            run(&filters, &values, &limits, &*clock)
        };
        match tokio::task::spawn_blocking(work).await {
            Ok(outputs) => outputs,
            // Its panic was reported by the hook.
            Err(_) => Err((0, JqError::Failed("it ran into a fault of the server".to_owned()))),
        }
    }
}

/// Blocks until the filters have ended, or are over a limit.
pub(super) fn run(
    filters: &[Filter],
    values: &Values,
    limits: &JqLimits,
    clock: &dyn Clock,
) -> Result<Vec<Vec<Json>>, (usize, JqError)> {
    let until = clock.elapsed() + Duration::from_millis(limits.filter_timeout_ms);
    let at_first = |error| (0, error);
    let input = parse(&values.input).map_err(at_first)?;
    let variables: Vec<Val> = values.variables.iter().map(parse).collect::<Result<_, _>>().map_err(at_first)?;
    let one = |(number, filter): (usize, &Filter)| {
        run_one(filter, input.clone(), variables.clone(), limits, clock, until).map_err(|error| (number, error))
    };
    filters.iter().enumerate().map(one).collect()
}

fn run_one(
    filter: &Filter,
    input: Val,
    variables: Vec<Val>,
    limits: &JqLimits,
    clock: &dyn Clock,
    until: Duration,
) -> Result<Vec<Json>, JqError> {
    let guard = Guard::new(&filter.compiled.lut, clock, until);
    let context = Ctx::<super::Guarded>::new(&guard, Vars::new(variables));
    let mut outputs = Vec::new();
    let mut room = limits.max_filter_bytes;
    for value in filter.compiled.id.run((context, input)) {
        let value = match value {
            Ok(value) => value,
            Err(stop) => {
                return Err(match stop.get_err() {
                    Ok(error) => JqError::Failed(shortened(&error.to_string())),
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
    match reason {
        OVER_STACK => JqError::Failed("its definitions call each other too deeply".to_owned()),
        OVER_TEXT => JqError::Failed("it repeats a text too often".to_owned()),
        _ => JqError::Limit { name: "filter_timeout_ms", allowed: format!("{} ms", limits.filter_timeout_ms) },
    }
}

/// Values that filters failed on can be long.
fn shortened(text: &str) -> String {
    match text.char_indices().find(|(at, _)| *at >= MAX_ERROR_BYTES) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

fn parse(json: &Json) -> Result<Val, JqError> {
    if nesting(json.as_str()) > MAX_NESTING {
        return Err(JqError::Failed(format!("its input has more than {MAX_NESTING} brackets inside each other")));
    }
    read::parse_single(json.as_str().as_bytes()).map_err(|error| JqError::Failed(error.to_string()))
}

/// How deep brackets stand inside each other.
fn nesting(text: &str) -> usize {
    let (mut depth, mut deepest, mut in_text, mut escaped) = (0_usize, 0, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = in_text,
            b'"' => in_text = !in_text,
            b'[' | b'{' if !in_text => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
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
