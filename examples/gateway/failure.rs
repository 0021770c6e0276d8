//! The ways in which fetching fails, and what the client is told. Addresses stay in the log.

use std::error::Error;
use std::io;

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Response, StatusCode};
use hyper_util::client::legacy::Error as PoolError;
use tower_redis_cache::Disconnected;

use crate::connect::ConnectTimedOut;
use crate::connector::RefusedAddress;
use crate::refusal::Refusal;

/// Why there is no response from an origin.
#[derive(Debug)]
pub(crate) enum Failure {
    /// An address that may not be dialled; what it is.
    RefusedAddress(&'static str),
    /// A redirect that is not followed, and why.
    Redirect(String),
    /// So many redirects, and one more.
    TooManyRedirects(usize),
    /// The answer says that it is longer than this.
    TooLarge(u64),
    /// The key is bound to another URL.
    Conflict,
    Unreachable,
    ConnectTimedOut,
    /// No response head in time.
    NoAnswer,
    /// The connection broke before a response head.
    Broken,
    /// What came was not HTTP.
    Nonsense,
}

// ===== impl Failure =====

impl Failure {
    pub(crate) fn of(error: &PoolError) -> Self {
        let causes = || std::iter::successors(Some(error as &(dyn Error + 'static)), |&error| error.source());
        let texts: Vec<String> = causes().map(ToString::to_string).collect();
        tracing::warn!(cause = texts.join(": "), "an origin could not be asked");
        let refused = causes().find_map(|cause| cause.downcast_ref::<RefusedAddress>());
        let timed_out = causes().any(|cause| {
            let system = cause.downcast_ref::<io::Error>();
            cause.is::<ConnectTimedOut>() || system.is_some_and(|error| error.kind() == io::ErrorKind::TimedOut)
        });
        let nonsense = causes().any(|cause| cause.downcast_ref().is_some_and(hyper::Error::is_parse));
        match refused {
            Some(refused) => Self::RefusedAddress(refused.class),
            None if error.is_connect() && timed_out => Self::ConnectTimedOut,
            None if error.is_connect() => Self::Unreachable,
            None if nonsense => Self::Nonsense,
            None => Self::Broken,
        }
    }

    pub(crate) fn answer(&self) -> Response<Full<Bytes>> {
        let mut answer = self.refusal().answer();
        if matches!(self, Self::Unreachable | Self::ConnectTimedOut | Self::NoAnswer | Self::Broken) {
            answer.extensions_mut().insert(Disconnected);
        }
        answer
    }

    fn refusal(&self) -> Refusal {
        let bad = |reason: &str| Refusal::new(StatusCode::BAD_GATEWAY, reason);
        let late = |reason| Refusal::new(StatusCode::GATEWAY_TIMEOUT, reason);
        match self {
            Self::RefusedAddress(class) => {
                bad(&format!("the host is at {class}, which is not on the list of addresses that may be asked"))
            }
            Self::Redirect(reason) => bad(&format!("the origin redirects to a place that {reason}")),
            Self::TooManyRedirects(most) => bad(&format!("the origin redirects more than {most} times")),
            Self::TooLarge(most) => bad(&format!("the answer is longer than {most} octets")),
            Self::Conflict => Refusal::new(
                StatusCode::CONFLICT,
                "the key belongs to another URL, or to the same with other parameters; choose another key",
            ),
            Self::Unreachable => bad("the origin cannot be reached"),
            Self::ConnectTimedOut => late("the origin could not be reached in time"),
            Self::NoAnswer => late("the origin did not answer in time"),
            Self::Broken => bad("the origin closed the connection without an answer"),
            Self::Nonsense => bad("the origin's answer is not valid"),
        }
    }
}
