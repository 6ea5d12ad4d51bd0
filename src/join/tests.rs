use std::{pin::pin, sync::Arc, time::Duration};

use futures::{FutureExt, future::poll_immediate};
use proptest::prelude::*;
use rand::{SeedableRng, rngs::StdRng};

use super::*;
use crate::{
    clock::{Clock, ManualClock},
    error::{Error, ErrorCode},
    jq::{Filter, JqLimits, JqRunner, Values},
    source::{
        ArgDefinition, ArgType, Args, Limited, Sources,
        simulated::{SimulatedFailure, SimulatedOptions, SimulatedSource, SimulatedValue},
    },
};

/// Simulated sources on a clock of the test's own.
struct Lab {
    clock: ManualClock,
    sources: Sources,
    made: Vec<(String, Arc<std::sync::atomic::AtomicU64>)>,
}

impl Lab {
    fn new() -> Self {
        let clock = ManualClock::new(chrono::DateTime::UNIX_EPOCH);
        Self { sources: Sources::new(Arc::new(clock.clone())), clock, made: Vec::new() }
    }

    fn add(&mut self, name: &str, latency_ms: u64, value: &str) -> &mut Self {
        let value = SimulatedValue::Fixed(Json::parse(value).unwrap());
        self.add_with(name, SimulatedOptions { latency_ms, value, ..SimulatedOptions::default() })
    }

    fn add_with(&mut self, name: &str, options: SimulatedOptions) -> &mut Self {
        let clock: Arc<dyn Clock> = Arc::new(self.clock.clone());
        let source = SimulatedSource::new(name, options, clock, StdRng::seed_from_u64(1)).unwrap();
        self.made.push((name.to_owned(), source.produced()));
        self.sources.insert(source);
        self
    }

    fn failing(&mut self, name: &str, latency_ms: u64) -> &mut Self {
        let fail = Some(SimulatedFailure { message: "no route".to_owned(), after_rows: 0 });
        self.add_with(name, SimulatedOptions { latency_ms, fail, ..SimulatedOptions::default() })
    }

