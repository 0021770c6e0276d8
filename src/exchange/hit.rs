//! A stored response becomes the answer.

use std::sync::Arc;

use http::header::{self, HeaderValue};
use http::{Method, Response, StatusCode, request};

use super::Shared;
use crate::body::CacheBody;
use crate::observe::{Outcome, report};
use crate::semantics::PresentedRequest;
use crate::semantics::precondition::{self, Precondition};
use crate::semantics::reuse::Reuse;
use crate::store::entry::StoredResponse;

pub(super) fn serve<R>(
    shared: &Shared,
    parts: &request::Parts,
    stored: Arc<StoredResponse>,
    reuse: &Reuse,
) -> Response<CacheBody<R>> {
    shared.counters.hits.increment();
    let verdict = precondition::evaluate(&PresentedRequest::of(parts), stored.status, &stored.headers);
    // Out of Redis the response is ours alone; out of memory it is shared.
    let StoredResponse { status, mut headers, body, trailers, .. } = Arc::unwrap_or_clone(stored);
    // RFC 9111 §5.1, and §4: a response used without validation has an Age.
    headers.insert(header::AGE, HeaderValue::from(reuse.age.as_secs()));
    let mut response = match verdict {
        Precondition::NotModified => {
            precondition::reduce_to_not_modified(&mut headers);
            with_status(StatusCode::NOT_MODIFIED, CacheBody::empty())
        }
        Precondition::Proceed if parts.method == Method::HEAD => {
            // RFC 9110 §9.3.2: the fields are those of the GET.
            headers.entry(header::CONTENT_LENGTH).or_insert_with(|| HeaderValue::from(body.len()));
            with_status(status, CacheBody::empty())
        }
        Precondition::Proceed => with_status(status, CacheBody::stored(body, trailers)),
    };
    *response.headers_mut() = headers;
    report(&shared.config.cache_name, Outcome::hit(reuse.remaining), &mut response);
    response
}

fn with_status<B>(status: StatusCode, body: B) -> Response<B> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
}
