//! Made-up data with chosen slowness: for demonstrations, and to try what waits for a slow source.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::stream::BoxStream;
use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::{
    ArgDefinition, Args, Gives, Row, Source, SourceError, SourceInfo, SourceLimits, SourceType, template::JsonTemplate,
};
use crate::{clock::Clock, error::ErrorCode, model::Json};

/// Stands in [`SimulatedOptions::metadata`] for the row's number.
const ID_PLACE: &str = "{id}";

/// What a [`SimulatedSource`] gives, and how slowly.
#[derive(Debug, Clone, PartialEq)]
pub struct SimulatedOptions {
    /// What it gives, for people.
    pub description: Option<String>,
    /// How long the first row takes, in milliseconds.
    pub latency_ms: u64,
    /// How long each row after the first takes, in milliseconds after the row before it.
    pub interval_ms: u64,
    /// How many rows there are.
    pub rows: u64,
    /// Each row's value.
    pub value: SimulatedValue,
    /// A text beside each row's value; `{id}` in it becomes the row's number, from 0.
    pub metadata: Option<String>,
    /// Whether and when it fails.
    pub fail: Option<SimulatedFailure>,
    /// Args it takes: a text `{name}` in a fixed value stands for the arg's value.
    pub args: Vec<ArgDefinition>,
    /// What a read may take and give.
    pub limits: SourceLimits,
}

/// The value of simulated rows.
#[derive(Debug, Clone, PartialEq)]
pub enum SimulatedValue {
    /// Always this.
    Fixed(Json),
    /// A number drawn evenly from 0 (included) to 1 (not included).
    Random,
}

/// How a simulated source fails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SimulatedFailure {
    /// What the error says.
    pub message: String,
    /// Rows before it.
    pub after_rows: u64,
}

impl Default for SimulatedOptions {
    /// One row, `null`, at once.
    fn default() -> Self {
        Self {
            description: None,
            latency_ms: 0,
            interval_ms: 0,
            rows: 1,
            value: SimulatedValue::Fixed(Json::null()),
            metadata: None,
            fail: None,
            args: Vec::new(),
            limits: SourceLimits { concurrency: 100_000, ..SourceLimits::default() },
        }
    }
}

/// A source that makes its rows up.
#[derive(Debug)]
pub struct SimulatedSource {
    info: SourceInfo,
    options: Arc<SimulatedOptions>,
    value: Option<JsonTemplate>,
    clock: Arc<dyn Clock>,
    /// Each read draws a generator of its own from this one.
    random: Mutex<StdRng>,
    produced: Arc<AtomicU64>,
}

impl SimulatedSource {
    /// A source of this name. The same `random` gives the same numbers.
    ///
    /// `INVALID_INPUT` when the value has a `{name}` that is not one of the args.
    pub fn new(
        name: &str,
        mut options: SimulatedOptions,
        clock: Arc<dyn Clock>,
        random: StdRng,
    ) -> Result<Self, SourceError> {
        let value = match &options.value {
            SimulatedValue::Fixed(value) => {
                let template = JsonTemplate::new(value, &options.args).map_err(|what| {
                    SourceError::new(ErrorCode::InvalidInput, format!("source `{name}`: its value {what}"))
                })?;
                Some(template)
            }
            SimulatedValue::Random => None,
        };
        let info = SourceInfo {
            name: name.into(),
            description: options.description.take(),
            source_type: SourceType::Simulated,
            args: std::mem::take(&mut options.args),
            limits: options.limits.clone(),
            gives: if options.rows == 1 { Gives::Value } else { Gives::Rows },
        };
        Ok(Self {
            info,
            options: Arc::new(options),
            value,
            clock,
            random: Mutex::new(random),
            produced: Arc::default(),
        })
    }

    /// Counts the rows made by all reads so far.
    pub fn produced(&self) -> Arc<AtomicU64> {
        self.produced.clone()
    }
}

impl Source for SimulatedSource {
    fn info(&self) -> &SourceInfo {
        &self.info
    }

    fn read(&self, args: Args) -> Result<BoxStream<'static, Result<Row, SourceError>>, SourceError> {
        let read = Read {
            source: self.info.name.clone(),
            options: self.options.clone(),
            value: self.value.as_ref().map(|template| template.fill(&args)),
            clock: self.clock.clone(),
            random: self.random.lock().unwrap_or_else(PoisonError::into_inner).fork(),
            produced: self.produced.clone(),
            next_id: 0,
            due: None,
        };
        let rows = futures::stream::unfold(read, |mut read| async move {
            let row = read.next().await?;
            Some((row, read))
        });
        Ok(Box::pin(rows))
    }
}

