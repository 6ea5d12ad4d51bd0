//! Request and answer: connections, redirects, status.

use std::{error::Error as _, io, sync::Arc, time::Duration};

use reqwest::{
    Method, Response, StatusCode, Url,
    header::{ACCEPT, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION},
};

use super::{HttpFormat, HttpMethod};
use crate::{
    as_written::replace_whole,
    clock::Clock,
    error::{ErrorCode, shorten},
    model::Json,
    source::SourceError,
};

/// How long a request waits before it is sent again, the first time; then twice as long each time, in milliseconds.
const RETRY_BACKOFF_MS: u64 = 50;

/// What is shown of an error's cause, in bytes.
const MAX_CAUSE_BYTES: usize = 200;

/// How requests of one source are made.
pub(super) struct Exchange {
    pub(super) source: Arc<str>,
    pub(super) client: reqwest::Client,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) method: HttpMethod,
    pub(super) headers: HeaderMap,
    pub(super) format: HttpFormat,
    pub(super) max_bytes: u64,
    pub(super) max_row_bytes: usize,
    pub(super) max_redirects: usize,
    pub(super) max_retries: usize,
}

/// A request as it goes from redirect to redirect.
struct Outgoing {
    method: Method,
    url: Url,
    /// With those of the configuration, until another host is named.
    headers: HeaderMap,
    body: Option<Json>,
}

impl Exchange {
    /// The first answer that is no redirect, and a success.
    pub(super) async fn send(&self, url: Url, body: Option<Json>) -> Result<Response, SourceError> {
        let method = match self.method {
            HttpMethod::Get => Method::GET,
            HttpMethod::Post => Method::POST,
        };
        let mut outgoing = Outgoing { method, url, headers: self.headers.clone(), body };
        for _ in 0..=self.max_redirects {
            let response = self.attempt(&outgoing).await?;
            if !is_redirect(response.status()) {
                return self.successful(response);
            }
            let location = response.headers().get(LOCATION).and_then(|location| location.to_str().ok());
            let next = location.and_then(|location| outgoing.url.join(location).ok());
            let next = next.ok_or_else(|| self.failed("redirects to nowhere"))?;
            self.redirect(&mut outgoing, response.status(), next)?;
        }
        Err(SourceError::limit(&self.source, "max_redirects", format!("{} redirects", self.max_redirects)))
    }

    /// Sends it; a `GET` again when no connection could be made, or the connection was lost before the answer's head was
    /// there: also a server that has closed a connection which was kept for reuse.
    async fn attempt(&self, outgoing: &Outgoing) -> Result<Response, SourceError> {
        let mut retries = 0;
        loop {
            let mut request = self.client.request(outgoing.method.clone(), outgoing.url.clone());
            let mut headers = outgoing.headers.clone();
            if let Some(body) = &outgoing.body {
                headers.entry(CONTENT_TYPE).or_insert(HeaderValue::from_static("application/json"));
                request = request.body(body.as_str().to_owned());
            }
            request = request.headers(headers);
            match request.send().await {
                Ok(response) => return Ok(response),
                Err(error) if outgoing.method == Method::GET && retries < self.max_retries && is_unanswered(&error) => {
                    let wait_ms = RETRY_BACKOFF_MS << retries.min(10);
                    retries += 1;
                    self.clock.sleep(Duration::from_millis(wait_ms)).await;
                }
                Err(error) => return Err(self.broken(&error)),
            }
        }
    }

    /// What is asked next. Nothing that was configured goes to another host.
    fn redirect(&self, outgoing: &mut Outgoing, status: StatusCode, next: Url) -> Result<(), SourceError> {
        if !matches!(next.scheme(), "http" | "https") {
            return Err(self.failed("redirects to what is not HTTP"));
        }
        if outgoing.url.scheme() == "https" && next.scheme() == "http" {
            return Err(self.failed("redirects from https to http, which is not followed"));
        }
        let keeps_method = matches!(status, StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT);
        if !keeps_method && outgoing.method != Method::GET {
            outgoing.method = Method::GET;
            outgoing.body = None;
        }
        if next.origin() != outgoing.url.origin() {
            if outgoing.body.is_some() {
                return Err(self.failed("redirects its request's body to another host, which is not followed"));
            }
            outgoing.headers = plain_headers(self.format);
        }
        outgoing.url = next;
        Ok(())
    }

