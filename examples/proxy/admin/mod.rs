//! The operators' side: a listener of its own for health, metrics, purges, and a page that shows how the cache does.
//!
//! ```text
//! GET  /                          the page
//! GET  /healthz                   200 as long as the process runs
//! GET  /readyz                    200 as long as requests are taken, and how the store is
//! GET  /metrics                   all counts, for Prometheus
//! GET  /stats                     the same as JSON, with what the page shows
//! GET  /doctor                    what is well with the store and what is not
//! GET  /inspect?url=URL           what would be done with a request, and what is stored for it
//! POST /purge?url=URL             ends it; also tag=, prefix=HOST/PATH, everything; and mode=soft
//! PURGE /path (Host: HOST)        the same for one URL
//! ```

mod args;
mod guard;
mod history;
mod inspect;
mod metrics;
mod page;
mod purge;
mod stats;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tokio::net::TcpListener;
use tokio::time::MissedTickBehavior;
use tower_redis_cache::CacheHandle;

use crate::connection::ParserLimits;
use crate::listener::{Listener, ListenerLimits};
use crate::monitor::Timeouts;
use crate::routes::{Checked, Routes};
use crate::tls::Tls;
use crate::watch::Watch;
use crate::workers::Workers;
pub(crate) use args::AdminArgs;
use guard::Guard;
use history::History;

/// Operators and their tools are few.
const LIMITS: ListenerLimits = ListenerLimits {
    max_connections: 64,
    timeouts: Timeouts {
        header: Duration::from_secs(10),
        keep_alive: Duration::from_secs(75),
        idle: Duration::from_secs(60),
    },
    parser: ParserLimits { max_header_size: 32 * 1024, max_uri_size: 32 * 1024 },
};

/// What there is to look at.
#[derive(Debug)]
pub(crate) struct Sights {
    pub(crate) handle: CacheHandle,
    pub(crate) watch: Watch,
    /// Where the cache keeps what it stores, in words.
    pub(crate) kept_in: String,
    pub(crate) routes: Routes,
    pub(crate) origins: Vec<Checked>,
}

/// What the pages and the numbers are made of.
#[derive(Debug)]
pub(crate) struct Admin {
    sights: Sights,
    history: History,
    /// Where; nowhere without the argument for it.
    listening: Option<SocketAddr>,
    guard: RwLock<Guard>,
    is_leaving: AtomicBool,
}

// ===== impl Admin =====

impl Admin {
    /// # Errors
    ///
    /// A sentence about the argument to change.
    pub(crate) fn new(
        token_file: Option<&Path>,
        listening: Option<SocketAddr>,
        sights: Sights,
    ) -> Result<Arc<Self>, String> {
        let guard = RwLock::new(Guard::new(token_file, listening)?);
        let (history, is_leaving) = (History::default(), AtomicBool::new(false));
        Ok(Arc::new(Self { sights, history, listening, guard, is_leaving }))
    }

    /// Serves on `socket` until it is dropped.
    pub(crate) async fn serve(self: Arc<Self>, socket: TcpListener) {
        let samples = Arc::clone(&self).sample();
        let listener = Listener::new(LIMITS, Tls::default(), Workers::alone());
        let serving = listener.serve(socket, router(self), std::future::pending());
        tokio::join!(samples, serving);
    }

    /// The rule by this file, for where the listener is: that does not change.
    ///
    /// # Errors
    ///
    /// A sentence about the argument to change.
    pub(crate) fn guard_by(&self, token_file: Option<&Path>) -> Result<Guard, String> {
        Guard::new(token_file, self.listening)
    }

    /// Who may ask from now on.
    pub(crate) fn change_guard(&self, guard: Guard) {
        *self.guard.write().unwrap_or_else(PoisonError::into_inner) = guard;
    }

    pub(crate) fn listening(&self) -> Option<SocketAddr> {
        self.listening
    }

    /// Whether the listener has this port.
    fn is_at(&self, port: Option<u16>) -> bool {
        self.listening.map(|address| address.port()) == port
    }

    /// The proxy takes no new requests any more.
    pub(crate) fn leaves(&self) {
        self.is_leaving.store(true, Ordering::Release);
    }

    async fn sample(self: Arc<Self>) {
        let mut tick = tokio::time::interval(history::INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            self.history.note(history::Sample::of(&self.sights.handle.stats(), &self.sights.watch.seen()));
        }
    }
}

fn router(admin: Arc<Admin>) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/", get(page::page))
        .route("/page.css", get(page::style))
        .route("/page.js", get(page::script))
        .route("/metrics", get(metrics::metrics))
        .route("/stats", get(stats::stats))
        .route("/doctor", get(doctor))
        .route("/inspect", get(inspect::inspect))
        .route("/purge", post(purge::by_query))
        .fallback(unknown)
        // Before the routes: the method goes with any path.
        .layer(middleware::from_fn_with_state(Arc::clone(&admin), purge_method))
        .layer(middleware::from_fn_with_state(Arc::clone(&admin), guard::check))
        .with_state(admin)
}

async fn purge_method(State(admin): State<Arc<Admin>>, request: Request, next: Next) -> Response {
    match request.method().as_str() {
        "PURGE" => purge::by_method(&admin, request).await,
        _ => next.run(request).await,
    }
}

async fn readyz(State(admin): State<Arc<Admin>>) -> Response {
    if admin.is_leaving.load(Ordering::Acquire) {
        return (StatusCode::SERVICE_UNAVAILABLE, "shutting down\n").into_response();
    }
    // Without its store a cache lets requests pass: that is no reason to send them elsewhere.
    match admin.sights.handle.ready().await {
        true => "ok\n",
        false => "ok, uncached: the store does not answer\n",
    }
    .into_response()
}

async fn doctor(State(admin): State<Arc<Admin>>) -> String {
    admin.sights.handle.doctor().await.to_string()
}

async fn unknown(method: Method) -> Response {
    let known = "there are /, /healthz, /readyz, /metrics, /stats, /doctor, /inspect and /purge\n";
    match method {
        Method::GET | Method::HEAD | Method::POST => (StatusCode::NOT_FOUND, known).into_response(),
        _ => (StatusCode::METHOD_NOT_ALLOWED, [(header::ALLOW, "GET, HEAD, POST, PURGE")], known).into_response(),
    }
}
