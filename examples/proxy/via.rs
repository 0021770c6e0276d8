//! `Via`: tells the origin who forwards, and a proxy that it meets its own request again.

use std::hash::{BuildHasher, Hasher, RandomState};

use hyper::header::{HeaderValue, VIA};
use hyper::{Request, StatusCode, Version};

use crate::answer::Refusal;

/// This process's name on the way; random, so that two proxies in a row are not taken for a loop.
#[derive(Clone, Debug)]
pub(crate) struct Via {
    pseudonym: String,
}

// ===== impl Via =====

impl Via {
    pub(crate) fn new() -> Self {
        let random = RandomState::new().build_hasher().finish();
        Self { pseudonym: format!("cache-{:08x}", random >> 32) }
    }

    /// Adds this proxy to `Via` (RFC 9110 §7.6.3); a request that was here before is refused.
    pub(crate) fn enter<B>(&self, request: &mut Request<B>) -> Result<(), Refusal> {
        let mut members = request
            .headers()
            .get_all(VIA)
            .iter()
            .filter_map(|line| line.to_str().ok())
            .flat_map(|line| line.split(','));
        let ours = |member: &str| member.split_whitespace().nth(1) == Some(&self.pseudonym);
        if members.any(ours) {
            return Err(Refusal::new(StatusCode::LOOP_DETECTED, "the origin sends requests back to this proxy"));
        }
        let version = match request.version() {
            Version::HTTP_10 => "1.0",
            Version::HTTP_2 => "2.0",
            _ => "1.1",
        };
        let member = HeaderValue::from_str(&format!("{version} {}", self.pseudonym));
        let member = member.expect("the pseudonym is a token");
        request.headers_mut().append(VIA, member);
        Ok(())
    }
}
