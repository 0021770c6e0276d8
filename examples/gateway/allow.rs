//! The list of origins that may be asked: scheme, host and port, exactly.

use std::collections::BTreeSet;

use url::{Host, Url};

use crate::address::AddressRules;

/// The origins that may be asked, of a first URL and of all redirects.
#[derive(Clone, Debug)]
pub(crate) struct AllowList {
    origins: BTreeSet<String>,
}

// ===== impl AllowList =====

impl AllowList {
    /// Reads origins such as `https://api.example.com` or `http://127.0.0.1:8000`.
    ///
    /// # Errors
    ///
    /// A sentence about the first that is none, or about a list with nothing in it.
    pub(crate) fn new<T: AsRef<str>>(
        origins: impl IntoIterator<Item = T>,
        addresses: &AddressRules,
    ) -> Result<Self, String> {
        let origins = origins.into_iter().map(|text| origin(text.as_ref(), addresses));
        let origins: BTreeSet<String> = origins.collect::<Result<_, _>>()?;
        match origins.is_empty() {
            true => Err("no origin is allowed: name at least one, for example https://api.example.com".to_owned()),
            false => Ok(Self { origins }),
        }
    }

    pub(crate) fn has(&self, url: &Url) -> bool {
        self.origins.contains(&url.origin().ascii_serialization())
    }
}

/// The one spelling of an origin.
fn origin(text: &str, addresses: &AddressRules) -> Result<String, String> {
    let url = Url::parse(text).map_err(|error| format!("{text:?} is no origin: {error}"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!("{text:?}: only http and https origins can be allowed"));
    }
    let is_bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
    if !is_bare || !url.username().is_empty() || url.password().is_some() {
        return Err(format!("{text:?}: write scheme, host and port alone, for example https://api.example.com"));
    }
    let literal = match url.host() {
        Some(Host::Ipv4(address)) => Some(address.into()),
        Some(Host::Ipv6(address)) => Some(address.into()),
        _ => None,
    };
    // It could never be asked, and whoever wrote it would like to know before the first request.
    match literal.and_then(|address| addresses.refusal(address)) {
        Some(class) => Err(format!("{text:?} is {class}: list it as an address that may be dialled as well")),
        None => Ok(url.origin().ascii_serialization()),
    }
}
