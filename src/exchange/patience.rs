//! What a client gets that need not wait for a service that is slow, or fails: a stale response, if it may be sent.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Method, Request, Response, request};
use http_body::Body;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time;
use tower_service::Service;

use super::background::Place;
use super::collapse::Landing;
use super::forward::{Answered, Sent, UNAWAITED_LIMIT};
use super::{Miss, Names, Shared, busy, hit, revalidate};
use crate::body::CacheBody;
use crate::clock::Stopwatch;
use crate::collapse::failing::{Attempt, Bearable, Failure};
use crate::collapse::flight::Follower;
use crate::error::BoxError;
use crate::key::CacheKey;
use crate::observe::{ForwardReason, Outcome};
use crate::semantics::PresentedRequest;
use crate::semantics::reuse::Cause;
use crate::semantics::staleness::Trouble;
use crate::store::Store;
use crate::store::entry::StoredResponse;

/// A stored response that may turn out to be better than waiting, and the request that it would answer.
#[derive(Debug)]
pub(super) struct Standby {
    limit: Duration,
    shared: Arc<Shared>,
    stored: Arc<StoredResponse>,
    names: [Option<CacheKey>; 3],
    reason: ForwardReason,
    method: Method,
    headers: HeaderMap,
}

/// A stale response where the service failed for the same key a moment ago, and it is not yet time to try it again.
pub(super) fn after_failure<R>(shared: &Shared, miss: &Miss, parts: &request::Parts) -> Option<Response<CacheBody<R>>> {
    miss.stored.as_ref()?;
    match shared.failing.attempt(&miss.key, shared.clock().now()) {
        Attempt::Due => None,
        Attempt::Later(trouble) => back_off(shared, miss, parts, trouble),
    }
}

/// The same where another process was failed. This one remembers it.
pub(super) fn after_failure_elsewhere<R>(
    shared: &Shared,
    miss: &Miss,
    parts: &request::Parts,
    failure: Failure,
) -> Option<Response<CacheBody<R>>> {
    shared.failing.hear(&miss.key, failure, shared.clock().now());
    back_off(shared, miss, parts, failure.trouble)
}

fn back_off<R>(
    shared: &Shared,
    miss: &Miss,
    parts: &request::Parts,
    trouble: Trouble,
) -> Option<Response<CacheBody<R>>> {
    let (request, stored) = (PresentedRequest::of(parts), miss.stored.as_ref()?);
    let reuse = revalidate::stand_in(shared, miss.names(), stored, &request, Cause::Others(trouble))?;
    shared.counters.backed_off.increment();
    let outcome = Outcome::hit(reuse.ttl).with_detail("stale-if-error");
    Some(hit::serve(shared, &request, Arc::clone(stored), &reuse, outcome))
}

/// The service is well again. The other processes learn it from what is written under the lease, or from this.
pub(super) fn has_answered(shared: &Arc<Shared>, sent: &Sent) {
    let has_lease = sent.flight.as_ref().is_some_and(|flight| flight.lease().is_some());
    if !shared.failing.forget(&sent.miss.key) || has_lease {
        return;
    }
    let Some(place) = shared.background.enter_first() else { return };
    let (shared, key) = (Arc::clone(shared), sent.miss.key.clone());
    place.begin("recovery", || async move {
        // What cannot be removed in time ends by itself.
        let _ = time::timeout(shared.config.store_write_timeout, shared.store.forget_failure(&key)).await;
    });
}

/// The failures of others for which the request has a stale response.
pub(super) fn bearable(shared: &Shared, miss: &Miss, parts: &request::Parts) -> Bearable {
    let request = PresentedRequest::of(parts);
    let bears = |trouble| {
        miss.stored.as_ref().is_some_and(|stored| {
            revalidate::stand_in(shared, miss.names(), stored, &request, Cause::Others(trouble)).is_some()
        })
    };
    Bearable { error_status: bears(Trouble::ErrorStatus), disconnected: bears(Trouble::Disconnected) }
}

// ===== impl Standby =====

impl Standby {
    /// `None` where there is no soft time-out, or nothing to send at its end.
    pub(super) fn of(shared: &Arc<Shared>, miss: &Miss, parts: &request::Parts) -> Option<Box<Self>> {
        Some(Box::new(Self {
            limit: shared.config.origin.soft_timeout?,
            shared: Arc::clone(shared),
            stored: miss.stored.clone()?,
            names: miss.names().0.map(Option::<&CacheKey>::cloned),
            reason: miss.reason,
            method: parts.method.clone(),
            headers: parts.headers.clone(),
        }))
    }

