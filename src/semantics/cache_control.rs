//! `Cache-Control` as types (RFC 9111 §5.2): one pass over all field lines, quotes respected, names in any case.

use std::time::Duration;

use http::HeaderMap;
use http::header::{self, GetAll, HeaderName, HeaderValue};

use super::time::DeltaSeconds;

/// The value of a directive that takes delta-seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Seconds {
    #[default]
    Absent,
    Of(DeltaSeconds),
    /// Present but not a number of seconds: RFC 9111 §4.2.1 lets a cache consider the response stale, and we do.
    Invalid,
}

/// A directive that may be qualified by a list of field names (RFC 9111 §5.2.2.4, §5.2.2.7).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Qualified {
    #[default]
    Absent,
    /// Only these fields are meant.
    Fields(Vec<HeaderName>),
    /// The whole response is meant.
    Whole,
}

/// How stale a response a client accepts (RFC 9111 §5.2.1.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum MaxStale {
    #[default]
    Absent,
    Any,
    By(DeltaSeconds),
}

/// The directives of a response that a shared cache obeys (RFC 9111 §5.2.2, RFC 5861).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ResponseDirectives {
    pub(crate) no_store: bool,
    pub(crate) no_cache: Qualified,
    pub(crate) private: Qualified,
    pub(crate) public: bool,
    pub(crate) must_revalidate: bool,
    pub(crate) proxy_revalidate: bool,
    pub(crate) must_understand: bool,
    pub(crate) max_age: Seconds,
    pub(crate) s_maxage: Seconds,
    pub(crate) stale_while_revalidate: Seconds,
    pub(crate) stale_if_error: Seconds,
}

/// The directives of a request (RFC 9111 §5.2.1, RFC 5861 §4).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RequestDirectives {
    pub(crate) no_store: bool,
    pub(crate) no_cache: bool,
    pub(crate) only_if_cached: bool,
    pub(crate) max_age: Seconds,
    pub(crate) min_fresh: Seconds,
    pub(crate) max_stale: MaxStale,
    pub(crate) stale_if_error: Seconds,
}

// ===== impl Seconds =====

impl Seconds {
    pub(crate) fn is_present(self) -> bool {
        self != Self::Absent
    }

    /// The span, where there is a valid one.
    pub(crate) fn valid(self) -> Option<Duration> {
        match self {
            Self::Of(delta) => Some(delta.as_duration()),
            Self::Absent | Self::Invalid => None,
        }
    }

    /// RFC 9111 §4.2.1: of several values the first counts.
    fn take_first(&mut self, argument: Option<&[u8]>) {
        if *self == Self::Absent {
            *self = argument.and_then(DeltaSeconds::parse).map_or(Self::Invalid, Self::Of);
        }
    }

    /// The same where the argument is digits up to the end of its member; gives what follows that.
    #[inline]
    fn take_plain<'a>(&mut self, list: &'a [u8]) -> Option<&'a [u8]> {
        let (seconds, rest) = DeltaSeconds::split_from(list)?;
        let rest = after_member(rest)?;
        if *self == Self::Absent {
            *self = Self::Of(seconds);
        }
        Some(rest)
    }
}

// ===== impl Qualified =====

impl Qualified {
    /// The unqualified form is the stronger; a list that names no field, or something that is none, counts as that.
    fn take(&mut self, argument: Option<&[u8]>) {
        let named = argument.map(|list| {
            ListMembers::new(list).map(HeaderName::from_bytes).collect::<Result<Vec<_>, _>>().unwrap_or_default()
        });
        match (&mut *self, named) {
            (Self::Whole, _) => {}
            (Self::Fields(known), Some(names)) if !names.is_empty() => known.extend(names),
            (Self::Absent, Some(names)) if !names.is_empty() => *self = Self::Fields(names),
            _ => *self = Self::Whole,
        }
    }

    pub(crate) fn is_whole(&self) -> bool {
        *self == Self::Whole
    }

    /// The fields that are meant, where it is not the whole.
    pub(crate) fn fields(&self) -> &[HeaderName] {
        match self {
            Self::Fields(names) => names,
            Self::Absent | Self::Whole => &[],
        }
    }
}

