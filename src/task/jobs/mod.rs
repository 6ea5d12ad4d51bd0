//! The built-in kinds.

mod collect;
mod simulate;

use super::{KindOptions, KindType, TaskManager};
use crate::{error::Error, source::Sources};

/// Registers `simulate` and `collect`.
pub fn register(manager: &TaskManager, sources: &Sources) -> Result<(), Error> {
    let built_in = |name, (options, job): (KindOptions, _)| manager.register_job(name, KindType::BuiltIn, options, job);
    built_in("simulate", simulate::kind())?;
    built_in("collect", collect::kind(sources.clone()))
}
