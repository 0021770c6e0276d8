//! What is stored for a target ends when an unsafe request to it succeeds (RFC 9111 §4.4).

use std::sync::Arc;

use http::header;
use http::uri::Authority;
use http::{HeaderMap, Method, Request, Response, request};
use http_body::Body;
use tokio::runtime::Handle;
use tokio::time;
use tower_service::Service;

use super::forward::Sent;
use super::lookup::Asked;
use super::purge::Ending;
use super::{Miss, Shared, conclude, forward, search};
use crate::body::CacheBody;
use crate::error::BoxError;
use crate::key::{CacheKey, key_for};
use crate::observe::{ForwardReason, Outcome};
use crate::purge::PurgeMode;
use crate::purge::groups;
use crate::purge::label::Site;
use crate::purge::target::Member;
use crate::semantics::invalidation;

/// Forwards the request; if the answer is no error, invalidates before the client learns of it, so that whoever has
/// seen the answer does not read what was there before. The answer to a POST may be stored in its place.
pub(crate) async fn run_invalidating<S, Q, R>(
    shared: Arc<Shared>,
    mut service: S,
    key: CacheKey,
    parts: request::Parts,
    body: Q,
) -> Result<Response<CacheBody<R>>, S::Error>
where
    S: Service<Request<Q>, Response = Response<R>>,
    R: Body<Error: Into<BoxError>> + Send + 'static,
{
    shared.counters.bypasses.increment();
    let target = Target::of(&shared, &parts);
    let miss = Miss::of_nothing(key, ForwardReason::Method, Asked::nothing());
    // What was asked has more to it than the key of the GET that the response is for.
    let is_whole = shared.config.key.forwarded_uri(&parts).is_none();
    let mut sent = Sent::new(&shared, miss, &parts);
    let unanswered = Unanswered { shared: &shared, key: &sent.miss.key, is_answered: false };
    let response = service.call(Request::from_parts(parts, body)).await;
    unanswered.answered();
    let response = response?;
    drop(service);
    let invalidated = match invalidation::invalidates(response.status()) {
        true => {
            let targets = target.all(response.headers());
            invalidate(&shared, sent.miss.key.clone(), targets, response.headers()).await
        }
        false => true,
    };
    let is_representation = is_whole && response.status().is_success() && target.is_represented_by(response.headers());
    if invalidated && is_representation && sent.parts.method == Method::POST {
        sent.represents_target = true;
        sent.departure = shared.depart();
        let (head, body) = response.into_parts();
        return Ok(forward::answer(&shared, &sent, head, body).recorded_by_a_task());
    }
    let outcome = Outcome::forwarded(ForwardReason::Method).with_status(response.status());
    let mut response = response.map(CacheBody::passing);
    conclude(if invalidated { outcome } else { outcome.with_detail("not-invalidated") }, &mut response);
    Ok(response)
}

/// A request whose client may leave before the answer: the service may have done what it asks for all the same.
struct Unanswered<'a> {
    shared: &'a Arc<Shared>,
    key: &'a CacheKey,
    is_answered: bool,
}

impl Unanswered<'_> {
    fn answered(mut self) {
        self.is_answered = true;
    }
}

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        if self.is_answered {
            return;
        }
        self.shared.order.invalidate(self.key);
        let (Ok(runtime), Some(place)) = (Handle::try_current(), self.shared.background.enter_first()) else { return };
        let (shared, key) = (Arc::clone(self.shared), self.key.clone());
        place.begin_in(
            &runtime,
            "invalidate",
            Box::pin(async move {
                // What cannot be removed in time ends by itself.
                let ending = Ending { keys: vec![key], ..Ending::default() };
                ending.end(&shared, PurgeMode::Hard).await;
            }),
        );
    }
}

/// What an unsafe request was sent to, as a GET for it would be.
struct Target {
    parts: request::Parts,
    host: Option<Authority>,
}

impl Target {
    fn of(shared: &Shared, parts: &request::Parts) -> Self {
        let mut parts = parts.clone();
        parts.uri = search::target_of(shared, &parts);
        let host = parts.headers.get(header::HOST).and_then(|host| host.to_str().ok()?.parse().ok());
        Self { parts, host }
    }

    fn is_represented_by(&self, response: &HeaderMap) -> bool {
        invalidation::represents_target(&self.parts.uri, self.host.as_ref(), response)
    }

    /// The target, and what the response names besides it.
    fn all(&self, response: &HeaderMap) -> Vec<request::Parts> {
        let uris = invalidation::named_targets(&self.parts.uri, self.host.as_ref(), response);
        let named = uris.into_iter().map(|uri| {
            let mut parts = self.parts.clone();
            parts.uri = uri;
            parts
        });
        std::iter::once(self.parts.clone()).chain(named).collect()
    }
}

/// Whether all that the request ends has been ended, within the deadline for the store. That is a task of its own: it
/// does not end with the client's patience, nor with the client.
async fn invalidate(shared: &Arc<Shared>, key: CacheKey, targets: Vec<request::Parts>, response: &HeaderMap) -> bool {
    let mut keys = vec![key];
    let extractor = shared.config.key.as_ref();
    keys.extend(targets.iter().skip(1).filter_map(|parts| key_for(extractor, parts, parts.uri.clone())));
    for key in &keys {
        shared.order.invalidate(key);
        // Even if the store is away: in memory at least it ends.
        shared.store.forget_near(key);
    }
    if !shared.store.is_available() {
        return false;
    }
    let Some(place) = shared.background.enter_first() else { return false };
    let site = targets.first().map(|parts| Site::of(&parts.uri, &parts.headers)).unwrap_or_default();
    let groups = groups::invalidated(response).iter().map(|group| Member::group(&site, group)).collect();
    let (owned, ending) = (Arc::clone(shared), Ending { keys, members: groups, targets });
    let ending = place.begin("invalidate", || async move { ending.end(&owned, PurgeMode::Hard).await.is_complete() });
    matches!(time::timeout(shared.store_patience(), ending).await, Ok(Ok(Some(true))))
}