// ===== impl ResponseDirectives =====

impl ResponseDirectives {
    pub(crate) fn parse(headers: &HeaderMap) -> Self {
        let mut found = Self::default();
        for line in headers.get_all(header::CACHE_CONTROL) {
            let mut rest = line.as_bytes();
            while !rest.is_empty() {
                rest = found.take_plain(rest).unwrap_or_else(|| {
                    let (name, argument, rest) = split_directive(rest);
                    found.take(name, argument);
                    rest
                });
            }
        }
        found
    }

    /// Takes the first member of a list where it is one of the commonest, in lower case and without quotes, and gives
    /// what follows it. All else is left, with `None`, to be read by the whole grammar.
    #[inline]
    fn take_plain<'a>(&mut self, list: &'a [u8]) -> Option<&'a [u8]> {
        let list = list.trim_ascii_start();
        match list.first()? {
            b'm' => self.max_age.take_plain(list.strip_prefix(b"max-age=")?),
            b's' => match list.strip_prefix(b"s-maxage=") {
                Some(argument) => self.s_maxage.take_plain(argument),
                None => self.stale_while_revalidate.take_plain(list.strip_prefix(b"stale-while-revalidate=")?),
            },
            b'p' => {
                let rest = after_member(list.strip_prefix(b"public")?)?;
                self.public = true;
                Some(rest)
            }
            _ => None,
        }
    }

    /// One directive, its argument without quotes.
    pub(crate) fn take(&mut self, name: &[u8], argument: Option<&[u8]>) {
        match name {
            b"max-age" => self.max_age.take_first(argument),
            b"public" => self.public = true,
            b"no-cache" => self.no_cache.take(argument),
            b"private" => self.private.take(argument),
            b"no-store" => self.no_store = true,
            b"s-maxage" => self.s_maxage.take_first(argument),
            b"must-revalidate" => self.must_revalidate = true,
            b"proxy-revalidate" => self.proxy_revalidate = true,
            b"must-understand" => self.must_understand = true,
            b"stale-while-revalidate" => self.stale_while_revalidate.take_first(argument),
            b"stale-if-error" => self.stale_if_error.take_first(argument),
            // §5.2: names count in any case.
            other if has_capitals(other) => self.take(&other.to_ascii_lowercase(), argument),
            // §5.2.3: unrecognised directives are ignored; so is immutable, which speaks to private caches' reloads.
            _ => {}
        }
    }
}

// ===== impl RequestDirectives =====

impl RequestDirectives {
    pub(crate) fn parse(headers: &HeaderMap) -> Self {
        let mut found = Self::default();
        let lines = headers.get_all(header::CACHE_CONTROL);
        if lines.iter().next().is_none() {
            // §5.4: Pragma counts only where Cache-Control is absent.
            each_directive(&headers.get_all(header::PRAGMA), |name, _| {
                found.no_cache |= name.eq_ignore_ascii_case(b"no-cache")
            });
            return found;
        }
        each_directive(&lines, |name, argument| found.take(name, argument));
        found
    }

    fn take(&mut self, name: &[u8], argument: Option<&[u8]>) {
        match name {
            b"no-cache" => self.no_cache = true,
            b"max-age" => self.max_age.take_first(argument),
            b"no-store" => self.no_store = true,
            b"only-if-cached" => self.only_if_cached = true,
            b"min-fresh" => self.min_fresh.take_first(argument),
            b"max-stale" => self.max_stale.take_first(argument),
            b"stale-if-error" => self.stale_if_error.take_first(argument),
            other if has_capitals(other) => self.take(&other.to_ascii_lowercase(), argument),
            _ => {}
        }
    }
}

// ===== impl MaxStale =====

impl MaxStale {
    /// A limit that cannot be read allows nothing.
    fn take_first(&mut self, argument: Option<&[u8]>) {
        if *self == Self::Absent {
            *self = match argument {
                None => Self::Any,
                Some(limit) => DeltaSeconds::parse(limit).map_or(Self::Absent, Self::By),
            };
        }
    }

