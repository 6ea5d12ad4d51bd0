//! The public errors: one list of codes, and the only place that turns an error into a GraphQL error.

use std::fmt;

use async_graphql::Response;

use crate::{source::SourceError, store::StoreError};

/// `extensions.code` of every expected failure. Clients may rely on the names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// The request itself is not well formed.
    BadRequest,
    /// An argument's value does not fit.
    InvalidInput,
    /// No such kind of task is known here.
    UnknownKind,
    /// No such source is configured.
    UnknownSource,
    /// No such join is configured.
    UnknownJoin,
    /// What an id names is not there.
    NotFound,
    /// It cannot be done as things stand.
    Conflict,
    /// Over a limit; the message and `extensions.limit` name it.
    LimitExceeded,
    /// The event cursor cannot be read, or is of another store or task.
    CursorInvalid,
    /// The event cursor names an event that has not happened.
    CursorAhead,
    /// Who asks is not known.
    Unauthenticated,
    /// Who asks may not.
    Forbidden,
    /// It took too long.
    Timeout,
    /// It cannot be done now; try again.
    Unavailable,
    /// The store has no room.
    StoreFull,
    /// A fault of the server.
    Internal,
}

impl ErrorCode {
    /// All codes.
    pub const ALL: [Self; 16] = [
        Self::BadRequest,
        Self::InvalidInput,
        Self::UnknownKind,
        Self::UnknownSource,
        Self::UnknownJoin,
        Self::NotFound,
        Self::Conflict,
        Self::LimitExceeded,
        Self::CursorInvalid,
        Self::CursorAhead,
        Self::Unauthenticated,
        Self::Forbidden,
        Self::Timeout,
        Self::Unavailable,
        Self::StoreFull,
        Self::Internal,
    ];

    /// The code as clients see it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BadRequest => "BAD_REQUEST",
            Self::InvalidInput => "INVALID_INPUT",
            Self::UnknownKind => "UNKNOWN_KIND",
            Self::UnknownSource => "UNKNOWN_SOURCE",
            Self::UnknownJoin => "UNKNOWN_JOIN",
            Self::NotFound => "NOT_FOUND",
            Self::Conflict => "CONFLICT",
            Self::LimitExceeded => "LIMIT_EXCEEDED",
            Self::CursorInvalid => "CURSOR_INVALID",
            Self::CursorAhead => "CURSOR_AHEAD",
            Self::Unauthenticated => "UNAUTHENTICATED",
            Self::Forbidden => "FORBIDDEN",
            Self::Timeout => "TIMEOUT",
            Self::Unavailable => "UNAVAILABLE",
            Self::StoreFull => "STORE_FULL",
            Self::Internal => "INTERNAL",
        }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An expected failure: what the library returns and GraphQL clients see.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    code: ErrorCode,
    message: String,
    limit: Option<&'static str>,
}

impl Error {
    /// A failure with this code; `message` says what happened and what to do.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: shorten(message.into(), MAX_MESSAGE_BYTES), limit: None }
    }

    /// Over the limit called `limit` (its name in the configuration), which allows `allowed`, in words.
    pub fn limit(limit: &'static str, allowed: impl fmt::Display) -> Self {
        let message = format!("over the limit `{limit}`, which allows {allowed}");
        Self { code: ErrorCode::LimitExceeded, message, limit: Some(limit) }
    }

    /// An argument does not fit.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::InvalidInput, message)
    }

    /// The same, about this field of a request.
    #[must_use]
    pub fn about(mut self, field: &str) -> Self {
        self.message = format!("{field}: {}", self.message);
        self
    }

    /// What an id names is not there.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::NotFound, message)
    }

    /// The stable code.
    pub fn code(&self) -> ErrorCode {
        self.code
    }
}

/// The longest message: it may quote what a client sent.
const MAX_MESSAGE_BYTES: usize = 2000;

/// The text, or as many bytes of it and a mark that there was more.
pub(crate) fn shorten(mut text: String, max_bytes: usize) -> String {
    if text.len() > max_bytes {
        text.truncate(text.floor_char_boundary(max_bytes));
        text.push('…');
    }
    text
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        let code = match &error {
            StoreError::NotFound(_) => ErrorCode::NotFound,
            StoreError::Conflict(_) | StoreError::Stale(_) => ErrorCode::Conflict,
            StoreError::TooBroad(_) => ErrorCode::LimitExceeded,
            StoreError::Full => ErrorCode::StoreFull,
            StoreError::Internal(_) => ErrorCode::Internal,
            StoreError::Locked | StoreError::Failed(_) | StoreError::Closed => ErrorCode::Unavailable,
        };
        let limit = matches!(error, StoreError::TooBroad(_)).then_some("max_filter_lookups");
        Self { limit, ..Self::new(code, error.to_string()) }
    }
}

impl From<SourceError> for Error {
    fn from(error: SourceError) -> Self {
        Self { code: error.code, message: error.message, limit: error.limit }
    }
}

/// Gives every error of a response its `extensions.code` and, for a limit, `extensions.limit`.
///
/// Resolvers return [`Error`]; async-graphql keeps it as the source of its own error, and here it is found
/// again. What has no source comes from parsing, validation and coercion: a `BAD_REQUEST`.
pub fn add_codes(response: &mut Response) {
    for error in &mut response.errors {
        let known = error.source::<Error>().map(|error| (error.code, error.limit));
        let extensions = error.extensions.get_or_insert_default();
        if extensions.get("code").is_some() {
            continue;
        }
        let (code, limit) = known.unwrap_or((ErrorCode::BadRequest, None));
        extensions.set("code", code.as_str());
        if let Some(limit) = limit {
            extensions.set("limit", limit);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use async_graphql::{ServerError, Value};

    use super::*;

    #[test]
    fn every_code_has_its_own_name() {
        let names: HashSet<_> = ErrorCode::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(names.len(), ErrorCode::ALL.len());
    }

    #[test]
    fn a_message_that_quotes_a_long_text_is_cut() {
        let message = Error::invalid(format!("no such kind: {}", "é".repeat(100_000))).to_string();
        assert!(message.len() < 2100 && message.ends_with('…'), "{} bytes", message.len());
    }

    fn response_to(error: ServerError) -> Response {
        let mut response = Response::from_errors(vec![error]);
        add_codes(&mut response);
        response
    }

    #[test]
    fn a_limit_is_named_to_programs_and_to_people() {
        let error: async_graphql::Error = Error::limit("max_input_bytes", "1024 bytes").into();
        let response = response_to(error.into_server_error(async_graphql::Pos::default()));
        let extensions = response.errors[0].extensions.clone().unwrap();
        assert_eq!(extensions.get("code"), Some(&Value::from("LIMIT_EXCEEDED")));
        assert_eq!(extensions.get("limit"), Some(&Value::from("max_input_bytes")));
        assert!(response.errors[0].message.contains("max_input_bytes"));
    }

    #[test]
    fn an_error_that_is_not_ours_is_the_requests_fault() {
        let response = response_to(ServerError::new("expected a name", None));
        assert_eq!(response.errors[0].extensions.clone().unwrap().get("code"), Some(&Value::from("BAD_REQUEST")));
    }
}
