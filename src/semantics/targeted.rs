//! Targeted cache control (RFC 9213): the fields by which an origin speaks to one class of caches.

use http::HeaderMap;
use http::header::HeaderName;
use sfv::{BareItem, Dictionary, ListEntry, Parser};

use super::cache_control::ResponseDirectives;

/// The targeted fields that a cache obeys, the first of them first (RFC 9213 §2.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TargetList {
    names: Vec<HeaderName>,
}

/// Which field the directives of a response were read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DirectiveSource {
    /// A targeted field: Cache-Control and Expires do not count (§2.2).
    Targeted,
    CacheControl,
}

impl Default for TargetList {
    fn default() -> Self {
        Self { names: vec![HeaderName::from_static("cdn-cache-control")] }
    }
}

impl TargetList {
    pub(crate) fn new(names: Vec<HeaderName>) -> Self {
        Self { names }
    }

    pub(crate) fn names(&self) -> &[HeaderName] {
        &self.names
    }

    /// The directives that count: those of the first targeted field that is there, not empty and sound, else those of
    /// Cache-Control.
    pub(crate) fn directives(&self, headers: &HeaderMap) -> (ResponseDirectives, DirectiveSource) {
        for name in &self.names {
            if let Some(directives) = targeted_directives(headers, name) {
                return (directives, DirectiveSource::Targeted);
            }
        }
        (ResponseDirectives::parse(headers), DirectiveSource::CacheControl)
    }
}

/// §2.1: a dictionary; one that is empty or does not parse is as if it were absent, and so is one in which a directive
/// has a value of another type than it should.
fn targeted_directives(headers: &HeaderMap, name: &HeaderName) -> Option<ResponseDirectives> {
    let mut lines = headers.get_all(name).iter().peekable();
    lines.peek()?;
    let mut whole = Vec::new();
    for line in lines {
        if !whole.is_empty() {
            whole.extend_from_slice(b", ");
        }
        whole.extend_from_slice(line.as_bytes());
    }
    let dictionary: Dictionary = Parser::new(&whole).parse().ok()?;
    if dictionary.is_empty() {
        return None;
    }
    let mut directives = ResponseDirectives::default();
    for (key, entry) in &dictionary {
        // §2.1: parameters are ignored, and so is a directive that is an inner list.
        let ListEntry::Item(item) = entry else { continue };
        take(&mut directives, key.as_str(), &item.bare_item)?;
    }
    Some(directives)
}

/// `None` for a value of the wrong type.
fn take(directives: &mut ResponseDirectives, key: &str, value: &BareItem) -> Option<()> {
    match (kind(key), value) {
        (Kind::Other, _) | (Kind::Flag, BareItem::Boolean(false)) => Some(()),
        (Kind::Flag, BareItem::Boolean(true)) => {
            directives.take(key.as_bytes(), None);
            Some(())
        }
        // The qualified forms have their names in a string.
        (Kind::Flag, BareItem::String(names)) if matches!(key, "no-cache" | "private") => {
            directives.take(key.as_bytes(), Some(names.as_str().as_bytes()));
            Some(())
        }
        (Kind::Seconds, BareItem::Integer(seconds)) => {
            // A negative number is no delta-seconds, and makes the response stale (RFC 9111 §4.2.1).
            directives.take(key.as_bytes(), Some(seconds.to_string().as_bytes()));
            Some(())
        }
        _ => None,
    }
}

enum Kind {
    Flag,
    Seconds,
    Other,
}

fn kind(key: &str) -> Kind {
    match key {
        "no-store" | "no-cache" | "private" | "public" | "must-revalidate" | "proxy-revalidate" | "must-understand" => {
            Kind::Flag
        }
        "max-age" | "s-maxage" | "stale-while-revalidate" | "stale-if-error" => Kind::Seconds,
        _ => Kind::Other,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use http::HeaderValue;

    fn directives(fields: &[(&'static str, &'static str)]) -> (ResponseDirectives, DirectiveSource) {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_static(value));
        }
        let names = ["example-cache-control", "cdn-cache-control"].map(HeaderName::from_static).to_vec();
        TargetList::new(names).directives(&headers)
    }

    fn max_age(fields: &[(&'static str, &'static str)]) -> Option<u64> {
        directives(fields).0.max_age.valid().as_ref().map(Duration::as_secs)
    }

    #[test]
    fn the_first_sound_field_of_the_list_counts() {
        let all = [
            ("cache-control", "max-age=1"),
            ("cdn-cache-control", "max-age=2"),
            ("example-cache-control", "max-age=3"),
        ];
        assert_eq!(max_age(&all), Some(3));
        assert_eq!(max_age(&all[..2]), Some(2));
        assert_eq!(max_age(&all[..1]), Some(1));
        assert_eq!(directives(&all).1, DirectiveSource::Targeted);
        assert_eq!(directives(&all[..1]).1, DirectiveSource::CacheControl);
    }

    #[test]
    fn a_field_that_is_empty_or_unsound_is_as_if_it_were_absent() {
        for value in [
            "",
            " ",
            "max-age",
            "max-age=60,",
            "max-age=\"60\"",
            "MAX-AGE=60",
            "max-age=6 0",
            "max-age=1.5",
            "no-store=1",
        ] {
            assert_eq!(max_age(&[("cache-control", "max-age=1"), ("cdn-cache-control", value)]), Some(1), "{value:?}");
        }
    }

    #[test]
    fn directives_are_typed_and_parameters_do_not_matter() {
        let (found, _) =
            directives(&[("cdn-cache-control", "max-age=60;foo=bar, no-store=?0, public, x=(a b), y=tok")]);
        assert_eq!(found.max_age.valid(), Some(Duration::from_secs(60)));
        assert!(found.public && !found.no_store);
        assert!(directives(&[("cdn-cache-control", "no-store")]).0.no_store);
        assert_eq!(max_age(&[("cdn-cache-control", "max-age=60, max-age=70")]), Some(70));
        assert_eq!(max_age(&[("cdn-cache-control", "max-age=60"), ("cdn-cache-control", "public")]), Some(60));
    }
}