/// One read, under way.
#[derive(Debug)]
struct Read {
    source: Arc<str>,
    options: Arc<SimulatedOptions>,
    /// Every row's; `None`: a random one each.
    value: Option<Json>,
    clock: Arc<dyn Clock>,
    random: StdRng,
    produced: Arc<AtomicU64>,
    next_id: u64,
    /// When the row before was due, on [`Clock::elapsed`].
    due: Option<Duration>,
}

impl Read {
    async fn next(&mut self) -> Option<Result<Row, SourceError>> {
        let id = self.next_id;
        let options = self.options.clone();
        let failure = options.fail.as_ref().filter(|failure| failure.after_rows == id);
        if failure.is_none() && id >= options.rows {
            return None;
        }
        self.wait().await;
        if let Some(failure) = failure {
            let message = format!("source `{}` failed: {}", self.source, failure.message);
            return Some(Err(SourceError::new(ErrorCode::Unavailable, message)));
        }
        self.next_id += 1;
        self.produced.fetch_add(1, Ordering::Relaxed);
        let value = match &self.value {
            Some(value) => value.clone(),
            None => Json::from(serde_json::Value::from(self.random.random::<f64>())),
        };
        let metadata = options.metadata.as_ref().map(|text| {
            let text = text.replace(ID_PLACE, &id.to_string());
            Json::from(serde_json::Value::from(text))
        });
        Some(Ok(Row { value, metadata }))
    }