    /// How many rows this source has made.
    fn made(&self, name: &str) -> u64 {
        let (_, made) = self.made.iter().find(|(known, _)| known == name).unwrap();
        made.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// A join whose parts have the names of their sources; each with the parts it comes after. The whole: all values.
    fn join(&self, parts: &[(&str, &[&str])]) -> Join<(), Vec<Result<Json, ErrorCode>>> {
        self.join_with(parts, &[], JoinLimits::default())
    }

    fn join_with(
        &self,
        parts: &[(&str, &[&str])],
        required: &[&str],
        limits: JoinLimits,
    ) -> Join<(), Vec<Result<Json, ErrorCode>>> {
        let mut builder = JoinBuilder::<()>::new("all").limits(limits);
        let mut keys: Vec<(&str, PartKey<Json>)> = Vec::new();
        for (name, after) in parts {
            let mut part = Part::new(*name, *name);
            for dependency in *after {
                part = part.after(keys.iter().find(|(known, _)| known == dependency).unwrap().1);
            }
            if required.contains(name) {
                part = part.required();
            }
            keys.push((name, builder.part(part)));
        }
        let keys: Vec<PartKey<Json>> = keys.into_iter().map(|(_, key)| key).collect();
        builder
            .build(&self.sources, move |(), parts| {
                Ok(keys.iter().map(|key| parts.get(*key).map_err(|error| error.code)).collect())
            })
            .unwrap()
    }

    /// Lets time pass until it is done.
    fn run<T>(&self, future: impl Future<Output = T>) -> T {
        let mut future = pin!(future);
        loop {
            if let Some(output) = poll_immediate(&mut future).now_or_never().flatten() {
                return output;
            }
            self.clock.advance(self.clock.next_wake().expect("somebody waits for the time"));
        }
    }
}

const NO_TIME: Duration = Duration::ZERO;
const MS: Duration = Duration::from_millis(1);

fn times<T>(joined: &Joined<T>) -> Vec<(Duration, Duration)> {
    joined.parts.iter().map(|part| (part.started, part.elapsed)).collect()
}

fn profile() -> Lab {
    let mut lab = Lab::new();
    lab.add("user", 100, "\"User\"").add("api", 200, "\"success\"").add("process", 50, "6");
    lab
}

const PROFILE: [(&str, &[&str]); 3] = [("user", &[]), ("api", &[]), ("process", &["user", "api"])];

#[test]
fn what_depends_on_nothing_starts_at_once_and_the_rest_as_soon_as_it_can() {
    let lab = profile();
    let joined = lab.run(lab.join(&PROFILE).run((), Order::Concurrent)).unwrap();
    assert_eq!(joined.elapsed, 250 * MS);
    assert_eq!(joined.sequential(), 350 * MS);
    assert_eq!(times(&joined), [(NO_TIME, 100 * MS), (NO_TIME, 200 * MS), (200 * MS, 50 * MS)]);
}

#[test]
fn a_comparison_runs_everything_twice_and_says_what_is_gained() {
    let lab = profile();
    let compared = lab.run(lab.join(&PROFILE).compare(())).unwrap();
    assert_eq!((compared.sequential.elapsed, compared.concurrent.elapsed), (350 * MS, 250 * MS));
    assert_eq!(times(&compared.sequential), [(NO_TIME, 100 * MS), (100 * MS, 200 * MS), (300 * MS, 50 * MS)]);
    assert!((compared.improvement_percent().unwrap() - 28.57).abs() < 0.01);
    assert!((compared.speedup().unwrap() - 1.4).abs() < 0.001);
    assert_eq!(["user", "api", "process"].map(|name| lab.made(name)), [2, 2, 2]);
}

#[test]
fn runs_that_did_not_do_the_same_are_not_compared() {
    let mut lab = profile();
    // One read at a time, and no patience: of three reads at once the two that wait are late.
    let limits = crate::source::SourceLimits { timeout_ms: 250, concurrency: 1, ..Default::default() };
    lab.add_with("single", SimulatedOptions { latency_ms: 200, limits, ..SimulatedOptions::default() });
    let mut builder = JoinBuilder::<()>::new("three");
    for name in ["a", "b", "c"] {
        let gives = if name == "a" { crate::source::Gives::Rows } else { crate::source::Gives::Value };
        let _ = builder.part::<Json>(Part::new(name, "single").gives(gives));
    }
    let three = builder.build(&lab.sources, |(), _| Ok(())).unwrap();
    let compared = lab.run(three.compare(())).unwrap();
    let failed = |joined: &Joined<()>| joined.parts.iter().filter(|part| part.result.is_err()).count();
    assert!(failed(&compared.concurrent) > 0 && failed(&compared.sequential) == 0, "{compared:?}");
    assert_eq!((compared.improvement_percent(), compared.speedup()), (None, None));

    // The join's time is over: for one after another, and for both.
    for timeout_ms in [300, 150] {
        let limits = JoinLimits { timeout_ms, ..JoinLimits::default() };
        let compared = lab.run(lab.join_with(&PROFILE, &[], limits).compare(())).unwrap();
        assert!(compared.sequential.timed_out && compared.concurrent.timed_out == (timeout_ms == 150), "{compared:?}");
        assert_eq!((compared.improvement_percent(), compared.speedup()), (None, None));
    }

    // A part that fails in both in the same way is no difference.
    lab.failing("broken", 10);
    let compared = lab.run(lab.join(&[("user", &[]), ("broken", &[])]).compare(())).unwrap();
    assert!(compared.speedup().is_some_and(|speedup| (speedup - 1.1).abs() < 0.001), "{compared:?}");
}

#[test]
fn an_optional_part_that_fails_leaves_its_error_beside_the_others() {
    let mut lab = profile();
    lab.failing("broken", 10);
    let parts = [("user", &[][..]), ("broken", &[]), ("process", &["broken"]), ("api", &["process"])];
    for order in [Order::Concurrent, Order::Sequential] {
        let joined = lab.run(lab.join(&parts).run((), order)).unwrap();
        let [Ok(user), broken @ ..] = &joined.data[..] else { panic!("{:?}", joined.data) };
        assert_eq!(user.as_str(), "\"User\"");
        assert_eq!(broken, [const { Err(ErrorCode::Unavailable) }; 3]);
        let message = |part: usize| joined.parts[part].result.as_ref().unwrap_err().message.as_str();
        assert_eq!(message(1), "source `broken` failed: no route");
        assert_eq!(message(2), "not fetched: it depends on part `broken`, which has no value");
        assert_eq!(joined.elapsed, if order == Order::Concurrent { 100 * MS } else { 110 * MS });
    }
    assert_eq!((lab.made("process"), lab.made("api")), (0, 0));
}

#[test]
fn a_required_part_that_fails_ends_the_join_at_once_and_the_rest_is_stopped() {
    let mut lab = profile();
    lab.failing("broken", 10);
    for required in ["broken", "process"] {
        let parts = [("user", &[][..]), ("broken", &[]), ("process", &["broken"])];
        let error = lab.run(lab.join_with(&parts, &[required], JoinLimits::default()).run((), Order::Concurrent));
        let error: Error = error.unwrap_err();
        assert_eq!(error.code(), ErrorCode::Unavailable);
        assert!(error.to_string().starts_with(&format!("join `all`, part `{required}`: ")), "{error}");
        assert_eq!(lab.clock.next_wake(), None);
    }
    assert_eq!(lab.clock.elapsed(), 20 * MS);
}

#[test]
fn at_the_deadline_what_is_late_has_an_error_and_a_required_part_fails_the_join() {
    let lab = profile();
    let limits = JoinLimits { timeout_ms: 150, ..JoinLimits::default() };
    for order in [Order::Concurrent, Order::Sequential] {
        let joined = lab.run(lab.join_with(&PROFILE, &["user"], limits.clone()).run((), order)).unwrap();
        assert_eq!(joined.elapsed, 150 * MS);
        let codes: Vec<_> = joined.data.iter().map(|value| value.as_ref().err().copied()).collect();
        assert_eq!(codes, [None, Some(ErrorCode::Timeout), Some(ErrorCode::Timeout)]);
        assert!(joined.parts[2].result.as_ref().unwrap_err().message.contains("its turn did not come"));
        let error = lab.run(lab.join_with(&PROFILE, &["api"], limits.clone()).run((), order)).unwrap_err();
        assert_eq!(error.code(), ErrorCode::Timeout);
        assert_eq!(lab.clock.next_wake(), None);
    }
}

#[test]
fn dropping_a_run_stops_what_is_outstanding() {
    let lab = profile();
    let join = lab.join(&PROFILE);
    let mut run = Box::pin(join.run((), Order::Concurrent));
    assert!((&mut run).now_or_never().is_none());
    assert!(lab.clock.next_wake().is_some());
    drop(run);
    assert_eq!(lab.clock.next_wake(), None);
}

#[test]
fn identical_parts_of_one_request_are_fetched_once() {
    let mut lab = Lab::new();
    let args = vec![ArgDefinition::optional("id", ArgType::Number, 1)];
    let value = SimulatedValue::Fixed(Json::parse("\"{id}\"").unwrap());
    lab.add_with("item", SimulatedOptions { latency_ms: 100, value, args, ..SimulatedOptions::default() });
    let item: Arc<Limited> = lab.sources.get("item").unwrap().clone();
    let id = |id: u64| Args::none().with("id", id);
    let fetch = |fetches: &Fetches, args| fetches.fetch(&item, args, crate::source::Gives::Value, 100);

    let fetches = Fetches::default();
    let (first, shared) = fetch(&fetches, id(1));
    assert!(!shared);
    // A default is the same as the value given.
    let (second, shared) = fetch(&fetches, Args::none());
    assert!(shared);
    let (other, shared) = fetch(&fetches, id(2));
    assert!(!shared);
    let all = lab.run(futures::future::join3(first, second, other));
    let text = |result: Result<Json, _>| result.unwrap().to_string();
    assert_eq!((text(all.0), text(all.1), text(all.2)), ("1".to_owned(), "1".to_owned(), "2".to_owned()));
    // Also when the first has long been done.
    let (again, shared) = fetch(&fetches, id(1));
    assert_eq!((text(again.now_or_never().unwrap()), shared), ("1".to_owned(), true));
    assert_eq!(lab.made("item"), 2);
    // Another request fetches for itself.
    assert!(!fetch(&Fetches::default(), id(1)).1);
}

#[test]
fn a_shared_fetch_goes_on_for_those_who_stay_and_stops_with_the_last() {
    let mut lab = Lab::new();
    lab.add("item", 100, "1");
    let item = lab.sources.get("item").unwrap().clone();
    let fetches = Fetches::default();
    let fetch = || fetches.fetch(&item, Args::none(), crate::source::Gives::Value, 100).0;
    let (mut first, mut second) = (fetch(), fetch());
    assert!((&mut first).now_or_never().is_none() && (&mut second).now_or_never().is_none());
    drop(first);
    assert!(lab.clock.next_wake().is_some());
    drop(second);
    assert_eq!(lab.clock.next_wake(), None);
    assert!(lab.run(fetch()).is_ok());
}

#[test]
fn rows_are_a_list_within_the_limit_of_bytes() {
    let mut lab = Lab::new();
    let value = SimulatedValue::Fixed(Json::parse("12345").unwrap());
    lab.add_with("three", SimulatedOptions { rows: 3, value, ..SimulatedOptions::default() });
    lab.add_with("none", SimulatedOptions { rows: 0, ..SimulatedOptions::default() });
    let three = lab.sources.get("three").unwrap().clone();
    let none = lab.sources.get("none").unwrap().clone();
    let fetch = |source: &Arc<Limited>, gives, max_bytes| {
        Fetches::default().fetch(source, Args::none(), gives, max_bytes).0.now_or_never().unwrap()
    };
    use crate::source::Gives::{Rows, Value};
    assert_eq!(fetch(&three, Rows, 19).unwrap().as_str(), "[12345,12345,12345]");
    assert_eq!(fetch(&three, Rows, 18).unwrap_err().limit, Some("max_part_bytes"));
    assert_eq!(fetch(&three, Value, 5).unwrap().as_str(), "12345");
    assert_eq!(fetch(&three, Value, 4).unwrap_err().code, ErrorCode::LimitExceeded);
    assert_eq!((fetch(&none, Rows, 9).unwrap().as_str(), fetch(&none, Value, 9).unwrap().as_str()), ("[]", "null"));
}

#[test]
fn all_values_together_are_within_a_limit() {
    let mut lab = Lab::new();
    for (name, latency_ms) in [("a", 10), ("b", 20), ("c", 30)] {
        lab.add(name, latency_ms, "12345");
    }
    let codes = |max_bytes: usize, required: &[&str]| {
        let limits = JoinLimits { max_bytes, ..JoinLimits::default() };
        let parts = [("c", &[][..]), ("b", &[]), ("a", &[])];
        let joined = lab.run(lab.join_with(&parts, required, limits).run((), Order::Concurrent));
        joined.map(|joined| joined.data.into_iter().map(Result::err).collect::<Vec<_>>())
    };
    assert_eq!(codes(15, &[]).unwrap(), [None; 3]);
    // The one that comes last has no room.
    assert_eq!(codes(14, &[]).unwrap(), [Some(ErrorCode::LimitExceeded), None, None]);
    let error = codes(14, &["c"]).unwrap_err();
    assert!(error.to_string().contains("`max_bytes`, which allows 14 bytes"), "{error}");
}

#[test]
fn all_joins_at_once_hold_no_more_than_there_is_room_for() {
    let mut lab = Lab::new();
    lab.add("a", 10, "12345").add("b", 20, "12345");
    let part = |name: &str, source: &str| PartDefinition {
        name: name.to_owned(),
        source: source.to_owned(),
        ..PartDefinition::default()
    };
    let definition =
        JoinDefinition { parts: vec![part("a", "a"), part("b", "b"), part("again", "b")], ..JoinDefinition::default() };
    let runner = JqRunner::new(Arc::new(lab.clock.clone()));
    let join = ConfiguredJoin::new("all", definition, &lab.sources, &runner).unwrap();
    let room = JoinRoom::new(25);
    let run = |fetches: &Fetches| lab.run(join.run(Args::none(), Order::Concurrent, fetches));

    // What is shared counts once; each request holds what it has until it is over.
    let (first, second, third) = (Fetches::within(&room), Fetches::within(&room), Fetches::within(&room));
    run(&first).unwrap();
    run(&first).unwrap();
    assert_eq!(room.held_bytes(), 10);
    run(&second).unwrap();
    assert_eq!(room.held_bytes(), 20);
    // There is room for one value more, and not for two.
    let error = run(&third).unwrap_err();
    assert_eq!(error.code(), ErrorCode::Unavailable);
    assert!(error.to_string().starts_with("join `all`: too many joins hold values now"), "{error}");
    drop((second, third));
    assert_eq!(room.held_bytes(), 10);
    run(&Fetches::within(&room)).unwrap();
    drop(first);
    assert_eq!(room.held_bytes(), 0);

    // A comparison holds the values of both runs.
    let fetches = Fetches::within(&room);
    lab.run(join.compare(Args::none(), &fetches)).unwrap();
    assert_eq!(room.held_bytes(), 20);
    assert!(lab.run(join.compare(Args::none(), &fetches)).is_err());
    drop(fetches);
    assert_eq!(room.held_bytes(), 0);
}

#[tokio::test]
async fn a_shape_that_does_not_get_its_turn_is_a_timeout() {
    let lab = profile();
    let clock: Arc<dyn Clock> = Arc::new(lab.clock.clone());
    let runner = JqRunner::with_turns(clock, 1);
    let filter = |text| Filter::compile(text, &JoinDefinition::SHAPE_VARIABLES).unwrap();
    let definition = JoinDefinition {
        parts: vec![PartDefinition { name: "user".to_owned(), source: "user".to_owned(), ..PartDefinition::default() }],
        shape: Some(filter("[range(1000)] | length")),
        limits: JoinLimits { timeout_ms: 150, ..JoinLimits::default() },
        filters: JqLimits { filter_timeout_ms: 10, ..JqLimits::default() },
        ..JoinDefinition::default()
    };
    let join = ConfiguredJoin::new("late", definition, &lab.sources, &runner).unwrap();
    let endless = Values { input: Json::null(), variables: vec![Json::null(); 2] };
    let limits = JqLimits { filter_timeout_ms: 1_000_000, ..JqLimits::default() };
    let mut busy = Box::pin(runner.run(vec![filter("last(repeat(1))")], endless, limits));
    assert!(futures::poll!(&mut busy).is_pending());
    let fetches = Fetches::default();
    let mut run = Box::pin(join.run(Args::none(), Order::Concurrent, &fetches));
    assert!(futures::poll!(&mut run).is_pending());
    lab.clock.advance(100 * MS);
    assert!(futures::poll!(&mut run).is_pending());
    lab.clock.advance(49 * MS);
    assert!(futures::poll!(&mut run).is_pending());
    lab.clock.advance(MS);
    let error = run.await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::Timeout);
    let expected = "its `shape` did not get its turn, or did not end, within the 150 ms that the join has";
    assert!(error.to_string().contains(expected), "{error}");
}

