//! Whether an origin is well, by asking it from time to time.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use hyper::Request;
use hyper::header::{HeaderValue, USER_AGENT};
use hyper::http::uri::PathAndQuery;
use tokio::time::MissedTickBehavior;

use super::{Shared, head};
use crate::request_body::RequestBody;

/// Checks that go wrong one after the other until the origin counts as out of service; one that goes well ends it.
const STRIKES: u32 = 2;

/// What to ask, and how often. An answer has to be there before the next question.
#[derive(Clone, Debug)]
pub(crate) struct HealthCheck {
    pub(crate) path: PathAndQuery,
    pub(crate) interval: Duration,
}

/// What the last checks have found.
#[derive(Debug, Default)]
pub(crate) struct Health {
    is_down: AtomicBool,
}

// ===== impl Health =====

impl Health {
    pub(crate) fn is_down(&self) -> bool {
        self.is_down.load(Ordering::Relaxed)
    }
}

/// Asks as long as somebody has the origin.
pub(super) async fn look_after(origin: Weak<Shared>, check: HealthCheck) {
    let mut tick = tokio::time::interval(check.interval);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut strikes = 0;
    loop {
        tick.tick().await;
        let Some(origin) = origin.upgrade() else { return };
        match ask(&origin, &check).await {
            Ok(()) => {
                strikes = 0;
                if origin.health.is_down.swap(false, Ordering::Relaxed) {
                    tracing::info!(origin = %origin.settings.url, "the origin is in service again");
                }
            }
            Err(reason) => {
                strikes += 1;
                if strikes >= STRIKES && !origin.health.is_down.swap(true, Ordering::Relaxed) {
                    tracing::warn!(
                        origin = %origin.settings.url, reason,
                        "the origin is out of service by its health check; it is asked nothing else until that is well"
                    );
                }
            }
        }
    }
}

/// Anything but an error of the server will do: what the path is good for is the operator's knowledge.
async fn ask(origin: &Arc<Shared>, check: &HealthCheck) -> Result<(), String> {
    let mut request = Request::new(RequestBody::default());
    *request.uri_mut() = check.path.clone().into();
    request.headers_mut().insert(USER_AGENT, HeaderValue::from_static("tower-redis-cache health check"));
    head::address(&mut request, &origin.settings.url, origin.settings.host);
    match tokio::time::timeout(check.interval, origin.ask(origin.pool(), request)).await {
        Ok(Ok(response)) if response.status().is_server_error() => {
            Err(format!("status {}", response.status().as_u16()))
        }
        Ok(Ok(_)) => Ok(()),
        Ok(Err(failure)) => Err(failure.told()),
        Err(_) => Err("no answer until the next check was due".to_owned()),
    }
}
