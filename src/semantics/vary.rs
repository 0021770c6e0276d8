//! Selected representations: which requests a stored response may answer (RFC 9111 §4.1).

use std::sync::LazyLock;

use http::HeaderMap;
use http::header::{self, HeaderName};

use super::cache_control::ListMembers;

/// The request fields that a response's Vary nominates, sorted, each once; empty where nothing is nominated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct NominatedFields {
    names: Vec<HeaderName>,
}

/// What stands for the values of the nominated fields: a collision-resistant digest of names and values, so that
/// neither a cookie nor a token is ever written to the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct VariantKey([u8; VariantKey::LEN]);

/// `Vary: *`, anywhere in the list: no later request matches (§4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct VaryStar;

/// §4.1 lets a cache combine lines and change white space between list members where the field's syntax allows it.
/// These fields are no lists, and two of them are somebody's identity: they match octet for octet.
const IS_NO_LIST: [HeaderName; 4] =
    [header::AUTHORIZATION, header::COOKIE, header::PROXY_AUTHORIZATION, header::USER_AGENT];

/// Lists of preferences (RFC 9110 §12.5): members of equal weight mean the same in any order, and names count in any
/// case, so that requests which differ in nothing else share a variant.
const IS_PREFERENCE: [HeaderName; 4] =
    [header::ACCEPT, header::ACCEPT_CHARSET, header::ACCEPT_ENCODING, header::ACCEPT_LANGUAGE];

/// More fields than anybody negotiates on; beyond it the field is a mistake or an attack.
const MAX_NOMINATED: usize = 32;

// ===== impl NominatedFields =====

impl NominatedFields {
    /// Reads all Vary lines. A member that is no field name, like too many of them, matches nothing, as `*` does.
    pub(crate) fn of_response(headers: &HeaderMap) -> Result<Self, VaryStar> {
        let mut names = Vec::new();
        for line in headers.get_all(header::VARY) {
            for member in ListMembers::new(line.as_bytes()) {
                if member == b"*" {
                    return Err(VaryStar);
                }
                names.push(HeaderName::from_bytes(member).map_err(|_| VaryStar)?);
            }
        }
        Self::new(names)
    }

    pub(crate) fn new(mut names: Vec<HeaderName>) -> Result<Self, VaryStar> {
        names.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
        names.dedup();
        if names.len() > MAX_NOMINATED {
            return Err(VaryStar);
        }
        Ok(Self { names })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    pub(crate) fn names(&self) -> &[HeaderName] {
        &self.names
    }

    /// The variant that a request with these fields selects.
    pub(crate) fn select(&self, request: &HeaderMap) -> VariantKey {
        if self.names.is_empty() {
            // Most nominate nothing, and then all requests select the same.
            static ONLY: LazyLock<VariantKey> =
                LazyLock::new(|| NominatedFields::default().selected_by(&HeaderMap::new()));
            return *ONLY;
        }
        self.selected_by(request)
    }

    fn selected_by(&self, request: &HeaderMap) -> VariantKey {
        let mut hasher = blake3::Hasher::new();
        for name in &self.names {
            part(&mut hasher, name.as_str().as_bytes());
            let mut members = 0_u32;
            let mut add = |member: &[u8]| {
                part(&mut hasher, member);
                members += 1;
            };
            if IS_NO_LIST.contains(name) {
                request.get_all(name).iter().for_each(|line| add(line.as_bytes()));
            } else if IS_PREFERENCE.contains(name) {
                preferences(request, name).iter().for_each(|preference| add(preference));
            } else {
                let lines = request.get_all(name).iter();
                lines.flat_map(|line| ListMembers::new(line.as_bytes())).for_each(&mut add);
            }
            // §4.1: a field that is absent matches only where it is absent as well.
            let present = u32::from(request.contains_key(name));
            hasher.update(&members.to_le_bytes()).update(&present.to_le_bytes());
        }
        let mut key = [0; VariantKey::LEN];
        hasher.finalize_xof().fill(&mut key);
        VariantKey(key)
    }
}

/// The members of a preference list in a canonical order: by weight, the greatest first, then by name. A list with a
/// member that is anything but a name and perhaps a weight stays as it is: what is not understood is not normalised.
fn preferences(request: &HeaderMap, name: &HeaderName) -> Vec<Vec<u8>> {
    let members = || request.get_all(name).iter().flat_map(|line| ListMembers::new(line.as_bytes()));
    let Some(mut weighted) = members().map(preference).collect::<Option<Vec<_>>>() else {
        return members().map(<[u8]>::to_vec).collect();
    };
    weighted.sort_unstable_by(|(weight, one), (other_weight, other)| other_weight.cmp(weight).then(one.cmp(other)));
    let written = |(weight, mut name): (u16, Vec<u8>)| {
        name.extend_from_slice(format!(";q={weight}").as_bytes());
        name
    };
    weighted.into_iter().map(written).collect()
}

/// A member's weight in thousandths (RFC 9110 §12.4.2), and its name, which counts in any case.
fn preference(member: &[u8]) -> Option<(u16, Vec<u8>)> {
    let (name, weight) = match member.iter().position(|&byte| byte == b';') {
        Some(at) => (member[..at].trim_ascii(), weight(member[at + 1..].trim_ascii())?),
        None => (member, 1000),
    };
    let plain = !name.is_empty() && name.iter().all(|byte| byte.is_ascii_graphic() && !b"\"=".contains(byte));
    plain.then(|| (weight, name.to_ascii_lowercase()))
}

/// `q=` and a qvalue by its grammar: 0 or 1, and up to three digits behind the point, which behind 1 are zeros.
fn weight(parameter: &[u8]) -> Option<u16> {
    let value = parameter.strip_prefix(b"q=").or_else(|| parameter.strip_prefix(b"Q="))?;
    let (whole, digits) = match value {
        [whole] => (whole, &[][..]),
        [whole, b'.', digits @ ..] if digits.len() <= 3 => (whole, digits),
        _ => return None,
    };
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let thousandths = (0..3).fold(0, |sum, at| sum * 10 + u16::from(digits.get(at).map_or(0, |digit| digit - b'0')));
    match (whole, thousandths) {
        (b'0', thousandths) => Some(thousandths),
        (b'1', 0) => Some(1000),
        _ => None,
    }
}

fn part(hasher: &mut blake3::Hasher, bytes: &[u8]) {
    hasher.update(&(bytes.len() as u64).to_le_bytes()).update(bytes);
}

// ===== impl VariantKey =====

impl VariantKey {
    pub(crate) const LEN: usize = 20;

