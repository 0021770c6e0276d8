//! Cache groups (RFC 9875): responses of one origin that change together, named by the origin itself.

use http::HeaderMap;
use http::header::HeaderName;
use sfv::{BareItem, ListEntry, Parser};

/// The groups that a response belongs to (§2).
pub(crate) const CACHE_GROUPS: HeaderName = HeaderName::from_static("cache-groups");
/// The groups that the response to an unsafe request ends (§3).
const CACHE_GROUP_INVALIDATION: HeaderName = HeaderName::from_static("cache-group-invalidation");

/// More groups than these are not read, so that one answer cannot end more: §3 asks for 32 at the least.
const MOST: usize = 128;

/// A field that is no list of strings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// The groups that a field names. Parameters mean nothing (§2).
pub(crate) fn named(headers: &HeaderMap, name: &HeaderName) -> Result<Vec<String>, Malformed> {
    let mut whole = Vec::new();
    for line in headers.get_all(name) {
        whole.extend_from_slice(line.as_bytes());
        whole.extend_from_slice(b", ");
    }
    let whole = whole.strip_suffix(b", ").unwrap_or_default();
    let list: sfv::List = Parser::new(whole).parse().map_err(|_| Malformed)?;
    let group = |entry: &ListEntry| match entry {
        ListEntry::Item(sfv::Item { bare_item: BareItem::String(group), .. }) => Ok(group.as_str().to_owned()),
        _ => Err(Malformed),
    };
    list.iter().map(group).collect()
}

/// The groups that end with a response to an unsafe request; a field that is malformed names none (RFC 9651 §4.2).
pub(crate) fn invalidated(headers: &HeaderMap) -> Vec<String> {
    let mut groups = named(headers, &CACHE_GROUP_INVALIDATION).unwrap_or_default();
    groups.truncate(MOST);
    groups
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::semantics::tests::headers;

    #[test]
    fn groups_are_a_list_of_strings_over_all_lines() {
        let lines = [("cache-groups", r#""a", "b c";x=1"#), ("cache-groups", r#""d""#)];
        assert_eq!(named(&headers(&lines), &CACHE_GROUPS), Ok(vec!["a".into(), "b c".into(), "d".into()]));
        assert_eq!(named(&HeaderMap::new(), &CACHE_GROUPS), Ok(Vec::new()));
        for malformed in ["a", r#""a", b"#, r#"("a")"#, r#""a"#, r#""a",,"b""#, "1"] {
            assert_eq!(named(&headers(&[("cache-groups", malformed)]), &CACHE_GROUPS), Err(Malformed), "{malformed}");
        }
    }

    #[test]
    fn an_answer_ends_no_more_groups_than_are_read() {
        let many = (0..200).map(|n| format!("\"{n}\"")).collect::<Vec<_>>().join(", ");
        assert_eq!(invalidated(&headers(&[("cache-group-invalidation", &many)])).len(), MOST);
        assert!(invalidated(&headers(&[("cache-group-invalidation", "a")])).is_empty());
    }
}
