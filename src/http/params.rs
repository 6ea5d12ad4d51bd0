//! What a request asks for: the parameters of GraphQL over HTTP, read strictly.

use async_graphql::{BatchRequest, Request};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use percent_encoding::percent_decode_str;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::value::RawValue;

use super::refused::Refused;
use crate::error::Error;

/// The parameters as they stand in a JSON body, or in the payload of a WebSocket's `subscribe`. Others are ignored.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Params<'a> {
    #[serde(borrow)]
    query: Option<&'a RawValue>,
    #[serde(borrow)]
    operation_name: Option<&'a RawValue>,
    #[serde(borrow)]
    variables: Option<&'a RawValue>,
    #[serde(borrow)]
    extensions: Option<&'a RawValue>,
}

/// Whether a body is what it should be. Anything else is how a form on another site would post.
pub(super) fn check_content_type(headers: &HeaderMap) -> Result<(), Refused> {
    let refused = |what: &str| {
        let message = format!("{what}: send the body as `Content-Type: application/json`");
        Err(Refused::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message))
    };
    let plain = |coding: &HeaderValue| coding.as_bytes().eq_ignore_ascii_case(b"identity");
    if !headers.get_all(header::CONTENT_ENCODING).iter().all(plain) {
        return refused("a compressed body is not read");
    }
    let Some(value) = headers.get(header::CONTENT_TYPE) else { return refused("the Content-Type is missing") };
    let mut parts = value.to_str().unwrap_or_default().split(';').map(str::trim);
    if !parts.next().is_some_and(|media| media.eq_ignore_ascii_case("application/json")) {
        return refused("this Content-Type is not served");
    }
    let charset = parts.filter_map(|part| part.split_once('=')).find(|(name, _)| name.eq_ignore_ascii_case("charset"));
    match charset.map(|(_, charset)| charset.trim_matches('"')) {
        Some(charset) if !charset.eq_ignore_ascii_case("utf-8") => refused("the charset must be UTF-8"),
        _ => Ok(()),
    }
}

/// Reads a body: one request, or a list of them.
pub(super) fn read_body(body: &[u8], max_batch_requests: usize) -> Result<BatchRequest, Refused> {
    let malformed =
        |error: serde_json::Error| Refused::malformed(format!("the body is not the JSON expected: {error}"));
    let body: &RawValue = serde_json::from_slice(body).map_err(malformed)?;
    if !body.get().starts_with('[') {
        return Ok(BatchRequest::Single(read_json(body).map_err(Refused::malformed)?));
    }
    let list: Vec<&RawValue> = serde_json::from_str(body.get()).map_err(malformed)?;
    if list.is_empty() {
        return Err(Refused::malformed("a list of requests cannot be empty"));
    }
    if list.len() > max_batch_requests {
        let error = Error::limit("max_batch_requests", format!("{max_batch_requests} requests in one body"));
        return Err(Refused::failed(StatusCode::BAD_REQUEST, error));
    }
    let requests: Result<_, String> = list.into_iter().map(read_json).collect();
    Ok(BatchRequest::Batch(requests.map_err(Refused::malformed)?))
}

/// Reads one request. The error says which parameter is wrong.
pub(super) fn read_json(json: &RawValue) -> Result<Request, String> {
    if !json.get().starts_with('{') {
        return Err("a request must be an object with a `query`".to_owned());
    }
    let params: Params<'_> = serde_json::from_str(json.get()).map_err(|error| error.to_string())?;
    let query = params.query.filter(|query| query.get() != "null").ok_or(MISSING_QUERY)?;
    let mut request = Request::new(read::<String>("query", "a string", query.get())?);
    if let Some(name) = params.operation_name {
        request.operation_name = read("operationName", "a string", name.get())?;
    }
    if let Some(variables) = params.variables {
        request.variables = read("variables", "an object", variables.get())?;
    }
    if let Some(extensions) = params.extensions {
        request.extensions = read_extensions(extensions.get())?;
    }
    Ok(request)
}

/// Reads the parameters of a URL.
pub(super) fn read_uri(uri: &Uri) -> Result<Request, Refused> {
    if percent_decode_str(uri.query().unwrap_or_default()).decode_utf8().is_err() {
        return Err(Refused::malformed("the URL's query is not UTF-8"));
    }
    let params = axum::extract::Query::<Vec<(String, String)>>::try_from_uri(uri)
        .map_err(|_| Refused::malformed("the URL's query cannot be read"))?;
    let param = |name: &str| {
        let mut found = params.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str());
        match (found.next(), found.next()) {
            (_, Some(_)) => Err(Refused::malformed(format!("`{name}` stands twice in the URL"))),
            (first, None) => Ok(first),
        }
    };
    let query = param("query")?.ok_or_else(|| Refused::malformed(MISSING_QUERY))?;
    let mut request = Request::new(query);
    request.operation_name = param("operationName")?.map(str::to_owned);
    if let Some(variables) = param("variables")? {
        request.variables = read("variables", "an object", variables).map_err(Refused::malformed)?;
    }
    if let Some(extensions) = param("extensions")? {
        request.extensions = read_extensions(extensions).map_err(Refused::malformed)?;
    }
    Ok(request)
}

