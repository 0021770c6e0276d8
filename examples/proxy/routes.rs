//! Which origin a request goes to, by its host and the beginning of its path, and what is different for it in the cache.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::{Request, Response, Uri};
use percent_encoding::percent_decode_str;
use tower::{Layer, Service};
use tower_redis_cache::CacheOverride;

use crate::origin::{Forwarding, Origin, OriginBody};
use crate::origin_url::OriginUrl;
use crate::request_body::RequestBody;
use crate::units::duration;

/// A rule for some requests. What it leaves unsaid is as the next one that fits says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    host: Host,
    /// Without a slash at its end: `/a` is for `/a` and `/a/b`, and not for `/ab`.
    path: String,
    origin: Option<OriginUrl>,
    ttl: Option<Duration>,
    bypass: Option<bool>,
}

/// What the rules come to for one request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Plan {
    /// The rule whose origin it goes to.
    origin: Option<By>,
    ttl: Option<Duration>,
    bypass: Option<bool>,
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

/// Request extension: the rule by whose origin it goes.
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
        let mut words = BTreeMap::new();
        for word in text.split_whitespace() {
            let (name, value) = word.split_once('=').unwrap_or((word, "true"));
            if words.insert(name, value).is_some() {
                return Err(format!("{name} is said twice"));
            }
        }
        let mut take = |name: &str| words.remove(name);
        let host = take("host").map(Host::read).transpose()?;
        let path = take("path").map(path).transpose()?;
        let origin = take("origin").map(|value| value.parse().map_err(|error| format!("origin={value}: {error}")));
        let ttl = take("ttl").map(|value| duration(value).map_err(|error| format!("ttl={value}: {error}")));
        let bypass =
            take("bypass").map(|value| value.parse().map_err(|_| format!("bypass={value}: there are true and false")));
        let (origin, ttl, bypass) = (origin.transpose()?, ttl.transpose()?, bypass.transpose()?);
        if let Some(name) = words.keys().next() {
            return Err(format!("{name}: there are host, path, origin, ttl and bypass"));
        }
        if host.is_none() && path.is_none() {
            return Err("name a host or a path: host=api.example path=/v2 origin=http://127.0.0.1:9000".to_owned());
        }
        if origin.is_none() && ttl.is_none() && bypass.is_none() {
            return Err("say what is different: origin=URL, ttl=TIME or bypass".to_owned());
        }
        if ttl.is_some() && bypass == Some(true) {
            return Err("what bypasses the cache has no ttl".to_owned());
        }
        Ok(Self { host: host.unwrap_or(Host::Any), path: path.unwrap_or_default(), origin, ttl, bypass })
    }
}

