//! What a response is tagged with, so that a purge can name it together with others.

use std::fmt;
use std::sync::Arc;

use http::header::HeaderName;
use http::response;

use super::groups::{self, CACHE_GROUPS};

/// How tags are written in a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// RFC 9875: a list of strings.
    Groups,
    /// Separated by spaces.
    Words,
    /// Separated by commas.
    Commas,
}

/// The fields that tags are read from.
static FIELDS: [(HeaderName, Form); 4] = [
    (CACHE_GROUPS, Form::Groups),
    (HeaderName::from_static("surrogate-key"), Form::Words),
    (HeaderName::from_static("xkey"), Form::Words),
    (HeaderName::from_static("cache-tag"), Form::Commas),
];

/// Bounds on the tags of one response: over them it is not stored, since it could not be purged by all of them.
const MAX_TAGS: usize = 128;
const MAX_TAG: usize = 1024;
const MAX_OCTETS: usize = 16 * 1024;

/// Tags that nobody could purge by: too many, too long, or not to be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unusable;

/// Where tags come from.
#[derive(Clone, Default)]
pub(crate) struct Tagger {
    /// Besides the fields.
    pub(crate) own: Option<Arc<OwnTags>>,
    /// Whether the client gets the fields.
    pub(crate) pass: bool,
}

pub(crate) type OwnTags = dyn Fn(&response::Parts) -> Vec<String> + Send + Sync;

impl Tagger {
    /// The tags of a response, each of them once.
    pub(crate) fn tags(&self, head: &response::Parts) -> Result<Box<[Box<str>]>, Unusable> {
        let mut tags = Tags::default();
        // Most have none: looking at each field takes less than looking for each of these.
        let has_any = head.headers.keys().any(|name| FIELDS.iter().any(|(other, _)| name == other));
        for (name, form) in FIELDS.iter().filter(|(name, _)| has_any && head.headers.contains_key(name)) {
            if *form == Form::Groups {
                groups::named(&head.headers, name).map_err(|_| Unusable)?.iter().try_for_each(|tag| tags.add(tag))?;
                continue;
            }
            for line in head.headers.get_all(name) {
                let line = std::str::from_utf8(line.as_bytes()).map_err(|_| Unusable)?;
                let is_separator = |c: char| if *form == Form::Commas { c == ',' } else { c == ' ' || c == '\t' };
                line.split(is_separator).try_for_each(|tag| tags.add(tag.trim()))?;
            }
        }
        if let Some(own) = &self.own {
            own(head).iter().try_for_each(|tag| tags.add(tag))?;
        }
        Ok(tags.found.into())
    }

    /// The fields that are for the cache alone.
    pub(crate) fn withheld(&self) -> impl Iterator<Item = &'static HeaderName> {
        FIELDS.iter().map(|(name, _)| name).filter(|_| !self.pass)
    }
}

#[derive(Debug, Default)]
struct Tags {
    found: Vec<Box<str>>,
    octets: usize,
}

impl Tags {
    fn add(&mut self, tag: &str) -> Result<(), Unusable> {
        if tag.is_empty() || self.found.iter().any(|known| **known == *tag) {
            return Ok(());
        }
        self.octets += tag.len();
        if self.found.len() == MAX_TAGS || tag.len() > MAX_TAG || self.octets > MAX_OCTETS {
            return Err(Unusable);
        }
        self.found.push(tag.into());
        Ok(())
    }
}

impl fmt::Debug for Tagger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tagger").field("own", &self.own.is_some()).field("pass", &self.pass).finish()
    }
}

#[cfg(test)]
mod tests {
    use http::Response;

    use super::*;

    fn tags(lines: &[(&str, &str)]) -> Result<Vec<String>, Unusable> {
        tags_by(&Tagger::default(), lines)
    }

    fn tags_by(tagger: &Tagger, lines: &[(&str, &str)]) -> Result<Vec<String>, Unusable> {
        let builder = lines.iter().fold(Response::builder(), |builder, (name, line)| builder.header(*name, *line));
        let tags = tagger.tags(&builder.body(()).unwrap().into_parts().0)?;
        Ok(tags.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn tags_come_from_all_fields_each_in_its_form() {
        let lines = [
            ("surrogate-key", "a  b\tc"),
            ("xkey", "d"),
            ("cache-tag", "e f, g,,"),
            ("cache-tag", "a"),
            ("cache-groups", r#""h i""#),
        ];
        assert_eq!(tags(&lines).unwrap(), ["h i", "a", "b", "c", "d", "e f", "g"]);
        assert!(tags(&[]).unwrap().is_empty());
        let own = Tagger { own: Some(Arc::new(|head| vec![head.status.as_str().to_owned()])), pass: false };
        assert_eq!(tags_by(&own, &[("xkey", "a")]).unwrap(), ["a", "200"]);
    }

    #[test]
    fn what_cannot_be_purged_by_is_unusable() {
        let words = |count: usize, length: usize| {
            let word = |n: usize| format!("{n:0length$}");
            (0..count).map(word).collect::<Vec<_>>().join(" ")
        };
        for (count, length, fits) in
            [(128, 3, true), (129, 3, false), (1, 1024, true), (1, 1025, false), (16, 1024, true), (17, 1024, false)]
        {
            assert_eq!(tags(&[("surrogate-key", &words(count, length))]).is_ok(), fits, "{count} of {length}");
        }
        assert_eq!(tags(&[("cache-groups", "a")]), Err(Unusable));
        assert_eq!(tags(&[("cache-tag", "a\u{fffd}"), ("xkey", "b")]).unwrap(), ["b", "a\u{fffd}"]);
    }
}
