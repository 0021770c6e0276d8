//! The page that shows how the cache does. It asks for `/stats` and nothing else.

use axum::http::header;
use axum::response::{IntoResponse, Response};

/// Nothing from elsewhere, and nothing that is written into the page is a program.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

pub(super) async fn page() -> Response {
    of("text/html; charset=utf-8", include_str!("page.html"))
}

pub(super) async fn style() -> Response {
    of("text/css; charset=utf-8", include_str!("page.css"))
}

pub(super) async fn script() -> Response {
    of("text/javascript; charset=utf-8", include_str!("page.js"))
}

fn of(kind: &'static str, text: &'static str) -> Response {
    let fields = [
        (header::CONTENT_TYPE, kind),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (fields, text).into_response()
}
