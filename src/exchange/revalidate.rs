//! What a reply to a validation request, or the lack of one, makes of the stored response (RFC 9111 §4.3.3, §4.3.4).

use std::sync::Arc;

use http::header::{self, HeaderValue};
use http::{HeaderMap, Method, Response, StatusCode, request, response};

use super::fill::Fill;
use super::forward::Sent;
use super::lookup::{self, Asked, Held};
use super::open::open;
use super::{Miss, Names, Shared, conclude, hit, prospect};
use crate::body::CacheBody;
use crate::clock::Stopwatch;
use crate::collapse::uncacheable::is_of_the_key;
use crate::key::CacheKey;
use crate::observe::{ForwardReason, Outcome};
use crate::semantics::PresentedRequest;
use crate::semantics::reuse::{Cause, Reuse, reuse_in_trouble, reuse_stale};
use crate::semantics::staleness::Trouble;
use crate::semantics::storing::{BodyLength, ReceivedHead, Refusal, Storability, storability};
use crate::semantics::validation::{
    Validated, ValidationRequest, contradicted_by_head, freshened, identified_by_head, supersedes, validated,
};
use crate::store::entry::StoredResponse;
use crate::store::{Store, select};

/// A stored response that may not be used as it is, if it can be of use at all: with the start of its body, so that one
/// that is not whole is found out before a 304 leaves nothing else to answer with. A start to be completed comes whole.
pub(super) async fn candidate(
    shared: &Arc<Shared>,
    own: &CacheKey,
    parts: &request::Parts,
    held: Option<Held>,
    asked: &mut Asked,
) -> Option<Arc<StoredResponse>> {
    let held = held?;
    let stored = &held.response;
    let of_use = ValidationRequest::of(&stored.headers).is_some() || !stored.freshness.stale.forbidden;
    match parts.method {
        Method::HEAD => Some(held.response),
        _ if of_use && stored.status == StatusCode::PARTIAL_CONTENT => lookup::load(shared, own, held, asked).await,
        _ if of_use => {
            let wanted = hit::wanted(&PresentedRequest::of(parts), stored);
            open(shared, own, held, &wanted, asked).await
        }
        _ => None,
    }
}

/// What the reply means for the stored response, if there is one.
pub(super) fn judge(sent: &Sent, head: &response::Parts) -> Option<(Arc<StoredResponse>, Validated)> {
    let stored = match head.status {
        StatusCode::NOT_MODIFIED if !sent.miss.variants.is_empty() => named_variant(sent, &head.headers),
        _ => sent.miss.stored.as_ref().filter(|stored| stored.status != StatusCode::PARTIAL_CONTENT),
    }?;
    let verdict = validated(&stored.headers, head.status, &head.headers);
    let asked = sent.validates || head.status != StatusCode::NOT_MODIFIED;
    asked.then(|| (Arc::clone(stored), verdict))
}

/// Whether a reply can be used: a 304 to the tags of several responses has to name one of them.
pub(super) fn fits<R>(sent: &Sent, reply: &Response<R>) -> bool {
    match &sent.miss.stored {
        _ if !sent.validates || reply.status() != StatusCode::NOT_MODIFIED => true,
        _ if !sent.miss.variants.is_empty() => named_variant(sent, reply.headers()).is_some(),
        Some(stored) => validated(&stored.headers, reply.status(), reply.headers()) == Validated::Freshen,
        None => true,
    }
}

/// §4.3.4: the stored response whose entity tag the 304 has.
fn named_variant<'a>(sent: &'a Sent, reply: &HeaderMap) -> Option<&'a Arc<StoredResponse>> {
    let tag = reply.get(header::ETAG)?;
    sent.miss.variants.iter().find(|stored| stored.headers.get(header::ETAG) == Some(tag))
}

/// The stored response, if it may be sent stale in this trouble. Those who wait for the same have one like it.
pub(super) fn stale_instead<R>(
    shared: &Shared,
    sent: &Sent,
    trouble: Trouble,
    status: Option<StatusCode>,
) -> Option<Response<CacheBody<R>>> {
    shared.failing.note(&sent.miss.key, trouble, shared.clock().now());
    let response = stale_for(shared, &sent.miss, &sent.parts, trouble, status);
    if let Some(flight) = &sent.flight
        && (response.is_some() || status.is_none())
    {
        flight.fail(trouble);
    }
    response
}

