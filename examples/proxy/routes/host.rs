//! The hosts that a rule is for.

use std::fmt;
use std::net::Ipv6Addr;

/// In lower case.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Host {
    Any,
    /// All names below this one.
    Below(String),
    Exactly(String),
}

// ===== impl Host =====

impl Host {
    pub(super) fn read(text: &str) -> Result<Self, String> {
        let text = text.trim_end_matches('.').to_ascii_lowercase();
        let (host, below) = text.strip_prefix("*.").map_or((text.as_str(), false), |rest| (rest, true));
        // Without a port: a rule is for all of them.
        let is_name = host.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"-._".contains(&octet));
        let is_address =
            || host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')?.parse::<Ipv6Addr>().ok()).is_some();
        let is_host = !host.is_empty() && (is_name || (!below && is_address()));
        match (is_host, below) {
            (false, _) => Err(format!("host={text}: write a name such as api.example, or *.example for all below it")),
            (true, true) => Ok(Self::Below(format!(".{host}"))),
            (true, false) => Ok(Self::Exactly(host.to_owned())),
        }
    }

    pub(super) fn fits(&self, host: &str) -> bool {
        let ends_with = |end: &str| {
            host.len() > end.len() && host.as_bytes()[host.len() - end.len()..].eq_ignore_ascii_case(end.as_bytes())
        };
        match self {
            Self::Any => true,
            Self::Exactly(name) => name.eq_ignore_ascii_case(host),
            Self::Below(end) => ends_with(end),
        }
    }

    /// The more of a name the better.
    pub(super) fn weight(&self) -> (u8, usize) {
        match self {
            Self::Any => (0, 0),
            Self::Below(end) => (1, end.len()),
            Self::Exactly(_) => (2, 0),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("all hosts, "),
            Self::Below(end) => write!(f, "*{end}"),
            Self::Exactly(name) => f.write_str(name),
        }
    }
}
