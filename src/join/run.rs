//! Runs a join: every part as soon as what it depends on is there, or one after another.

use std::{sync::Arc, time::Duration};

use futures::{
    StreamExt,
    future::{BoxFuture, FutureExt},
    stream::FuturesUnordered,
};

use super::{
    Fetches,
    plan::{Given, PartInfo, Plan},
};
use crate::{
    clock::Clock,
    error::{Error, ErrorCode},
    model::Json,
    source::SourceError,
};

/// In which order the parts of a join are fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Order {
    /// Each as soon as the parts it depends on are there.
    Concurrent,
    /// One after another, each after the parts it depends on.
    Sequential,
}

/// A part, as it was fetched.
#[derive(Debug, Clone, PartialEq)]
pub struct JoinedPart {
    /// Which part.
    pub info: PartInfo,
    /// Its value, or why there is none.
    pub result: Result<Json, SourceError>,
    /// From the join's start to the part's.
    pub started: Duration,
    /// From the part's start to its end.
    pub elapsed: Duration,
    /// Whether an identical part of the same request had been fetched, or was being fetched, already: then this one
    /// cost nothing by itself.
    pub shared: bool,
}

/// The parts of a join that has run, in the order of its definition.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Ran {
    pub(super) parts: Vec<JoinedPart>,
    /// When it began, on [`Clock::elapsed`].
    pub(super) began: Duration,
    /// Whether the join's time was over before they all had ended.
    pub(super) timed_out: bool,
}

/// Fetches the parts. Dropping the future stops what is outstanding.
///
/// The error is that of a required part. Parts that are late when the join's time is over have a `TIMEOUT`.
pub(super) async fn run<A: Send + Sync + 'static>(
    plan: &Plan<A>,
    args: Arc<A>,
    order: Order,
    fetches: &Fetches,
    clock: &Arc<dyn Clock>,
) -> Result<Ran, Error> {
    let mut run = Run {
        plan,
        args,
        fetches,
        clock,
        began: clock.elapsed(),
        waiting_for: (0..plan.parts.len()).map(|part| plan.graph.dependencies(part).len()).collect(),
        started: vec![None; plan.parts.len()],
        done: vec![None; plan.parts.len()],
        bytes: 0,
        timed_out: false,
    };
    match order {
        Order::Concurrent => run.concurrently().await?,
        Order::Sequential => run.one_after_another().await?,
    }
    let Run { began, timed_out, .. } = run;
    Ok(Ran { parts: run.done.into_iter().flatten().collect(), began, timed_out })
}

struct Run<'a, A> {
    plan: &'a Plan<A>,
    args: Arc<A>,
    fetches: &'a Fetches,
    clock: &'a Arc<dyn Clock>,
    began: Duration,
    /// How many parts each part still waits for.
    waiting_for: Vec<usize>,
    started: Vec<Option<Duration>>,
    done: Vec<Option<JoinedPart>>,
    /// Of the values that are there.
    bytes: usize,
    timed_out: bool,
}

/// What a fetch gives: the part's number, its value, and whether it was shared.
type PartFetched = (usize, Result<Json, SourceError>, bool);

impl<A: Send + Sync + 'static> Run<'_, A> {
    async fn concurrently(&mut self) -> Result<(), Error> {
        let mut deadline = self.deadline();
        let mut running = FuturesUnordered::new();
        for part in 0..self.plan.parts.len() {
            if self.waiting_for[part] == 0 {
                running.push(self.start(part));
            }
        }
        while !running.is_empty() {
            tokio::select! {
                biased;
                Some(fetched) = running.next() => {
                    for ready in self.finish(fetched)? {
                        running.push(self.start(ready));
                    }
                }
                () = &mut deadline => return self.late(),
            }
        }
        Ok(())
    }

    async fn one_after_another(&mut self) -> Result<(), Error> {
        let mut deadline = self.deadline();
        for &part in self.plan.graph.order() {
            // A part that was given up is done.
            if self.done[part].is_some() {
                continue;
            }
            let fetch = self.start(part);
            tokio::select! {
                biased;
                fetched = fetch => drop(self.finish(fetched)?),
                () = &mut deadline => return self.late(),
            }
        }
        Ok(())
    }

