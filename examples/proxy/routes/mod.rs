//! Which origin a request goes to, by its host and the beginning of its path, and what is different for it in the cache.

mod condition;
mod host;
mod key;
mod origins;
mod path;
mod rule;

use std::sync::Arc;
use std::task::{Context, Poll};

use hyper::header::COOKIE;
use hyper::{Method, Request, Uri};
use tower::{Layer, Service};
use tower_redis_cache::CacheOverride;

use condition::{Methods, is_cached};
pub(crate) use key::RouteKeys;
pub(crate) use origins::{Checked, Origins};
use path::{plain, without_parameters};
use rule::Lifetimes;
pub(crate) use rule::Route;

/// What the rules come to for one request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Plan {
    /// The rule whose origin it goes to.
    origin: Option<By>,
    lifetimes: Lifetimes,
    bypass: Option<bool>,
    methods: Option<Methods>,
    ignores_cookies: Option<bool>,
    /// The rules whose cookies, fields and key count.
    cookies: Option<usize>,
    fields: Option<usize>,
    key: Option<usize>,
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

/// A word that is one of two.
fn truth(name: &str, text: &str) -> Result<bool, String> {
    text.parse().map_err(|_| format!("{name}={text}: there are true and false"))
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
            let here = |is_said: bool| is_said.then_some(index);
            plan.origin = plan.origin.or(here(route.origin.is_some()).map(By));
            plan.lifetimes = plan.lifetimes.or(route.lifetimes);
            plan.bypass = plan.bypass.or(route.bypass);
            plan.methods = plan.methods.or(route.methods);
            plan.ignores_cookies = plan.ignores_cookies.or(route.ignores_cookies);
            plan.cookies = plan.cookies.or(here(route.bypass_cookies.is_some()));
            plan.fields = plan.fields.or(here(route.bypass_fields.is_some()));
            plan.key = plan.key.or(here(route.key.is_some()));
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
        let others = [uri.path(), &plain(&read), &without_parameters(uri.path()), &without_parameters(&read)];
        match others.iter().all(|other| plan == self.plan(host, other)) {
            true => plan,
            false => Plan { bypass: Some(true), ..plan },
        }
    }

    /// Whether a condition is met under which nothing is to be answered or kept.
    fn is_for_one<Q>(&self, plan: Plan, request: &Request<Q>) -> bool {
        let headers = request.headers();
        let of = |index: Option<usize>| index.and_then(|index| self.rules.get(index));
        of(plan.cookies).and_then(|route| route.bypass_cookies.as_ref()).is_some_and(|all| all.are_in(headers))
            || of(plan.fields).and_then(|route| route.bypass_fields.as_ref()).is_some_and(|all| all.are_in(headers))
    }

    /// What the cache is told. By unsafe methods it learns of changes, on whatever condition; but what answers them is kept
    /// no more than what answers a GET would be.
    fn overrides<Q>(&self, plan: Plan, request: &Request<Q>) -> Option<CacheOverride> {
        let methods = |method| plan.methods.is_none_or(|methods| methods.contain(method));
        let is_for_one = self.is_for_one(plan, request);
        let is_cached = is_cached(request.method());
        if plan.bypass == Some(true) || (is_cached && (is_for_one || !methods(request.method()))) {
            return Some(CacheOverride::new().bypass());
        }
        let is_kept = is_cached || (!is_for_one && methods(&Method::GET));
        if !is_kept {
            return Some(CacheOverride::new().no_store());
        }
        // As for the lifetimes of the flags: who has a cookie may be somebody.
        let is_somebodys = request.headers().contains_key(COOKIE) && plan.ignores_cookies != Some(true);
        let ttl = plan.lifetimes.ttl.filter(|_| !is_somebodys);
        Lifetimes { ttl, ..plan.lifetimes }.overrides()
    }

    /// Tells the cache, and who asks the origin, what is different for a request.
    pub(crate) fn apply<Q>(&self, request: &mut Request<Q>) {
        let plan = self.of(request.uri());
        if let Some(by) = plan.origin {
            request.extensions_mut().insert(by);
        }
        if let Some(overrides) = self.overrides(plan, request) {
            request.extensions_mut().insert(overrides);
        }
    }

    /// Whether some requests have a lifetime where their responses say nothing of it.
    pub(crate) fn have_lifetimes(&self) -> bool {
        self.rules.iter().any(|route| route.lifetimes.ttl.or(route.lifetimes.default_ttl).is_some())
    }

    pub(crate) fn layer(&self) -> RouteLayer {
        RouteLayer { routes: self.clone() }
    }
}

