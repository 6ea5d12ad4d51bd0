//! Answers of an HTTP API.
//!
//! The host is fixed; args stand only in the path and the query, percent-encoded, and as whole values in the body
//! (`target`). Redirects are followed here and not by the client, because credentials must not follow them to another
//! host (`exchange`). Answers are one JSON value, or one on each line (`answer`).

mod answer;
mod exchange;
mod target;

use std::{fmt, sync::Arc};

use futures::{StreamExt, TryStreamExt, stream, stream::BoxStream};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

use self::{
    exchange::{Exchange, plain_headers},
    target::Target,
};
use super::{
    ArgDefinition, Args, Gives, Row, Source, SourceError, SourceInfo, SourceLimits, SourceType, ThisServer,
    template::JsonTemplate,
};
use crate::{clock::Clock, error::ErrorCode, model::Json, secret::Secret};

/// How an [`HttpSource`] asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum HttpMethod {
    /// A request without body, that is sent again when there was no connection, or it was lost before an answer.
    #[default]
    Get,
    /// A request with a body.
    Post,
}

/// What an [`HttpSource`] is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum HttpFormat {
    /// One JSON value: one row.
    #[default]
    Json,
    /// A JSON value on each line: each a row, as soon as it is there.
    NdJson,
}

/// What an [`HttpSource`] asks, and its limits.
#[derive(Debug, Clone, PartialEq)]
pub struct HttpSourceOptions {
    /// What it gives, for people.
    pub description: Option<String>,
    /// How it asks.
    pub method: HttpMethod,
    /// Where: `http://…` or `https://…`, or a path on this server itself, such as `/health/ready`. Args stand in the
    /// path and the query as `{name}`. A pair of the query whose arg is null is left out.
    pub url: Secret,
    /// What is sent along, and to no other host.
    pub headers: Vec<(String, Secret)>,
    /// JSON that is sent with `POST`. A whole text `{name}` in it stands for an arg, with its type.
    pub body: Option<Secret>,
    /// What it is answered.
    pub format: HttpFormat,
    /// The args it takes.
    pub args: Vec<ArgDefinition>,
    /// What a read may take and give. `max_bytes` is also the largest answer in JSON.
    pub limits: SourceLimits,
    /// The longest line of newline-delimited JSON, in bytes.
    pub max_row_bytes: usize,
    /// Redirects that are followed.
    pub max_redirects: usize,
    /// How often a `GET` is sent again when no connection could be made, or it was lost before the answer's head was there.
    pub max_retries: usize,
}

impl HttpSourceOptions {
    /// A `GET` without args, with the default limits.
    pub fn new(url: impl Into<Secret>) -> Self {
        Self {
            description: None,
            method: HttpMethod::Get,
            url: url.into(),
            headers: Vec::new(),
            body: None,
            format: HttpFormat::Json,
            args: Vec::new(),
            limits: SourceLimits { max_bytes: 16 << 20, ..SourceLimits::default() },
            max_row_bytes: 1 << 20,
            max_redirects: 5,
            max_retries: 2,
        }
    }
}

/// The connections that all HTTP sources share. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct HttpClient {
    client: reqwest::Client,
    /// Why nobody is trusted over TLS.
    no_certificates: Option<Arc<str>>,
}

impl HttpClient {
    /// Without connections yet. Proxies of the environment are not used.
    ///
    /// TLS is rustls, with the machine's certificates. Where they cannot be read, as in a small container, nobody is
    /// trusted over TLS, and all else works.
    pub fn new() -> Result<Self, SourceError> {
        let failed = |error: &reqwest::Error| {
            let message = format!("cannot make an HTTP client: {}", exchange::cause(error));
            SourceError::new(ErrorCode::Unavailable, message)
        };
        match builder().build() {
            Ok(client) => Ok(Self { client, no_certificates: None }),
            Err(error) => {
                let client = builder().tls_certs_only([]).build().map_err(|_| failed(&error))?;
                Ok(Self { client, no_certificates: Some(exchange::cause(&error).into()) })
            }
        }
    }
}

fn builder() -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .referer(false)
        .user_agent(concat!("meanwhile/", env!("CARGO_PKG_VERSION")))
}

/// An HTTP API, as a source.
pub struct HttpSource {
    info: SourceInfo,
    target: Target,
    body: Option<JsonTemplate>,
    exchange: Arc<Exchange>,
}

