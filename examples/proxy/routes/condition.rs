//! Which requests of a place the cache is kept out of.

use hyper::header::{COOKIE, HeaderName};
use hyper::{HeaderMap, Method};

/// Methods that the cache answers.
const CACHED: [&str; 3] = ["GET", "HEAD", "QUERY"];

/// Some of those that the cache answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Methods([bool; CACHED.len()]);

/// Cookies by their names; with a `*` at its end by how the name begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cookies(Vec<String>);

/// Fields by their names, in lower case and with `-` for `_`: CGI and its heirs take these for one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fields(Vec<String>);

/// Whether the cache might answer requests with this method.
pub(super) fn is_cached(method: &Method) -> bool {
    CACHED.contains(&method.as_str())
}

/// The members of a list; none of an empty text.
pub(super) fn list(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|member| !member.is_empty())
}

// ===== impl Methods =====

impl Methods {
    pub(super) fn read(text: &str) -> Result<Self, String> {
        let mut methods = Self([false; CACHED.len()]);
        for name in list(text) {
            let place = CACHED.iter().position(|known| known.eq_ignore_ascii_case(name));
            let place =
                place.ok_or_else(|| format!("methods={name}: those that may be cached are GET, HEAD and QUERY"))?;
            methods.0[place] = true;
        }
        match methods.0.contains(&true) {
            true => Ok(methods),
            false => Err("methods: name some of GET, HEAD and QUERY, or say bypass".to_owned()),
        }
    }

    pub(super) fn contain(self, method: &Method) -> bool {
        CACHED.iter().zip(self.0).any(|(name, is_one)| is_one && *name == method.as_str())
    }
}

// ===== impl Cookies =====

impl Cookies {
    pub(super) fn read(text: &str) -> Result<Self, String> {
        let names: Vec<String> = list(text).map(ToOwned::to_owned).collect();
        match names.iter().find(|name| !name.bytes().all(is_of_name) || *name == "*") {
            Some(name) => Err(format!("bypass-cookie={name}: write names of cookies, or how they begin and a *")),
            None => Ok(Self(names.iter().map(|name| name.replace('.', "_")).collect())),
        }
    }

    /// Whether a request has one of them, however an origin reads it: some part pairs at commas and blanks too, and to some
    /// a dot in a name is an underscore.
    pub(super) fn are_in(&self, headers: &HeaderMap) -> bool {
        if self.0.is_empty() {
            return false;
        }
        let lines = headers.get_all(COOKIE).iter();
        let is_one = |word: &[u8]| {
            let name: Vec<u8> = word.iter().map(|octet| if *octet == b'.' { b'_' } else { *octet }).collect();
            self.0.iter().any(|known| match known.strip_suffix('*') {
                Some(beginning) => name.starts_with(beginning.as_bytes()),
                None => name == known.as_bytes(),
            })
        };
        // What cannot be in a name ends it.
        lines.flat_map(|line| line.as_bytes().split(|octet| !is_of_name(*octet))).any(is_one)
    }
}

/// RFC 6265 §4.1.1: a token.
fn is_of_name(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&octet)
}

// ===== impl Fields =====

impl Fields {
    pub(super) fn read(text: &str) -> Result<Self, String> {
        let name = |name: &str| match name.parse::<HeaderName>() {
            Ok(name) => Ok(plain(&name)),
            Err(_) => Err(format!("bypass-header={name}: this is not the name of a header field")),
        };
        list(text).map(name).collect::<Result<_, _>>().map(Self)
    }

    /// Whether a request has one of them.
    pub(super) fn are_in(&self, headers: &HeaderMap) -> bool {
        !self.0.is_empty() && headers.keys().any(|name| self.0.contains(&plain(name)))
    }
}

fn plain(name: &HeaderName) -> String {
    name.as_str().replace('_', "-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies_are_known_by_their_names_or_how_these_begin() {
        let cookies = Cookies::read("session, wp_logged_in*").expect("names");
        for (line, is_one) in [
            ("session=1", true),
            ("a=b; session=1", true),
            ("a=b;session = 1", true),
            ("wp_logged_in_7=x", true),
            ("session", true),
            ("a=b, session=1", true),
            ("a=b session=1", true),
            ("\u{a0}session=1", true),
            ("wp.logged.in_7=x", true),
            ("a=session", true),
            ("sessions=1; a=b", false),
            ("Session=1", false),
            ("", false),
        ] {
            let value = hyper::header::HeaderValue::from_bytes(line.as_bytes()).expect("a value");
            let headers = [(COOKIE, value)].into_iter().collect();
            assert_eq!(cookies.are_in(&headers), is_one, "{line}");
        }
        let mut two = HeaderMap::new();
        two.append(COOKIE, "a=b".parse().expect("a value"));
        two.append(COOKIE, "session=1".parse().expect("a value"));
        assert!(cookies.are_in(&two));
        assert!(!Cookies::read("").expect("none").are_in(&two));
        assert!(Cookies::read("*").is_err() && Cookies::read("a=b").is_err());
    }

    #[test]
    fn fields_are_known_however_an_origin_writes_their_names() {
        let fields = Fields::read("X-Preview").expect("a name");
        for (name, is_one) in [("x-preview", true), ("x_preview", true), ("preview", false)] {
            let headers = [(name.parse().expect("a name"), "1".parse().expect("a value"))].into_iter().collect();
            assert_eq!(fields.are_in(&headers), is_one, "{name}");
        }
    }

    #[test]
    fn methods_are_some_of_those_that_are_cached() {
        let methods = Methods::read("get,QUERY").expect("two");
        let query = Method::from_bytes(b"QUERY").expect("a method");
        assert!(methods.contain(&Method::GET) && methods.contain(&query) && !methods.contain(&Method::HEAD));
        assert!(Methods::read("POST").is_err() && Methods::read("").is_err());
        assert!(is_cached(&query) && !is_cached(&Method::POST));
    }
}
