//! A stored response becomes the answer.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{HeaderMap, Method, Response, StatusCode, request};

use super::lookup::{self, Asked, Held};
use super::{Shared, conclude};
use crate::body::CacheBody;
use crate::body::shared::SharedReader;
use crate::key::CacheKey;
use crate::observe::Outcome;
use crate::semantics::PresentedRequest;
use crate::semantics::admission::is_retrieval;
use crate::semantics::precondition::{self, Precondition};
use crate::semantics::range::{self, Selection};
use crate::semantics::reuse::Reuse;
use crate::store::entry::{StoredBody, StoredResponse};

/// The response, with its body where the answer needs one, and its key; `None` where the body is not to be had.
pub(super) async fn take(
    shared: &Shared,
    parts: &request::Parts,
    held: Held,
    asked: &mut Asked,
) -> Option<(Arc<StoredResponse>, CacheKey)> {
    let key = held.key.clone();
    if needs_body(&PresentedRequest::of(parts), &held.response) {
        lookup::load(shared, held, asked).await.map(|stored| (stored, key))
    } else {
        Some((held.response, key))
    }
}

fn needs_body(request: &PresentedRequest<'_>, stored: &StoredResponse) -> bool {
    is_retrieval(request.method)
        && precondition::evaluate(request, stored.status, &stored.headers) == Precondition::Proceed
        && selection(request, stored) != Selection::Unsatisfiable
}

fn selection(request: &PresentedRequest<'_>, stored: &StoredResponse) -> Selection {
    match *request.method {
        Method::GET => range::select(request.headers, stored.status, &stored.headers, stored.body.len()),
        _ => Selection::Whole,
    }
}

/// RFC 9110 §13.2.2: preconditions first, then the range.
pub(super) fn serve<R>(
    shared: &Shared,
    request: &PresentedRequest<'_>,
    stored: Arc<StoredResponse>,
    reuse: &Reuse,
    outcome: Outcome,
) -> Response<CacheBody<R>> {
    if outcome.is_hit() {
        shared.counters.hits.increment();
    }
    let verdict = precondition::evaluate(request, stored.status, &stored.headers);
    let selection = selection(request, &stored);
    // Out of Redis the response is ours alone; out of memory it is shared.
    let StoredResponse { status, mut headers, body, trailers, .. } = Arc::unwrap_or_clone(stored);
    // RFC 9111 §5.1, and §4: a response used without validation has an Age.
    headers.insert(header::AGE, HeaderValue::from(reuse.age.as_secs()));
    let (status, body) = match (verdict, selection) {
        (Precondition::NotModified, _) => {
            precondition::reduce_to_not_modified(&mut headers);
            (StatusCode::NOT_MODIFIED, CacheBody::empty())
        }
        (Precondition::Proceed, _) if *request.method == Method::HEAD => {
            // RFC 9110 §9.3.2: the fields are those of the GET; §8.6: a 204 has no length.
            if status != StatusCode::NO_CONTENT {
                headers.entry(header::CONTENT_LENGTH).or_insert_with(|| HeaderValue::from(body.len()));
            }
            (status, CacheBody::empty())
        }
        (Precondition::Proceed, Selection::Whole) => (status, CacheBody::stored(body, trailers)),
        (Precondition::Proceed, Selection::Parts(parts)) => partial(&mut headers, &body, &parts),
        (Precondition::Proceed, Selection::Unsatisfiable) => {
            set(&mut headers, header::CONTENT_RANGE, &format!("bytes */{}", body.len()));
            headers.remove(header::CONTENT_TYPE);
            headers.remove(header::CONTENT_ENCODING);
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(0_u64));
            (StatusCode::RANGE_NOT_SATISFIABLE, CacheBody::empty())
        }
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    conclude(outcome, &mut response);
    response
}

/// A response whose body is still on its way.
pub(super) fn serve_live<R>(
    request: &PresentedRequest<'_>,
    stored: &StoredResponse,
    reader: SharedReader,
    reuse: &Reuse,
    outcome: Outcome,
) -> Response<CacheBody<R>> {
    let mut headers = stored.headers.clone();
    headers.insert(header::AGE, HeaderValue::from(reuse.age.as_secs()));
    let (status, body) = match precondition::evaluate(request, stored.status, &stored.headers) {
        Precondition::Proceed => (stored.status, CacheBody::shared(reader)),
        Precondition::NotModified => {
            precondition::reduce_to_not_modified(&mut headers);
            (StatusCode::NOT_MODIFIED, CacheBody::empty())
        }
    };
    let mut response = Response::new(body);
    (*response.status_mut(), *response.headers_mut()) = (status, headers);
    conclude(outcome, &mut response);
    response
}

/// RFC 9110 §15.3.7: one part with Content-Range, or several as multipart/byteranges.
fn partial<R>(headers: &mut HeaderMap, body: &StoredBody, parts: &[Range<u64>]) -> (StatusCode, CacheBody<R>) {
    let length = body.len();
    let pieces = match parts {
        [part] => {
            set(headers, header::CONTENT_RANGE, &content_range(part, length));
            body.slice(part)
        }
        _ => {
            let boundary = format!("{:032x}", fastrand::u128(..));
            let content_type = headers.get(header::CONTENT_TYPE).cloned();
            set(headers, header::CONTENT_TYPE, &format!("multipart/byteranges; boundary={boundary}"));
            multipart(body, parts, &boundary, content_type.as_ref())
        }
    };
    let partial = body.with_pieces(pieces);
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(partial.len()));
    (StatusCode::PARTIAL_CONTENT, CacheBody::stored(partial, None))
}

/// RFC 9110 §14.6.
fn multipart(
    body: &StoredBody,
    parts: &[Range<u64>],
    boundary: &str,
    content_type: Option<&HeaderValue>,
) -> Vec<Bytes> {
    let mut pieces = Vec::new();
    for part in parts {
        let mut head = format!("\r\n--{boundary}\r\n").into_bytes();
        if let Some(content_type) = content_type {
            head.extend_from_slice(b"Content-Type: ");
            head.extend_from_slice(content_type.as_bytes());
            head.extend_from_slice(b"\r\n");
        }
        head.extend_from_slice(format!("Content-Range: {}\r\n\r\n", content_range(part, body.len())).as_bytes());
        pieces.push(head.into());
        pieces.extend(body.slice(part));
    }
    pieces.push(format!("\r\n--{boundary}--\r\n").into_bytes().into());
    pieces
}

fn content_range(part: &Range<u64>, length: u64) -> String {
    format!("bytes {}-{}/{length}", part.start, part.end - 1)
}

fn set(headers: &mut HeaderMap, name: header::HeaderName, value: &str) {
    headers.insert(name, HeaderValue::from_str(value).expect("digits and tokens make a field value"));
}
