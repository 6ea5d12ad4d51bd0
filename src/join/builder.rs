//! Joins of the caller's own types.

use std::{fmt, marker::PhantomData, sync::Arc};

use futures::FutureExt;
use serde::de::DeserializeOwned;

use super::{
    Comparison, Fetches, JoinLimits, Joined, JoinedPart, MAX_PARTS, Order, PartInfo,
    plan::{Given, Plan, PlannedPart},
    run::run,
};
use crate::{
    clock::Clock,
    error::{Error, ErrorCode},
    model::Json,
    source::{Args, Gives, SourceError, Sources},
};

/// Names a part of a join, and knows the type of its value.
pub struct PartKey<T> {
    index: usize,
    value: PhantomData<fn() -> T>,
}

impl<T> Clone for PartKey<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for PartKey<T> {}

impl<T> fmt::Debug for PartKey<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PartKey").field(&self.index).finish()
    }
}

/// Values of parts.
#[derive(Debug)]
pub struct Parts {
    names: Arc<[Arc<str>]>,
    /// By the parts' numbers; `None`: not among those that may be seen here.
    values: Vec<Option<Result<Json, SourceError>>>,
}

impl Parts {
    /// The part's value. The error is the part's own, or says that the value is not a `T`.
    ///
    /// Where args are made, only the values of parts that were named with [`Part::after`] are there.
    pub fn get<T: DeserializeOwned>(&self, key: PartKey<T>) -> Result<T, SourceError> {
        let name = self.names.get(key.index).map_or("?", AsRef::as_ref);
        let Some(Some(value)) = self.values.get(key.index) else {
            let message = format!("the value of part `{name}` is not there: name it with `after`");
            return Err(SourceError::new(ErrorCode::Internal, message));
        };
        value.as_ref().map_err(Clone::clone)?.decode().map_err(|error| {
            let message = format!("the value of part `{name}` is not a {}: {error}", std::any::type_name::<T>());
            SourceError::new(ErrorCode::InvalidInput, message)
        })
    }
}

type MakeArgs<A> = Arc<dyn Fn(&A, &Parts) -> Result<Args, SourceError> + Send + Sync>;
type MakeWhole<A, R> = Box<dyn Fn(&A, &Parts) -> Result<R, SourceError> + Send + Sync>;

/// A part to be added to a [`JoinBuilder`].
pub struct Part<A> {
    name: String,
    source: String,
    args: MakeArgs<A>,
    after: Vec<usize>,
    required: bool,
    gives: Option<Gives>,
}

impl<A> Part<A> {
    /// A part of this name, from the source of that name, without args.
    pub fn new(name: impl Into<String>, source: impl Into<String>) -> Self {
        let (name, source) = (name.into(), source.into());
        Self { name, source, args: Arc::new(|_, _| Ok(Args::none())), after: Vec::new(), required: false, gives: None }
    }

    /// Makes the source's args of the join's and of the parts it comes after.
    #[must_use]
    pub fn args(mut self, make: impl Fn(&A, &Parts) -> Result<Args, SourceError> + Send + Sync + 'static) -> Self {
        self.args = Arc::new(make);
        self
    }

    /// Waits for that part, and sees its value.
    #[must_use]
    pub fn after<T>(mut self, part: PartKey<T>) -> Self {
        self.after.push(part.index);
        self
    }

    /// The join fails with it.
    #[must_use]
    pub fn required(mut self) -> Self {
        self.required = true;
        self
    }

    /// All rows or the first, whatever the source says.
    #[must_use]
    pub fn gives(mut self, gives: Gives) -> Self {
        self.gives = Some(gives);
        self
    }
}

impl<A> fmt::Debug for Part<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Part").field("name", &self.name).field("source", &self.source).finish_non_exhaustive()
    }
}

/// Puts a join together whose args are an `A`.
///
/// ```
/// # use std::sync::Arc;
/// # use meanwhile::{clock::SystemClock, join::{JoinBuilder, Order, Part}, model::Json, source::{ArgDefinition, ArgType,
/// #     Args, Sources, simulated::{SimulatedOptions, SimulatedSource, SimulatedValue}}};
/// # #[derive(serde::Deserialize)]
/// # struct User { name: String }
/// # struct Profile { name: String, orders: usize }
/// # let clock: Arc<dyn meanwhile::clock::Clock> = Arc::new(SystemClock::default());
/// # let mut sources = Sources::new(clock.clone());
/// # let mut add = |name: &str, value: &str| {
/// #     let value = SimulatedValue::Fixed(Json::parse(value).unwrap());
/// #     let args = vec![ArgDefinition::required("id", ArgType::Number)];
/// #     let options = SimulatedOptions { value, args, ..SimulatedOptions::default() };
/// #     sources.insert(SimulatedSource::new(name, options, clock.clone(), rand::make_rng()).unwrap());
/// # };
/// # add("users", r#"{"name": "Ada"}"#);
/// # add("orders", "[1, 2, 3]");
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// let mut join = JoinBuilder::<u64>::new("profile");
/// let by_id = |id: &u64, _: &_| Ok(Args::none().with("id", *id));
/// let user = join.part::<User>(Part::new("user", "users").args(by_id).required());
/// let orders = join.part::<Vec<u64>>(Part::new("orders", "orders").args(by_id));
/// let profile = join.build(&sources, move |_id, parts| {
///     Ok(Profile { name: parts.get(user)?.name, orders: parts.get(orders)?.len() })
/// })?;
///
/// let joined = profile.run(7, Order::Concurrent).await?;
/// assert_eq!((joined.data.name.as_str(), joined.data.orders), ("Ada", 3));
/// # Ok::<(), meanwhile::error::Error>(())
/// # }).unwrap();
/// ```
pub struct JoinBuilder<A> {
    name: String,
    parts: Vec<Part<A>>,
    limits: JoinLimits,
}