const MISSING_QUERY: &str = "`query` is missing: the text of a GraphQL document";

fn read_extensions(json: &str) -> Result<async_graphql::Extensions, String> {
    let extensions: Option<_> = read("extensions", "an object", json)?;
    Ok(extensions.unwrap_or_default())
}

fn read<T: DeserializeOwned>(name: &str, what: &str, json: &str) -> Result<T, String> {
    serde_json::from_str(json).map_err(|error| format!("`{name}` must be {what}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(text: &str) -> Result<BatchRequest, String> {
        read_body(text.as_bytes(), 2).map_err(|refused| format!("{refused:?}"))
    }

    fn single(text: &str) -> Request {
        body(text).unwrap().into_single().unwrap()
    }

    #[test]
    fn a_request_is_read_with_all_its_parameters() {
        let text = r#"{"query":"{a}","operationName":"A","variables":{"x":1},"extensions":{"y":[2]},"more":3}"#;
        let request = single(text);
        assert_eq!((request.query.as_str(), request.operation_name.as_deref()), ("{a}", Some("A")));
        assert_eq!(request.variables.to_string(), "{x: 1}");
        assert_eq!(request.extensions.len(), 1);
    }

    #[test]
    fn null_is_the_same_as_nothing() {
        let request = single(r#" {"query":"{a}","operationName":null,"variables":null,"extensions":null} "#);
        assert!(request.operation_name.is_none() && request.variables.is_empty() && request.extensions.is_empty());
    }

    #[test]
    fn a_parameter_of_another_type_is_named() {
        for (text, named) in [
            (r#"{}"#, "`query` is missing"),
            (r#"{"query":null}"#, "`query` is missing"),
            (r#"{"query":1}"#, "`query` must be a string"),
            (r#"{"query":"{a}","operationName":[]}"#, "`operationName` must be a string"),
            (r#"{"query":"{a}","variables":"{}"}"#, "`variables` must be an object"),
            (r#"{"query":"{a}","variables":[1]}"#, "`variables` must be an object"),
            (r#"{"query":"{a}","extensions":0}"#, "`extensions` must be an object"),
            (r#""{a}""#, "an object with a `query`"),
            (r#"[1]"#, "an object with a `query`"),
            (r#"[]"#, "cannot be empty"),
            (r#"{"query":"#, "not the JSON expected"),
            ("", "not the JSON expected"),
        ] {
            let error = body(text).unwrap_err();
            assert!(error.contains(named), "{text}: {error}");
        }
        assert!(read_body(b"{\"query\":\"\xff\"}", 2).is_err());
    }

    #[test]
    fn a_list_is_bounded_and_the_limit_named() {
        let request = r#"{"query":"{a}"}"#;
        assert!(
            matches!(body(&format!("[{request},{request}]")).unwrap(), BatchRequest::Batch(list) if list.len() == 2)
        );
        assert!(body(&format!("[{request},{request},{request}]")).unwrap_err().contains("max_batch_requests"));
    }

    #[test]
    fn a_url_is_read_and_nothing_in_it_stands_twice() {
        let uri = |text: &str| read_uri(&format!("/graphql?{text}").parse().unwrap());
        let request = uri("query=%7Ba%7D&operationName=A&variables=%7B%22x%22:1%7D&extensions=%7B%7D&z=1").unwrap();
        assert_eq!((request.query.as_str(), request.operation_name.as_deref()), ("{a}", Some("A")));
        assert_eq!(request.variables.to_string(), "{x: 1}");
        for wrong in ["", "variables={}", "query=a&query=b", "query=a&variables=1", "query=a&variables="] {
            assert!(uri(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn only_json_in_utf_8_is_a_body() {
        let check = |value: &'static str| {
            let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, value.parse().unwrap())]);
            check_content_type(&headers).is_ok()
        };
        assert!(check("application/json") && check("Application/JSON; charset=\"UTF-8\"; x=y"));
        for wrong in ["text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin1", ""] {
            assert!(!check(wrong), "{wrong}");
        }
        assert!(check_content_type(&HeaderMap::new()).is_err());
    }
}
