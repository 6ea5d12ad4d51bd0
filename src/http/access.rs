//! Who gets in: by the token, by the site that a browser's request comes from, and by the name that it was sent to.
//!
//! A web page can make its visitor's browser send requests to any address, also to one that only that browser can
//! reach. Browsers say where such a request comes from (`Sec-Fetch-Site`, `Origin`), other programs have no reason to.
//! A page whose own name was made to point at this machine is seen by that name (`Host`).

use std::net::IpAddr;

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, Version, header};
use serde_json::Value;

use super::{refused::Refused, token::Token};
use crate::error::{Error, ErrorCode};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
/// Stands for any origin.
pub(super) const ANY_ORIGIN: &str = "*";

/// Who gets in.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AccessOptions {
    /// What every client has to know; without one, everybody is let in who can reach the server.
    pub token: Option<Token>,
    /// Other sites whose pages may use the API, such as `https://app.example.com`; `*` stands for all.
    pub allowed_origins: Vec<String>,
    /// Whether requests have to be sent to a name of this machine's own, such as `localhost`, or to one of
    /// `allowed_hosts`. For a server that listens on the loopback.
    pub loopback_only: bool,
    /// Names that requests may be sent to, without a port. When there are any, others are refused.
    pub allowed_hosts: Vec<String>,
}

/// Whether a request names its host once: of two, others on its way may have believed the other one.
pub(super) fn check_host(version: Version, headers: &HeaderMap) -> Result<(), Refused> {
    match (version, headers.get_all(header::HOST).iter().count()) {
        (_, 1) | (Version::HTTP_09 | Version::HTTP_10 | Version::HTTP_2 | Version::HTTP_3, 0) => Ok(()),
        _ => Err(Refused::malformed("a request names its `Host` exactly once")),
    }
}

/// Who asks, as far as it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Caller {
    /// Knows the token, where there is one.
    Known,
    /// Has not said anything yet.
    Unknown,
}

impl AccessOptions {
    /// Whether a request comes from where it may, and is sent to where it should be.
    pub(super) fn check_way(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Refused> {
        let host = uri.authority().map(|authority| authority.as_str()).or_else(|| text(headers, &header::HOST));
        if let Some(host) = host
            && !self.is_served(host)
        {
            return Err(forbidden(
                "requests to this host name are not served: use localhost, or name it in `server.allowed_hosts`",
            ));
        }
        let origin = headers.get(header::ORIGIN);
        if self.is_own(host, origin, headers.get(SEC_FETCH_SITE))
            || origin.is_some_and(|origin| self.is_allowed(origin))
        {
            return Ok(());
        }
        Err(forbidden("requests of pages of other sites are not served: name theirs in `server.cors.allowed_origins`"))
    }

    fn is_served(&self, host: &str) -> bool {
        if !self.loopback_only && self.allowed_hosts.is_empty() {
            return true;
        }
        let name = without_port(host);
        is_loopback(name) || self.allowed_hosts.iter().any(|allowed| allowed.eq_ignore_ascii_case(name))
    }

    /// Whether no other site is behind a request.
    fn is_own(&self, host: Option<&str>, origin: Option<&HeaderValue>, site: Option<&HeaderValue>) -> bool {
        match (site.map(HeaderValue::as_bytes), origin) {
            (Some(b"same-origin" | b"none"), _) | (None, None) => true,
            (Some(_), _) => false,
            // A browser that does not say more, or a WebSocket.
            (None, Some(origin)) => {
                let authority = origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, rest)| rest);
                authority.zip(host).is_some_and(|(authority, host)| authority.eq_ignore_ascii_case(host))
            }
        }
    }

    fn is_allowed(&self, origin: &HeaderValue) -> bool {
        let is = |allowed: &String| allowed == ANY_ORIGIN || allowed.as_bytes().eq_ignore_ascii_case(origin.as_bytes());
        self.allowed_origins.iter().any(is)
    }

    /// Who sends a request. A wrong token is refused; none at all may still come in another way.
    pub(super) fn caller(&self, headers: &HeaderMap) -> Result<Caller, Refused> {
        match (&self.token, headers.get(header::AUTHORIZATION)) {
            (None, _) => Ok(Caller::Known),
            (Some(_), None) => Ok(Caller::Unknown),
            (Some(token), Some(given)) => {
                if given.to_str().is_ok_and(|given| is_bearer(token, given)) {
                    Ok(Caller::Known)
                } else {
                    Err(unauthenticated("this is not the token"))
                }
            }
        }
    }

    /// Whether a request may be answered.
    pub(super) fn check_caller(&self, headers: &HeaderMap) -> Result<(), Refused> {
        match self.caller(headers)? {
            Caller::Known => Ok(()),
            Caller::Unknown => Err(unauthenticated("a token is needed: send it as `Authorization: Bearer TOKEN`")),
        }
    }

    /// Whether the payload of `connection_init` has the token, where there is one: as `authorization`, in the form of
    /// the header.
    pub(super) fn knows(&self, payload: Option<&Value>) -> bool {
        let Some(token) = &self.token else { return true };
        let Some(Value::Object(payload)) = payload else { return false };
        let given = payload.iter().find(|(name, _)| name.eq_ignore_ascii_case("authorization"));
        given.and_then(|(_, given)| given.as_str()).is_some_and(|given| is_bearer(token, given))
    }
}