    pub(crate) const fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        Self(bytes)
    }

    pub(crate) const fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::semantics::tests::headers;

    fn same(vary: &'static str, one: &[(&'static str, &'static str)], other: &[(&'static str, &'static str)]) -> bool {
        let nominated = NominatedFields::of_response(&headers(&[("vary", vary)])).unwrap();
        nominated.select(&headers(one)) == nominated.select(&headers(other))
    }

    #[test]
    fn a_star_anywhere_matches_nothing() {
        for lines in [&[("vary", "*")][..], &[("vary", "accept, *")], &[("vary", "accept"), ("vary", "*, te")]] {
            assert_eq!(NominatedFields::of_response(&headers(lines)), Err(VaryStar), "{lines:?}");
        }
        assert_eq!(NominatedFields::of_response(&headers(&[("vary", "not a name")])), Err(VaryStar));
    }

    #[test]
    fn lists_over_several_lines_are_one_list() {
        let one = NominatedFields::of_response(&headers(&[("vary", "Accept-Language, Accept")])).unwrap();
        let two = NominatedFields::of_response(&headers(&[("vary", "accept"), ("vary", "ACCEPT-language, accept")]));
        assert_eq!(Ok(one), two);
    }

    #[test]
    fn equal_values_match_and_different_ones_do_not() {
        assert!(same("foo", &[("foo", "1")], &[("foo", "1"), ("bar", "2")]));
        assert!(!same("foo", &[("foo", "1")], &[("foo", "2")]));
        assert!(!same("foo", &[("foo", "1")], &[]));
        assert!(!same("foo", &[("foo", "")], &[]));
        assert!(same("foo", &[], &[("bar", "2")]));
        assert!(!same("foo, bar", &[("foo", "a"), ("bar", "b")], &[("foo", "b"), ("bar", "a")]));
    }

    #[test]
    fn a_field_that_is_no_list_matches_octet_for_octet() {
        assert!(!same("cookie", &[("cookie", "a=1,b")], &[("cookie", "a=1, b")]));
        assert!(same("cookie", &[("cookie", "a=1, b")], &[("cookie", "a=1, b")]));
    }

    #[test]
    fn preferences_of_equal_weight_match_in_any_order_and_case() {
        let match_language =
            |one, other| same("accept-language", &[("accept-language", one)], &[("accept-language", other)]);
        assert!(match_language("en, de", "de, en"));
        assert!(match_language("en, de", "eN, De"));
        assert!(match_language("en, de", " en ,   de"));
        assert!(match_language("en;q=1.0, de; q=0.5", "de;q=0.50, en"));
        assert!(!match_language("en, de;q=0.5", "en;q=0.5, de"));
        assert!(!match_language("en, de", "en"));
        assert!(!match_language("en;q=x", "en;q=y"));
        for malformed in ["de;q=1e0", "de;q=1.001", "de;q=1.0000", "d e", "de;q= 1", "de;q=+1"] {
            assert!(!match_language("de", malformed), "{malformed}");
        }
        assert!(!match_language("en;q=0.0004", "en;q=0"));
        let accepts = |one, other| same("accept", &[("accept", one)], &[("accept", other)]);
        assert!(accepts("text/html, */*;q=0.1", "*/*; q=0.100, TEXT/html"));
        assert!(!accepts("a/b;profile=\"http://x/A\"", "a/b;profile=\"http://x/a\""));
        assert!(!accepts("a/b;level=1, c/d", "c/d, a/b;level=1"));
        assert!(!same("foo", &[("foo", "a, b")], &[("foo", "b, a")]));
    }

    #[test]
    fn white_space_and_line_breaks_between_members_do_not_matter() {
        assert!(same("foo", &[("foo", "1,2")], &[("foo", "1"), ("foo", " 2 ")]));
        assert!(!same("foo", &[("foo", "1,2")], &[("foo", "2,1")]));
        assert!(!same("foo", &[("foo", "12")], &[("foo", "1,2")]));
    }
}
