//! Tasks: starting, running and stopping them.
//!
//! [`TaskManager`] is the cheap handle that everybody holds. `dispatcher` claims due tasks in batches while there is
//! room, which `under_way` knows, `attempt` runs each, stops it when it must and says how it ended, `recorder` collects
//! what a handler reports, `retention` deletes what is old. What can be said of a kind is in `policy`, its input is
//! checked by `schema`.
//! The rules of what the end of an attempt makes of its task are in [`after_attempt`](crate::model::after_attempt).

mod attempt;
mod context;
mod dispatcher;
mod job;
pub mod jobs;
mod manager;
mod options;
mod policy;
pub mod program;
mod recorder;
mod registry;
mod request;
mod retention;
mod schema;
mod under_way;

pub use self::{
    context::{JobContext, Stopped},
    job::{Job, JobError, Retry},
    manager::TaskManager,
    options::TaskOptions,
    policy::KindPolicy,
    registry::{KindInfo, KindOptions, KindType, check_kind},
    request::StartTask,
    retention::RetentionOptions,
};