impl Route {
    fn fits(&self, host: &str, path: &str) -> bool {
        let rest = path.strip_prefix(self.path.as_str());
        self.host.fits(host) && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

impl Plan {
    fn overrides(self) -> Option<CacheOverride> {
        let is_out = self.bypass == Some(true);
        let mut overrides = CacheOverride::new();
        if let Some(ttl) = self.ttl {
            overrides = overrides.ttl(ttl);
        }
        if is_out {
            overrides = overrides.bypass();
        }
        (is_out || self.ttl.is_some()).then_some(overrides)
    }
}

fn path(text: &str) -> Result<String, String> {
    match text {
        _ if !text.starts_with('/') => Err(format!("path={text}: a path begins with a slash")),
        _ if text.contains(['?', '#', '%', '\\']) || plain(text) != text => Err(format!(
            "path={text}: write it plainly, without a query, percent-encodings, or dots that lead elsewhere"
        )),
        _ => Ok(text.trim_end_matches('/').to_owned()),
    }
}

/// A path as an origin might take it: decoded, with one slash at a time, and without `.` and `..`.
fn plain(path: &str) -> String {
    let decoded = percent_decode_str(path).decode_utf8_lossy().replace('\\', "/");
    let mut segments: Vec<&str> = Vec::new();
    for segment in decoded.split('/').filter(|segment| !matches!(*segment, "" | ".")) {
        match segment {
            ".." => drop(segments.pop()),
            segment => segments.push(segment),
        }
    }
    let is_directory = decoded.ends_with('/') || decoded.ends_with("/.") || decoded.ends_with("/..");
    let end = if is_directory && !segments.is_empty() { "/" } else { "" };
    format!("/{}{end}", segments.join("/"))
}

impl Host {
    fn read(text: &str) -> Result<Self, String> {
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

    /// What they come to for a path that is written so.
    fn plan(&self, host: &str, path: &str) -> Plan {
        let mut plan = Plan::default();
        for (index, route) in self.rules.iter().enumerate().filter(|(_, route)| route.fits(host, path)) {
            plan.origin = plan.origin.or_else(|| route.origin.is_some().then_some(By(index)));
            plan.ttl = plan.ttl.or(route.ttl);
            plan.bypass = plan.bypass.or(route.bypass);
        }
        plan
    }

    /// What they come to for a request. Where it depends on how an origin reads the path, what comes is not kept: it might
    /// be of a place that another rule is for.
    fn of(&self, uri: &Uri) -> Plan {
        if self.rules.is_empty() {
            return Plan::default();
        }
        let host = uri.host().unwrap_or_default().trim_end_matches('.');
        let read = plain(uri.path());
        let plan = self.plan(host, &read);
        match plan == self.plan(host, uri.path()) && plan == self.plan(host, &plain(&read)) {
            true => plan,
            false => Plan { bypass: Some(true), ttl: None, ..plan },
        }
    }

    pub(crate) fn layer(&self) -> RouteLayer {
        RouteLayer { routes: self.clone() }
    }

    /// The origins, made of what they have in common.
    pub(crate) fn origins(&self, usual: Origin, other: impl Fn(&OriginUrl) -> Origin) -> Origins {
        // One set of connections to each, however many rules lead there.
        let mut made: Vec<(OriginUrl, Origin)> = Vec::new();
        let mut origin = |url: &OriginUrl| match made.iter().find(|(known, _)| known == url) {
            Some((_, origin)) => origin.clone(),
            None => {
                made.push((url.clone(), other(url)));
                made[made.len() - 1].1.clone()
            }
        };
        let by_rule = self.rules.iter().map(|route| route.origin.as_ref().map(&mut origin)).collect();
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
        let plan = self.routes.of(request.uri());
        if let Some(by) = plan.origin {
            request.extensions_mut().insert(by);
        }
        if let Some(overrides) = plan.overrides() {
            request.extensions_mut().insert(overrides);
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
            let plan = routes.of(&uri.parse().expect("a URI"));
            assert_eq!((plan.ttl, plan.bypass), (Some(Duration::from_secs(seconds)), None), "{uri}");
        }
        assert_eq!(self::routes(&texts[4..]).of(&Uri::from_static("http://other.test/")), Plan::default());
    }

    #[test]
    fn what_a_rule_leaves_unsaid_the_next_one_says() {
        let routes = routes(&[
            "path=/admin bypass",
            "host=app.test origin=http://127.0.0.1:1",
            "host=app.test path=/admin/public bypass=false ttl=1m",
            "host=app.test path=/admin/public/a origin=http://127.0.0.1:2",
        ]);
        let of = |uri: &str| routes.of(&uri.parse().expect("a URI"));
        let origin =
            |plan: Plan| plan.origin.and_then(|By(index)| routes.rules[index].origin.as_ref()).map(ToString::to_string);
        let plan = of("http://app.test/admin/x");
        assert_eq!((plan.bypass, origin(plan).as_deref()), (Some(true), Some("http://127.0.0.1:1")));
        let plan = of("http://app.test/admin/public/a/b");
        assert_eq!((plan.bypass, plan.ttl), (Some(false), Some(Duration::from_secs(60))));
        assert_eq!(origin(plan).as_deref(), Some("http://127.0.0.1:2"));
        assert_eq!(of("http://other.test/admin").bypass, Some(true));
    }

    /// However an origin reads them, nothing is kept that a rule keeps the cache out of, or by the lifetime of another place.
    #[test]
    fn other_spellings_do_not_get_round_a_rule() {
        let routes =
            routes(&["path=/admin bypass", "path=/assets ttl=1h", "host=app.test path=/v2 origin=http://127.0.0.1:1"]);
        for path in [
            "/admin/x",
            "/admin",
            "/%61dmin/x",
            "//admin/x",
            "/./admin/x",
            "/x/..%2fadmin/x",
            "/x/%2e%2e/admin",
            "/x/../admin",
            "/%2561dmin",
            "/admin%2fx",
            "/x/..%5cadmin",
            "/assets/..%2faccount",
            "/assets/%2e%2e/account",
            "/assets/..%252faccount",
        ] {
            let uri = Uri::builder().scheme("http").authority("a").path_and_query(path).build().expect("a URI");
            let plan = routes.of(&uri);
            assert_eq!((plan.bypass, plan.ttl), (Some(true), None), "{path}");
        }
        for (uri, is_kept) in
            [("http://a/assets/a%2fb", true), ("http://a/x%2fy", false), ("http://a/assets/%41", true)]
        {
            let plan = routes.of(&uri.parse().expect("a URI"));
            assert_eq!((plan.bypass, plan.ttl.is_some()), (None, is_kept), "{uri}");
        }
        assert!(routes.of(&Uri::from_static("http://app.test./v2/a")).origin.is_some());
        assert_eq!(routes.of(&Uri::from_static("http://app.test/v2/..%2fx")).bypass, Some(true));
    }

    #[test]
    fn what_is_no_rule_is_refused() {
        for (text, reason) in [
            ("", "name a host or a path"),
            ("origin=http://a", "name a host or a path"),
            ("host=a", "what is different"),
            ("path=a ttl=1s", "begins with a slash"),
            ("host=a/b ttl=1s", "write a name"),
            ("host=a:8080 ttl=1s", "write a name"),
            ("path=/a?b ttl=1s", "write it plainly"),
            ("path=/a/../b ttl=1s", "write it plainly"),
            ("path=/%61 ttl=1s", "write it plainly"),
            ("path=/a path=/b ttl=1s", "said twice"),
            ("path=/a bypass ttl=1s", "has no ttl"),
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
