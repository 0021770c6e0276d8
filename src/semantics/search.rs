//! `No-Vary-Search`: which query parameters a response does not depend on.
//!
//! A dictionary (RFC 8941) with `key-order` (the order of parameters does not matter), `params` (none of them matters, or
//! none of those listed) and `except` (but these do). Two queries are one under it if what matters in them is the same.

use http::header::HeaderName;
use http::{HeaderMap, Uri};
use sfv::{BareItem, Dictionary, ListEntry, Parser};

pub(crate) const NO_VARY_SEARCH: HeaderName = HeaderName::from_static("no-vary-search");

/// What of a query matters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SearchVariance {
    pub(crate) key_order: bool,
    pub(crate) params: Params,
}

/// Which parameters do not matter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Params {
    Ignored(Vec<String>),
    /// All but these.
    IgnoredExcept(Vec<String>),
}

impl Default for Params {
    fn default() -> Self {
        Self::Ignored(Vec::new())
    }
}

/// More names than this are a mistake.
const MAX_NAMES: usize = 64;

impl SearchVariance {
    /// `None` where the field is absent, says nothing, or is malformed, all of which mean that everything matters.
    pub(crate) fn of(response: &HeaderMap) -> Option<Self> {
        let mut lines = response.get_all(&NO_VARY_SEARCH).iter();
        let (value, None) = (lines.next()?, lines.next()) else { return None };
        let dictionary: Dictionary = Parser::new(value.as_bytes()).parse().ok()?;
        let mut found = Self::default();
        let mut all = false;
        let mut except = None;
        for (key, entry) in &dictionary {
            match (key.as_str(), entry) {
                ("key-order", ListEntry::Item(item)) => found.key_order = item.bare_item.as_boolean()?,
                ("params", ListEntry::Item(item)) => all = item.bare_item.as_boolean()?,
                ("params", ListEntry::InnerList(list)) => found.params = Params::Ignored(names(&list.items)?),
                ("except", ListEntry::InnerList(list)) => except = Some(names(&list.items)?),
                ("key-order" | "except", _) => return None,
                _ => {}
            }
        }
        match (all, except) {
            (true, except) => found.params = Params::IgnoredExcept(except.unwrap_or_default()),
            (false, Some(_)) => return None,
            (false, None) => {}
        }
        (found != Self::default()).then_some(found)
    }

    /// The target with what matters of its query, in a canonical form.
    pub(crate) fn canonical(&self, target: &Uri) -> Option<Uri> {
        let query = target.query().unwrap_or_default();
        let mut pairs: Vec<_> =
            form_urlencoded::parse(query.as_bytes()).filter(|(name, _)| self.matters(name)).collect();
        if self.key_order {
            pairs.sort_by(|(one, _), (other, _)| one.cmp(other));
        }
        let mut text = form_urlencoded::Serializer::new(String::new());
        text.extend_pairs(pairs);
        let query = text.finish();
        let path = target.path();
        let path_and_query = if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") };
        let mut parts = target.clone().into_parts();
        parts.path_and_query = Some(path_and_query.parse().ok()?);
        Uri::from_parts(parts).ok()
    }

    fn matters(&self, name: &str) -> bool {
        match &self.params {
            Params::Ignored(names) => !names.iter().any(|known| known == name),
            Params::IgnoredExcept(names) => names.iter().any(|known| known == name),
        }
    }
}

fn names(items: &[sfv::Item]) -> Option<Vec<String>> {
    if items.len() > MAX_NAMES {
        return None;
    }
    items.iter().map(|item| name_of(&item.bare_item)).collect()
}

/// The strings are names as they appear in a URL, percent-encoded.
fn name_of(item: &BareItem) -> Option<String> {
    let text = item.as_string()?.as_str();
    let (name, _) = form_urlencoded::parse(text.as_bytes()).next().unwrap_or_default();
    Some(name.into_owned())
}

/// The target without its query: the name under which a path's variances are kept.
pub(crate) fn without_query(target: &Uri) -> Option<Uri> {
    let mut parts = target.clone().into_parts();
    parts.path_and_query = Some(target.path().parse().ok()?);
    Uri::from_parts(parts).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn variance(value: &'static str) -> Option<SearchVariance> {
        let mut headers = HeaderMap::new();
        headers.insert(NO_VARY_SEARCH, HeaderValue::from_static(value));
        SearchVariance::of(&headers)
    }

    fn canonical(value: &'static str, target: &str) -> String {
        variance(value).unwrap().canonical(&target.parse().unwrap()).unwrap().to_string()
    }

    #[test]
    fn what_does_not_matter_is_left_out() {
        assert_eq!(canonical("params", "/a?x=1&y=2"), "/a");
        assert_eq!(canonical("params=(\"x\" \"z\")", "/a?x=1&y=2&x=3"), "/a?y=2");
        assert_eq!(canonical("params, except=(\"x\")", "http://h/a?x=1&y=2"), "http://h/a?x=1");
        assert_eq!(canonical("key-order", "/a?b=2&a=1&b=1"), "/a?a=1&b=2&b=1");
        assert_eq!(canonical("params=(\"x\")", "/a?b=2&a=1"), "/a?b=2&a=1");
    }

    #[test]
    fn names_and_values_are_compared_decoded() {
        assert_eq!(canonical("params=(\"a%20b\")", "/?a+b=1&a%20b=2&c=%7e"), canonical("params=(\"x\")", "/?c=~"));
    }

    #[test]
    fn a_field_that_says_nothing_or_nonsense_changes_nothing() {
        for value in [
            "",
            "key-order=?0",
            "params=?0",
            "params=()",
            "except=(\"a\")",
            "params=1",
            "params=(1)",
            "key-order=1",
            "(",
            "params=(\"a\"), except=(\"b\")",
        ] {
            assert_eq!(variance(value), None, "{value:?}");
        }
    }
}
