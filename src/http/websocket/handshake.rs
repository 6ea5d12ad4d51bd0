//! The request that becomes a WebSocket connection (RFC 6455, section 4.2).

use axum::{
    body::Body,
    http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, Version, header},
    response::{IntoResponse, Response},
};
use hyper::upgrade::OnUpgrade;
use tungstenite::handshake::derive_accept_key;

use super::subprotocol::Subprotocol;
use crate::http::refused::Refused;

/// The only version of the protocol there is.
const VERSION: &str = "13";

/// What a client has asked for.
pub(super) struct Handshake {
    /// Gives the connection, once the response has left.
    pub(super) connection: OnUpgrade,
    /// What is then spoken on it; `None`: nothing that both know.
    pub(super) subprotocol: Option<Subprotocol>,
    accept: HeaderValue,
}

impl Handshake {
    /// Reads a GET request with `Upgrade: websocket`.
    pub(super) fn read(request: &mut Request<Body>) -> Result<Self, Refused> {
        let headers = request.headers();
        if !values(headers, &header::CONNECTION).any(|value| value.eq_ignore_ascii_case("upgrade")) {
            return Err(Refused::malformed("a WebSocket request has the header `Connection: upgrade`"));
        }
        if headers.get(header::SEC_WEBSOCKET_VERSION).is_none_or(|version| version != VERSION) {
            return Err(Refused::malformed("a WebSocket request has the header `Sec-WebSocket-Version: 13`"));
        }
        let Some(key) = headers.get(header::SEC_WEBSOCKET_KEY) else {
            return Err(Refused::malformed("a WebSocket request has the header `Sec-WebSocket-Key`"));
        };
        let accept = HeaderValue::try_from(derive_accept_key(key.as_bytes())).map_err(|_| Refused::fault())?;
        let offered = || values(headers, &header::SEC_WEBSOCKET_PROTOCOL);
        let subprotocol = Subprotocol::ALL.into_iter().find(|known| offered().any(|name| name == known.name()));
        if request.version() != Version::HTTP_11 || request.extensions().get::<OnUpgrade>().is_none() {
            return Err(Refused::new(StatusCode::UPGRADE_REQUIRED, "WebSocket is spoken over HTTP/1.1 here"));
        }
        Ok(Self { connection: hyper::upgrade::on(request), subprotocol, accept })
    }

    /// The response with which the connection changes.
    pub(super) fn response(&self) -> Response {
        let mut response = StatusCode::SWITCHING_PROTOCOLS.into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, self.accept.clone());
        if let Some(subprotocol) = self.subprotocol {
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(subprotocol.name()));
        }
        response
    }
}

/// The values of a header that is a list, which may come in several lines.
fn values<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let lines = headers.get_all(name).into_iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim)
}
