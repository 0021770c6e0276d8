//! The default key: scheme, authority, path and query, GET and HEAD together.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use http::header::{self, HeaderName, HeaderValue};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, Uri, request};

use super::{CacheKey, KeyBuilder, KeyExtractor, NamedTarget};
use crate::error::ConfigError;

/// The default [`KeyExtractor`], and the settings that most sites need instead of code.
///
/// The key of a request is its scheme, its authority (in lower case, without the scheme's default port), its path and
/// its query as they were received: nothing is decoded, folded or sorted unless a setting asks for it. A request in
/// origin form has the authority of its one Host field and the scheme that [`scheme`](Self::scheme) names; a request
/// with no Host, two of them, or one that is no authority has no key and is not cached.
///
/// ```
/// use tower_redis_cache::{CacheConfig, DefaultKey};
///
/// # fn main() -> Result<(), tower_redis_cache::ConfigError> {
/// let key = DefaultKey::new().ignore_query(["utm_*", "fbclid"]).sort_query().header("accept-language")?;
/// let config = CacheConfig::default().key(key);
/// # drop(config);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct DefaultKey {
    scheme: Scheme,
    query: QueryRule,
    sorted: bool,
    headers: Vec<HeaderName>,
    cookies: Vec<String>,
    tenant: Option<String>,
    target: Option<TargetOf>,
}

/// Finds the target of a request that a router has rewritten.
#[derive(Clone)]
struct TargetOf(Arc<TargetFn>);

type TargetFn = dyn Fn(&request::Parts) -> Option<Uri> + Send + Sync;

impl fmt::Debug for TargetOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TargetOf(..)")
    }
}

#[derive(Clone, Debug, Default)]
enum QueryRule {
    #[default]
    Whole,
    Ignore(Vec<NamePattern>),
    Keep(Vec<NamePattern>),
}

/// A parameter's name, or with a `*` at its end the start of one.
#[derive(Clone, Debug)]
enum NamePattern {
    Exact(String),
    Prefix(String),
}

impl DefaultKey {
    /// Scheme `http` where the request names none, the whole query, no header, no cookie, no tenant.
    pub fn new() -> Self {
        Self {
            scheme: Scheme::HTTP,
            query: QueryRule::Whole,
            sorted: false,
            headers: Vec::new(),
            cookies: Vec::new(),
            tenant: None,
            target: None,
        }
    }

    /// Leaves these query parameters out of the key *and* of the target that is forwarded for a cacheable request, so
    /// that nothing the key lacks can shape the answer. A `*` at the end of a name stands for any rest. The last of
    /// `ignore_query` and [`keep_query`](Self::keep_query) counts.
    pub fn ignore_query<I: IntoIterator<Item: AsRef<str>>>(mut self, names: I) -> Self {
        self.query = QueryRule::Ignore(patterns(names));
        self
    }

    /// Keeps these query parameters only, in the key and in the target that is forwarded for a cacheable request.
    pub fn keep_query<I: IntoIterator<Item: AsRef<str>>>(mut self, names: I) -> Self {
        self.query = QueryRule::Keep(patterns(names));
        self
    }

    /// Sorts the query parameters by name, those of one name keeping their order, in the key and in the target that is
    /// forwarded for a cacheable request.
    pub fn sort_query(mut self) -> Self {
        self.sorted = true;
        self
    }

    /// Adds a request header's value to the key, as a digest.
    ///
    /// # Errors
    ///
    /// The name is not a header field name.
    pub fn header(mut self, name: &str) -> Result<Self, ConfigError> {
        let name = HeaderName::from_bytes(name.as_bytes())
            .map_err(|_| ConfigError::new("key header", format!("{name:?} is not a header field name")))?;
        self.headers.push(name);
        Ok(self)
    }

    /// Adds one cookie's value to the key, as a digest.
    pub fn cookie(mut self, name: impl Into<String>) -> Self {
        self.cookies.push(name.into());
        self
    }

