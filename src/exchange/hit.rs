//! A stored response becomes the answer.

use std::iter;
use std::ops::Range;
use std::sync::Arc;

use http::header::{self, HeaderValue};
use http::{HeaderMap, Method, Response, StatusCode, request};
use tokio::time;

use super::lookup::{Asked, Held};
use super::open::open;
use super::{Shared, Teller, conclude};
use crate::body::CacheBody;
use crate::body::chunks::Segment;
use crate::body::shared::SharedReader;
use crate::key::CacheKey;
use crate::observe::Outcome;
use crate::observe::cache_status::digits;
use crate::semantics::PresentedRequest;
use crate::semantics::admission::{is_query, is_retrieval};
use crate::semantics::precondition::{self, Precondition};
use crate::semantics::range::{self, Selection};
use crate::semantics::reuse::Reuse;
use crate::semantics::vary::VariantKey;
use crate::store::CellKey;
use crate::store::entry::{StoredBody, StoredResponse};

/// By which two requests for the same may have different answers.
const SHAPING: [header::HeaderName; 6] = [
    header::RANGE,
    header::IF_RANGE,
    header::IF_NONE_MATCH,
    header::IF_MODIFIED_SINCE,
    header::IF_MATCH,
    header::IF_UNMODIFIED_SINCE,
];

/// The response, with the start of its body where the answer needs one, and its key if that is not the request's own;
/// `None` where that is not to be had.
pub(super) async fn take(
    shared: &Arc<Shared>,
    own: &CacheKey,
    parts: &request::Parts,
    mut held: Held,
    asked: &mut Asked,
) -> Option<(Arc<StoredResponse>, Option<Box<CacheKey>>)> {
    if held.response.body.is_loaded() {
        return Some((held.response, held.elsewhere));
    }
    if is_query(&parts.method) {
        // Nobody would look for it in memory.
        Arc::make_mut(&mut held.response).body.set_keeping(None);
    }
    let wanted = wanted(&PresentedRequest::of(parts), &held.response);
    let elsewhere = held.elsewhere.clone();
    open(shared, own, held, &wanted, asked).await.map(|stored| (stored, elsewhere))
}

/// Tells the store that a response was used, where that decides which of them go.
pub(super) fn note_use(shared: &Arc<Shared>, key: &CacheKey, variant: Option<VariantKey>) {
    if !shared.store.counts_use(CellKey { primary: key, variant }, shared.clock()) {
        return;
    }
    let Some(place) = shared.background.enter_last() else { return };
    let (shared, key) = (Arc::clone(shared), key.clone());
    place.begin("use", || async move {
        let noting = shared.store.note_use(CellKey { primary: &key, variant });
        // It is noted the next time.
        let _ = time::timeout(shared.config.store_write_timeout, noting).await;
    });
}

/// The parts of the body that the answer needs.
pub(super) fn wanted(request: &PresentedRequest<'_>, stored: &StoredResponse) -> Vec<Range<u64>> {
    let proceeds = is_retrieval(request.method)
        && precondition::evaluate(request, stored.status, &stored.headers) == Precondition::Proceed;
    match selection(request, stored) {
        Selection::Whole if proceeds => iter::once(0..stored.body.len()).collect(),
        Selection::Parts(parts) if proceeds => parts,
        _ => Vec::new(),
    }
}

fn selection(request: &PresentedRequest<'_>, stored: &StoredResponse) -> Selection {
    match *request.method {
        Method::GET => range::select(request.headers, stored.status, &stored.headers, stored.body.len()),
        _ => Selection::Whole,
    }
}

/// The answer, and maybe told already. What others have as well is likely to be asked for again.
pub(super) fn answer<R>(
    shared: &Arc<Shared>,
    own_key: Option<&CacheKey>,
    request: &PresentedRequest<'_>,
    stored: Arc<StoredResponse>,
    reuse: &Reuse,
) -> Response<CacheBody<R>> {
    let Some(key) = own_key.filter(|_| Arc::strong_count(&stored) > 1) else {
        return serve(shared, request, stored, reuse, Outcome::hit(reuse.ttl));
    };
    let mut response = tell(shared, key, request, (stored, None), reuse);
    if let Some(outcome) = response.extensions_mut().get_mut::<Outcome>() {
        outcome.is_told = true;
    }
    response
}

