//! The ways in which forwarding fails, and what the client is told.

use std::error::Error;
use std::io;

use hyper::StatusCode;
use hyper_util::client::legacy::Error as PoolError;

use tower_redis_cache::Disconnected;

use crate::answer::{Answer, Refusal};
use crate::connect::ConnectTimedOut;
use crate::origin_url::OriginUrl;

/// Response extension: the origin has not been asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unasked;

/// Why there is no response from the origin.
#[derive(Debug)]
pub(super) enum Failure {
    /// No connection: refused, unreachable, unknown name, TLS.
    Unreachable(PoolError),
    /// No connection in time.
    ConnectTimedOut,
    /// A connection, but no response head in time.
    NoAnswer,
    /// The connection broke before a response head.
    Broken(PoolError),
    /// What came was not HTTP.
    Nonsense(PoolError),
    /// `101 Switching Protocols` to a request that did not ask for it, or to another protocol.
    UnaskedSwitch,
    /// Its health check says so.
    OutOfService,
    /// The client did not send the rest of its body.
    ClientStalled,
    /// The client broke off inside its body.
    ClientLeft,
}

// ===== impl Failure =====

impl Failure {
    /// For clients: no detail of the origin.
    fn reason(&self) -> (StatusCode, &'static str) {
        match self {
            Self::Unreachable(_) => (StatusCode::BAD_GATEWAY, "the origin cannot be reached"),
            Self::ConnectTimedOut => (StatusCode::GATEWAY_TIMEOUT, "the origin could not be reached in time"),
            Self::NoAnswer => (StatusCode::GATEWAY_TIMEOUT, "the origin did not answer in time"),
            Self::Broken(_) => (StatusCode::BAD_GATEWAY, "the origin closed the connection without an answer"),
            Self::Nonsense(_) | Self::UnaskedSwitch => (StatusCode::BAD_GATEWAY, "the origin's answer is not valid"),
            Self::OutOfService => (StatusCode::SERVICE_UNAVAILABLE, "the origin is out of service"),
            Self::ClientStalled => (StatusCode::REQUEST_TIMEOUT, "the rest of the request did not come in time"),
            Self::ClientLeft => (StatusCode::BAD_REQUEST, "the request broke off"),
        }
    }

    /// For operators: with all that is known.
    pub(super) fn told(&self) -> String {
        let (_, reason) = self.reason();
        self.cause().map_or_else(|| reason.to_owned(), |cause| format!("{reason}: {cause}"))
    }

    /// The answer in place of the origin's. The log gets the details, the client does not.
    pub(super) fn answer(&self, origin: &OriginUrl) -> Answer {
        let (status, reason) = self.reason();
        match self {
            // Of an origin out of service the check has told.
            Self::ClientStalled | Self::ClientLeft | Self::OutOfService => tracing::debug!("{reason}"),
            _ => tracing::warn!(%origin, cause = self.cause(), "{reason}"),
        }
        let mut answer = Refusal::new(status, reason).answer();
        let is_away = matches!(self, Self::Unreachable(_) | Self::ConnectTimedOut | Self::NoAnswer | Self::Broken(_));
        if is_away || matches!(self, Self::OutOfService) {
            answer.extensions_mut().insert(Disconnected);
        }
        if matches!(self, Self::OutOfService) {
            answer.extensions_mut().insert(Unasked);
        }
        answer
    }

    /// All that is known, from the outermost error to the innermost.
    fn cause(&self) -> Option<String> {
        let (Self::Unreachable(error) | Self::Broken(error) | Self::Nonsense(error)) = self else {
            return None;
        };
        let texts: Vec<String> = chain(error).map(ToString::to_string).collect();
        Some(texts.join(": "))
    }
}

impl From<PoolError> for Failure {
    fn from(error: PoolError) -> Self {
        let timed_out = chain(&error).any(timed_out);
        let nonsense = chain(&error).any(not_http);
        match (error.is_connect(), timed_out, nonsense) {
            (true, true, _) => Self::ConnectTimedOut,
            (true, false, _) => Self::Unreachable(error),
            (false, _, true) => Self::Nonsense(error),
            (false, _, false) => Self::Broken(error),
        }
    }
}

fn not_http(cause: &(dyn Error + 'static)) -> bool {
    let cause: Option<&hyper::Error> = cause.downcast_ref();
    cause.is_some_and(hyper::Error::is_parse)
}

/// Whether our deadline or the system's own ended the attempt.
fn timed_out(cause: &(dyn Error + 'static)) -> bool {
    let system = cause.downcast_ref::<io::Error>();
    cause.is::<ConnectTimedOut>() || system.is_some_and(|e| e.kind() == io::ErrorKind::TimedOut)
}

/// `error` and everything that caused it.
fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}
