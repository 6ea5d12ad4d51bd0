//! The address, with places for args.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::Url;
use serde_json::Value;

use crate::{
    error::ErrorCode,
    secret::Secret,
    source::{ArgDefinition, ArgType, Args, SourceError, ThisServer},
};

/// All but what RFC 3986 calls unreserved: nothing an arg has can end a segment, a pair or the path.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
/// The longest address, in bytes.
const MAX_URL_BYTES: usize = 8192;

/// An address whose path and query have places for args. Its texts may have secrets in them.
pub(super) struct Target {
    origin: Origin,
    segments: Vec<Vec<Piece>>,
    pairs: Vec<Vec<Piece>>,
}

enum Origin {
    /// `https://example.com`
    Of(Secret),
    /// Known when this server listens.
    ThisServer(ThisServer),
}

#[derive(PartialEq)]
enum Piece {
    Literal(Secret),
    Arg(String),
}

impl Target {
    /// The error fits behind "source `x`: ", and has nothing of the address in it but names of args.
    pub(super) fn new(text: &str, args: &[ArgDefinition], this_server: ThisServer) -> Result<Self, String> {
        if let Some(arg) = args.iter().find(|arg| arg.arg_type == ArgType::Any) {
            return Err(format!("its arg `{}` needs a type: text, number or boolean", arg.name));
        }
        let example = "such as \"https://example.com/items/{id}\", or \"/health/ready\" for this server itself";
        let (origin, rest) = if text.starts_with('/') && !text.starts_with("//") {
            (Origin::ThisServer(this_server), text)
        } else {
            let begin = text.find("://").ok_or_else(|| format!("its `url` must be an address, {example}"))? + 3;
            let end = text[begin..].find(['/', '?', '#', '\\']).map_or(text.len(), |end| begin + end);
            let (origin, rest) = text.split_at(end);
            check_origin(origin).map_err(|what| format!("its `url` {what}, {example}"))?;
            (Origin::Of(origin.into()), rest)
        };
        if rest.contains('#') {
            return Err("its `url` has a `#`: what stands behind it is never sent, so remove it".to_owned());
        }
        let (path, query) = rest.split_once('?').map_or((rest, None), |(path, query)| (path, Some(query)));
        let segments = path.strip_prefix('/').unwrap_or(path).split('/').map(|text| pieces(text, args));
        let pairs = query.into_iter().flat_map(|query| query.split('&')).map(|text| pieces(text, args));
        Ok(Self { origin, segments: segments.collect::<Result<_, _>>()?, pairs: pairs.collect::<Result<_, _>>()? })
    }

    /// Whether it is asked over TLS.
    pub(super) fn is_https(&self) -> bool {
        matches!(&self.origin, Origin::Of(origin) if Url::parse(origin.expose()).is_ok_and(|url| url.scheme() == "https"))
    }

    /// Whether this arg has a place in it.
    pub(super) fn mentions(&self, arg: &str) -> bool {
        let of_arg = |piece: &Piece| matches!(piece, Piece::Arg(name) if name == arg);
        self.segments.iter().chain(&self.pairs).flatten().any(of_arg)
    }

    /// The address with these args, which are of their types.
    pub(super) fn fill(&self, source: &str, args: &Args) -> Result<Url, SourceError> {
        let refuse = |what: String| SourceError::new(ErrorCode::InvalidInput, format!("source `{source}`{what}"));
        let origin = match &self.origin {
            Origin::Of(origin) => origin.expose(),
            Origin::ThisServer(server) => server.url().ok_or_else(|| {
                let message = format!("source `{source}` asks this server, which does not listen yet");
                SourceError::new(ErrorCode::Unavailable, message)
            })?,
        };
        let mut text = origin.to_owned();
        for segment in &self.segments {
            text.push('/');
            let from = text.len();
            for piece in segment {
                match piece {
                    Piece::Literal(literal) => text += literal.expose(),
                    Piece::Arg(name) => match args.get(name).and_then(as_text) {
                        Some(value) if !value.is_empty() => text.extend(utf8_percent_encode(&value, ENCODED)),
                        _ => {
                            return Err(refuse(format!(", arg `{name}`: it is part of a path, so it cannot be empty")));
                        }
                    },
                }
            }
            // Such a segment would lead out of the path, also when it is percent-encoded.
            let has_args = segment.iter().any(|piece| matches!(piece, Piece::Arg(_)));
            if has_args && matches!(text[from..].to_ascii_lowercase().replace("%2e", ".").as_str(), "." | "..") {
                return Err(refuse(": a part of its path would be `.` or `..`".to_owned()));
            }
        }
        let mut separator = '?';
        for pair in &self.pairs {
            let value = |piece: &Piece| match piece {
                Piece::Literal(literal) => Some(literal.expose().to_owned()),
                Piece::Arg(name) => Some(utf8_percent_encode(&as_text(args.get(name)?)?, ENCODED).to_string()),
            };
            if let Some(pair) = pair.iter().map(value).collect::<Option<String>>() {
                text.push(separator);
                text += &pair;
                separator = '&';
            }
        }
        if text.len() > MAX_URL_BYTES {
            return Err(SourceError::limit(source, "max_url_bytes", format!("{MAX_URL_BYTES} bytes of address")));
        }
        let invalid = || refuse(": these args make no address".to_owned());
        let url = Url::parse(&text).map_err(|_| invalid())?;
        let expected = Url::parse(origin).map_err(|_| invalid())?;
        if url.origin() == expected.origin() { Ok(url) } else { Err(invalid()) }
    }
}