/// The answer, with what is told of it. Of those that are alike in one second the first two are made, and the others copied.
pub(super) fn tell<R>(
    shared: &Arc<Shared>,
    key: &CacheKey,
    request: &PresentedRequest<'_>,
    (stored, sent): (Arc<StoredResponse>, Option<StoredBody>),
    reuse: &Reuse,
) -> Response<CacheBody<R>> {
    let outcome = Outcome::hit(reuse.ttl);
    let is_plain = *request.method == Method::GET && !SHAPING.iter().any(|name| request.headers.contains_key(name));
    if is_plain && let Some(headers) = shared.told.get(&stored, reuse) {
        shared.counters.hits.increment();
        shared.meter.request(&outcome);
        outcome.record(stored.status);
        let body = sent.unwrap_or_else(|| stored.body.clone());
        let mut response = Response::new(CacheBody::stored(body, stored.trailers.clone()));
        (*response.status_mut(), *response.headers_mut()) = (stored.status, headers);
        conclude(outcome, &mut response);
        return response;
    }
    let again = is_plain.then(|| Arc::clone(&stored));
    let stored = match sent {
        Some(body) => Arc::new(StoredResponse { body, ..stored.as_ref().clone() }),
        None => stored,
    };
    let mut response = serve(shared, request, stored, reuse, outcome);
    Teller::new(Arc::clone(shared), key).tell(&mut response);
    if let Some(stored) = again {
        shared.told.note(&stored, reuse, response.headers());
    }
    response
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
    // The response is ours alone, unless it is kept in memory.
    let StoredResponse { status, mut headers, body, trailers, .. } = Arc::unwrap_or_clone(stored);
    // RFC 9111 §5.1, and §4: a response used without validation has an Age.
    headers.insert(header::AGE, digits(reuse.age.as_secs()));
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
    headers.insert(header::AGE, digits(reuse.age.as_secs()));
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
    let segments = match parts {
        [part] => {
            set(headers, header::CONTENT_RANGE, &content_range(part, length));
            vec![Segment::Part(part.clone())]
        }
        _ => {
            let boundary = format!("{:032x}", fastrand::u128(..));
            let content_type = headers.get(header::CONTENT_TYPE).cloned();
            set(headers, header::CONTENT_TYPE, &format!("multipart/byteranges; boundary={boundary}"));
            multipart(length, parts, &boundary, content_type.as_ref())
        }
    };
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(segments.iter().map(Segment::len).sum::<u64>()));
    (StatusCode::PARTIAL_CONTENT, CacheBody::parts(body, segments))
}

/// RFC 9110 §14.6.
fn multipart(length: u64, parts: &[Range<u64>], boundary: &str, content_type: Option<&HeaderValue>) -> Vec<Segment> {
    let mut segments = Vec::new();
    for part in parts {
        let mut head = format!("\r\n--{boundary}\r\n").into_bytes();
        if let Some(content_type) = content_type {
            head.extend_from_slice(b"Content-Type: ");
            head.extend_from_slice(content_type.as_bytes());
            head.extend_from_slice(b"\r\n");
        }
        head.extend_from_slice(format!("Content-Range: {}\r\n\r\n", content_range(part, length)).as_bytes());
        segments.push(Segment::Literal(head.into()));
        segments.push(Segment::Part(part.clone()));
    }
    segments.push(Segment::Literal(format!("\r\n--{boundary}--\r\n").into_bytes().into()));
    segments
}

fn content_range(part: &Range<u64>, length: u64) -> String {
    format!("bytes {}-{}/{length}", part.start, part.end - 1)
}

fn set(headers: &mut HeaderMap, name: header::HeaderName, value: &str) {
    headers.insert(name, HeaderValue::from_str(value).expect("digits and tokens make a field value"));
}