    pub(crate) fn allows(self, staleness: Duration) -> bool {
        match self {
            Self::Absent => false,
            Self::Any => true,
            Self::By(limit) => staleness <= limit.as_duration(),
        }
    }
}

/// Calls `visit` with the name and the unquoted argument of each member of a `#directive` list.
fn each_directive(lines: &GetAll<'_, HeaderValue>, mut visit: impl FnMut(&[u8], Option<&[u8]>)) {
    for line in lines {
        let mut rest = line.as_bytes();
        while !rest.is_empty() {
            let (name, argument, after) = split_directive(rest);
            visit(name, argument);
            rest = after;
        }
    }
}

/// The name of the first directive of a list, its argument without quotes, and what follows its comma.
fn split_directive(list: &[u8]) -> (&[u8], Option<&[u8]>, &[u8]) {
    let end_of_name = list.iter().position(|byte| matches!(byte, b',' | b'=' | b'"')).unwrap_or(list.len());
    let end = end_of_name + end_of_member(&list[end_of_name..]);
    let (name, argument) = match list.get(end_of_name) {
        Some(b'=') => (&list[..end_of_name], Some(unquote(list[end_of_name + 1..end].trim_ascii()))),
        _ => (&list[..end], None),
    };
    (name.trim_ascii(), argument, list.get(end + 1..).unwrap_or_default())
}

/// What follows a comma, or nothing at the end of a list. `None` where the member goes on.
#[inline]
fn after_member(list: &[u8]) -> Option<&[u8]> {
    match list {
        [] => Some(&[]),
        [b',', rest @ ..] => Some(rest),
        _ => None,
    }
}

fn has_capitals(name: &[u8]) -> bool {
    name.iter().any(u8::is_ascii_uppercase)
}

/// A quoted argument without its quotes. Escapes stay as they are: no number and no field name needs one.
fn unquote(argument: &[u8]) -> &[u8] {
    match argument {
        [b'"', inner @ .., b'"'] => inner,
        other => other,
    }
}

/// The members of a comma-separated list (RFC 9110 §5.6.1), commas inside quoted strings not counting. Empty members
/// are skipped.
pub(crate) struct ListMembers<'a> {
    rest: &'a [u8],
}

impl<'a> ListMembers<'a> {
    pub(crate) fn new(line: &'a [u8]) -> Self {
        Self { rest: line }
    }
}

impl<'a> Iterator for ListMembers<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        while !self.rest.is_empty() {
            let (member, rest) = self.rest.split_at(end_of_member(self.rest));
            self.rest = rest.get(1..).unwrap_or_default();
            let member = member.trim_ascii();
            if !member.is_empty() {
                return Some(member);
            }
        }
        None
    }
}

/// Where the first member of a list ends: at a comma outside quoted strings, of which most members have none.
fn end_of_member(list: &[u8]) -> usize {
    let mut at = 0;
    while let Some(offset) = list[at..].iter().position(|&byte| byte == b',' || byte == b'"') {
        at += offset;
        if list[at] == b',' {
            return at;
        }
        at += length_of_quoted(&list[at..]);
    }
    list.len()
}

