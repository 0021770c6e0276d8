//! A request goes on to the service when its turn has come: the service has no more at one time than it may.
//!
//! What is bounded is what the service is at work on: the permit is held until the body of its response has ended or been
//! let go, as far as that passes or is recorded here.

use std::sync::Arc;
use std::time::Duration;

use http::header::{self, HeaderValue};
use http::{Request, Response, StatusCode, request};
use http_body::Body;
use tokio::sync::oneshot;
use tower_service::Service;

use super::flight::FlightGuard;
use super::forward::{self, Answered};
use super::{Miss, Shared, conclude, hit, revalidate};
use crate::body::CacheBody;
use crate::collapse::permits::Admission;
use crate::error::BoxError;
use crate::observe::Outcome;
use crate::semantics::PresentedRequest;
use crate::semantics::reuse::Cause;
use crate::semantics::staleness::Trouble;

/// Resolves when the client for which a task fetches has left.
pub(super) type ClientLeft = oneshot::Receiver<()>;

/// What has become of a turn.
enum Turn {
    Come(Admission),
    /// The client has left the queue, and nobody waits with it.
    Left,
}

/// Forwards the request when its turn comes, or answers it without the service.
pub(super) async fn forward<S, Q, R>(
    shared: Arc<Shared>,
    service: S,
    mut miss: Box<Miss>,
    parts: request::Parts,
    body: Q,
    flight: Option<FlightGuard>,
    client: Option<ClientLeft>,
) -> Result<Answered<R>, S::Error>
where
    S: Service<Request<Q>, Response = Response<R>>,
    Q: 'static,
    R: Body<Error: Into<BoxError>> + Send + 'static,
{
    let turn = match shared.permits.try_enter() {
        Admission::Granted(permit) => Turn::Come(Admission::Granted(permit)),
        // In a box of its own, as what most do not wait for.
        Admission::Busy => {
            miss.sets_out = None;
            Box::pin(turn(&shared, client, flight.as_ref())).await
        }
    };
    match turn {
        Turn::Come(Admission::Granted(permit)) => {
            forward::forward(shared, service, miss, parts, body, flight, permit).await
        }
        Turn::Come(Admission::Busy) => {
            if let Some(flight) = &flight {
                flight.fail(Trouble::Busy);
            }
            Ok(Answered::alone(refused(&shared, &miss, &parts)))
        }
        // Nobody will read it.
        Turn::Left => Ok(Answered::alone(unavailable(&shared))),
    }
}

async fn turn(shared: &Shared, client: Option<ClientLeft>, flight: Option<&FlightGuard>) -> Turn {
    tokio::select! {
        biased;
        admission = shared.permits.enter(shared.config.origin.fetch_queue_timeout) => Turn::Come(admission),
        () = left(client, flight) => Turn::Left,
    }
}

/// The stored response where it may be sent in place of a better one; otherwise 503.
pub(super) fn refused<R>(shared: &Shared, miss: &Miss, parts: &request::Parts) -> Response<CacheBody<R>> {
    shared.counters.origin_busy.increment();
    let request = PresentedRequest::of(parts);
    let stand_in = miss.stored.as_ref().and_then(|stored| {
        let reuse = revalidate::stand_in(shared, miss.names(), stored, &request, Cause::Own(Trouble::Busy))?;
        let outcome = Outcome::hit(reuse.ttl).with_detail(DETAIL);
        Some(hit::serve(shared, &request, Arc::clone(stored), &reuse, outcome))
    });
    stand_in.unwrap_or_else(|| unavailable(shared))
}

const DETAIL: &str = "origin-busy";

/// RFC 9110 §15.6.4, §10.2.3.
fn unavailable<R>(shared: &Shared) -> Response<CacheBody<R>> {
    let patience = shared.config.origin.fetch_queue_timeout.max(Duration::from_secs(1));
    let mut response = Response::new(CacheBody::empty());
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(patience.as_secs()));
    conclude(Outcome::unanswered(DETAIL), &mut response);
    response
}

/// For a client that still waited when the time for draining was over.
pub(super) fn stopped<R>() -> Response<CacheBody<R>> {
    let mut response = Response::new(CacheBody::empty());
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    conclude(Outcome::unanswered("drained"), &mut response);
    response
}

/// Those who follow a flight wait in the place of a client that has left it.
async fn left(client: Option<ClientLeft>, flight: Option<&FlightGuard>) {
    let Some(client) = client else { return std::future::pending().await };
    let _ = client.await;
    if flight.is_some_and(|flight| flight.followers() > 0) {
        std::future::pending().await
    }
}