    async fn or_answer<R, E>(
        self: Box<Self>,
        since: Stopwatch,
        mut answer: oneshot::Receiver<Result<Response<CacheBody<R>>, E>>,
    ) -> Result<Result<Response<CacheBody<R>>, E>, oneshot::error::RecvError> {
        match time::timeout(self.limit.saturating_sub(since.elapsed()), &mut answer).await {
            Ok(answered) => answered,
            Err(_) => match self.answer() {
                Some(response) => Ok(Ok(response)),
                None => answer.await,
            },
        }
    }

    fn answer<R>(&self) -> Option<Response<CacheBody<R>>> {
        let request = PresentedRequest { method: &self.method, headers: &self.headers };
        while_slow(&self.shared, Names(self.names.each_ref().map(Option::as_ref)), &self.stored, &request, self.reason)
    }
}

/// The answer of the task that fetches, or at the end of the soft time-out something to send instead.
pub(super) async fn answer<R, E>(
    standby: Option<Box<Standby>>,
    since: Stopwatch,
    answer: oneshot::Receiver<Result<Response<CacheBody<R>>, E>>,
    task: JoinHandle<Option<()>>,
) -> Result<Response<CacheBody<R>>, E> {
    let answered = match standby {
        None => answer.await,
        Some(standby) => Box::pin(standby.or_answer(since, answer)).await,
    };
    match answered {
        Ok(response) => response,
        Err(_) => match task.await {
            // The service's panic is the caller's, as it is without a cache.
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            // The runtime is shutting down, and nobody will be asked for more.
            Err(_) => std::future::pending().await,
            Ok(_) => Ok(busy::stopped()),
        },
    }
}

/// A fetch for one client alone, which goes on when the client has gone with a stale response.
pub(super) async fn go_alone<S, Q, R>(
    service: S,
    miss: Box<Miss>,
    parts: request::Parts,
    body: Q,
    (standby, place, since): (Box<Standby>, Place, Stopwatch),
) -> Result<Response<CacheBody<R>>, S::Error>
where
    S: Service<Request<Q>, Response = Response<R>> + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
    Q: Body + Send + 'static,
    R: Body<Error: Into<BoxError>> + Send + 'static,
{
    let ((mut reply, answering), (_client, client_left)) = (oneshot::channel(), oneshot::channel());
    let shared = Arc::clone(&standby.shared);
    let fetching = || async move {
        let deserted = async {
            reply.closed().await;
            time::sleep(UNAWAITED_LIMIT).await;
        };
        let fetched = tokio::select! {
            biased;
            fetched = busy::forward(shared, service, miss, parts, body, None, Some(client_left)) => fetched,
            () = deserted => return,
        };
        // Whoever asked may have left.
        let _ = reply.send(fetched.map(Answered::recorded_by_a_task));
    };
    let task = place.begin("fetch", fetching);
    answer(Some(standby), since, answering, task).await
}

/// The same for a request that waits for another's fetch; `None` when there is news of that.
pub(super) async fn instead_of_news<R>(
    shared: &Shared,
    miss: &Miss,
    parts: &request::Parts,
    follower: &mut Follower<Landing>,
    since: Stopwatch,
) -> Option<Response<CacheBody<R>>> {
    let (limit, stored) = (shared.config.origin.soft_timeout?, miss.stored.as_ref()?);
    match time::timeout(limit.saturating_sub(since.elapsed()), follower.news()).await {
        Ok(_) => None,
        Err(_) => while_slow(shared, miss.names(), stored, &PresentedRequest::of(parts), miss.reason),
    }
}

fn while_slow<R>(
    shared: &Shared,
    names: Names<'_>,
    stored: &Arc<StoredResponse>,
    request: &PresentedRequest<'_>,
    reason: ForwardReason,
) -> Option<Response<CacheBody<R>>> {
    let reuse = revalidate::stand_in(shared, names, stored, request, Cause::Own(Trouble::Slow))?;
    shared.counters.stale_while_slow.increment();
    let outcome = Outcome::forwarded(reason).with_ttl(reuse.ttl).with_detail("stale-while-slow");
    Some(hit::serve(shared, request, Arc::clone(stored), &reuse, outcome))
}
