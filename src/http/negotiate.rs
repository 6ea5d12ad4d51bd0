//! What a client accepts: the `Accept` header against what can be sent.

use axum::http::{HeaderMap, header};

/// A response at once, in one piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum JsonType {
    /// `application/json`: the status says nothing about the document.
    #[default]
    Json,
    /// `application/graphql-response+json`: a document that cannot be executed is a 400.
    GraphqlResponse,
}

impl JsonType {
    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json; charset=utf-8",
            Self::GraphqlResponse => "application/graphql-response+json; charset=utf-8",
        }
    }
}

/// A response that goes on, piece by piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StreamType {
    /// `text/event-stream`.
    Sse,
    /// `multipart/mixed` with `subscriptionSpec=1.0`.
    Multipart,
}

/// What a client accepts of what can be sent. What is answered once goes as JSON where that is accepted, and what
/// streams goes as a stream where one is: stock clients name both, whatever they ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Accepted {
    pub(super) json: Option<JsonType>,
    pub(super) stream: Option<StreamType>,
}

impl Accepted {
    /// Reads the header; none at all accepts everything.
    pub(super) fn read(headers: &HeaderMap) -> Self {
        let values = headers.get_all(header::ACCEPT).iter();
        let ranges: Vec<_> = values
            .flat_map(|value| split(value.to_str().unwrap_or_default(), ','))
            .enumerate()
            .filter_map(|(place, text)| Range::read(text, place))
            .collect();
        if ranges.is_empty() {
            return Self { json: Some(JsonType::Json), stream: None };
        }
        // In this order: of two that are wanted equally, the first is sent.
        let json =
            best(&ranges, &[("application/json", JsonType::Json), (GRAPHQL_RESPONSE, JsonType::GraphqlResponse)]);
        // Only by their own names: who accepts anything does not expect a stream.
        let own: Vec<_> = ranges.into_iter().filter(Range::names_a_stream).collect();
        let stream = best(&own, &[(EVENT_STREAM, StreamType::Sse), (MULTIPART, StreamType::Multipart)]);
        Self { json, stream }
    }
}

const EVENT_STREAM: &str = "text/event-stream";
const MULTIPART: &str = "multipart/mixed";
/// The version of the protocol of subscriptions in parts.
const SUBSCRIPTION_SPEC: &str = "1.0";
const GRAPHQL_RESPONSE: &str = "application/graphql-response+json";

/// One entry of the header.
#[derive(Debug)]
struct Range {
    /// In lower case, without its parameters.
    media: String,
    /// How much it is wanted, in thousandths.
    quality: u16,
    place: usize,
    /// The value of the parameter `subscriptionSpec`.
    subscription_spec: Option<String>,
}

impl Range {
    fn read(text: &str, place: usize) -> Option<Self> {
        let mut parts = split(text, ';').into_iter();
        let media = parts.next()?.to_ascii_lowercase();
        let parameters: Vec<(String, &str)> = parts.filter_map(parameter).collect();
        let quality = match parameters.iter().find(|(name, _)| name == "q") {
            Some((_, value)) => thousandths(value)?,
            None => 1000,
        };
        let subscription_spec = parameters.iter().find(|(name, _)| name == "subscriptionspec");
        let subscription_spec = subscription_spec.map(|(_, value)| (*value).to_owned());
        (!media.is_empty()).then_some(Self { media, quality, place, subscription_spec })
    }

    fn names_a_stream(&self) -> bool {
        let spec = self.subscription_spec.as_deref();
        self.media == EVENT_STREAM || (self.media == MULTIPART && spec == Some(SUBSCRIPTION_SPEC))
    }

    /// How exactly this names the type; `None` when it does not.
    fn names(&self, media: &str) -> Option<u8> {
        let (kind, _) = media.split_once('/')?;
        match self.media.as_str() {
            own if own == media => Some(2),
            "*/*" | "*" => Some(0),
            own => own.strip_suffix("/*").is_some_and(|own| own == kind).then_some(1),
        }
    }
}

/// The most wanted of the choices: by quality, then by how exactly it is named, then by its place in the header.
fn best<T: Copy>(ranges: &[Range], choices: &[(&str, T)]) -> Option<T> {
    let wanted = |&(media, choice): &(&str, T)| {
        // The most exact range decides about a type.
        let (exact, range) = ranges
            .iter()
            .filter_map(|range| Some((range.names(media)?, range)))
            .min_by_key(|(exact, range)| (std::cmp::Reverse(*exact), range.place))?;
        let place = if exact == 2 { range.place } else { 0 };
        (range.quality > 0).then_some(((range.quality, exact, std::cmp::Reverse(place)), choice))
    };
    // Of equal ones the first is wanted, and `max_by_key` gives the last.
    choices.iter().rev().filter_map(wanted).max_by_key(|(rank, _)| *rank).map(|(_, choice)| choice)
}

