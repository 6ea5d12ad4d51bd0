//! Reading a source to its end, recorded: each row a chunk.

use std::sync::Arc;

use async_trait::async_trait;
use futures::{StreamExt, stream::BoxStream};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{
    error::{Error, ErrorCode},
    model::{Json, Progress},
    source::{Args, Limited, Row, SourceError, Sources},
    task::{Job, JobContext, JobError, KindOptions, Retry, job::misfit},
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Input {
    source: String,
    #[serde(default = "Json::null")]
    args: Json,
}

#[derive(Serialize)]
struct Output {
    rows: u64,
}

pub(super) fn kind(sources: Sources) -> (KindOptions, Arc<dyn Job>) {
    let schema = json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["source"],
        "properties": {
            "source": { "type": "string", "description": "Name of a source." },
            "args": { "type": ["object", "null"], "description": "The source's args." }
        }
    });
    let options = KindOptions {
        description: Some("Reads `source` with `args` to its end; each row becomes a chunk of the task.".into()),
        input_schema: Some(Json::from(schema)),
        ..KindOptions::default()
    };
    (options, Arc::new(Collect { sources }))
}

struct Collect {
    sources: Sources,
}

#[async_trait]
impl Job for Collect {
    async fn run(&self, ctx: JobContext, input: Json) -> Result<Json, JobError> {
        let refused = |error: Error| JobError::new(error.to_string()).code(error.code().as_str()).retry(Retry::Never);
        let (source, args) = self.read(&input).map_err(refused)?;
        let output = collect(ctx, source.read(args).map_err(failed)?).await?;
        Ok(Json::from_value(&output)?)
    }

    /// Whether there is such a source, and takes these args.
    fn check(&self, input: &Json) -> Result<(), Error> {
        let (source, args) = self.read(input)?;
        source.resolve(args)?;
        Ok(())
    }
}

impl Collect {
    fn read(&self, input: &Json) -> Result<(&Arc<Limited>, Args), Error> {
        let input: Input = input.decode().map_err(|error| Error::invalid(misfit(error)))?;
        Ok((self.sources.get(&input.source)?, Args::from_json(&input.args)?))
    }
}

async fn collect(
    ctx: JobContext,
    mut stream: BoxStream<'static, Result<Row, SourceError>>,
) -> Result<Output, JobError> {
    let mut rows: u64 = 0;
    loop {
        let row = tokio::select! {
            biased;
            () = ctx.cancelled() => return Err(JobError::new(format!("stopped after {rows} rows"))),
            row = stream.next() => row,
        };
        let Some(row) = row else { break };
        ctx.chunk_json(row.map_err(failed)?.value).await?;
        rows += 1;
        #[allow(clippy::cast_precision_loss, reason = "nobody counts that far")]
        ctx.progress(Progress::count(rows as f64).message(format!("{rows} rows")));
    }
    Ok(Output { rows })
}

/// What the source will say again is not tried again.
#[allow(clippy::needless_pass_by_value, reason = "the signature that map_err wants")]
fn failed(error: SourceError) -> JobError {
    let retry = match error.code {
        ErrorCode::InvalidInput | ErrorCode::LimitExceeded => Retry::Never,
        _ => Retry::Backoff,
    };
    JobError::new(error.message).code(error.code.as_str()).retry(retry)
}