    /// Adds a constant to the key: one Redis namespace, several tenants.
    pub fn tenant(mut self, name: impl Into<String>) -> Self {
        self.tenant = Some(name.into());
        self
    }

    /// The scheme of requests in origin form, which do not name one: `https` behind a listener or proxy that ends TLS.
    ///
    /// # Errors
    ///
    /// The scheme is neither `http` nor `https`.
    pub fn scheme(mut self, scheme: &str) -> Result<Self, ConfigError> {
        self.scheme = match scheme {
            "http" => Scheme::HTTP,
            "https" => Scheme::HTTPS,
            other => return Err(ConfigError::new("key scheme", format!("{other:?} is neither http nor https"))),
        };
        Ok(self)
    }

    /// Where to find the target of a request whose URI is not the one that the client sent: a nested router sees only
    /// the rest of the path, and two of them with one cache would share keys.
    ///
    /// ```
    /// use axum::extract::OriginalUri;
    /// use http::request::Parts;
    /// use tower_redis_cache::DefaultKey;
    ///
    /// let key = DefaultKey::new().target(|parts: &Parts| Some(parts.extensions.get::<OriginalUri>()?.0.clone()));
    /// # drop(key);
    /// ```
    pub fn target(mut self, target: impl Fn(&request::Parts) -> Option<Uri> + Send + Sync + 'static) -> Self {
        self.target = Some(TargetOf(Arc::new(target)));
        self
    }

    /// The query as the key holds it.
    fn query<'a>(&self, query: &'a str) -> Cow<'a, str> {
        if !self.sorted && matches!(self.query, QueryRule::Whole) {
            return Cow::Borrowed(query);
        }
        let mut kept: Vec<&str> = query.split('&').filter(|pair| self.keeps(name_of(pair))).collect();
        if self.sorted {
            kept.sort_by_key(|pair| name_of(pair));
        }
        Cow::Owned(kept.join("&"))
    }

    fn keeps(&self, name: &str) -> bool {
        match &self.query {
            QueryRule::Whole => true,
            QueryRule::Ignore(names) => !names.iter().any(|pattern| pattern.matches(name)),
            QueryRule::Keep(names) => names.iter().any(|pattern| pattern.matches(name)),
        }
    }
}

impl Default for DefaultKey {
    fn default() -> Self {
        Self::new()
    }
}

impl KeyExtractor for DefaultKey {
    fn key(&self, parts: &request::Parts) -> Option<CacheKey> {
        let named = self.target(parts);
        let target = named.as_ref().unwrap_or(&parts.uri);
        let scheme = target.scheme().unwrap_or(&self.scheme);
        let mut builder = KeyBuilder::new();
        builder.part(self.tenant.as_deref().unwrap_or_default().as_bytes());
        builder.part(scheme.as_str().as_bytes());
        builder.part(authority(target, &parts.headers, scheme)?.as_bytes());
        builder.part(target.path().as_bytes());
        // As it is forwarded: a query that lost all its parameters is none.
        match target.query().map(|query| (query, self.query(query))) {
            Some((received, query)) if received.is_empty() || !query.is_empty() => {
                builder.part(b"?");
                builder.part(query.as_bytes());
            }
            _ => builder.part(b""),
        }
        for name in &self.headers {
            header_part(&mut builder, &parts.headers, name);
        }
        for name in &self.cookies {
            cookie_part(&mut builder, &parts.headers, name);
        }
        Some(builder.finish())
    }

    fn target(&self, parts: &request::Parts) -> Option<Uri> {
        match parts.extensions.get::<NamedTarget>() {
            Some(NamedTarget(target)) => Some(target.clone()),
            None => self.target.as_ref().and_then(|target| target.0(parts)),
        }
    }