impl<A: Send + Sync + 'static> JoinBuilder<A> {
    /// A join of this name, without parts.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), parts: Vec::new(), limits: JoinLimits::default() }
    }

    /// With these limits.
    #[must_use]
    pub fn limits(mut self, limits: JoinLimits) -> Self {
        self.limits = limits;
        self
    }

    /// Adds a part whose value is a `T`. The key is for this join only.
    pub fn part<T: DeserializeOwned>(&mut self, part: Part<A>) -> PartKey<T> {
        self.parts.push(part);
        PartKey { index: self.parts.len() - 1, value: PhantomData }
    }

    /// The join over these sources; `make` makes the whole of the parts.
    ///
    /// `UNKNOWN_SOURCE` when a source is not there, `INVALID_INPUT` when two parts have the same name, when there is no
    /// part or too many, or when a key is of another join.
    pub fn build<R>(
        self,
        sources: &Sources,
        make: impl Fn(&A, &Parts) -> Result<R, SourceError> + Send + Sync + 'static,
    ) -> Result<Join<A, R>, Error> {
        let invalid = |what: &str| Error::invalid(format!("join `{}`: {what}", self.name));
        if self.parts.is_empty() || self.parts.len() > MAX_PARTS {
            return Err(invalid(&format!("must have from 1 to {MAX_PARTS} parts")));
        }
        let names: Arc<[Arc<str>]> = self.parts.iter().map(|part| Arc::from(part.name.as_str())).collect();
        let mut planned = Vec::with_capacity(self.parts.len());
        for part in &self.parts {
            let source = sources.get(&part.source)?;
            let name = |index: &usize| names.get(*index).cloned();
            let depends_on = part.after.iter().map(name).collect::<Option<Vec<_>>>();
            let depends_on = depends_on.ok_or_else(|| invalid("`after` was given a key of another join"))?;
            let info = PartInfo {
                name: part.name.as_str().into(),
                source: source.info().name.clone(),
                depends_on,
                required: part.required,
            };
            let (make_args, all_names) = (part.args.clone(), names.clone());
            let args = Box::new(move |given: Given<A>| {
                let mut values = vec![None; all_names.len()];
                for (part, value) in given.values {
                    values[part] = Some(Ok(value));
                }
                let parts = Parts { names: all_names.clone(), values };
                std::future::ready(make_args(&given.args, &parts)).boxed()
            });
            planned.push(PlannedPart {
                info,
                source: source.clone(),
                gives: part.gives.unwrap_or(source.info().gives),
                args,
            });
        }
        let plan = Plan::new(&self.name, planned, self.limits.clone()).map_err(|error| invalid(&error.to_string()))?;
        Ok(Join { plan, names, make: Box::new(make), clock: sources.clock().clone() })
    }
}

impl<A> fmt::Debug for JoinBuilder<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinBuilder").field("name", &self.name).field("parts", &self.parts).finish_non_exhaustive()
    }
}

/// A join from an `A` to an `R`.
pub struct Join<A, R> {
    plan: Plan<A>,
    names: Arc<[Arc<str>]>,
    make: MakeWhole<A, R>,
    clock: Arc<dyn Clock>,
}

impl<A: Send + Sync + 'static, R> Join<A, R> {
    /// Runs it. Dropping the future stops what is outstanding.
    ///
    /// The error is that of a required part, or what making the whole gave.
    pub async fn run(&self, args: A, order: Order) -> Result<Joined<R>, Error> {
        self.run_shared(Arc::new(args), order).await
    }

    /// Runs it both ways, each by itself: every source is really asked twice. Concurrently first, so that what the first
    /// run warms up (connections, caches) helps the sequential one.
    pub async fn compare(&self, args: A) -> Result<Comparison<R>, Error> {
        let args = Arc::new(args);
        let concurrent = self.run_shared(args.clone(), Order::Concurrent).await?;
        let sequential = self.run_shared(args, Order::Sequential).await?;
        Ok(Comparison { sequential, concurrent })
    }

    async fn run_shared(&self, args: Arc<A>, order: Order) -> Result<Joined<R>, Error> {
        let ran = run(&self.plan, args.clone(), order, &Fetches::default(), &self.clock).await?;
        let values = ran.parts.iter().map(|JoinedPart { result, .. }| Some(result.clone())).collect();
        let data = (self.make)(&args, &Parts { names: self.names.clone(), values }).map_err(|error| SourceError {
            message: format!("join `{}`: {}", self.plan.name, error.message),
            ..error
        })?;
        let elapsed = self.clock.elapsed().saturating_sub(ran.began);
        Ok(Joined { data, elapsed, parts: ran.parts, timed_out: ran.timed_out })
    }
}

impl<A, R> fmt::Debug for Join<A, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Join").field("plan", &self.plan).finish_non_exhaustive()
    }
}
