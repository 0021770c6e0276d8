//! Which origin a request goes to, by its host and the beginning of its path, and what is different for it in the cache.

use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::{Request, Response, Uri};
use tower::{Layer, Service};
use tower_redis_cache::CacheOverride;

use crate::origin::{Forwarding, Origin, OriginBody};
use crate::origin_url::OriginUrl;
use crate::request_body::RequestBody;
use crate::units::duration;

/// A rule for some requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    host: Host,
    /// Without a slash at its end: `/a` is for `/a` and `/a/b`, and not for `/ab`.
    path: String,
    pub(crate) origin: Option<OriginUrl>,
    ttl: Option<Duration>,
    bypass: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Host {
    Any,
    /// All names below this one.
    Below(String),
    Exactly(String),
}

/// All rules, those that say most first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Routes {
    rules: Arc<[Route]>,
}

/// Request extension: the rule that it goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct By(usize);

/// Finds the rule before the cache is asked.
#[derive(Clone, Debug)]
pub(crate) struct RouteLayer {
    routes: Routes,
}

/// See [`RouteLayer`].
#[derive(Clone, Debug)]
pub(crate) struct Routed<S> {
    inner: S,
    routes: Routes,
}

/// The origins behind the cache: one for all that no rule has one for, and those of the rules.
#[derive(Clone, Debug)]
pub(crate) struct Origins {
    usual: Origin,
    by_rule: Arc<[Option<Origin>]>,
}

// ===== impl Route =====

impl FromStr for Route {
    type Err = String;

    /// Reads `host=api.example path=/v2 origin=http://127.0.0.1:9000 ttl=1m`, or `path=/admin bypass`.
    fn from_str(text: &str) -> Result<Self, String> {
        let (mut host, mut path) = (None, None);
        let mut route = Self { host: Host::Any, path: String::new(), origin: None, ttl: None, bypass: false };
        for word in text.split_whitespace() {
            let (name, value) = word.split_once('=').unwrap_or((word, "true"));
            match name {
                "host" => host = Some(Host::read(value)?),
                "path" if value.starts_with('/') => path = Some(value.trim_end_matches('/').to_owned()),
                "path" => return Err(format!("path={value}: a path begins with a slash")),
                "origin" => route.origin = Some(value.parse().map_err(|error| format!("origin={value}: {error}"))?),
                "ttl" => route.ttl = Some(duration(value).map_err(|error| format!("ttl={value}: {error}"))?),
                "bypass" if value == "true" => route.bypass = true,
                "bypass" if value == "false" => route.bypass = false,
                _ => return Err(format!("{word}: there are host, path, origin, ttl and bypass")),
            }
        }
        if host.is_none() && path.is_none() {
            return Err("name a host or a path: host=api.example path=/v2 origin=http://127.0.0.1:9000".to_owned());
        }
        if route.origin.is_none() && route.ttl.is_none() && !route.bypass {
            return Err("say what is different: origin=URL, ttl=TIME or bypass".to_owned());
        }
        (route.host, route.path) = (host.unwrap_or(Host::Any), path.unwrap_or_default());
        Ok(route)
    }
}

impl Route {
    fn fits(&self, uri: &Uri) -> bool {
        let rest = uri.path().strip_prefix(self.path.as_str());
        let host = uri.host().unwrap_or_default();
        self.host.fits(host) && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    fn overrides(&self) -> Option<CacheOverride> {
        let mut overrides = CacheOverride::new();
        if let Some(ttl) = self.ttl {
            overrides = overrides.ttl(ttl);
        }
        if self.bypass {
            overrides = overrides.bypass();
        }
        (self.bypass || self.ttl.is_some()).then_some(overrides)
    }
}

impl Host {
    fn read(text: &str) -> Result<Self, String> {
        let text = text.to_ascii_lowercase();
        let (host, below) = text.strip_prefix("*.").map_or((text.as_str(), false), |rest| (rest, true));
        let is_host =
            !host.is_empty() && host.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"-._[]:".contains(&octet));
        match (is_host, below) {
            (false, _) => Err(format!("host={text}: write a name such as api.example, or *.example for all below it")),
            (true, true) => Ok(Self::Below(format!(".{host}"))),
            (true, false) => Ok(Self::Exactly(host.to_owned())),
        }
    }