    fn forwarded_uri(&self, parts: &request::Parts) -> Option<Uri> {
        let received = parts.uri.query()?;
        let Cow::Owned(query) = self.query(received) else { return None };
        if query == received {
            return None;
        }
        let path = parts.uri.path();
        let target = if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") };
        let mut uri = parts.uri.clone().into_parts();
        uri.path_and_query = Some(PathAndQuery::try_from(target).ok()?);
        Uri::from_parts(uri).ok()
    }
}

/// The authority of the target, else of the one Host field (RFC 9110 §7.2), in lower case and without the default port.
/// Where both are there they must agree: the service may read either.
fn authority<'a>(target: &'a Uri, headers: &'a HeaderMap, scheme: &Scheme) -> Option<Cow<'a, str>> {
    let host = match host_field(headers)? {
        Some(host) => {
            let host = host.to_str().ok()?;
            let normal = if is_normal(host, scheme) {
                Cow::Borrowed(host)
            } else {
                normalised(&host.parse().ok()?, scheme)?.into()
            };
            Some(normal)
        }
        None => None,
    };
    let Some(authority) = target.authority() else { return host };
    let text = authority.as_str();
    let authority = if is_normal(text, scheme) { Cow::Borrowed(text) } else { normalised(authority, scheme)?.into() };
    (host.is_none() || host.as_ref() == Some(&authority)).then_some(authority)
}

/// A plain name in lower case, without a port or with one that is not the default, is an authority in its normal form.
fn is_normal(authority: &str, scheme: &Scheme) -> bool {
    let is_plain = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'-');
    let octets = authority.as_bytes();
    match octets.iter().position(|byte| !is_plain(byte)) {
        None => !octets.is_empty(),
        Some(0) => false,
        Some(end) => octets[end] == b':' && is_normal_port(&authority[end + 1..], scheme),
    }
}

fn is_normal_port(digits: &str, scheme: &Scheme) -> bool {
    !digits.starts_with(['0', '+']) && digits.parse::<u16>().is_ok_and(|port| port != default_port(scheme))
}

fn default_port(scheme: &Scheme) -> u16 {
    if *scheme == Scheme::HTTPS { 443 } else { 80 }
}

fn normalised(authority: &Authority, scheme: &Scheme) -> Option<String> {
    if authority.as_str().contains('@') || authority.host().is_empty() {
        return None;
    }
    let host = authority.host().to_ascii_lowercase();
    // "host:" with no digits means the default port (RFC 3986 §6.2.3); other text there is no port at all.
    match authority.as_str()[authority.host().len()..].strip_prefix(':') {
        None | Some("") => Some(host),
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => match digits.parse::<u16>().ok()? {
            port if port == default_port(scheme) => Some(host),
            port => Some(format!("{host}:{port}")),
        },
        Some(_) => None,
    }
}

/// `None` where there are several.
#[allow(clippy::option_option)]
fn host_field(headers: &HeaderMap) -> Option<Option<&HeaderValue>> {
    let mut lines = headers.get_all(header::HOST).iter();
    let host = lines.next();
    lines.next().is_none().then_some(host)
}

/// Absent, empty and several lines are different things. The key holds a digest: any header may be a secret.
fn header_part(builder: &mut KeyBuilder, headers: &HeaderMap, name: &HeaderName) {
    builder.part(name.as_str().as_bytes());
    let mut hasher = blake3::Hasher::new();
    for line in headers.get_all(name) {
        hasher.update(&(line.len() as u64).to_le_bytes()).update(line.as_bytes());
    }
    builder.part(hasher.finalize().as_bytes());
}

fn cookie_part(builder: &mut KeyBuilder, headers: &HeaderMap, name: &str) {
    builder.part(name.as_bytes());
    let mut hasher = blake3::Hasher::new();
    for line in headers.get_all(header::COOKIE) {
        for pair in line.as_bytes().split(|byte| *byte == b';') {
            // Blanks around the name are none to some services.
            let Some(end) = pair.iter().position(|byte| *byte == b'=') else { continue };
            if pair[..end].trim_ascii() == name.as_bytes() {
                let value = pair[end + 1..].trim_ascii();
                hasher.update(&(value.len() as u64).to_le_bytes()).update(value);
            }
        }
    }
    builder.part(hasher.finalize().as_bytes());
}

