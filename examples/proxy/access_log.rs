//! Logging: one line per request, and what the proxy itself has to say.
//!
//! Queries, cookies and header fields other than `Cache-Status` are not logged; they carry secrets.

use std::fmt::Display;
use std::path::Path;
use std::time::Duration;

use hyper::header::HeaderName;
use hyper::{HeaderMap, Request, Response};
use tower_http::classify::{ClassifiedResponse, ClassifyEos, ClassifyResponse, SharedClassifier};
use tower_http::trace::{MakeSpan, OnFailure, OnResponse, TraceLayer};
use tracing::Span;
use tracing_subscriber::Registry;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;

use crate::connection::Client;
use crate::log_place::LogPlace;

/// The target of access lines, for `--log access=off`.
const ACCESS: &str = "access";

const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// What goes into the log, and where it goes. Both can change.
#[derive(Debug)]
pub(crate) struct Logging {
    filter: reload::Handle<Targets, Registry>,
    place: LogPlace,
}

// ===== impl Logging =====

impl Logging {
    /// Starts logging.
    ///
    /// # Errors
    ///
    /// A sentence about what cannot be understood in `filter`, or written to.
    pub(crate) fn start(filter: &str, file: Option<&Path>) -> Result<Self, String> {
        let place = LogPlace::new(file)?;
        let (filter, handle) = reload::Layer::new(Self::filter(filter)?);
        let is_terminal = file.is_none() && std::io::IsTerminal::is_terminal(&std::io::stderr());
        let lines = tracing_subscriber::fmt::layer().with_writer(place.clone()).with_ansi(is_terminal);
        let started = tracing_subscriber::registry().with(filter).with(lines).try_init();
        started.map_err(|error| error.to_string())?;
        Ok(Self { filter: handle, place })
    }

    /// What a filter says.
    ///
    /// # Errors
    ///
    /// A sentence about what cannot be understood.
    pub(crate) fn filter(filter: &str) -> Result<Targets, String> {
        filter.parse().map_err(|error| format!("--log or RUST_LOG: {error}; write for example warn,access=info"))
    }

    pub(crate) fn change(&self, filter: Targets) -> Result<(), String> {
        self.filter.reload(filter).map_err(|error| error.to_string())
    }

    /// Goes on in the file that has the name now.
    pub(crate) fn reopen(&self) -> Result<(), String> {
        self.place.reopen()
    }
}

/// Names the request in every line that is written on its behalf.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RequestSpan;

/// Writes the access line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AccessLine;

/// Writes a line in place of the access line when the client leaves before there is a response.
#[derive(Debug)]
pub(crate) struct Departure {
    span: Option<Span>,
}

/// Says when a response broke off after its head.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BrokenTransfer;

/// Counts a response as failed when its body fails; a status needs no second line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WholeTransfer;

/// The layer of tower-http with our spans and lines.
pub(crate) type AccessLog =
    TraceLayer<SharedClassifier<WholeTransfer>, RequestSpan, (), AccessLine, (), (), BrokenTransfer>;

/// Writes one line per request.
pub(crate) fn layer() -> AccessLog {
    TraceLayer::new(SharedClassifier::new(WholeTransfer))
        .make_span_with(RequestSpan)
        .on_request(())
        .on_response(AccessLine)
        .on_body_chunk(())
        .on_eos(())
        .on_failure(BrokenTransfer)
}

// ===== impl RequestSpan =====

impl<B> MakeSpan<B> for RequestSpan {
    fn make_span(&mut self, request: &Request<B>) -> Span {
        let client = request.extensions().get::<Client>();
        tracing::info_span!(
            target: ACCESS,
            "request",
            client = client.map(|client| tracing::field::display(client.peer.address)),
            method = request.method().as_str(),
            // Escaped: what a terminal would obey must not come from the wire.
            path = %request.uri().path().escape_debug(),
        )
    }
}

// ===== impl AccessLine =====

impl<B> OnResponse<B> for AccessLine {
    fn on_response(self, response: &Response<B>, latency: Duration, _: &Span) {
        let cache = response.headers().get(CACHE_STATUS);
        let cache = cache.and_then(|value| value.to_str().ok()).unwrap_or("-");
        tracing::info!(
            target: ACCESS,
            status = response.status().as_u16(),
            cache,
            duration = ?latency,
        );
    }
}

// ===== impl Departure =====

impl Departure {
    /// Must be called within the request's span.
    pub(crate) fn watch() -> Self {
        Self { span: Some(Span::current()) }
    }

    /// There is a response, and so there is an access line.
    pub(crate) fn answered(&mut self) {
        self.span = None;
    }
}

impl Drop for Departure {
    fn drop(&mut self) {
        if let Some(span) = &self.span {
            span.in_scope(|| tracing::info!(target: ACCESS, "the client left before the response"));
        }
    }
}

// ===== impl WholeTransfer =====

impl ClassifyResponse for WholeTransfer {
    type FailureClass = String;
    type ClassifyEos = Self;

    fn classify_response<B>(self, _: &Response<B>) -> ClassifiedResponse<String, Self> {
        ClassifiedResponse::RequiresEos(self)
    }

    fn classify_error<E: Display>(self, error: &E) -> String {
        error.to_string()
    }
}

impl ClassifyEos for WholeTransfer {
    type FailureClass = String;

    fn classify_eos(self, _: Option<&HeaderMap>) -> Result<(), String> {
        Ok(())
    }

    fn classify_error<E: Display>(self, error: &E) -> String {
        error.to_string()
    }
}

// ===== impl BrokenTransfer =====

impl OnFailure<String> for BrokenTransfer {
    fn on_failure(&mut self, error: String, _: Duration, _: &Span) {
        tracing::warn!(target: ACCESS, error, "the response broke off");
    }
}
