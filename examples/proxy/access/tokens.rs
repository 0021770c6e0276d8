//! Tokens, and how clients present them.

use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hyper::HeaderMap;
use hyper::header::AUTHORIZATION;

/// Shorter ones can be guessed.
const SHORTEST: usize = 16;

/// Only digests, whose comparison takes the same time whatever is compared.
#[derive(Clone, Debug)]
pub(crate) struct Tokens(Vec<blake3::Hash>);

// ===== impl Tokens =====

impl Tokens {
    /// One a line; empty lines, and those that begin with `#`, say nothing.
    ///
    /// # Errors
    ///
    /// A sentence about what is wrong with the file, which names no token.
    pub(crate) fn read(file: &Path) -> Result<Self, String> {
        Self::of(&fs::read_to_string(file).map_err(|error| error.to_string())?)
    }

    fn of(text: &str) -> Result<Self, String> {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let digest = |token: &str| match token.bytes().all(|octet| octet.is_ascii_graphic() || octet == b' ') {
            _ if token.len() < SHORTEST => Err(format!("a token has to have {SHORTEST} characters at the least")),
            false => Err("a token has to be of ASCII characters".to_owned()),
            true => Ok(blake3::hash(token.as_bytes())),
        };
        match lines.map(digest).collect::<Result<Vec<_>, _>>()? {
            none if none.is_empty() => Err("there is no token in this file".to_owned()),
            tokens => Ok(Self(tokens)),
        }
    }

    /// Whether this is one of them. All are looked at, whichever it is.
    pub(crate) fn have(&self, given: &[u8]) -> bool {
        let given = blake3::hash(given);
        self.0.iter().fold(false, |found, token| found | (*token == given))
    }
}

/// The token of `Authorization: Bearer TOKEN`, or of `Authorization: Basic base64(user:TOKEN)`.
pub(crate) fn presented(headers: &HeaderMap) -> Option<Vec<u8>> {
    let (scheme, rest) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    match scheme {
        scheme if scheme.eq_ignore_ascii_case("bearer") => Some(rest.trim().as_bytes().to_vec()),
        scheme if scheme.eq_ignore_ascii_case("basic") => {
            let pair = BASE64_STANDARD.decode(rest.trim()).ok()?;
            let colon = pair.iter().position(|octet| *octet == b':')?;
            Some(pair[colon + 1..].to_vec())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_one_token_a_line() {
        let tokens =
            Tokens::of("# ours\n\n first token, of 27 characters \nsecond-token-of-some-length\n").expect("two");
        for known in ["first token, of 27 characters", "second-token-of-some-length"] {
            assert!(tokens.have(known.as_bytes()), "{known}");
        }
        for unknown in ["", "# ours", "first token", "first token, of 27 character"] {
            assert!(!tokens.have(unknown.as_bytes()), "{unknown}");
        }
    }

    #[test]
    fn what_is_no_file_of_tokens_is_refused() {
        for (text, reason) in [
            ("", "no token"),
            ("# a comment of some length\n", "no token"),
            ("short", "16"),
            ("ä".repeat(20).as_str(), "ASCII"),
        ] {
            assert!(Tokens::of(text).expect_err(text).contains(reason), "{text}");
        }
    }
}