/// The same for a request whose trouble is another's.
pub(super) fn stale_for<R>(
    shared: &Shared,
    miss: &Miss,
    parts: &request::Parts,
    trouble: Trouble,
    status: Option<StatusCode>,
) -> Option<Response<CacheBody<R>>> {
    let (stored, request) = (miss.stored.as_ref()?, PresentedRequest::of(parts));
    let reuse = stand_in(shared, miss.names(), stored, &request, Cause::Own(trouble))?;
    shared.counters.stale_on_error.increment();
    let mut outcome = Outcome::forwarded(miss.reason).with_ttl(reuse.ttl).with_detail("stale-if-error");
    // RFC 9211 §2.3: the next hop's, and not that of who speaks in its place.
    outcome.forward_status = status.filter(|_| trouble != Trouble::Disconnected);
    Some(hit::serve(shared, &request, Arc::clone(stored), &reuse, outcome))
}

/// How a stored response is to be sent in place of a better one, if it is there and may be.
pub(super) fn stand_in(
    shared: &Shared,
    names: Names<'_>,
    stored: &StoredResponse,
    request: &PresentedRequest<'_>,
    cause: Cause,
) -> Option<Reuse> {
    let is_there = stored.body.is_at_hand() || *request.method == Method::HEAD;
    if names.are_purged(shared, stored) {
        return None;
    }
    reuse_in_trouble(request, &stored, cause, shared.clock().now(), &shared.config.rules).filter(|_| is_there)
}

/// 304: the stored response with the newer fields, written back and sent.
pub(super) fn freshen<R>(
    shared: &Arc<Shared>,
    sent: &Sent,
    stored: &StoredResponse,
    head: &response::Parts,
) -> Response<CacheBody<R>> {
    shared.counters.validated.increment();
    let headers = freshened_fields(shared, stored, &head.headers);
    let outcome = Outcome::forwarded(sent.miss.reason).with_status(head.status).having_validated();
    let (response, written) = rewrite(shared, sent, stored, headers);
    if !written {
        sent.decline();
    }
    let reuse = reuse_stale(&response.freshness, shared.clock().now());
    let outcome = if written { outcome.with_ttl(reuse.ttl).being_stored() } else { outcome };
    hit::serve(shared, &sent.request(), response, &reuse, outcome)
}

/// A 304 that does not speak of the stored response, from a service that cannot be asked again: the response is sent as
/// it is, unless it demands validation, of which this was none (§5.2.2.2).
pub(super) fn use_unchanged<R>(shared: &Shared, sent: &Sent, stored: Arc<StoredResponse>) -> Response<CacheBody<R>> {
    sent.decline();
    if stored.freshness.stale.forbidden || stored.freshness.always_validate {
        let mut refused = Response::new(CacheBody::empty());
        *refused.status_mut() = StatusCode::BAD_GATEWAY;
        let outcome = Outcome::forwarded(sent.miss.reason).with_status(StatusCode::NOT_MODIFIED);
        conclude(outcome.with_detail("validator-mismatch"), &mut refused);
        return refused;
    }
    let reuse = reuse_stale(&stored.freshness, shared.clock().now());
    let outcome = Outcome::forwarded(sent.miss.reason).with_status(StatusCode::NOT_MODIFIED).having_validated();
    hit::serve(shared, &sent.request(), stored, &reuse, outcome.with_detail("validator-mismatch"))
}

/// §4.3.5: what a 200 to a HEAD says of the stored response to GET.
pub(super) fn learn_from_head(shared: &Arc<Shared>, sent: &Sent, head: &response::Parts) {
    let Some(stored) = &sent.miss.stored else { return };
    if head.status != StatusCode::OK || stored.status != StatusCode::OK {
        return;
    }
    if contradicted_by_head(&stored.headers, stored.body.len(), &head.headers) {
        forget(shared, sent, None);
    } else if identified_by_head(&head.headers) {
        let headers = freshened_fields(shared, stored, &head.headers);
        rewrite(shared, sent, stored, headers);
    }
}

fn freshened_fields(shared: &Shared, stored: &StoredResponse, newer: &HeaderMap) -> HeaderMap {
    let mut newer = newer.clone();
    // RFC 9110 §6.6.1: a reply without Date has that of its reception.
    newer.entry(header::DATE).or_insert_with(|| {
        let date = shared.clock().now().to_http_date();
        HeaderValue::from_str(&date).expect("an HTTP-date is a field value")
    });
    freshened(&stored.headers, &newer)
}