fn name_of(pair: &str) -> &str {
    pair.split_once('=').map_or(pair, |(name, _)| name)
}

fn patterns<I: IntoIterator<Item: AsRef<str>>>(names: I) -> Vec<NamePattern> {
    names
        .into_iter()
        .map(|name| match name.as_ref().strip_suffix('*') {
            Some(prefix) => NamePattern::Prefix(prefix.to_owned()),
            None => NamePattern::Exact(name.as_ref().to_owned()),
        })
        .collect()
}

impl NamePattern {
    fn matches(&self, name: &str) -> bool {
        match self {
            Self::Exact(exact) => exact == name,
            Self::Prefix(prefix) => name.starts_with(prefix),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    fn parts(target: &str, fields: &[(&str, &str)]) -> request::Parts {
        let mut request = Request::builder().uri(target);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn key_of(extractor: &DefaultKey, target: &str, fields: &[(&str, &str)]) -> Option<CacheKey> {
        extractor.key(&parts(target, fields))
    }

    fn key(target: &str, host: &str) -> Option<CacheKey> {
        key_of(&DefaultKey::new(), target, &[("host", host)])
    }

    #[test]
    fn absolute_and_origin_form_of_one_target_share_a_key() {
        let expected = key("/a?b=1", "example.com");
        assert!(expected.is_some());
        assert_eq!(key("http://example.com/a?b=1", "EXAMPLE.com:80"), expected);
        assert_eq!(key_of(&DefaultKey::new(), "http://example.com/a?b=1", &[]), expected);
        assert_eq!(key("/a?b=1", "EXAMPLE.com"), expected);
        assert_eq!(key("/a?b=1", "example.com:80"), expected);
        assert_eq!(key("/a?b=1", "example.com:"), expected);
    }

    #[test]
    fn what_identifies_a_resource_separates_keys() {
        let base = key("/a", "h");
        for (target, host) in [("/a", "g"), ("/a", "h:8080"), ("/A", "h"), ("/a?", "h"), ("/a?x", "h"), ("/%61", "h")] {
            let other = key(target, host);
            assert!(other.is_some());
            assert_ne!(other, base, "{target} {host}");
        }
        assert_ne!(key("https://h/a", "h"), base);
        assert_ne!(key("/a?b=1&c=2", "h"), key("/a?c=2&b=1", "h"));
    }

    #[test]
    fn a_host_that_is_missing_double_or_senseless_has_no_key() {
        assert_eq!(key_of(&DefaultKey::new(), "/", &[]), None);
        assert_eq!(key_of(&DefaultKey::new(), "/", &[("host", "a"), ("host", "b")]), None);
        for host in ["", "a b", "user@h", "h/x", "h:port", "h:99999", "h:+80"] {
            assert_eq!(key("/", host), None, "{host:?}");
        }
    }

    #[test]
    fn an_authority_in_normal_form_is_left_as_it_is() {
        let names = ["h", "www.example.com", "1-a.b", "127.0.0.1", "-", "..", "H", "[::1]", "u@h", "h_1"];
        let ports = ["", ":", ":80", ":443", ":8080", ":0", ":08080", ":+80", ":65535", ":65536", ":8080:1", ":x"];
        for text in names.iter().flat_map(|name| ports.iter().map(move |port| format!("{name}{port}"))) {
            let Ok(parsed) = text.parse::<Authority>() else {
                assert!(!is_normal(&text, &Scheme::HTTP), "{text}");
                continue;
            };
            let normal = normalised(&parsed, &Scheme::HTTP);
            assert!(!is_normal(&text, &Scheme::HTTP) || normal.as_deref() == Some(&text), "{text}");
        }
        for text in ["www.example.com", "www.example.com:8080", "127.0.0.1:443"] {
            assert!(is_normal(text, &Scheme::HTTP), "{text}");
        }
        assert!(!is_normal("", &Scheme::HTTP) && !is_normal("h:443", &Scheme::HTTPS));
    }

    #[test]
    fn a_target_and_a_host_that_disagree_have_no_key() {
        assert_eq!(key("http://victim/", "evil"), None);
        assert_eq!(key("http://victim/", "victim:81"), None);
        assert_eq!(key_of(&DefaultKey::new(), "http://victim/", &[("host", "victim"), ("host", "victim")]), None);
    }

    #[test]
    fn a_nested_router_can_name_the_whole_target() {
        let extractor = DefaultKey::new().target(|parts| parts.extensions.get::<Uri>().cloned());
        let mut nested = parts("/orders", &[("host", "h")]);
        nested.extensions.insert(Uri::from_static("/admin/orders"));
        assert_eq!(extractor.key(&nested), key("/admin/orders", "h"));
    }

    #[test]
    fn ignored_parameters_leave_key_and_forwarded_target() {
        let extractor = DefaultKey::new().ignore_query(["utm_*", "fbclid"]);
        let of = |target| key_of(&extractor, target, &[("host", "h")]);
        assert_eq!(of("/a?x=1&utm_source=n&fbclid=7"), of("/a?x=1"));
        assert_ne!(of("/a?x=1&utm=2"), of("/a?x=1"));
        assert_eq!(of("/a?utm_source=n"), of("/a"));
        assert_ne!(of("/a?"), of("/a"));
        let forwarded = |target| extractor.forwarded_uri(&parts(target, &[])).map(|uri| uri.to_string());
        assert_eq!(forwarded("/a?utm_source=n&x=1"), Some("/a?x=1".into()));
        assert_eq!(forwarded("http://h/a?utm_source=n"), Some("http://h/a".into()));
        assert_eq!(forwarded("/a?x=1"), None);
    }

    #[test]
    fn kept_and_sorted_parameters() {
        let kept = DefaultKey::new().keep_query(["id"]);
        assert_eq!(key_of(&kept, "/a?id=1&z=2", &[("host", "h")]), key_of(&kept, "/a?id=1", &[("host", "h")]));
        let sorted = DefaultKey::new().sort_query();
        let of = |target| key_of(&sorted, target, &[("host", "h")]);
        assert_eq!(of("/a?b=2&a=1"), of("/a?a=1&b=2"));
        assert_ne!(of("/a?a=2&a=1"), of("/a?a=1&a=2"));
    }

    #[test]
    fn headers_cookies_and_tenants_join_the_key_and_secrets_do_not_show() {
        let extractor = DefaultKey::new().header("accept-language").unwrap().cookie("session").tenant("acme");
        let of = |fields: &[(&str, &str)]| key_of(&extractor, "http://h/", fields).unwrap();
        assert_ne!(of(&[("accept-language", "de")]), of(&[("accept-language", "en")]));
        assert_ne!(of(&[("accept-language", "")]), of(&[]));
        assert_ne!(of(&[("cookie", "session=a")]), of(&[("cookie", "session=b")]));
        assert_eq!(of(&[("cookie", "x=1; session=a")]), of(&[("cookie", "session=a; y=2")]));
        assert_eq!(of(&[("cookie", "xsession=a")]), of(&[]));
        let secret = of(&[("cookie", "session=s3cret")]);
        assert!(!secret.parts().windows(6).any(|window| window == b"s3cret"));
        assert_ne!(
            key_of(&DefaultKey::new(), "http://h/", &[]),
            key_of(&DefaultKey::new().tenant("t"), "http://h/", &[])
        );
    }
}