/// Null has none.
fn as_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// The error has nothing of the text in it.
fn check_origin(text: &str) -> Result<(), &'static str> {
    if text.contains(['{', '}']) {
        return Err("has an arg before its path: the host is fixed by the configuration; write args behind it");
    }
    let url = Url::parse(text).map_err(|_| "is not an address")?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err("must begin with http:// or https:// and a host");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("has a user name or password in it: send them in `headers`");
    }
    Ok(())
}

fn pieces(text: &str, args: &[ArgDefinition]) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(begin) = rest.find('{') {
        let unclosed = || "its `url` has a `{` without `}`: write it as %7B if it is no arg".to_owned();
        let end = rest[begin..].find('}').ok_or_else(unclosed)? + begin;
        let name = &rest[begin + 1..end];
        if args.iter().all(|arg| arg.name != name) {
            return Err(format!(
                "its `url` has a place `{{{name}}}` for an arg that is not one of its `args`: add it there"
            ));
        }
        if begin > 0 {
            pieces.push(Piece::Literal(rest[..begin].into()));
        }
        pieces.push(Piece::Arg(name.to_owned()));
        rest = &rest[end + 1..];
    }
    if !rest.is_empty() {
        pieces.push(Piece::Literal(rest.into()));
    }
    Ok(pieces)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(text: &str) -> Result<Target, String> {
        let args =
            [ArgDefinition::required("id", ArgType::Text), ArgDefinition::optional("q", ArgType::Text, Value::Null)];
        Target::new(text, &args, ThisServer::default())
    }

    fn fill(text: &str, args: &[(&str, Value)]) -> Result<String, String> {
        let args = args.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        target(text)?.fill("x", &args).map(|url| url.to_string()).map_err(|error| error.message)
    }

    #[test]
    fn args_stand_in_path_and_query_percent_encoded() {
        let template = "https://example.com:8443/a/{id}/b?q={q}&fixed=1";
        for (id, encoded) in [
            ("7", "7"),
            ("a b", "a%20b"),
            ("é", "%C3%A9"),
            ("../../etc", "..%2F..%2Fetc"),
            ("a/b", "a%2Fb"),
            ("a?x=1#f", "a%3Fx%3D1%23f"),
            ("%2e%2e", "%252e%252e"),
            ("\r\nHost: evil", "%0D%0AHost%3A%20evil"),
            ("@evil.com", "%40evil.com"),
            ("\\evil", "%5Cevil"),
            ("...", "..."),
            ("\0", "%00"),
        ] {
            let expected = format!("https://example.com:8443/a/{encoded}/b?q={encoded}&fixed=1");
            assert_eq!(fill(template, &[("id", id.into()), ("q", id.into())]).unwrap(), expected, "{id:?}");
        }
    }

    #[test]
    fn no_arg_leads_out_of_the_path() {
        for (template, id) in [
            ("http://h/a/{id}/b", ".."),
            ("http://h/a/{id}/b", "."),
            ("http://h/a/{id}", ".."),
            ("http://h/a/.{id}/b", "."),
            ("http://h/a/{id}{id}/b", "."),
            ("http://h/a/%2E{id}/b", "."),
        ] {
            assert!(fill(template, &[("id", id.into())]).unwrap_err().contains("`.` or `..`"), "{template} {id}");
        }
        for empty in [Value::Null, "".into()] {
            assert!(fill("http://h/a/{id}/b", &[("id", empty)]).unwrap_err().contains("cannot be empty"));
        }
    }

    #[test]
    fn a_pair_whose_arg_is_null_is_left_out() {
        let url = |q: Value| fill("http://h/?a=1&q={q}&b=2", &[("q", q)]).unwrap();
        assert_eq!(url(Value::Null), "http://h/?a=1&b=2");
        assert_eq!(url("".into()), "http://h/?a=1&q=&b=2");
        assert_eq!(url(1.5.into()), "http://h/?a=1&q=1.5&b=2");
        assert_eq!(fill("http://h?q={q}", &[("q", Value::Null)]).unwrap(), "http://h/");
        assert_eq!(fill("http://h//a", &[]).unwrap(), "http://h//a");
        assert_eq!(fill("http://h", &[]).unwrap(), "http://h/");
    }

    #[test]
    fn a_too_long_address_is_refused() {
        let error = fill("http://h/{id}", &[("id", "x".repeat(9000).into())]).unwrap_err();
        assert!(error.contains("max_url_bytes"), "{error}");
    }

    #[test]
    fn addresses_that_cannot_be_are_refused_without_showing_them() {
        for (text, expected) in [
            ("http://secret{id}.example.com/", "before its path"),
            ("{id}://secret/", "before its path"),
            ("http://secret:{id}/", "before its path"),
            ("http://user:secret@h/", "user name or password"),
            ("ftp://secret/", "http:// or https://"),
            ("file:///etc/secret", "http:// or https://"),
            ("secret", "must be an address"),
            ("//secret/a", "must be an address"),
            ("http://h/a#secret", "`#`"),
            ("http://h/{id", "without `}`"),
            ("http://h/{nope}", "{nope}"),
            ("http://h/?a={nope}", "{nope}"),
            ("http:///a", "is not an address"),
        ] {
            let error = target(text).map(drop).unwrap_err();
            assert!(error.contains(expected) && !error.contains("secret"), "{text}: {error}");
        }
    }

    #[test]
    fn a_path_alone_is_on_this_server() {
        let server = ThisServer::default();
        let target = Target::new("/health/ready", &[], server.clone()).unwrap();
        assert_eq!(target.fill("x", &Args::none()).unwrap_err().code, ErrorCode::Unavailable);
        server.listens_at("127.0.0.1:8000".parse().unwrap());
        assert_eq!(target.fill("x", &Args::none()).unwrap().as_str(), "http://127.0.0.1:8000/health/ready");
    }
}