    fn fits(&self, host: &str) -> bool {
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
    fn weight(&self) -> (u8, usize) {
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

// ===== impl Routes =====

impl Routes {
    /// # Errors
    ///
    /// A sentence about two rules for the same requests.
    pub(crate) fn new(mut rules: Vec<Route>) -> Result<Self, String> {
        let weight = |route: &Route| (route.host.weight(), route.path.len());
        rules.sort_by_key(|route| std::cmp::Reverse(weight(route)));
        for (index, route) in rules.iter().enumerate() {
            if rules[..index].iter().any(|other| (&other.host, &other.path) == (&route.host, &route.path)) {
                return Err(format!("--route: two of them are for {}{}/", route.host, route.path));
            }
        }
        Ok(Self { rules: rules.into() })
    }

    /// The rule that says most of it.
    fn of(&self, uri: &Uri) -> Option<(By, &Route)> {
        self.rules.iter().enumerate().find(|(_, route)| route.fits(uri)).map(|(index, route)| (By(index), route))
    }

    pub(crate) fn layer(&self) -> RouteLayer {
        RouteLayer { routes: self.clone() }
    }

    /// The origins, made of what they have in common.
    pub(crate) fn origins(&self, usual: Origin, other: impl Fn(&OriginUrl) -> Origin) -> Origins {
        let by_rule = self.rules.iter().map(|route| route.origin.as_ref().map(&other)).collect();
        Origins { usual, by_rule }
    }
}

impl<S> Layer<S> for RouteLayer {
    type Service = Routed<S>;

    fn layer(&self, inner: S) -> Routed<S> {
        Routed { inner, routes: self.routes.clone() }
    }
}

impl<S, Q> Service<Request<Q>> for Routed<S>
where
    S: Service<Request<Q>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Q>) -> S::Future {
        if let Some((by, route)) = self.routes.of(request.uri()) {
            let overrides = route.overrides();
            request.extensions_mut().insert(by);
            if let Some(overrides) = overrides {
                request.extensions_mut().insert(overrides);
            }
        }
        self.inner.call(request)
    }
}

// ===== impl Origins =====

impl Service<Request<RequestBody>> for Origins {
    type Response = Response<OriginBody>;
    type Error = Infallible;
    type Future = Forwarding;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // As each of them is.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<RequestBody>) -> Forwarding {
        let by = request.extensions().get::<By>().copied();
        let other = by.and_then(|By(index)| self.by_rule.get(index)?.clone());
        other.unwrap_or_else(|| self.usual.clone()).call(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routes(texts: &[&str]) -> Routes {
        Routes::new(texts.iter().map(|text| text.parse().expect(text)).collect()).expect("no two are for the same")
    }

    #[test]
    fn the_rule_that_says_most_counts() {
        let texts = [
            "path=/ ttl=1s",
            "path=/a ttl=2s",
            "host=*.example ttl=3s",
            "host=*.api.example ttl=4s",
            "host=api.example ttl=5s",
            "host=api.example path=/v2/ ttl=6s",
        ];
        let routes = routes(&texts);
        for (uri, seconds) in [
            ("http://other.test/", 1),
            ("http://other.test/ab", 1),
            ("http://other.test/a", 2),
            ("http://other.test/a/b?c", 2),
            ("http://www.example/a", 3),
            ("http://a.b.api.example/", 4),
            ("http://API.example:8080/", 5),
            ("http://api.example/v2", 6),
            ("http://api.example/v2/x", 6),
            ("http://api.example/v22", 5),
            ("http://example/", 1),
            ("http://badexample/", 1),
        ] {
            let (_, route) = routes.of(&uri.parse().expect("a URI")).expect("there is one for all");
            assert_eq!(route.ttl, Some(Duration::from_secs(seconds)), "{uri}");
        }
        assert!(self::routes(&texts[4..]).of(&Uri::from_static("http://other.test/")).is_none());
    }

    #[test]
    fn what_is_no_rule_is_refused() {
        for (text, reason) in [
            ("", "name a host or a path"),
            ("origin=http://a", "name a host or a path"),
            ("host=a", "what is different"),
            ("path=a ttl=1s", "begins with a slash"),
            ("host=a/b ttl=1s", "write a name"),
            ("host=*. ttl=1s", "write a name"),
            ("path=/ origin=ftp://a", "http://"),
            ("path=/ ttl=soon", "ttl=soon"),
            ("path=/ bypass=perhaps", "bypass"),
            ("path=/ tll=1s", "there are host"),
        ] {
            let refused = text.parse::<Route>().expect_err(text);
            assert!(refused.contains(reason), "{text}: {refused}");
        }
        let twice = ["path=/a ttl=1s", "path=/a/ bypass"].map(|text| text.parse().expect(text)).to_vec();
        assert!(Routes::new(twice).is_err());
    }
}
