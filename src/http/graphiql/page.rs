//! The page itself, put together once when the server starts.

use axum::{
    body::Bytes,
    http::header,
    response::{IntoResponse, Response},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::{
    GraphiqlAssets, NO_SNIFFING,
    files::{FILES, install_command},
};

/// Serves the files of npm packages as they are.
const CDN: &str = "https://cdn.jsdelivr.net/npm/";
/// Where this server has them, seen from the page's prefix.
const LOCAL: &str = "graphiql/assets/";
/// The folder in the advice that is shown when the CDN cannot be reached.
const EXAMPLE_FOLDER: &str = "graphiql-files";

/// The page and what the browser may do with it.
#[derive(Debug, Clone)]
pub(super) struct Page {
    html: Bytes,
    policy: String,
}

impl Page {
    pub(super) fn new(assets: &GraphiqlAssets) -> Self {
        let base = match assets {
            GraphiqlAssets::Cdn => CDN,
            GraphiqlAssets::Folder(_) => LOCAL,
        };
        let script = concat!(include_str!("examples.js"), include_str!("start.js"));
        let html = include_str!("page.html")
            .replace("{{style}}", include_str!("page.css"))
            .replace("{{files}}", &files(base))
            .replace("{{folder}}", EXAMPLE_FOLDER)
            .replace("{{install}}", &install_command(EXAMPLE_FOLDER))
            .replace("{{script}}", script);
        Self { html: html.into(), policy: policy(assets, script) }
    }
}

impl IntoResponse for Page {
    fn into_response(self) -> Response {
        let headers = [
            (header::CONTENT_TYPE, "text/html; charset=utf-8"),
            // The page names files of the version that serves it.
            (header::CACHE_CONTROL, "no-cache"),
            (header::REFERRER_POLICY, "no-referrer"),
            NO_SNIFFING,
        ];
        (headers, [(header::CONTENT_SECURITY_POLICY, self.policy)], self.html).into_response()
    }
}

/// What the page's script has to load, as JSON for it to read.
fn files(base: &str) -> String {
    let files = FILES
        .each_ref()
        .map(|file| json!({ "name": file.name(), "integrity": file.integrity, "script": file.is_script() }));
    json!({ "base": base, "local": base == LOCAL, "files": files }).to_string()
}

/// Only our own script and the expected files run, and nothing is sent to others.
fn policy(assets: &GraphiqlAssets, script: &str) -> String {
    let (scripts, styles) = match assets {
        GraphiqlAssets::Folder(_) => ("'self'".to_owned(), "'self'".to_owned()),
        GraphiqlAssets::Cdn => (from_cdn(true), from_cdn(false)),
    };
    let hash = STANDARD.encode(Sha256::digest(script));
    // The editor and React put styles into elements; `'self'` is not enough for ws: in every browser.
    format!(
        "default-src 'none'; script-src 'sha256-{hash}' {scripts}; style-src 'unsafe-inline' {styles}; \
         font-src data:; img-src 'self' data:; connect-src 'self' ws: wss:; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
    )
}

fn from_cdn(scripts: bool) -> String {
    let files = FILES.iter().filter(|file| file.is_script() == scripts);
    files.map(|file| format!("{CDN}{}", file.name())).collect::<Vec<_>>().join(" ")
}
