//! What an error of Redis or of the way there means for us. Each class is mapped on purpose.

use redis::{ErrorKind, RedisError, ServerErrorKind};

use super::link::LinkSettings;
use crate::error::{StoreError, StoreErrorKind};

/// An error, and what it says of the connection.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) error: StoreError,
    pub(crate) verdict: Verdict,
    pub(crate) redirect: Option<Redirect>,
}

/// Another node of a cluster is to be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Redirect {
    /// Where no host is named, it is that of the node that says so.
    pub(crate) host: String,
    pub(crate) port: u16,
    /// This once: the slot is on its way there.
    pub(crate) once: bool,
}

/// What to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The connection is of no more use: stop asking and build a new one.
    Replace,
    /// The server may recover by itself: count it.
    Count,
    /// The server takes no writes for now; reads go on.
    PauseWrites,
    /// The same, and another server may have taken over: look for it meanwhile.
    PauseWritesAndReplace,
    /// This command is not granted.
    NotGranted,
    /// The server does not know this script yet.
    NoScript,
    /// The key is with another node of a cluster, or on its way there; this one is well.
    Elsewhere,
    /// The key holds another type than a string: somebody else's.
    ForeignType,
}

const NOT_SERVED: &str = "Hash slot not served";

impl Failure {
    /// An error that says nothing new about the server.
    pub(crate) fn ignored(error: StoreError) -> Self {
        Self { error, verdict: Verdict::Count, redirect: None }
    }

    /// A node of a cluster that has other keys answers as well as any.
    pub(crate) fn is_of_well_node(&self, settings: &LinkSettings) -> bool {
        settings.is_of_cluster && self.verdict == Verdict::Elsewhere
    }
}

impl From<&RedisError> for Failure {
    fn from(error: &RedisError) -> Self {
        let (kind, verdict) = classify(error);
        // The server's code is safe to show; the detail may quote what was sent.
        let detail = error.code().unwrap_or_else(|| error.category()).to_owned();
        Self { error: StoreError::with_detail(kind, detail), verdict, redirect: Redirect::of(error) }
    }
}

impl Redirect {
    fn of(error: &RedisError) -> Option<Self> {
        let (node, _) = error.redirect_node()?;
        // A question mark stands for a node that has no name.
        let (host, port) = node.rsplit_once(':').filter(|(host, _)| *host != "?")?;
        let once = error.kind() == ErrorKind::Server(ServerErrorKind::Ask);
        Some(Self { host: host.to_owned(), port: port.parse().ok()?, once })
    }
}

fn classify(error: &RedisError) -> (StoreErrorKind, Verdict) {
    match error.kind() {
        ErrorKind::Io => (StoreErrorKind::Unavailable, Verdict::Replace),
        ErrorKind::Parse | ErrorKind::UnexpectedReturnType => (StoreErrorKind::Protocol, Verdict::Replace),
        ErrorKind::AuthenticationFailed => (StoreErrorKind::Denied, Verdict::Replace),
        // Of a cluster that does without some of its slots: the others are served.
        ErrorKind::Server(ServerErrorKind::ClusterDown)
            if error.detail().is_some_and(|detail| detail == NOT_SERVED) =>
        {
            (StoreErrorKind::NotReady, Verdict::Elsewhere)
        }
        ErrorKind::Server(kind) => classify_server(kind, error.code().unwrap_or_default()),
        ErrorKind::Extension => classify_code(error.code().unwrap_or_default()),
        _ => (StoreErrorKind::Protocol, Verdict::Replace),
    }
}

fn classify_server(kind: ServerErrorKind, code: &str) -> (StoreErrorKind, Verdict) {
    match kind {
        ServerErrorKind::ReadOnly => (StoreErrorKind::Full, Verdict::PauseWritesAndReplace),
        ServerErrorKind::NoScript => (StoreErrorKind::Protocol, Verdict::NoScript),
        ServerErrorKind::NoPerm => (StoreErrorKind::Denied, Verdict::NotGranted),
        ServerErrorKind::TryAgain => (StoreErrorKind::NotReady, Verdict::Elsewhere),
        ServerErrorKind::BusyLoading | ServerErrorKind::ClusterDown | ServerErrorKind::MasterDown => {
            (StoreErrorKind::NotReady, Verdict::Count)
        }
        ServerErrorKind::Moved | ServerErrorKind::Ask => (StoreErrorKind::Unsupported, Verdict::Elsewhere),
        _ => classify_code(code),
    }
}

/// Codes that redis-rs has no kind for.
fn classify_code(code: &str) -> (StoreErrorKind, Verdict) {
    match code {
        "OOM" | "MISCONF" | "NOREPLICAS" => (StoreErrorKind::Full, Verdict::PauseWrites),
        "NOAUTH" | "WRONGPASS" => (StoreErrorKind::Denied, Verdict::Replace),
        "WRONGTYPE" => (StoreErrorKind::Protocol, Verdict::ForeignType),
        "BUSY" => (StoreErrorKind::NotReady, Verdict::Count),
        _ => (StoreErrorKind::Protocol, Verdict::Count),
    }
}