impl HttpSource {
    /// A source of this name. Nothing is connected yet.
    ///
    /// `INVALID_INPUT` when the options do not fit together. The error never has a value of them in it.
    pub fn new(
        name: &str,
        options: HttpSourceOptions,
        client: &HttpClient,
        this_server: &ThisServer,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, SourceError> {
        let invalid = |what: String| SourceError::new(ErrorCode::InvalidInput, format!("source `{name}`: {what}"));
        let Parts { target, body, headers } =
            Parts::of(&options, this_server.clone()).map_err(|Misfit { what, .. }| invalid(what))?;
        if let (true, Some(why)) = (target.is_https(), &client.no_certificates) {
            tracing::warn!(
                "source `{name}` asks over TLS, and there is nobody whom this machine trusts to vouch for its server: \
                 {why}; reads of it fail until the package `ca-certificates` is installed, or SSL_CERT_FILE names a file"
            );
        }
        let info = SourceInfo {
            name: name.into(),
            description: options.description,
            source_type: SourceType::Http,
            args: options.args,
            limits: options.limits,
            gives: match options.format {
                HttpFormat::Json => Gives::Value,
                HttpFormat::NdJson => Gives::Rows,
            },
        };
        let exchange = Exchange {
            source: info.name.clone(),
            client: client.client.clone(),
            clock,
            method: options.method,
            headers,
            format: options.format,
            max_bytes: info.limits.max_bytes,
            max_row_bytes: options.max_row_bytes,
            max_redirects: options.max_redirects,
            max_retries: options.max_retries,
        };
        Ok(Self { info, target, body, exchange: Arc::new(exchange) })
    }
}

/// What options are made into.
struct Parts {
    target: Target,
    body: Option<JsonTemplate>,
    headers: HeaderMap,
}

/// An option that does not fit the others, or is not what it should be.
pub(crate) struct Misfit {
    /// Its name.
    pub(crate) key: &'static str,
    /// What of it, where it has several: the name of a header, or a text of the body.
    pub(crate) entry: Option<String>,
    /// What is wrong, without its value.
    pub(crate) what: String,
}

impl Parts {
    fn of(options: &HttpSourceOptions, this_server: ThisServer) -> Result<Self, Misfit> {
        let misfit = |key| move |what| Misfit { key, entry: None, what };
        let target = Target::new(options.url.expose(), &options.args, this_server).map_err(misfit("url"))?;
        let body = options.body.as_ref().map(|body| {
            let json = Json::parse(body.expose()).map_err(|_| misfit("body")("its `body` is not JSON".to_owned()))?;
            JsonTemplate::new(&json, &options.args).map_err(|unknown| {
                let what = format!("its `body` {unknown}");
                Misfit { key: "body", entry: Some(unknown.0), what }
            })
        });
        let body = body.transpose()?;
        if body.is_some() && options.method == HttpMethod::Get {
            let what = "a GET has no `body`: remove it, or add `method = \"POST\"`".to_owned();
            return Err(misfit("body")(what));
        }
        let used = |arg: &str| target.mentions(arg) || body.as_ref().is_some_and(|body| body.mentions(arg));
        if let Some(ArgDefinition { name, .. }) = options.args.iter().find(|arg| !used(&arg.name)) {
            let what = format!("its arg `{name}` is not used: write it as `{{{name}}}` in `url` or `body`");
            return Err(misfit("args")(what));
        }
        let headers = headers(options)?;
        Ok(Self { target, body, headers })
    }
}

impl HttpSourceOptions {
    /// Finds what [`HttpSource::new`] would refuse.
    pub(crate) fn check(&self) -> Result<(), Misfit> {
        Parts::of(self, ThisServer::default()).map(drop)
    }
}

impl fmt::Debug for HttpSource {
    /// Without address, headers and body, where secrets are.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpSource").field("info", &self.info).finish_non_exhaustive()
    }
}

impl Source for HttpSource {
    fn info(&self) -> &SourceInfo {
        &self.info
    }

    fn read(&self, args: Args) -> Result<BoxStream<'static, Result<Row, SourceError>>, SourceError> {
        let url = self.target.fill(&self.info.name, &args)?;
        let body = self.body.as_ref().map(|body| body.fill(&args));
        let exchange = self.exchange.clone();
        let rows = async move {
            let response = exchange.send(url, body).await?;
            Ok(answer::rows(response, exchange))
        };
        Ok(stream::once(rows).try_flatten().boxed())
    }
}

fn headers(options: &HttpSourceOptions) -> Result<HeaderMap, Misfit> {
    let mut configured = HeaderMap::new();
    for (name, value) in &options.headers {
        let misfit = |what: String| Misfit { key: "headers", entry: Some(name.clone()), what };
        let header =
            HeaderName::try_from(name).map_err(|_| misfit(format!("`{name}` cannot be the name of a header")))?;
        if [reqwest::header::HOST, reqwest::header::CONTENT_LENGTH, reqwest::header::TRANSFER_ENCODING]
            .contains(&header)
        {
            return Err(misfit(format!("the header `{name}` is not for the configuration: remove it")));
        }
        let mut value = HeaderValue::try_from(value.expose()).map_err(|_| {
            misfit(format!("the value of the header `{name}` has characters that a header cannot have"))
        })?;
        value.set_sensitive(true);
        if configured.insert(header, value).is_some() {
            return Err(misfit(format!("the header `{name}` is there twice: remove one")));
        }
    }
    let mut headers = plain_headers(options.format);
    headers.extend(configured);
    Ok(headers)
}