/// Splits at `separator`, but not within quotes; the parts are trimmed.
fn split(text: &str, separator: char) -> Vec<&str> {
    let mut quoted = false;
    let mut escaped = false;
    let parts = text.split(move |c| {
        let was_escaped = std::mem::take(&mut escaped);
        match c {
            '\\' if quoted && !was_escaped => escaped = true,
            '"' if !was_escaped => quoted = !quoted,
            _ => {}
        }
        c == separator && !quoted
    });
    parts.map(str::trim).collect()
}

/// `name=value`, the name in lower case and the value without quotes.
fn parameter(text: &str) -> Option<(String, &str)> {
    let (name, value) = text.split_once('=')?;
    let value = value.trim();
    let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
    Some((name.trim().to_ascii_lowercase(), value))
}

/// `0.85` is 850.
fn thousandths(text: &str) -> Option<u16> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let whole: u16 = whole.parse().ok().filter(|whole| *whole <= 1)?;
    if fraction.len() > 3 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let fraction: u16 = format!("{fraction:0<3}").parse().ok()?;
    Some((whole * 1000 + fraction).min(1000))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(accept: &[&'static str]) -> Option<JsonType> {
        let mut headers = HeaderMap::new();
        for value in accept {
            headers.append(header::ACCEPT, value.parse().unwrap());
        }
        Accepted::read(&headers).json
    }

    #[test]
    fn plain_json_unless_the_other_is_preferred() {
        for accept in [
            &[][..],
            &[""],
            &["*/*"],
            &["application/*"],
            &["application/json"],
            &["APPLICATION/JSON; charset=utf-8"],
            &["text/html, */*;q=0.1"],
            &["application/json, application/graphql-response+json"],
            &["application/graphql-response+json;q=0.5, application/json"],
            &["application/graphql-response+json;q=0, */*"],
        ] {
            assert_eq!(json(accept), Some(JsonType::Json), "{accept:?}");
        }
        for accept in [
            &["application/graphql-response+json"][..],
            &["application/graphql-response+json, application/json"],
            &["application/graphql-response+json", "application/json"],
            &["application/json;q=0.9, application/graphql-response+json"],
            &["application/graphql-response+json, */*"],
            &["application/json;q=0.001, application/*"],
            &["a/b;x=\"application/json,\\\" \", application/graphql-response+json"],
        ] {
            assert_eq!(json(accept), Some(JsonType::GraphqlResponse), "{accept:?}");
        }
    }

    #[test]
    fn what_fits_nothing_is_not_accepted() {
        for accept in ["text/html", "application/xml, text/*", "application/json;q=0", "*/*;q=0", "json"] {
            assert_eq!(json(&[accept]), None, "{accept}");
        }
    }

    #[test]
    fn a_stream_is_sent_to_those_who_name_it() {
        let stream = |accept: &'static str| {
            let headers = HeaderMap::from_iter([(header::ACCEPT, accept.parse().unwrap())]);
            Accepted::read(&headers).stream
        };
        for accept in [
            "text/event-stream",
            "Text/Event-Stream; charset=utf-8",
            "text/event-stream, multipart/mixed",
            "text/event-stream, multipart/mixed;subscriptionSpec=1.0",
            "multipart/mixed;subscriptionSpec=1.0;q=0.5, text/event-stream",
        ] {
            assert_eq!(stream(accept), Some(StreamType::Sse), "{accept}");
        }
        for accept in [
            "multipart/mixed;subscriptionSpec=1.0",
            "multipart/mixed;subscriptionSpec=\"1.0\"",
            "multipart/mixed;boundary=graphql;subscriptionSpec=1.0, application/json",
            "multipart/mixed; boundary=\"graphql\"; subscriptionspec=1.0, application/json;q=0.9",
            "text/event-stream;q=0.1, multipart/mixed;subscriptionSpec=1.0",
        ] {
            assert_eq!(stream(accept), Some(StreamType::Multipart), "{accept}");
        }
        for accept in [
            "*/*",
            "text/*",
            "multipart/mixed",
            "multipart/mixed;deferSpec=20220824",
            "multipart/mixed;subscriptionSpec=2.0",
            "text/event-stream;q=0",
        ] {
            assert_eq!(stream(accept), None, "{accept}");
        }
    }

    #[test]
    fn qualities_have_three_digits() {
        for (text, expected) in
            [("1", Some(1000)), ("1.000", Some(1000)), ("0.5", Some(500)), ("0.05", Some(50)), ("0", Some(0))]
        {
            assert_eq!(thousandths(text), expected, "{text}");
        }
        for wrong in ["", "2", "0.1234", "-1", "0.x", "high"] {
            assert_eq!(thousandths(wrong), None, "{wrong}");
        }
    }
}