/// A join of `user` (100 ms) and `api` (200 ms) whose shape goes on without end.
fn endless_shape(lab: &Lab, timeout_ms: u64) -> ConfiguredJoin {
    let part = |name: &str| PartDefinition { name: name.to_owned(), source: name.to_owned(), ..Default::default() };
    let definition = JoinDefinition {
        parts: vec![part("user"), part("api")],
        shape: Some(Filter::compile("last(range(1e12))", &JoinDefinition::SHAPE_VARIABLES).unwrap()),
        limits: JoinLimits { timeout_ms, ..JoinLimits::default() },
        ..JoinDefinition::default()
    };
    let clock: Arc<dyn Clock> = Arc::new(lab.clock.clone());
    ConfiguredJoin::new("endless", definition, &lab.sources, &JqRunner::new(clock)).unwrap()
}

#[tokio::test]
async fn a_shape_has_what_its_parts_left_of_the_joins_time() {
    // What the parts leave of it, and where they leave nothing a grace.
    for (timeout_ms, parts_end_at, stopped_at, expected) in [
        (250, 200, 250, "within the 250 ms that the join has (its `timeout_ms`)"),
        (150, 150, 250, "(its `timeout_ms`), all of which its parts took, nor in 100 ms more"),
    ] {
        let lab = profile();
        let join = endless_shape(&lab, timeout_ms);
        let fetches = Fetches::default();
        let mut run = Box::pin(join.run(Args::none(), Order::Concurrent, &fetches));
        while lab.clock.elapsed() < parts_end_at * MS {
            assert!(futures::poll!(&mut run).is_pending());
            lab.clock.advance(10 * MS);
        }
        assert!(futures::poll!(&mut run).is_pending());
        lab.clock.advance((stopped_at - parts_end_at - 1) * MS);
        assert!(futures::poll!(&mut run).is_pending());
        lab.clock.advance(MS);
        let error = run.await.unwrap_err();
        assert!(error.to_string().ends_with(expected), "{error}");
    }
}