impl Lifetimes {
    /// Nothing where nothing is said.
    fn overrides(self) -> Option<CacheOverride> {
        let set = |over: CacheOverride, said, set: fn(CacheOverride, std::time::Duration) -> CacheOverride| match said {
            Some(span) => set(over, span),
            None => over,
        };
        let mut over = CacheOverride::new();
        over = set(over, self.ttl, CacheOverride::ttl);
        over = set(over, self.default_ttl, CacheOverride::default_ttl);
        over = set(over, self.while_revalidate, CacheOverride::stale_while_revalidate);
        over = set(over, self.if_error, CacheOverride::stale_if_error);
        (self != Self::default()).then_some(over)
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
        self.routes.apply(&mut request);
        self.inner.call(request)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tower_redis_cache::KeyExtractor;

    use super::*;
    use crate::key::KeyArgs;

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
            assert_eq!((plan.lifetimes.ttl, plan.bypass), (Some(Duration::from_secs(seconds)), None), "{uri}");
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
        assert_eq!((plan.bypass, plan.lifetimes.ttl), (Some(false), Some(Duration::from_secs(60))));
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
            "/admin;x/a",
            "/x/..;/admin/a",
            "/x;/../admin",
            "/admin%3bx",
            "/x/..%3b/admin",
            "/assets/..;/account",
            "/assets/..%253b/account",
            "/assets/..%2faccount",
            "/assets/%2e%2e/account",
            "/assets/..%252faccount",
        ] {
            let uri = Uri::builder().scheme("http").authority("a").path_and_query(path).build().expect("a URI");
            let plan = routes.of(&uri);
            assert_eq!(plan.bypass, Some(true), "{path}");
        }
        for (uri, is_kept) in
            [("http://a/assets/a%2fb", true), ("http://a/x%2fy", false), ("http://a/assets/%41", true)]
        {
            let plan = routes.of(&uri.parse().expect("a URI"));
            assert_eq!((plan.bypass, plan.lifetimes.ttl.is_some()), (None, is_kept), "{uri}");
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
            ("path=/a bypass key-header=a", "has no ttl"),
            ("path=/a stale-if-error=soon", "stale-if-error=soon"),
            ("path=/a bypass-cookie=*", "names of cookies"),
            ("path=/a bypass-header=a:b", "header field"),
            ("path=/a methods=POST", "GET, HEAD and QUERY"),
            ("path=/a sort-query=perhaps", "true and false"),
            ("path=/a key-header=a:b", "header field"),
            ("path=/a ignore-query=a keep-query=b", "two things"),
            ("path=/a keep-query=", "keep-query"),
            ("path=/a bypass-cookie", "bypass-cookie=VALUE"),
            ("path=/a key-header", "key-header=VALUE"),
            ("path=/a;b ttl=1s", "write it plainly"),
            ("host=*. ttl=1s", "write a name"),
            ("path=/ origin=ftp://a", "http://"),
            ("path=/ ttl=soon", "ttl=soon"),
            ("path=/ bypass=perhaps", "bypass"),
            ("path=/ tll=1s", "did you mean ttl?"),
            ("path=/ bypas-cookie=a", "did you mean bypass-cookie?"),
            ("path=/ zzz", "there are host"),
        ] {
            let refused = text.parse::<Route>().expect_err(text);
            assert!(refused.contains(reason), "{text}: {refused}");
        }
        let twice = ["path=/a ttl=1s", "path=/a/ bypass"].map(|text| text.parse().expect(text)).to_vec();
        assert!(Routes::new(twice).is_err());
    }

    fn asked(method: &str, uri: &str, headers: &[(&str, &str)]) -> Request<()> {
        let request = Request::builder().method(method).uri(uri);
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        request.body(()).expect("a request")
    }

    #[test]
    fn conditions_are_for_what_the_cache_would_answer() {
        let routes = routes(&[
            "path=/ bypass-cookie=session bypass-header=x-preview",
            "path=/blog bypass-cookie=wp_*",
            "path=/blog/public bypass-cookie= methods=GET",
            "path=/heads methods=HEAD",
        ]);
        let told = |method, path: &str, headers: &[(&str, &str)]| {
            let request = asked(method, &format!("http://a{path}"), headers);
            routes.overrides(routes.of(request.uri()), &request)
        };
        let is = |told: Option<CacheOverride>, expected: CacheOverride| {
            told.is_some_and(|told| format!("{told:?}") == format!("{expected:?}"))
        };
        let is_out = |method, path, headers: &[_]| is(told(method, path, headers), CacheOverride::new().bypass());
        let keeps_none = |method, path, headers: &[_]| is(told(method, path, headers), CacheOverride::new().no_store());
        let [session, wp, preview] = [("cookie", "session=1"), ("cookie", "wp_1=2"), ("x-preview", "")];
        assert!(is_out("GET", "/", &[session]) && is_out("HEAD", "/", &[preview]) && is_out("QUERY", "/", &[session]));
        assert!(told("GET", "/", &[wp]).is_none() && told("POST", "/", &[wp]).is_none());
        assert!(keeps_none("POST", "/", &[session]) && keeps_none("DELETE", "/", &[preview]));
        assert!(is_out("GET", "/blog", &[wp]) && told("GET", "/blog", &[session]).is_none());
        assert!(is_out("GET", "/blog", &[preview]), "of the rule for all");
        assert!(told("GET", "/blog/public", &[wp, session]).is_none() && is_out("HEAD", "/blog/public", &[]));
        assert!(told("DELETE", "/blog/public", &[]).is_none() && keeps_none("POST", "/heads", &[]));
    }

    /// As with the lifetimes of flags.
    #[test]
    fn who_has_a_cookie_may_be_somebody() {
        let routes = routes(&["path=/ ttl=1m stale-if-error=1m", "path=/assets ttl=1h ignore-cookies"]);
        let told = |path: &str, headers: &[(&str, &str)]| {
            let request = asked("GET", &format!("http://a{path}"), headers);
            format!("{:?}", routes.overrides(routes.of(request.uri()), &request).expect("something"))
        };
        let grace = CacheOverride::new().stale_if_error(Duration::from_secs(60));
        let cookie = ("cookie", "a=b");
        assert_eq!(told("/", &[cookie]), format!("{grace:?}"));
        assert_eq!(told("/", &[]), format!("{:?}", grace.ttl(Duration::from_secs(60))));
        assert_eq!(told("/assets", &[cookie]), format!("{:?}", grace.ttl(Duration::from_secs(3600))));
    }

    #[test]
    fn a_key_is_made_by_the_rule_for_the_target() {
        let routes = routes(&[
            "path=/search keep-query=q sort-query",
            "path=/shop ignore-query=ref key-header=accept-language",
            "path=/shop/all ttl=1m",
            "path=/raw ignore-query= key-cookie=tier",
        ]);
        let usual = KeyArgs { ignore_query: vec!["utm_*".to_owned()], ..KeyArgs::default() };
        let keys = RouteKeys::new(&routes, &usual).expect("they can be made");
        let key = |target: &str, headers: &[(&str, &str)]| {
            let (parts, ()) = asked("GET", &format!("http://a{target}"), headers).into_parts();
            (keys.key(&parts).expect("a key"), keys.forwarded_uri(&parts).map(|uri| uri.to_string()))
        };
        let same = |one, other| key(one, &[]).0 == key(other, &[]).0;
        assert!(same("/x?utm_a=1", "/x") && !same("/x?ref=1", "/x"));
        assert!(same("/search?q=1&utm_a=2&z=3", "/search?q=1"));
        assert_eq!(key("/search?z=3&q=1", &[]).1.as_deref(), Some("http://a/search?q=1"));
        assert!(same("/shop/all/a?ref=1", "/shop/all/a") && !same("/shop?utm_a=1", "/shop"));
        let german = [("accept-language", "de")];
        assert_ne!(key("/shop/all", &german).0, key("/shop/all", &[]).0);
        assert_eq!(key("/search", &german).0, key("/search", &[]).0);
        assert!(!same("/raw?utm_a=1", "/raw"));
        assert_ne!(key("/raw", &[("cookie", "tier=1")]).0, key("/raw", &[]).0);
    }
}
