//! `[api]`.

use super::{ConfigError, section::Section};
use crate::graphql::ApiOptions;

/// Limits of the schema: the fields of [`ApiOptions`], by their names.
pub(super) fn read(mut section: Section<'_>) -> Result<ApiOptions, ConfigError> {
    let mut api = ApiOptions::default();
    section.flag("introspection", &mut api.document.introspection)?;
    section.number("max_page_size", &mut api.max_page_size, 1..=100_000)?;
    api.default_page_size = api.default_page_size.min(api.max_page_size);
    section.number("default_page_size", &mut api.default_page_size, 1..=api.max_page_size)?;
    section.number("max_total_count", &mut api.max_total_count, 1..=1_000_000_000)?;
    section.number("max_filter_values", &mut api.max_filter_values, 1..=10_000)?;
    section.number("max_page_bytes", &mut api.max_page_bytes, 1024..=1 << 30)?;
    section.number("max_request_joins", &mut api.max_request_joins, 1..=100_000)?;
    section.number("max_join_bytes", &mut api.max_join_bytes, 1024..=1 << 40)?;
    section.number("render_cache_bytes", &mut api.render_cache_bytes, 0..=1 << 40)?;
    let document = &mut api.document;
    document.page_entries = u64::try_from(api.default_page_size).unwrap_or(u64::MAX);
    section.number("max_document_bytes", &mut document.max_document_bytes, 1..=1 << 30)?;
    section.number("max_document_tokens", &mut document.max_document_tokens, 1..=10_000_000)?;
    // The parser recurses as deep as the brackets go.
    section.number("max_document_nesting", &mut document.max_document_nesting, 1..=200)?;
    section.number("max_depth", &mut document.max_depth, 1..=200)?;
    section.number("max_complexity", &mut document.max_complexity, 1..=1_000_000_000_000)?;
    section.number("max_aliases", &mut document.max_aliases, 0..=1_000_000)?;
    section.number("max_root_fields", &mut document.max_root_fields, 1..=1_000_000)?;
    section.number("max_directives", &mut document.max_directives, 0..=1_000_000)?;
    section.finish()?;
    Ok(api)
}
