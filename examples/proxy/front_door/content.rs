//! The content of a QUERY, which is read before the cache can look anything up, and what the client is told when it
//! cannot be had.

use hyper::{Request, Response, StatusCode};
use tower_redis_cache::Outcome;

use crate::answer::Refusal;
use crate::request_body::{Progress, RequestBody, Upload};

/// Knows the answer of whoever reads the content from one of the cache or the origin.
#[derive(Debug)]
pub(super) struct Reading {
    upload: Upload,
}

// ===== impl Reading =====

impl Reading {
    /// Must be called before the request is given away; `None` where no content is read.
    pub(super) fn watch(request: &Request<RequestBody>) -> Option<Self> {
        (request.method().as_str() == "QUERY").then(|| Self { upload: request.body().upload() })
    }

    /// Why the content was not read, if that is what `response` says: the cache, where the request came that far,
    /// leaves an [`Outcome`].
    pub(super) fn refusal<B>(&self, response: &Response<B>) -> Option<Refusal> {
        // What says anything else comes from before the cache, and not of the content.
        let is_of_content = matches!(response.status(), StatusCode::PAYLOAD_TOO_LARGE | StatusCode::BAD_REQUEST);
        if !is_of_content || response.extensions().get::<Outcome>().is_some() {
            return None;
        }
        Some(match (response.status(), self.upload.progress()) {
            (StatusCode::PAYLOAD_TOO_LARGE, _) => {
                Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "the content of the QUERY is too large")
            }
            (_, Progress::Stalled) => {
                Refusal::new(StatusCode::REQUEST_TIMEOUT, "the rest of the request did not come in time")
            }
            _ => Refusal::bad_request("the request broke off"),
        })
    }
}
