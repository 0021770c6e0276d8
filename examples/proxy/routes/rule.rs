//! A rule in words: `host=api.example path=/v2 origin=http://127.0.0.1:9000 ttl=1m`.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

use super::condition::{Cookies, Fields, Methods};
use super::host::Host;
use super::key::KeyRule;
use super::{path, truth};
use crate::origin_url::OriginUrl;
use crate::settings::alike;
use crate::units::duration;

/// What is true when nothing is said of it but its name.
const ALONE: [&str; 3] = ["bypass", "ignore-cookies", "sort-query"];

/// A rule for some requests. What it leaves unsaid is as the next one that fits says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    pub(super) host: Host,
    /// Without a slash at its end: `/a` is for `/a` and `/a/b`, and not for `/ab`.
    pub(super) path: String,
    pub(super) origin: Option<OriginUrl>,
    pub(super) lifetimes: Lifetimes,
    pub(super) bypass: Option<bool>,
    pub(super) bypass_cookies: Option<Cookies>,
    pub(super) bypass_fields: Option<Fields>,
    pub(super) methods: Option<Methods>,
    pub(super) ignores_cookies: Option<bool>,
    pub(super) key: Option<KeyRule>,
}

/// How long responses are of use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Lifetimes {
    pub(super) ttl: Option<Duration>,
    pub(super) default_ttl: Option<Duration>,
    pub(super) while_revalidate: Option<Duration>,
    pub(super) if_error: Option<Duration>,
}

/// `name=value` each, or a name alone where it is one of two.
struct Words<'a>(BTreeMap<&'a str, &'a str>);

/// All that a rule can say.
const NAMES: [&str; 17] = [
    "host",
    "path",
    "origin",
    "ttl",
    "default-ttl",
    "stale-while-revalidate",
    "stale-if-error",
    "bypass",
    "bypass-cookie",
    "bypass-header",
    "methods",
    "ignore-cookies",
    "ignore-query",
    "keep-query",
    "sort-query",
    "key-header",
    "key-cookie",
];

fn unknown(name: &str) -> String {
    match alike(name, NAMES) {
        Some(meant) => format!("{name} is nothing that a rule says; did you mean {meant}?"),
        None => format!("{name} is nothing that a rule says; there are {}", NAMES.join(", ")),
    }
}

// ===== impl Words =====

impl<'a> Words<'a> {
    fn read(text: &'a str) -> Result<Self, String> {
        let mut words = BTreeMap::new();
        for word in text.split_whitespace() {
            let (name, value) = match word.split_once('=') {
                Some(pair) => pair,
                None if ALONE.contains(&word) => (word, "true"),
                None if NAMES.contains(&word) => return Err(format!("{word} has no value: write {word}=VALUE")),
                None => return Err(unknown(word)),
            };
            if words.insert(name, value).is_some() {
                return Err(format!("{name} is said twice"));
            }
        }
        Ok(Self(words))
    }

    fn take<T>(&mut self, name: &str, read: impl FnOnce(&str) -> Result<T, String>) -> Result<Option<T>, String> {
        self.0.remove(name).map(read).transpose()
    }

    fn time(&mut self, name: &str) -> Result<Option<Duration>, String> {
        self.take(name, |text| duration(text).map_err(|error| format!("{name}={text}: {error}")))
    }
}

// ===== impl Route =====

impl FromStr for Route {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut words = Words::read(text)?;
        let (host, path) = (words.take("host", Host::read)?, words.take("path", path::read)?);
        let lifetimes = Lifetimes {
            ttl: words.time("ttl")?,
            default_ttl: words.time("default-ttl")?,
            while_revalidate: words.time("stale-while-revalidate")?,
            if_error: words.time("stale-if-error")?,
        };
        let is_nowhere = host.is_none() && path.is_none();
        let route = Self {
            host: host.unwrap_or(Host::Any),
            path: path.unwrap_or_default(),
            origin: words.take("origin", |url| url.parse().map_err(|error| format!("origin={url}: {error}")))?,
            lifetimes,
            bypass: words.take("bypass", |text| truth("bypass", text))?,
            bypass_cookies: words.take("bypass-cookie", Cookies::read)?,
            bypass_fields: words.take("bypass-header", Fields::read)?,
            methods: words.take("methods", Methods::read)?,
            ignores_cookies: words.take("ignore-cookies", |text| truth("ignore-cookies", text))?,
            key: KeyRule::read(|name| words.0.remove(name))?,
        };
        if let Some(name) = words.0.keys().next() {
            return Err(unknown(name));
        }
        if is_nowhere {
            return Err("name a host or a path: host=api.example path=/v2 origin=http://127.0.0.1:9000".to_owned());
        }
        route.checked()
    }
}

impl Route {
    fn checked(self) -> Result<Self, String> {
        let same = Self { host: Host::Any, path: String::new(), ..self.clone() };
        if same == Self::of_everything() {
            return Err("say what is different: origin=URL, ttl=TIME, bypass or another".to_owned());
        }
        let is_of_caching = Self { origin: None, bypass: None, ..same } != Self::of_everything();
        match self.bypass == Some(true) && is_of_caching {
            true => Err("what bypasses the cache has no ttl, key or other setting of it".to_owned()),
            false => Ok(self),
        }
    }

    /// Says nothing.
    fn of_everything() -> Self {
        Self {
            host: Host::Any,
            path: String::new(),
            origin: None,
            lifetimes: Lifetimes::default(),
            bypass: None,
            bypass_cookies: None,
            bypass_fields: None,
            methods: None,
            ignores_cookies: None,
            key: None,
        }
    }

    pub(super) fn fits(&self, host: &str, path: &str) -> bool {
        let rest = path.strip_prefix(self.path.as_str());
        self.host.fits(host) && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

// ===== impl Lifetimes =====

impl Lifetimes {
    /// With those of another rule where these are unsaid.
    pub(super) fn or(self, other: Self) -> Self {
        Self {
            ttl: self.ttl.or(other.ttl),
            default_ttl: self.default_ttl.or(other.default_ttl),
            while_revalidate: self.while_revalidate.or(other.while_revalidate),
            if_error: self.if_error.or(other.if_error),
        }
    }
}