/// What a WebSocket without the token is told.
pub(super) const INIT_NEEDS_TOKEN: &str = "A token is needed: {\"authorization\": \"Bearer TOKEN\"} in connection_init";

fn is_bearer(token: &Token, given: &str) -> bool {
    let (scheme, text) = given.trim().split_once(' ').unwrap_or_default();
    scheme.eq_ignore_ascii_case("bearer") && token.is(text.trim())
}

fn forbidden(message: &str) -> Refused {
    Refused::failed(StatusCode::FORBIDDEN, Error::new(ErrorCode::Forbidden, message))
}

fn unauthenticated(message: &str) -> Refused {
    Refused::failed(StatusCode::UNAUTHORIZED, Error::new(ErrorCode::Unauthenticated, message))
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).map(|value| value.to_str().unwrap_or_default())
}

/// `[::1]:8000` is `[::1]`, and `localhost:8000` is `localhost`.
fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

/// Whether only this machine can be meant.
fn is_loopback(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(&name);
    name == "localhost"
        || name.ends_with(".localhost")
        || address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(HeaderName, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect()
    }

    fn passes(access: &AccessOptions, pairs: &[(HeaderName, &'static str)]) -> bool {
        access.check_way(&Uri::from_static("/graphql"), &headers(pairs)).is_ok()
    }

    #[test]
    fn on_the_loopback_only_its_own_names_are_served() {
        let mut access = AccessOptions { loopback_only: true, ..AccessOptions::default() };
        for host in ["localhost", "LOCALHOST:8000", "127.0.0.1:8000", "127.9.9.9", "[::1]:8000", "a.localhost:1"] {
            assert!(passes(&access, &[(header::HOST, host)]), "{host}");
        }
        let foreign = ["example.com", "evil-localhost", "127.0.0.1.example.com", "", "10.0.0.1:8000", "localhost.evil"];
        for host in foreign {
            assert!(!passes(&access, &[(header::HOST, host)]), "{host}");
        }
        access.allowed_hosts = vec!["example.com".to_owned()];
        assert!(passes(&access, &[(header::HOST, "Example.com:443")]));
        assert!(passes(&AccessOptions::default(), &[(header::HOST, "example.com")]));
    }

    #[test]
    fn the_name_in_an_absolute_uri_counts() {
        let access = AccessOptions { loopback_only: true, ..AccessOptions::default() };
        let uri = Uri::from_static("http://example.com/graphql");
        assert!(access.check_way(&uri, &headers(&[(header::HOST, "localhost")])).is_err());
    }

    #[test]
    fn other_sites_are_told_by_what_browsers_say() {
        let access =
            AccessOptions { allowed_origins: vec!["https://app.example".to_owned()], ..AccessOptions::default() };
        let host = (header::HOST, "api.example:8000");
        let site = |site| (SEC_FETCH_SITE, site);
        let origin = |origin| (header::ORIGIN, origin);
        for good in [
            &[][..],
            &[site("same-origin")],
            &[site("none")],
            &[site("same-origin"), origin("https://whatever.a.proxy.made.of.it")],
            &[origin("http://api.example:8000")],
            &[origin("HTTPS://API.EXAMPLE:8000")],
            &[origin("https://app.example")],
            &[origin("https://app.example"), site("cross-site")],
        ] {
            assert!(passes(&access, &[std::slice::from_ref(&host), good].concat()), "{good:?}");
        }
        for bad in [
            &[site("cross-site")][..],
            &[site("same-site")],
            &[site("cross-site"), origin("http://api.example:8000")],
            &[origin("http://api.example")],
            &[origin("http://api.example:8001")],
            &[origin("null")],
            &[origin("https://app.example.evil")],
            &[origin("api.example:8000")],
        ] {
            assert!(!passes(&access, &[std::slice::from_ref(&host), bad].concat()), "{bad:?}");
        }
        let open = AccessOptions { allowed_origins: vec!["*".to_owned()], ..AccessOptions::default() };
        assert!(passes(&open, &[host, origin("null"), site("cross-site")]));
    }

    #[test]
    fn a_token_is_read_from_the_header_and_from_the_payload() {
        let access = AccessOptions { token: Token::new("0123456789abcdef").ok(), ..AccessOptions::default() };
        let by = |given: &'static str| access.caller(&headers(&[(header::AUTHORIZATION, given)]));
        assert_eq!(by("Bearer 0123456789abcdef"), Ok(Caller::Known));
        assert_eq!(by("bearer  0123456789abcdef"), Ok(Caller::Known));
        assert_eq!(access.caller(&HeaderMap::new()), Ok(Caller::Unknown));
        for wrong in ["Bearer 0123456789abcdee", "0123456789abcdef", "Basic 0123456789abcdef", "Bearer", ""] {
            assert!(by(wrong).is_err(), "{wrong}");
        }
        let payload = |text: &str| access.knows(Some(&serde_json::from_str(text).unwrap()));
        assert!(payload(r#"{"authorization":"Bearer 0123456789abcdef"}"#));
        assert!(payload(r#"{"Authorization":"Bearer 0123456789abcdef"}"#));
        for wrong in
            ["{}", r#"{"authorization":"Bearer x"}"#, r#"{"authorization":1}"#, r#"{"token":"0123456789abcdef"}"#]
        {
            assert!(!payload(wrong), "{wrong}");
        }
        assert!(!access.knows(None) && AccessOptions::default().knows(None));
    }
}
