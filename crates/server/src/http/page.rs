//! The web chat's files and the JavaScript client, from inside the binary.

use axum::body::Body;
use axum::http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ETAG, IF_NONE_MATCH, LOCATION, VARY,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, Uri};
use outspoke_web::Asset;

pub(super) async fn index(headers: HeaderMap) -> Response<Body> {
    of_page(&outspoke_web::index(), &headers)
}

pub(super) async fn figures(headers: HeaderMap) -> Response<Body> {
    of_page(&outspoke_web::figures(), &headers)
}

pub(super) async fn nodes(headers: HeaderMap) -> Response<Body> {
    of_page(&outspoke_web::nodes(), &headers)
}

pub(super) async fn admin(headers: HeaderMap) -> Response<Body> {
    of_page(&outspoke_web::admin(), &headers)
}

pub(super) async fn asset(uri: Uri, headers: HeaderMap) -> Response<Body> {
    let Some(asset) = outspoke_web::asset(uri.path()) else { return missing("no such file in this build\n") };
    let mut response = of_page(&asset, &headers);
    if uri.path().ends_with("/ui/sw.js") {
        // A worker may serve what is below its own address only, unless this allows more: here the folder of the page, which is
        // three up, whatever prefix a proxy puts before it (Service Workers, section "Service-Worker-Allowed").
        response
            .headers_mut()
            .insert(HeaderName::from_static("service-worker-allowed"), HeaderValue::from_static("../../../"));
    }
    response
}

/// The client for other sites' pages.
pub(super) async fn client(uri: Uri, headers: HeaderMap) -> Response<Body> {
    match outspoke_web::client(uri.path()) {
        Some(asset) => answer(&asset, &headers, outspoke_web::client_headers()),
        None => missing("no such module; the client is /client/outspoke.js\n"),
    }
}

/// The documentation. Nothing in it is secret or echoed, so its pages travel compressed.
pub(super) async fn docs(uri: Uri, headers: HeaderMap) -> Response<Body> {
    let path = uri.path().strip_prefix("/docs/").unwrap_or_default();
    match outspoke_web::docs(path) {
        Some(asset) => answer_with(&asset, &headers, outspoke_web::security_headers(), true),
        None => missing("no such page; all of them are listed at /docs/\n"),
    }
}

/// `/docs` is a folder: without the slash its pages' relative addresses would mean something else. Relative itself, for proxies with a prefix.
pub(super) async fn docs_folder() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
    response.headers_mut().insert(LOCATION, HeaderValue::from_static("docs/"));
    response
}

fn of_page(asset: &Asset, request: &HeaderMap) -> Response<Body> {
    answer(asset, request, outspoke_web::security_headers())
}

/// Of another build, most likely: nobody may keep this answer.
fn missing(text: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = StatusCode::NOT_FOUND;
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn answer(
    asset: &Asset,
    request: &HeaderMap,
    fixed: &'static [(&'static str, &'static str)],
) -> Response<Body> {
    // Documents go as they are, which costs some 3 KB once per visit: they are what examiners of TLS look at for BREACH, and
    // cannot know that nothing in them is secret or echoed.
    answer_with(asset, request, fixed, !asset.mime.starts_with("text/html"))
}

fn answer_with(
    asset: &Asset,
    request: &HeaderMap,
    fixed: &'static [(&'static str, &'static str)],
    may_compress: bool,
) -> Response<Body> {
    // Weak, because it names the content in every encoding (RFC 9110 section 8.8.3).
    let etag = format!("W/{}", asset.etag);
    let known = request.get(IF_NONE_MATCH).is_some_and(|known| matches(known, asset.etag));
    let (body, encoding) = match asset.gzip {
        Some(gzip) if may_compress && accepts_gzip(request) => (gzip, Some("gzip")),
        _ => (asset.bytes, None),
    };
    let mut response = Response::new(if known { Body::empty() } else { Body::from(body) });
    if known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(asset.mime));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(asset.cache_control()));
    headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
    if let Ok(etag) = HeaderValue::try_from(etag) {
        headers.insert(ETAG, etag);
    }
    if let Some(encoding) = encoding.filter(|_| !known) {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static(encoding));
    }
    for (name, value) in fixed {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    response
}

/// Weak comparison against each tag of the list (RFC 9110 section 13.1.2).
fn matches(known: &HeaderValue, etag: &str) -> bool {
    let tags = known.to_str().unwrap_or_default().split(',').map(str::trim);
    tags.into_iter().any(|tag| tag == "*" || tag.trim_start_matches("W/") == etag)
}

/// Whether gzip is listed and not refused with `q=0`.
fn accepts_gzip(request: &HeaderMap) -> bool {
    let listed = request.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    listed.flat_map(|value| value.split(',')).any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        let refused =
            |weight: &str| matches!(weight.split_once('='), Some(("q", "0" | "0.0" | "0.00" | "0.000")));
        parts.next().is_some_and(|name| name.eq_ignore_ascii_case("gzip")) && !parts.any(refused)
    })
}