/// What helps, for the one line in the log.
pub(crate) fn cure(error: &StoreError) -> &'static str {
    match error.kind() {
        StoreErrorKind::Unavailable => "check that the server runs and can be reached",
        StoreErrorKind::Timeout => "the server does not answer in time: check its load, or raise store_timeout",
        StoreErrorKind::Busy => "more look-ups are in flight than a connection takes",
        StoreErrorKind::Full => {
            "out of memory: raise maxmemory, or set maxmemory-policy allkeys-lfu (a cache of its own) or volatile-lfu \
             (shared); read-only: point the URL at the primary; persistence failing: see the server's log"
        }
        StoreErrorKind::Denied => {
            "check user and password in the URL, and that GET, GETRANGE, SET and UNLINK are granted, in a cluster also \
             CLUSTER SLOTS"
        }
        StoreErrorKind::Unsupported => "the server is a node of a Redis Cluster: write redis+cluster://host:port",
        StoreErrorKind::NotReady => "the server is loading or busy; nothing to do",
        StoreErrorKind::Protocol => {
            "check that the address is that of a Redis server, and of a node of a cluster where redis+cluster:// is written"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_reply(code: &str) -> (StoreErrorKind, Verdict) {
        let reply = format!("-{code} some words\r\n");
        let value = redis::parse_redis_value(reply.as_bytes()).expect("a reply");
        classify(&value.extract_error().expect_err("an error reply"))
    }

    #[test]
    fn a_slot_that_nobody_has_says_nothing_of_the_others() {
        let verdict = |words: &str| {
            let reply = format!("-CLUSTERDOWN {words}\r\n");
            let value = redis::parse_redis_value(reply.as_bytes()).expect("a reply");
            classify(&value.extract_error().expect_err("an error reply")).1
        };
        assert_eq!(verdict("Hash slot not served"), Verdict::Elsewhere);
        assert_eq!(verdict("The cluster is down"), Verdict::Count);
    }

    #[test]
    fn a_redirect_names_its_node() {
        let redirect = |reply: &str| {
            let value = redis::parse_redis_value(reply.as_bytes()).expect("a reply");
            Failure::from(&value.extract_error().expect_err("an error reply")).redirect
        };
        let to = |host: &str, once| Some(Redirect { host: host.to_owned(), port: 6381, once });
        assert_eq!(redirect("-MOVED 3999 127.0.0.1:6381\r\n"), to("127.0.0.1", false));
        assert_eq!(redirect("-ASK 3999 ::1:6381\r\n"), to("::1", true));
        assert_eq!(redirect("-MOVED 3999 :6381\r\n"), to("", false));
        for nowhere in ["-MOVED 3999\r\n", "-MOVED 3999 ?:6381\r\n", "-MOVED 3999 h:port\r\n", "-ERR 3999 h:6381\r\n"] {
            assert_eq!(redirect(nowhere), None, "{nowhere}");
        }
    }

    #[test]
    fn each_error_reply_has_its_meaning() {
        for (code, kind, verdict) in [
            ("OOM", StoreErrorKind::Full, Verdict::PauseWrites),
            ("MISCONF", StoreErrorKind::Full, Verdict::PauseWrites),
            ("NOREPLICAS", StoreErrorKind::Full, Verdict::PauseWrites),
            ("READONLY", StoreErrorKind::Full, Verdict::PauseWritesAndReplace),
            ("MOVED", StoreErrorKind::Unsupported, Verdict::Elsewhere),
            ("ASK", StoreErrorKind::Unsupported, Verdict::Elsewhere),
            ("LOADING", StoreErrorKind::NotReady, Verdict::Count),
            ("MASTERDOWN", StoreErrorKind::NotReady, Verdict::Count),
            ("CLUSTERDOWN", StoreErrorKind::NotReady, Verdict::Count),
            ("TRYAGAIN", StoreErrorKind::NotReady, Verdict::Elsewhere),
            ("BUSY", StoreErrorKind::NotReady, Verdict::Count),
            ("NOAUTH", StoreErrorKind::Denied, Verdict::Replace),
            ("WRONGPASS", StoreErrorKind::Denied, Verdict::Replace),
            ("NOPERM", StoreErrorKind::Denied, Verdict::NotGranted),
            ("NOSCRIPT", StoreErrorKind::Protocol, Verdict::NoScript),
            ("WRONGTYPE", StoreErrorKind::Protocol, Verdict::ForeignType),
            ("ERR", StoreErrorKind::Protocol, Verdict::Count),
        ] {
            assert_eq!(of_reply(code), (kind, verdict), "{code}");
        }
    }
}
