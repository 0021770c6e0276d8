//! The origin's address: scheme, host and port, and nothing else.

use std::fmt;
use std::str::FromStr;

use hyper::Uri;
use hyper::http::uri::{Authority, Scheme};

use crate::authority::parse_authority;

/// Where misses go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OriginUrl {
    pub(crate) scheme: Scheme,
    pub(crate) authority: Authority,
}

impl OriginUrl {
    pub(crate) fn is_https(&self) -> bool {
        self.scheme == Scheme::HTTPS
    }
}

impl FromStr for OriginUrl {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const EXPECTED: &str = "expected http:// or https:// and a host, for example http://127.0.0.1:8000";
        let uri: Uri = text.parse().map_err(|_| EXPECTED)?;
        let parts = uri.into_parts();
        let scheme =
            parts.scheme.filter(|scheme| *scheme == Scheme::HTTP || *scheme == Scheme::HTTPS).ok_or(EXPECTED)?;
        let authority = parts.authority.ok_or(EXPECTED)?;
        if authority.as_str().contains('@') {
            return Err("a user name or password in the origin is not supported; leave it out");
        }
        let authority = parse_authority(authority.as_str().as_bytes()).ok_or(EXPECTED)?;
        match parts.path_and_query {
            Some(path) if path != "/" => Err("an origin has no path; name only its scheme, host and port"),
            _ => Ok(Self { scheme, authority }),
        }
    }
}

impl fmt::Display for OriginUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.authority)
    }
}