    fn deadline(&self) -> BoxFuture<'static, ()> {
        self.clock.sleep(Duration::from_millis(self.plan.limits.timeout_ms))
    }

    fn now(&self) -> Duration {
        self.clock.elapsed().saturating_sub(self.began)
    }

    /// Begins to fetch a part whose dependencies are there.
    fn start(&mut self, index: usize) -> BoxFuture<'static, PartFetched> {
        self.started[index] = Some(self.now());
        let part = &self.plan.parts[index];
        let value = |&dependency: &usize| {
            let done = self.done[dependency].as_ref()?;
            Some((dependency, done.result.as_ref().ok()?.clone()))
        };
        let values = self.plan.graph.dependencies(index).iter().filter_map(value).collect();
        let args = (part.args)(Given { args: self.args.clone(), values });
        let (source, gives, fetches) = (part.source.clone(), part.gives, self.fetches.clone());
        let max_bytes = self.plan.limits.max_part_bytes;
        let fetch = async move {
            let args = match args.await {
                Ok(args) => args,
                Err(error) => return (index, Err(error), false),
            };
            let (fetch, shared) = fetches.fetch(&source, args, gives, max_bytes);
            (index, fetch.await, shared)
        };
        fetch.boxed()
    }

    /// Notes how a part ended. Gives the parts that can be fetched now.
    fn finish(&mut self, (index, result, shared): PartFetched) -> Result<Vec<usize>, Error> {
        if let (Ok(value), false) = (&result, shared) {
            self.fetches.hold(value.len()).map_err(|error| {
                let message = format!("join `{}`: {}", self.plan.name, error.message);
                SourceError { message, ..error }
            })?;
        }
        let result = result.and_then(|value| self.within(value));
        let failed = result.as_ref().err().map(|error| error.code);
        self.note(index, result, shared)?;
        match failed {
            Some(code) => self.give_up_dependents(index, code).map(|()| Vec::new()),
            None => {
                let mut ready = Vec::new();
                for &dependent in self.plan.graph.dependents(index) {
                    self.waiting_for[dependent] -= 1;
                    if self.waiting_for[dependent] == 0 && self.done[dependent].is_none() {
                        ready.push(dependent);
                    }
                }
                Ok(ready)
            }
        }
    }

    /// The value, if there is room for it beside the others.
    fn within(&mut self, value: Json) -> Result<Json, SourceError> {
        let max_bytes = self.plan.limits.max_bytes;
        if value.len() > max_bytes - self.bytes {
            let message = format!(
                "join `{}` is over its limit `max_bytes`, which allows {max_bytes} bytes of all parts together",
                self.plan.name
            );
            return Err(SourceError { code: ErrorCode::LimitExceeded, message, limit: Some("max_bytes") });
        }
        self.bytes += value.len();
        Ok(value)
    }

    /// Notes how a part ended, now.
    fn note(&mut self, index: usize, result: Result<Json, SourceError>, shared: bool) -> Result<(), Error> {
        let info = &self.plan.parts[index].info;
        match result {
            Err(error) if info.required => {
                let message = format!("join `{}`, part `{}`: {}", self.plan.name, info.name, error.message);
                Err(Error::from(SourceError { message, ..error }))
            }
            result => {
                let now = self.now();
                let started = self.started[index].unwrap_or(now);
                let elapsed = now.saturating_sub(started);
                self.done[index] = Some(JoinedPart { info: info.clone(), result, started, elapsed, shared });
                Ok(())
            }
        }
    }

    /// Parts that wait for one that has failed are not fetched.
    fn give_up_dependents(&mut self, failed: usize, code: ErrorCode) -> Result<(), Error> {
        let mut failed = vec![failed];
        while let Some(part) = failed.pop() {
            for &dependent in self.plan.graph.dependents(part) {
                if self.done[dependent].is_none() {
                    let name = &self.plan.parts[part].info.name;
                    let message = format!("not fetched: it depends on part `{name}`, which has no value");
                    self.note(dependent, Err(SourceError::new(code, message)), false)?;
                    failed.push(dependent);
                }
            }
        }
        Ok(())
    }

    /// The join's time is over: what is not done is late.
    fn late(&mut self) -> Result<(), Error> {
        self.timed_out = true;
        let timeout_ms = self.plan.limits.timeout_ms;
        for part in 0..self.plan.parts.len() {
            if self.done[part].is_some() {
                continue;
            }
            let begun = self.started[part].is_some();
            let what = if begun { "no value" } else { "not fetched: its turn did not come" };
            let message = format!("{what} within the {timeout_ms} ms that the join has (its `timeout_ms`)");
            self.note(part, Err(SourceError::new(ErrorCode::Timeout, message)), false)?;
        }
        Ok(())
    }
}
