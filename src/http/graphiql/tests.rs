use axum::{
    body::{Body, to_bytes},
    http::{HeaderMap, Request},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use sha2::{Digest, Sha256};
use tower::ServiceExt;

use super::{files::FILES, *};

async fn get_from(router: Router, path: &str) -> (StatusCode, HeaderMap, String) {
    let request = Request::get(path).body(Body::empty()).unwrap();
    let (head, body) = router.oneshot(request).await.unwrap().into_parts();
    let body = to_bytes(body, 1 << 20).await.unwrap();
    (head.status, head.headers, String::from_utf8(body.into()).unwrap())
}

/// As if read from a folder.
fn local() -> GraphiqlAssets {
    let loaded = FILES.iter().map(|file| Loaded { file, content: file.path.into() });
    GraphiqlAssets::Folder(FolderAssets(loaded.collect()))
}

#[tokio::test]
async fn the_page_is_at_both_addresses_and_under_a_prefix() {
    let (status, headers, page) = get_from(routes(GraphiqlAssets::Cdn), "/graphiql").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(headers[header::CONTENT_TYPE], "text/html; charset=utf-8");
    assert_eq!(headers[header::CACHE_CONTROL], "no-cache");
    assert!(page.starts_with("<!DOCTYPE html>") && page.ends_with("</html>\n") && !page.contains("{{"));
    for path in ["/", "/graphiql/", "/x", "/x/graphiql", "/x/graphiql/"] {
        let router = routes(GraphiqlAssets::Cdn).nest("/x", routes(GraphiqlAssets::Cdn));
        let (status, _, same) = get_from(router, path).await;
        assert!(status == StatusCode::OK && same == page, "{path}: {status}");
    }
}

#[tokio::test]
async fn only_the_page_s_own_script_and_the_expected_files_may_run() {
    for (assets, allowed) in [(GraphiqlAssets::Cdn, "https://cdn.jsdelivr.net/npm/react@18.3.1/"), (local(), "'self'")]
    {
        let (_, headers, page) = get_from(routes(assets), "/").await;
        let (_, script) = page.rsplit_once("<script>").unwrap();
        let (script, _) = script.split_once("</script>").unwrap();
        let policy = headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
        let scripts = policy.split("; ").find(|rule| rule.starts_with("script-src")).unwrap();
        assert!(scripts.contains(&format!("'sha256-{}'", STANDARD.encode(Sha256::digest(script)))), "{scripts}");
        assert!(scripts.contains(allowed) && !scripts.contains("unsafe"), "{scripts}");
        assert!(policy.starts_with("default-src 'none'; "), "{policy}");
    }
}

#[tokio::test]
async fn every_file_is_named_with_its_version_and_hash() {
    for assets in [GraphiqlAssets::Cdn, local()] {
        let (_, _, page) = get_from(routes(assets), "/").await;
        for file in &FILES {
            assert!(page.contains(&format!("\"{}@{}/{}\"", file.package, file.version, file.path)), "{file:?}");
            assert!(page.contains(&format!("\"{}\"", file.integrity)), "{file:?}");
        }
    }
}

#[tokio::test]
async fn local_files_keep_their_type_and_may_be_cached_for_ever() {
    for file in &FILES {
        let (status, headers, body) = get_from(routes(local()), &format!("/graphiql/assets/{}", file.name())).await;
        assert_eq!((status, body.as_str()), (StatusCode::OK, file.path));
        assert_eq!(headers[header::CONTENT_TYPE], file.media_type);
        assert_eq!(headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
        assert!(headers[header::CACHE_CONTROL].to_str().unwrap().ends_with("immutable"));
    }
}

#[tokio::test]
async fn nothing_else_is_served() {
    for path in ["react@18.3.1/package.json", "react@18.3.0/umd/react.production.min.js", "..%2F..%2Fetc%2Fpasswd", ""]
    {
        let (status, ..) = get_from(routes(local()), &format!("/graphiql/assets/{path}")).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{path}");
    }
    let (status, ..) = get_from(routes(GraphiqlAssets::Cdn), &format!("/graphiql/assets/{}", FILES[0].name())).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
}