    fn successful(&self, response: Response) -> Result<Response, SourceError> {
        let status = response.status();
        if status.is_success() {
            let encoding = response.headers().get(CONTENT_ENCODING);
            if encoding.is_some_and(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity")) {
                return Err(self.failed("was answered with what is compressed, which was not asked for"));
            }
            return Ok(response);
        }
        let code = match status {
            StatusCode::NOT_FOUND | StatusCode::GONE => ErrorCode::NotFound,
            _ => ErrorCode::Unavailable,
        };
        Err(SourceError::new(code, format!("source `{}` was answered with status {status}", self.source)))
    }

    /// The server does what cannot be used. `what` fits behind "source `x` ".
    pub(super) fn failed(&self, what: &str) -> SourceError {
        SourceError::new(ErrorCode::Unavailable, format!("source `{}` {what}", self.source))
    }

    /// The connection failed.
    pub(super) fn broken(&self, error: &reqwest::Error) -> SourceError {
        let what =
            if error.is_connect() { "cannot connect to its server" } else { "lost the connection to its server" };
        self.failed(&format!("{what}: {}", cause(error)))
    }
}

/// What is sent to everybody.
pub(super) fn plain_headers(format: HttpFormat) -> HeaderMap {
    let accept = match format {
        HttpFormat::Json => "application/json",
        HttpFormat::NdJson => "application/x-ndjson, application/jsonl",
    };
    HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(accept))])
}

/// Whether the server has said nothing of an answer that could be used, and the connection is gone or never was.
fn is_unanswered(error: &reqwest::Error) -> bool {
    if error.is_connect() {
        return true;
    }
    let is_lost = |cause: &(dyn std::error::Error + 'static)| {
        let ended = cause.downcast_ref::<hyper::Error>().is_some_and(|error| {
            error.is_incomplete_message() || error.is_canceled() || error.is_closed() || error.is_body_write_aborted()
        });
        let broken = cause.downcast_ref::<io::Error>().is_some_and(|error| {
            use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected, UnexpectedEof};
            matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | NotConnected | UnexpectedEof)
        });
        ended || broken
    };
    error.is_request()
        && !error.is_timeout()
        && std::iter::successors(error.source(), |cause| (*cause).source()).any(is_lost)
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// What is at the bottom of the error. Never the address, which may have secrets in it.
pub(super) fn cause(error: &reqwest::Error) -> String {
    let mut bottom = error.source();
    while let Some(below) = bottom.and_then(std::error::Error::source) {
        bottom = Some(below);
    }
    let cause = bottom.map_or_else(|| "it failed".to_owned(), ToString::to_string);
    // Some have in them what the server has sent.
    shorten(without_host(cause, error.url().and_then(Url::host_str)), MAX_CAUSE_BYTES)
}

/// Those who check certificates tell for which name; they write an address of IPv6 without its brackets.
fn without_host(cause: String, host: Option<&str>) -> String {
    let bare = host.map(|host| host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host));
    [host, bare]
        .into_iter()
        .flatten()
        .filter(|host| !host.is_empty())
        .fold(cause, |cause, host| replace_whole(&cause, host, "its host"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_does_not_show_in_a_cause() {
        let cause = "certificate not valid for name \"secret.example.com\"".to_owned();
        let expected = "certificate not valid for name \"its host\"";
        assert_eq!(without_host(cause, Some("secret.example.com")), expected);
        assert_eq!(without_host("Connection refused".to_owned(), None), "Connection refused");
        let cause = |name: &str| format!("certificate not valid for name \"{name}\"");
        for name in ["::1", "[::1]"] {
            assert_eq!(without_host(cause(name), Some("[::1]")), expected);
        }
        assert_eq!(without_host(cause("a"), Some("a")), expected);
    }

    #[test]
    fn a_long_cause_is_shortened() {
        assert_eq!(shorten("é".repeat(100), MAX_CAUSE_BYTES), "é".repeat(100));
        assert_eq!(shorten("é".repeat(1000), MAX_CAUSE_BYTES), "é".repeat(100) + "…");
    }
}