#[test]
fn a_source_that_panics_fails_its_part_and_nothing_else() {
    #[derive(Debug)]
    struct Panics(crate::source::SourceInfo);
    impl crate::source::Source for Panics {
        fn info(&self) -> &crate::source::SourceInfo {
            &self.0
        }
        fn read(
            &self,
            _: Args,
        ) -> Result<
            futures::stream::BoxStream<'static, Result<crate::source::Row, crate::source::SourceError>>,
            crate::source::SourceError,
        > {
            panic!("on purpose")
        }
    }
    let mut lab = profile();
    let info = lab.sources.get("user").unwrap().info().clone();
    lab.sources.insert(Panics(crate::source::SourceInfo { name: "panics".into(), ..info }));
    let joined = lab.run(lab.join(&[("user", &[]), ("panics", &[])]).run((), Order::Concurrent)).unwrap();
    assert!(joined.data[0].is_ok());
    assert_eq!(joined.data[1], Err(ErrorCode::Internal));
}

#[test]
fn a_value_of_another_type_says_which_part_and_what_it_is_not() {
    let lab = profile();
    let mut builder = JoinBuilder::<()>::new("typed");
    let user = builder.part::<u64>(Part::new("user", "user"));
    let join = builder.build(&lab.sources, move |(), parts| parts.get(user)).unwrap();
    let error = lab.run(join.run((), Order::Concurrent)).unwrap_err();
    assert_eq!(error.code(), ErrorCode::InvalidInput);
    assert!(error.to_string().contains("join `typed`: the value of part `user` is not a u64"), "{error}");
}

