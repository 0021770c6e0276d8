//! What makes a key for the requests of a rule.

use std::sync::Arc;

use hyper::Uri;
use hyper::http::request::Parts;
use tower_redis_cache::{CacheKey, DefaultKey, KeyExtractor};

use super::Routes;
use super::condition::list;
use crate::key::KeyArgs;

/// What a rule says of the key. What it leaves unsaid is as the flags for all say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct KeyRule {
    ignore_query: Option<Vec<String>>,
    keep_query: Option<Vec<String>>,
    sort_query: Option<bool>,
    headers: Option<Vec<String>>,
    cookies: Option<Vec<String>>,
}

/// Makes keys by the rule that fits.
#[derive(Clone, Debug)]
pub(crate) struct RouteKeys {
    routes: Routes,
    usual: DefaultKey,
    /// Empty where no rule says anything of it.
    by_rule: Arc<[Option<DefaultKey>]>,
}

// ===== impl KeyRule =====

impl KeyRule {
    /// Nothing where no word is about the key.
    pub(super) fn read<'a>(mut take: impl FnMut(&str) -> Option<&'a str>) -> Result<Option<Self>, String> {
        let mut names = |name| take(name).map(|text: &str| list(text).map(ToOwned::to_owned).collect::<Vec<String>>());
        let (ignore_query, keep_query) = (names("ignore-query"), names("keep-query"));
        let (headers, cookies) = (names("key-header"), names("key-cookie"));
        let sort_query = take("sort-query").map(|text| super::truth("sort-query", text)).transpose()?;
        if keep_query.as_ref().is_some_and(Vec::is_empty) {
            return Err("keep-query: name those to keep".to_owned());
        }
        if ignore_query.is_some() && keep_query.is_some() {
            return Err("ignore-query and keep-query say two things of one query".to_owned());
        }
        let rule = Self { ignore_query, keep_query, sort_query, headers, cookies };
        // A mistake is one now, and not when the first request comes.
        rule.over(&KeyArgs::default()).extractor().map_err(|error| error.trim_start_matches('-').to_owned())?;
        Ok((rule != Self::default()).then_some(rule))
    }

    fn over(&self, usual: &KeyArgs) -> KeyArgs {
        let says_which = self.ignore_query.is_some() || self.keep_query.is_some();
        let names = |own: &Option<Vec<String>>, usual: &Vec<String>| own.as_ref().unwrap_or(usual).clone();
        let of_query = |own: &Option<Vec<String>>, usual: &Vec<String>| match says_which {
            true => own.clone().unwrap_or_default(),
            false => usual.clone(),
        };
        KeyArgs {
            ignore_query: of_query(&self.ignore_query, &usual.ignore_query),
            keep_query: of_query(&self.keep_query, &usual.keep_query),
            sort_query: self.sort_query.unwrap_or(usual.sort_query),
            key_header: names(&self.headers, &usual.key_header),
            key_cookie: names(&self.cookies, &usual.key_cookie),
        }
    }
}

// ===== impl RouteKeys =====

impl RouteKeys {
    /// # Errors
    ///
    /// A sentence that names the argument to change.
    pub(crate) fn new(routes: &Routes, usual: &KeyArgs) -> Result<Self, String> {
        let own = |rule: Option<&KeyRule>| rule.map(|rule| rule.over(usual).extractor()).transpose();
        let by_rule: Vec<_> = routes.rules.iter().map(|route| own(route.key.as_ref())).collect::<Result<_, _>>()?;
        let by_rule = if by_rule.iter().any(Option::is_some) { by_rule.into() } else { Arc::default() };
        Ok(Self { routes: routes.clone(), usual: usual.extractor()?, by_rule })
    }

    /// By the target, and nothing that an earlier service found: purges and invalidation name targets of their own.
    fn of(&self, parts: &Parts) -> &DefaultKey {
        if self.by_rule.is_empty() {
            return &self.usual;
        }
        let rule = self.routes.of(&parts.uri).key;
        rule.and_then(|index| self.by_rule.get(index)?.as_ref()).unwrap_or(&self.usual)
    }
}

impl KeyExtractor for RouteKeys {
    fn key(&self, parts: &Parts) -> Option<CacheKey> {
        self.of(parts).key(parts)
    }

    fn target(&self, parts: &Parts) -> Option<Uri> {
        // No rule has a say in this.
        KeyExtractor::target(&self.usual, parts)
    }

    fn forwarded_uri(&self, parts: &Parts) -> Option<Uri> {
        self.of(parts).forwarded_uri(parts)
    }
}
