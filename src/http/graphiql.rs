//! GraphiQL: a page to try the API in.
//!
//! The page is ours and small. GraphiQL itself, React and the WebSocket client are files of npm packages: the
//! browser gets them from a CDN, or from this server when a local folder is given. Either way it checks their
//! hashes.

mod files;
mod page;
#[cfg(test)]
mod tests;

use std::{path::PathBuf, sync::Arc};

use axum::{
    Router,
    body::Bytes,
    extract::Path as UrlPath,
    http::{HeaderName, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};

use crate::as_written::AsWritten;
use files::Loaded;
use page::Page;

/// Where the browser gets GraphiQL's files from.
#[derive(Debug, Clone)]
pub enum GraphiqlAssets {
    /// From a public CDN: needs internet, and nothing else.
    Cdn,
    /// From this server, which has read them from a folder.
    Folder(FolderAssets),
}

/// GraphiQL's files, read from a folder and checked.
#[derive(Debug, Clone)]
pub struct FolderAssets(Arc<[Loaded]>);

impl GraphiqlAssets {
    /// Reads the files from `folder`: where `npm install` has put the packages, or its `node_modules`.
    ///
    /// The error is one line. It names the file that is missing or is not the one of the expected version, and
    /// the command that gets it.
    pub fn folder(folder: impl Into<AsWritten<PathBuf>>) -> Result<Self, String> {
        files::load(&folder.into()).map(|files| Self::Folder(FolderAssets(files.into())))
    }

    fn local(&self) -> &[Loaded] {
        match self {
            Self::Cdn => &[],
            Self::Folder(FolderAssets(files)) => files,
        }
    }
}

/// The page at `/` and `/graphiql`, and its files under `/graphiql/assets/` when they are local.
///
/// The API is expected at `/graphql` beside it; both may be nested under a prefix.
pub fn routes<S: Clone + Send + Sync + 'static>(assets: GraphiqlAssets) -> Router<S> {
    let page = Page::new(&assets);
    let show = get(move || async move { page.into_response() });
    let file = get(move |UrlPath(name): UrlPath<String>| async move { asset(assets.local(), &name) });
    Router::new()
        .route("/", show.clone())
        .route("/graphiql", show.clone())
        .route("/graphiql/", show)
        .route("/graphiql/assets/{*name}", file)
}

/// A file by its name, which has the version in it: it never changes.
fn asset(files: &[Loaded], name: &str) -> Response {
    const FOR_EVER: &str = "public, max-age=31536000, immutable";
    let Some(Loaded { file, content }) = files.iter().find(|loaded| loaded.file.name() == name) else {
        return (StatusCode::NOT_FOUND, "GraphiQL has no such file here\n").into_response();
    };
    let headers = [(header::CONTENT_TYPE, file.media_type), (header::CACHE_CONTROL, FOR_EVER), NO_SNIFFING];
    (headers, Bytes::clone(content)).into_response()
}

/// A browser shall not take a file for what its type does not say.
const NO_SNIFFING: (HeaderName, &str) = (header::X_CONTENT_TYPE_OPTIONS, "nosniff");
