//! What the purge of an entry may name it by, and when the entry was fetched.

use http::header::{self, HeaderMap};
use http::uri::{Authority, Uri};

use super::target::MAX_NAME;

/// The number of a purge. The first ones count microseconds since 1970, so that they fit a double exactly for centuries.
pub(crate) type Number = u64;

/// Which making of the clock it is: one that was lost is made anew, under another name. 0 is none.
pub(crate) type Incarnation = u64;

/// What was known of purges at some time. An older one only errs towards "purged".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Stamp {
    pub(crate) incarnation: Incarnation,
    /// The highest number that the store had given by then.
    pub(crate) number: Number,
}

/// What a purge can find an entry by, besides its key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Label {
    /// From before the service was asked.
    pub(crate) stamp: Stamp,
    pub(crate) site: Site,
    /// What the response was tagged with.
    pub(crate) tags: Box<[Box<str>]>,
}

/// Where an entry was fetched from. The scheme is not a part of it: a request in origin form does not tell it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Site {
    /// In lower case, with the port unless it is the default of http or of https.
    pub(crate) authority: Box<str>,
    /// As it was received, without the query.
    pub(crate) path: Box<str>,
}

impl Site {
    pub(crate) fn of(target: &Uri, headers: &HeaderMap) -> Self {
        let host = || headers.get(header::HOST).and_then(|host| host.to_str().ok());
        let authority = target.authority().map(Authority::as_str).or_else(host).unwrap_or_default();
        Self { authority: cut(&normalised(authority)).into(), path: cut(target.path()).into() }
    }
}

/// What is longer than any name that can be purged is cut: by then it is no other's name either.
fn cut(name: &str) -> &str {
    let end = (0..=name.len().min(MAX_NAME + 1)).rev().find(|end| name.is_char_boundary(*end));
    &name[..end.unwrap_or_default()]
}

/// In lower case, without user information, and without a default port.
pub(crate) fn normalised(authority: &str) -> String {
    let host = authority.rsplit('@').next().unwrap_or_default().to_ascii_lowercase();
    match host.strip_suffix(":80").or_else(|| host.strip_suffix(":443")) {
        Some(host) => host.to_owned(),
        None => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_site_is_one_however_it_is_written() {
        let site = |uri: &str, host: Option<&str>| {
            let headers = host.map(|host| (header::HOST, host.parse().unwrap())).into_iter().collect();
            Site::of(&uri.parse().unwrap(), &headers)
        };
        let expected = Site { authority: "a.example".into(), path: "/b".into() };
        for (uri, host) in [
            ("http://A.example:80/b?c", None),
            ("https://a.example:443/b", Some("other.example")),
            ("/b", Some("a.EXAMPLE")),
            ("/b?c", Some("a.example:443")),
        ] {
            assert_eq!(site(uri, host), expected);
        }
        assert_eq!(&*site("http://a.example:8080/", None).authority, "a.example:8080");
        assert_eq!(&*site("https://[::1]:443/", None).authority, "[::1]");
        assert_eq!(site("/", None), Site { authority: "".into(), path: "/".into() });
    }
}
