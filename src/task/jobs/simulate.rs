//! Work that takes time and does nothing: the task of the article this project grew from.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{
    model::{Json, Progress},
    task::{Job, JobContext, JobError, KindOptions, job::Handler},
};

/// The most steps a task may ask for.
const MAX_STEPS: u32 = 1_000_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
struct Input {
    steps: u32,
    step_ms: u64,
    fail: bool,
}

/// Ten steps of half a second: the article's figures.
impl Default for Input {
    fn default() -> Self {
        Self { steps: 10, step_ms: 500, fail: false }
    }
}

#[derive(Serialize)]
struct Output {
    steps: u32,
}

pub(super) fn kind() -> (KindOptions, Arc<dyn Job>) {
    let schema = json!({
        "type": ["object", "null"],
        "additionalProperties": false,
        "properties": {
            "steps": { "type": "integer", "minimum": 1, "maximum": MAX_STEPS, "default": 10 },
            "stepMs": { "type": "integer", "minimum": 0, "default": 500, "description": "Length of a step, in milliseconds." },
            "fail": { "type": "boolean", "default": false, "description": "Fail half-way." }
        }
    });
    let description = "Takes `steps` steps of `stepMs` milliseconds and reports progress after each; fails half-way when `fail` is true.";
    let options = KindOptions {
        description: Some(description.into()),
        input_schema: Some(Json::from(schema)),
        ..KindOptions::default()
    };
    (options, Arc::new(Handler::new(run)))
}

async fn run(ctx: JobContext, input: Option<Input>) -> Result<Output, JobError> {
    let Input { steps, step_ms, fail } = input.unwrap_or_default();
    if steps == 0 || steps > MAX_STEPS {
        let problem = JobError::new(format!("`steps` is {steps}; it goes from 1 to {MAX_STEPS}"));
        return Err(problem.code(crate::model::code::INVALID_INPUT).retry(crate::task::Retry::Never));
    }
    for step in 1..=steps {
        tokio::select! {
            () = ctx.clock().sleep(Duration::from_millis(step_ms)) => {}
            () = ctx.cancelled() => return Err(JobError::new(format!("stopped in step {step} of {steps}"))),
        }
        if fail && step >= steps.div_ceil(2) {
            return Err(JobError::new(format!("failed in step {step} of {steps}, as it was told to")));
        }
        ctx.progress(Progress::of(f64::from(step), f64::from(steps)).message(format!("step {step} of {steps}")));
    }
    Ok(Output { steps })
}