#[test]
fn args_see_only_the_parts_they_come_after() {
    let mut lab = profile();
    let args = vec![ArgDefinition::required("data", ArgType::Any)];
    let value = SimulatedValue::Fixed(Json::parse("\"{data}\"").unwrap());
    lab.add_with("echo", SimulatedOptions { value, args, ..SimulatedOptions::default() });
    let mut builder = JoinBuilder::<u64>::new("echoes");
    let user = builder.part::<String>(Part::new("user", "user"));
    let data = move |id: &u64, parts: &Parts| Ok(Args::none().with("data", format!("{} {id}", parts.get(user)?)));
    let after = builder.part::<String>(Part::new("after", "echo").args(data).after(user));
    let blind = builder.part::<String>(Part::new("blind", "echo").args(data));
    let join = builder
        .build(&lab.sources, move |_, parts| Ok((parts.get(after)?, parts.get(blind).unwrap_err().message)))
        .unwrap();
    let (after, blind) = lab.run(join.run(7, Order::Concurrent)).unwrap().data;
    assert_eq!(after, "User 7");
    assert!(blind.contains("name it with `after`"), "{blind}");
}

#[test]
fn joins_that_cannot_run_are_refused_when_they_are_built() {
    let lab = profile();
    let build = |parts: Vec<Part<()>>| {
        let mut builder = JoinBuilder::<()>::new("wrong");
        for part in parts {
            let _ = builder.part::<Json>(part);
        }
        builder.build(&lab.sources, |(), _| Ok(())).map(drop).unwrap_err()
    };
    assert_eq!(build(vec![Part::new("a", "nowhere")]).code(), ErrorCode::UnknownSource);
    assert!(build(Vec::new()).to_string().contains("from 1 to 100 parts"));
    assert!(build(vec![Part::new("a", "user"), Part::new("a", "api")]).to_string().contains("two parts `a`"));
}