/// The length of the quoted string that a list begins with, both quotes included; all of it where none closes it.
fn length_of_quoted(list: &[u8]) -> usize {
    let mut escaped = false;
    let closing = list.iter().skip(1).position(|&byte| {
        let closes = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        closes
    });
    closing.map_or(list.len(), |offset| offset + 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(lines: &[&str]) -> ResponseDirectives {
        ResponseDirectives::parse(&fields("cache-control", lines))
    }

    fn fields(name: &'static str, lines: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(name, HeaderValue::from_str(line).unwrap());
        }
        headers
    }

    fn seconds(value: u32) -> Seconds {
        Seconds::Of(DeltaSeconds::new(value))
    }

    #[test]
    fn names_count_in_any_case_and_any_list_position() {
        for line in ["No-Store", "max-age=60, NO-STORE", "a=\"b,c\" , no-store", ",, no-store", "no-store;"] {
            let expected = !line.ends_with(';');
            assert_eq!(response(&[line]).no_store, expected, "{line}");
        }
        assert!(response(&["max-age=60", "Private"]).private.is_whole());
        assert_eq!(response(&["MAX-AGE=60"]).max_age, seconds(60));
    }

    #[test]
    fn a_directive_inside_a_quoted_string_is_no_directive() {
        let found = response(&[r#"ext="no-store, private \", no-cache", max-age=5"#]);
        assert!(!found.no_store);
        assert_eq!((found.private, found.no_cache), (Qualified::Absent, Qualified::Absent));
        assert_eq!(found.max_age, seconds(5));
    }

    #[test]
    fn qualified_forms_name_fields_and_the_unqualified_one_is_stronger() {
        let found = response(&[r#"private="set-cookie", no-cache="x-a, x-b", max-age=5"#, "no-cache=X-C"]);
        let names = |qualified: &Qualified| qualified.fields().iter().map(HeaderName::to_string).collect::<Vec<_>>();
        assert_eq!(names(&found.private), ["set-cookie"]);
        assert_eq!(names(&found.no_cache), ["x-a", "x-b", "x-c"]);
        assert_eq!(found.max_age, seconds(5));
        for line in ["no-cache, no-cache=\"a\"", "no-cache=\"a\", no-cache", "no-cache=\"\"", "no-cache=\"a b\""] {
            assert_eq!(response(&[line]).no_cache, Qualified::Whole, "{line}");
        }
    }

    #[test]
    fn max_stale_has_three_meanings() {
        let check = |line, seconds, expected| {
            let found = RequestDirectives::parse(&fields("cache-control", &[line]));
            assert_eq!(found.max_stale.allows(Duration::from_secs(seconds)), expected, "{line}");
        };
        check("max-stale", 99_999, true);
        check("max-stale=10", 10, true);
        check("max-stale=10", 11, false);
        check("max-stale=x", 0, false);
        check("max-age=1", 0, false);
    }

    #[test]
    fn a_quoted_number_counts_and_a_malformed_one_is_invalid() {
        assert_eq!(response(&["max-age=\"60\""]).max_age, seconds(60));
        for line in ["max-age", "max-age=", "max-age=-1", "max-age=1.5", "max-age=6o", "max-age='60'"] {
            assert_eq!(response(&[line]).max_age, Seconds::Invalid, "{line}");
        }
    }

    #[test]
    fn the_first_of_several_values_counts() {
        assert_eq!(response(&["max-age=1, max-age=1800"]).max_age, seconds(1));
        assert_eq!(response(&["max-age=1800", "max-age=1"]).max_age, seconds(1800));
    }

    #[test]
    fn plain_members_are_read_as_the_whole_grammar_reads_them() {
        let names = ["max-age", "s-maxage", "stale-while-revalidate", "public", "Max-Age", "max-agex", "private"];
        let arguments =
            ["", "=", "=5", "=05", "=4294967296", "=99999999999999999999", "=5x", "=-5", "=\"5\"", "= 5", " =5", "=5 "];
        let members: Vec<_> =
            names.iter().flat_map(|name| arguments.map(|argument| format!("{name}{argument}"))).collect();
        for (one, other) in members.iter().flat_map(|one| members.iter().map(move |other| (one, other))) {
            for line in [format!("{one},{other}"), format!(" {one} ,\t{other},,public=\"a, max-age=7\"")] {
                let headers = fields("cache-control", &[&line]);
                let mut expected = ResponseDirectives::default();
                each_directive(&headers.get_all(header::CACHE_CONTROL), |name, argument| expected.take(name, argument));
                assert_eq!(ResponseDirectives::parse(&headers), expected, "{line}");
            }
        }
    }

    #[test]
    fn pragma_counts_only_without_cache_control() {
        assert!(RequestDirectives::parse(&fields("pragma", &["No-Cache"])).no_cache);
        let mut both = fields("pragma", &["no-cache"]);
        both.insert("cache-control", HeaderValue::from_static("max-age=60"));
        assert!(!RequestDirectives::parse(&both).no_cache);
    }
}
