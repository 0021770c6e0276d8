//! Errors: of the configuration, and of the store. Neither ever becomes an error of the user's service.

use std::error::Error;
use std::fmt;

/// A setting that makes no sense, found while the configuration is built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    setting: &'static str,
    reason: String,
}

/// Why the store gave no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum StoreErrorKind {
    /// There is no connection, or the circuit breaker is open.
    Unavailable,
    /// No answer within the deadline.
    Timeout,
    /// As many commands are in flight as may be.
    Busy,
    /// The server refuses writes for now: out of memory, read-only, or unable to persist.
    Full,
    /// The server wants other credentials or grants too few rights.
    Denied,
    /// The server is there but not ready: loading, busy with a script, or its cluster is down.
    NotReady,
    /// The answer was not what the protocol promises.
    Protocol,
    /// The server is of a kind that is not supported.
    Unsupported,
}

/// An error of the store. It is counted and shown in `Cache-Status`; the request goes on without the cache.
#[derive(Debug, Clone)]
pub(crate) struct StoreError {
    kind: StoreErrorKind,
    detail: Option<String>,
}

/// An error of a response body: that of the service's own body, whatever its type, or that a stored body could not be
/// read to its end.
#[derive(Debug)]
pub struct BodyError {
    inner: BoxError,
}

/// Any error.
pub(crate) type BoxError = Box<dyn Error + Send + Sync>;

// ===== impl ConfigError =====

impl ConfigError {
    pub(crate) fn new(setting: &'static str, reason: impl Into<String>) -> Self {
        Self { setting, reason: reason.into() }
    }

    /// The name of the setting.
    pub fn setting(&self) -> &'static str {
        self.setting
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.setting, self.reason)
    }
}

impl Error for ConfigError {}

// ===== impl StoreError =====

impl StoreErrorKind {
    /// The word for it in logs and metrics.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Unavailable => "unavailable",
            Self::Timeout => "timeout",
            Self::Busy => "busy",
            Self::Full => "full",
            Self::Denied => "denied",
            Self::NotReady => "not-ready",
            Self::Protocol => "protocol",
            Self::Unsupported => "unsupported",
        }
    }
}

impl StoreError {
    pub(crate) fn new(kind: StoreErrorKind) -> Self {
        Self { kind, detail: None }
    }

    pub(crate) fn with_detail(kind: StoreErrorKind, detail: impl Into<String>) -> Self {
        Self { kind, detail: Some(detail.into()) }
    }

    /// What went wrong.
    pub(crate) fn kind(&self) -> StoreErrorKind {
        self.kind
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.as_str())?;
        match &self.detail {
            Some(detail) => write!(f, ": {detail}"),
            None => Ok(()),
        }
    }
}

impl Error for StoreError {}

// ===== impl BodyError =====

impl BodyError {
    pub(crate) fn new(inner: impl Into<BoxError>) -> Self {
        Self { inner: inner.into() }
    }

    /// The service's own error, or a few words on what became of a stored body.
    pub fn into_inner(self) -> Box<dyn Error + Send + Sync> {
        self.inner
    }
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl Error for BodyError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.inner.source()
    }
}