/// Parts with latencies, each depending on some of those before it.
fn graphs() -> impl Strategy<Value = Vec<(u64, Vec<usize>)>> {
    let part = (0..8_u64, prop::collection::vec(any::<prop::sample::Index>(), 0..4));
    prop::collection::vec(part, 1..24).prop_map(|parts| {
        let depends = |(number, (latency, on)): (usize, (u64, Vec<prop::sample::Index>))| {
            let on = if number == 0 { Vec::new() } else { on.iter().map(|index| index.index(number)).collect() };
            (latency * 10, on)
        };
        parts.into_iter().enumerate().map(depends).collect()
    })
}

proptest! {
    #[test]
    fn nothing_waits_that_could_run_and_the_whole_takes_the_critical_path(parts in graphs()) {
        let mut lab = Lab::new();
        let names: Vec<String> = (0..parts.len()).map(|number| format!("p{number}")).collect();
        for (name, (latency_ms, _)) in names.iter().zip(&parts) {
            lab.add(name, *latency_ms, &format!("\"{name}\""));
        }
        let after: Vec<Vec<&str>> =
            parts.iter().map(|(_, on)| on.iter().map(|part| names[*part].as_str()).collect()).collect();
        let edges: Vec<(&str, &[&str])> =
            names.iter().zip(&after).map(|(name, after)| (name.as_str(), after.as_slice())).collect();
        let join = lab.join(&edges);

        let joined = lab.run(join.run((), Order::Concurrent)).unwrap();
        let mut ends: Vec<Duration> = Vec::new();
        for (part, (latency_ms, on)) in joined.parts.iter().zip(&parts) {
            // It starts in the very moment in which the last of its dependencies is there.
            let ready = on.iter().map(|part| ends[*part]).max().unwrap_or_default();
            prop_assert_eq!(part.started, ready);
            prop_assert_eq!(part.elapsed, Duration::from_millis(*latency_ms));
            ends.push(part.started + part.elapsed);
        }
        prop_assert_eq!(joined.elapsed, ends.iter().max().copied().unwrap());

        let joined = lab.run(join.run((), Order::Sequential)).unwrap();
        let total: u64 = parts.iter().map(|(latency_ms, _)| latency_ms).sum();
        prop_assert_eq!(joined.elapsed, Duration::from_millis(total));
        let mut spans: Vec<_> = joined.parts.iter().map(|part| (part.started, part.started + part.elapsed)).collect();
        spans.sort();
        for pair in spans.windows(2) {
            prop_assert!(pair[0].1 <= pair[1].0);
        }
        for (part, (_, on)) in joined.parts.iter().zip(&parts) {
            for dependency in on {
                let dependency = &joined.parts[*dependency];
                prop_assert!(dependency.started + dependency.elapsed <= part.started);
            }
        }
    }
}
