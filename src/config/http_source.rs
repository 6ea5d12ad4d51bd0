//! `[sources.NAME]` with `type = "http"`.

use serde_json::Value;

use super::{ConfigError, environment::Braces, section::Section, sources::Common};
use crate::{
    secret::Secret,
    source::http::{HttpFormat, HttpMethod, HttpSourceOptions},
};

/// The most headers of one source.
const MAX_HEADERS: usize = 64;

/// Address, headers and body may have values of the environment in them, and are secrets as a whole.
pub(super) fn read(section: &mut Section<'_>) -> Result<HttpSourceOptions, ConfigError> {
    let url = section.required_text("url")?;
    let address = section.fill("url", &url.value, &url.location, Braces::Places)?;
    let defaults = HttpSourceOptions::new(address.into_value());
    let Common { description, args, limits } = Common::read(section, defaults.limits.clone())?;
    let mut options = HttpSourceOptions { description, args, limits, ..defaults };
    if let Some(method) = section.text("method")? {
        options.method = match method.value.as_str() {
            "GET" => HttpMethod::Get,
            "POST" => HttpMethod::Post,
            other => return Err(section.error("method", format!("must be \"GET\" or \"POST\", not {other:?}"))),
        };
    }
    if let Some(format) = section.text("format")? {
        options.format = match format.value.as_str() {
            "json" => HttpFormat::Json,
            "ndjson" => HttpFormat::NdJson,
            other => return Err(section.error("format", format!("must be \"json\" or \"ndjson\", not {other:?}"))),
        };
    }
    options.headers = read_headers(section.section("headers")?)?;
    if let Some(body) = section.json("body")? {
        options.body = Some(Secret::from(filled(section, &body)?.to_string()));
    }
    section.number("max_row_bytes", &mut options.max_row_bytes, 64..=1 << 28)?;
    section.number("max_redirects", &mut options.max_redirects, 0..=100)?;
    section.number("max_retries", &mut options.max_retries, 0..=100)?;
    options.check().map_err(|misfit| section.error(misfit.key, misfit.what))?;
    Ok(options)
}

fn read_headers(section: Section<'_>) -> Result<Vec<(String, Secret)>, ConfigError> {
    let too_many = section.error_here(format!("has more than {MAX_HEADERS} headers"));
    let headers = section.named_secrets()?;
    if headers.len() > MAX_HEADERS {
        return Err(too_many);
    }
    Ok(headers.into_iter().map(|(name, entry)| (name, entry.value)).collect())
}

/// The body with values of the environment in its texts.
fn filled(section: &Section<'_>, value: &Value) -> Result<Value, ConfigError> {
    Ok(match value {
        Value::String(text) => {
            let location = section.location_of("body");
            let filled = section.fill("body", text, location, Braces::Plain)?;
            let (is_filled, filled) = (filled.is_filled(), filled.into_value());
            if is_filled && filled.starts_with('{') && filled.ends_with('}') {
                let message = "the environment gives it a text that would be a place for an arg, `{…}`";
                return Err(section.error("body", message.to_owned()));
            }
            Value::String(filled)
        }
        Value::Array(items) => items.iter().map(|item| filled(section, item)).collect::<Result<_, _>>()?,
        Value::Object(entries) => {
            let entry = |(key, value): (&String, &Value)| Ok((key.clone(), filled(section, value)?));
            Value::Object(entries.iter().map(entry).collect::<Result<_, _>>()?)
        }
        other => other.clone(),
    })
}
