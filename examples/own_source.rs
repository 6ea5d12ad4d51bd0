//! A source of your own, read by a join of your own types.
//!
//! `cargo run --example own_source`. Given to [`Api::new`](meanwhile::graphql::Api::new) with the other [`Sources`], it is in
//! `sources`, `dataStream` and `collect` as well.

use std::sync::Arc;

use futures::{StreamExt, stream, stream::BoxStream};
use meanwhile::{
    clock::{Clock, SystemClock},
    join::{JoinBuilder, Order, Part},
    model::Json,
    source::{ArgDefinition, ArgType, Args, Gives, Row, Source, SourceError, SourceInfo, Sources},
};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Purchase {
    customer: String,
    item: String,
}

/// Orders that stand in memory.
#[derive(Debug)]
struct Orders {
    info: SourceInfo,
    orders: Vec<Purchase>,
}

impl Orders {
    fn new(orders: Vec<Purchase>) -> Self {
        let info = SourceInfo {
            description: Some("The orders of a customer".into()),
            args: vec![ArgDefinition::required("customer", ArgType::Text)],
            ..SourceInfo::custom("orders")
        };
        Self { info, orders }
    }
}

impl Source for Orders {
    fn info(&self) -> &SourceInfo {
        &self.info
    }

    /// Args are there, of their types, and the source's limits are kept: neither is this function's work.
    fn read(&self, args: Args) -> Result<BoxStream<'static, Result<Row, SourceError>>, SourceError> {
        let customer = args.get("customer").cloned().unwrap_or_default();
        let found: Vec<Purchase> = self.orders.iter().filter(|order| customer == order.customer).cloned().collect();
        // A real one waits here for what is slow, and gives each row as soon as it is there.
        let rows = found.into_iter().map(|order| Row { value: Json::from(serde_json::json!(order)), metadata: None });
        Ok(stream::iter(rows.map(Ok)).boxed())
    }
}

/// What the join gives.
#[derive(Debug)]
struct Basket {
    items: Vec<String>,
    first: Option<String>,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let order = |customer: &str, item: &str| Purchase { customer: customer.into(), item: item.into() };
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let mut sources = Sources::new(clock);
    sources.insert(Orders::new(vec![order("Ada", "lamp"), order("Bob", "hat"), order("Ada", "book")]));

    let mut join = JoinBuilder::<String>::new("basket");
    let of = |customer: &String, _: &_| Ok(Args::none().with("customer", customer.as_str()));
    let all = join.part::<Vec<Purchase>>(Part::new("all", "orders").args(of).required());
    let first = join.part::<Option<Purchase>>(Part::new("first", "orders").args(of).gives(Gives::Value));
    let basket = join.build(&sources, move |_, parts| {
        Ok(Basket {
            items: parts.get(all)?.into_iter().map(|order| order.item).collect(),
            first: parts.get(first)?.map(|order| order.item),
        })
    })?;

    let joined = basket.run("Ada".into(), Order::Concurrent).await?;
    let Basket { items, first } = joined.data;
    println!("{items:?}, first {first:?}, in {:?}", joined.elapsed);
    Ok(())
}