    /// Keeps the pace: a reader a little late waits less for the next row. One that is later than a whole
    /// interval does not get what it missed in a burst.
    async fn wait(&mut self) {
        let now = self.clock.elapsed();
        let due = match self.due {
            None => now + Duration::from_millis(self.options.latency_ms),
            Some(before) => (before + Duration::from_millis(self.options.interval_ms)).max(now),
        };
        self.due = Some(due);
        if due > now {
            self.clock.sleep(due - now).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt, StreamExt};

    use super::*;
    use crate::{
        clock::ManualClock,
        source::{ArgType, Limited},
    };

    type Rows = BoxStream<'static, Result<Row, SourceError>>;

    fn source(options: SimulatedOptions) -> (Limited<SimulatedSource>, ManualClock) {
        let clock = ManualClock::new(chrono::DateTime::UNIX_EPOCH);
        let shared: Arc<dyn Clock> = Arc::new(clock.clone());
        let source = SimulatedSource::new("made_up", options, shared.clone(), StdRng::seed_from_u64(1)).unwrap();
        (Limited::new(source, shared), clock)
    }

    /// The next row, if it is there without waiting.
    fn now(rows: &mut Rows) -> Option<Option<Result<Row, SourceError>>> {
        rows.next().now_or_never()
    }

    /// 100 rows, one each 50 ms.
    fn random() -> SimulatedOptions {
        SimulatedOptions {
            rows: 100,
            interval_ms: 50,
            value: SimulatedValue::Random,
            metadata: Some("chunk_{id}".to_owned()),
            ..SimulatedOptions::default()
        }
    }

    #[test]
    fn one_value_comes_after_the_latency() {
        let value = Json::parse(r#"{"status":"success"}"#).unwrap();
        let options =
            SimulatedOptions { latency_ms: 200, value: SimulatedValue::Fixed(value.clone()), ..Default::default() };
        let (source, clock) = source(options);
        let mut rows = source.read(Args::none()).unwrap();
        assert_eq!(now(&mut rows), None);
        clock.advance(Duration::from_millis(199));
        assert_eq!(now(&mut rows), None);
        clock.advance(Duration::from_millis(1));
        assert_eq!(now(&mut rows), Some(Some(Ok(Row { value, metadata: None }))));
        assert_eq!(now(&mut rows), Some(None));
    }

    #[test]
    fn a_stream_gives_a_row_each_interval_with_its_number() {
        let (source, clock) = source(random());
        let mut rows = source.read(Args::none()).unwrap();
        for id in 0..100 {
            let row = now(&mut rows).unwrap().unwrap().unwrap();
            assert_eq!(row.metadata.unwrap().as_str(), format!("\"chunk_{id}\""));
            assert!((0.0..1.0).contains(&row.value.decode::<f64>().unwrap()));
            if id < 99 {
                assert_eq!(now(&mut rows), None);
                clock.advance(Duration::from_millis(50));
            }
        }
        assert_eq!(now(&mut rows), Some(None));
    }

    #[test]
    fn the_same_seed_gives_the_same_numbers_and_each_read_others() {
        let first_values = || {
            let (source, _clock) = source(random());
            [(); 2].map(|()| now(&mut source.read(Args::none()).unwrap()).unwrap().unwrap().unwrap().value)
        };
        let [first, second] = first_values();
        assert_ne!(first, second);
        assert_eq!(first_values(), [first, second]);
    }

    #[test]
    fn nothing_is_made_before_it_is_asked_for_or_after_the_reader_left() {
        let (source, clock) = source(random());
        let produced = source.inner().produced();
        let mut rows = source.read(Args::none()).unwrap();
        clock.advance(Duration::from_secs(10));
        assert_eq!(produced.load(Ordering::Relaxed), 0);
        assert!(now(&mut rows).is_some());
        assert!(now(&mut rows).is_none());
        drop(rows);
        clock.advance(Duration::from_secs(10));
        assert_eq!(produced.load(Ordering::Relaxed), 1);
        assert_eq!(clock.next_wake(), None);
    }

    #[test]
    fn a_late_reader_gets_the_next_row_sooner_but_no_burst() {
        let (source, clock) = source(random());
        let mut rows = source.read(Args::none()).unwrap();
        assert!(now(&mut rows).is_some());
        clock.advance(Duration::from_millis(30));
        assert!(now(&mut rows).is_none());
        assert_eq!(clock.next_wake(), Some(Duration::from_millis(20)));
        clock.advance(Duration::from_millis(1000));
        assert!(now(&mut rows).is_some());
        assert!(now(&mut rows).is_some());
        assert!(now(&mut rows).is_none());
    }

    #[test]
    fn a_failure_comes_after_the_rows_before_it() {
        let fail = Some(SimulatedFailure { message: "no route".to_owned(), after_rows: 1 });
        let (source, clock) = source(SimulatedOptions { rows: 5, interval_ms: 10, fail, ..Default::default() });
        let mut rows = source.read(Args::none()).unwrap();
        assert!(now(&mut rows).unwrap().unwrap().is_ok());
        assert!(now(&mut rows).is_none());
        clock.advance(Duration::from_millis(10));
        let error = now(&mut rows).unwrap().unwrap().unwrap_err();
        assert_eq!(error, SourceError::new(ErrorCode::Unavailable, "source `made_up` failed: no route"));
        assert_eq!(now(&mut rows), Some(None));
    }

    #[test]
    fn slower_than_its_timeout_is_a_timeout() {
        let (source, clock) = source(SimulatedOptions {
            latency_ms: 300,
            limits: SourceLimits { timeout_ms: 100, ..Default::default() },
            ..Default::default()
        });
        let mut rows = source.read(Args::none()).unwrap();
        assert!(now(&mut rows).is_none());
        clock.advance(Duration::from_millis(100));
        assert_eq!(now(&mut rows).unwrap().unwrap().unwrap_err().code, ErrorCode::Timeout);
    }

    #[test]
    fn a_text_in_the_value_can_stand_for_an_arg() {
        let value = SimulatedValue::Fixed(Json::parse(r#"{"id":"{id}","note":"{id}s"}"#).unwrap());
        let args = vec![ArgDefinition::optional("id", ArgType::Number, 1)];
        let (source, _clock) = source(SimulatedOptions { value, args, ..Default::default() });
        let first = |args| now(&mut source.read(args).unwrap()).unwrap().unwrap().unwrap().value.to_string();
        assert_eq!(first(Args::none().with("id", 7)), r#"{"id":7,"note":"{id}s"}"#);
        assert_eq!(first(Args::none()), r#"{"id":1,"note":"{id}s"}"#);
    }

    #[test]
    fn args_are_refused() {
        let (source, _clock) = source(random());
        let args = Args::from_json(&Json::parse(r#"{"a":1}"#).unwrap()).unwrap();
        assert_eq!(source.read(args).err().unwrap().code, ErrorCode::InvalidInput);
    }
}
