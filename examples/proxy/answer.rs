//! The proxy's own answers: a short line of plain text that no cache keeps.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};

/// What the proxy lets pass, for `Allow`. Methods it does not know pass as well.
const ALLOWED: HeaderValue = HeaderValue::from_static("GET, HEAD, QUERY, POST, PUT, PATCH, DELETE, OPTIONS");

/// A response that the proxy writes itself.
pub(crate) type Answer = Response<Full<Bytes>>;

/// Response extension: the connection cannot be trusted or used after this response.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CloseAfter;

/// Why a request gets an answer of the proxy instead of one of the origin.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Refusal {
    status: StatusCode,
    /// One phrase for the client, without a detail of the origin, the store or this machine.
    reason: &'static str,
    close: bool,
}

// ===== impl Refusal =====

impl Refusal {
    pub(crate) fn new(status: StatusCode, reason: &'static str) -> Self {
        Self { status, reason, close: false }
    }

    pub(crate) fn bad_request(reason: &'static str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, reason)
    }

    /// Makes the answer the last one of its connection.
    pub(crate) fn closing(self) -> Self {
        Self { close: true, ..self }
    }

    pub(crate) fn answer(self) -> Answer {
        let mut answer = Answer::default();
        *answer.status_mut() = self.status;
        answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if matches!(self.status, StatusCode::METHOD_NOT_ALLOWED | StatusCode::NO_CONTENT) {
            answer.headers_mut().insert(ALLOW, ALLOWED);
        }
        if self.status != StatusCode::NO_CONTENT {
            answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
            *answer.body_mut() = Full::from(format!("{}: {}\n", self.status, self.reason));
        }
        if self.close {
            answer.extensions_mut().insert(CloseAfter);
        }
        answer
    }
}