/// Writes a stored response anew under other fields, if these let it be stored; otherwise what is stored ends.
fn rewrite(
    shared: &Arc<Shared>,
    sent: &Sent,
    stored: &StoredResponse,
    headers: HeaderMap,
) -> (Arc<StoredResponse>, bool) {
    let length = stored.body.len();
    let received = ReceivedHead {
        status: stored.status,
        headers: &headers,
        body_length: BodyLength { at_least: length, exactly: Some(length) },
        represents_target: false,
        request_time: sent.request_time,
        response_time: shared.clock().now(),
    };
    let now = Stopwatch::start();
    match storability(&sent.as_get(), &received, &sent.route, &shared.config.rules) {
        Storability::Store(_) if prospect::obstacle(shared, sent, now).is_some() => {
            (Arc::new(StoredResponse { headers, ..stored.clone() }), false)
        }
        Storability::Store(storable) => {
            let variant = storable.nominated.select(&sent.parts.headers);
            let tags = renewed_tags(shared, stored, &headers);
            let mut fill = Fill::new(shared, sent, &received, storable, variant, tags, now);
            if sent.miss.is_purged(shared) {
                // Purged since it was looked up, from a service that cannot be asked again: for this client alone.
                fill.stays_purged(&stored.label);
            }
            // What is withheld from the store is still this client's.
            let written = fill.rewrite(stored);
            (Arc::new(StoredResponse { headers, ..written.as_ref().clone() }), true)
        }
        Storability::Refuse(_) => {
            forget_if_refused(shared, sent, &received);
            (Arc::new(StoredResponse { headers, ..stored.clone() }), false)
        }
    }
}

/// The tags of a response with other fields than it had; where those cannot be read, it keeps those that it had.
fn renewed_tags(shared: &Shared, stored: &StoredResponse, headers: &HeaderMap) -> Box<[Box<str>]> {
    let (mut head, ()) = Response::new(()).into_parts();
    (head.status, head.headers) = (stored.status, headers.clone());
    shared.config.purges.tagger.tags(&head).unwrap_or_else(|_| stored.label.tags.clone())
}

/// A full response has come in place of the stored one. Where it may not be stored itself, nothing takes the old one's
/// place, and the old one would be sent for as long as it may be sent stale: it ends here. So it does not where the
/// client only wanted something fresher, and nobody asked whether what is stored is still right.
pub(super) fn replace(shared: &Arc<Shared>, sent: &Sent, head: &response::Parts, body_length: BodyLength) {
    let is_asked = sent.validates || sent.miss.reason == ForwardReason::Stale;
    if sent.parts.method == Method::HEAD || !is_asked || !supersedes(&sent.request(), head.status) {
        return;
    }
    let received = ReceivedHead {
        status: head.status,
        headers: &head.headers,
        body_length,
        represents_target: false,
        request_time: sent.request_time,
        response_time: shared.clock().now(),
    };
    forget_if_refused(shared, sent, &received);
}

/// A refusal for one client's sake, for its credentials or its no-store, is none of the others' business.
fn forget_if_refused(shared: &Arc<Shared>, sent: &Sent, received: &ReceivedHead<'_>) {
    let anonymous = PresentedRequest { method: &Method::GET, headers: &HeaderMap::new() };
    if let Storability::Refuse(refusal) = storability(&anonymous, received, &sent.route, &shared.config.rules) {
        forget(shared, sent, Some(refusal));
    }
}

/// Removes what is stored for the key, off the client's path. Where what came instead is for nobody else, nor will the
/// next be, all are told: the marker of the fetch itself may have found the old response in its place.
fn forget(shared: &Arc<Shared>, sent: &Sent, refusal: Option<Refusal>) {
    let Some(place) = shared.background.enter_first() else { return };
    let key = sent.miss.stored_under().clone();
    let marked = refusal.filter(|refusal| is_of_the_key(*refusal) && sent.miss.asked.epoch.is_none());
    let marked = marked.map(|_| sent.miss.key.clone());
    let shared = Arc::clone(shared);
    shared.order.invalidate(&key);
    place.begin("forget", || async move {
        let forgetting = async {
            select::invalidate(&shared.store, &key).await?;
            match &marked {
                Some(key) => shared.store.mark_uncacheable(key).await,
                None => Ok(()),
            }
        };
        // What cannot be removed in time ends by itself.
        let _ = tokio::time::timeout(shared.config.store_write_timeout, forgetting).await;
    });
}
