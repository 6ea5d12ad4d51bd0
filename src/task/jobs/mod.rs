//! The built-in kinds.

mod collect;
mod simulate;

use super::{KindOptions, KindType, TaskManager};
use crate::{error::Error, source::Sources};

/// What they are called.
pub const NAMES: [&str; 2] = [SIMULATE, COLLECT];

const SIMULATE: &str = "simulate";
const COLLECT: &str = "collect";

/// Registers `simulate` and `collect`.
pub fn register(manager: &TaskManager, sources: &Sources) -> Result<(), Error> {
    let built_in = |name, (options, job): (KindOptions, _)| manager.register_job(name, KindType::BuiltIn, options, job);
    built_in(SIMULATE, simulate::kind())?;
    built_in(COLLECT, collect::kind(sources.clone()))
}
