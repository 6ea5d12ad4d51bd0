//! `[sources.NAME]` with `type = "http"`.

use super::{
    ConfigError,
    environment::Braces,
    section::{Entry, Section},
    sources::Common,
};
use crate::{
    secret::Secret,
    source::http::{HttpFormat, HttpMethod, HttpSourceOptions, Misfit},
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
    let headers = read_headers(section.section("headers")?)?;
    let named = |(name, entry): &(String, Entry<Secret>)| (name.clone(), entry.value.clone());
    options.headers = headers.iter().map(named).collect();
    let body = section.filled_json("body")?;
    options.body = body.as_ref().map(|body| Secret::from(body.value.to_string()));
    section.number("max_row_bytes", &mut options.max_row_bytes, 64..=1 << 28)?;
    section.number("max_redirects", &mut options.max_redirects, 0..=100)?;
    section.number("max_retries", &mut options.max_retries, 0..=100)?;
    options.check().map_err(|Misfit { key, entry, what }| {
        let header = headers.iter().find(|(name, _)| key == "headers" && entry.as_ref() == Some(name));
        let text = body.iter().flat_map(|body| &body.texts);
        let text = text.into_iter().find(|(_, text)| key == "body" && entry.as_ref() == Some(&text.value));
        match (header, text) {
            (Some((name, header)), _) => {
                ConfigError::at(header.location.clone(), section.key(&format!("headers.{name}")), what)
            }
            (None, Some((key, text))) => ConfigError::at(text.location.clone(), key.clone(), what),
            (None, None) => section.error(key, what),
        }
    })?;
    Ok(options)
}

fn read_headers(section: Section<'_>) -> Result<Vec<(String, Entry<Secret>)>, ConfigError> {
    let too_many = section.error_here(format!("has more than {MAX_HEADERS} headers"));
    let headers = section.named_secrets()?;
    if headers.len() > MAX_HEADERS {
        return Err(too_many);
    }
    Ok(headers)
}
