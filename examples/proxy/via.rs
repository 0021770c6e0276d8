//! `Via`: tells the origin who forwards, and a proxy that it meets its own request again.

use std::hash::{BuildHasher, Hasher, RandomState};

use hyper::header::{HeaderValue, VIA};
use hyper::{Request, StatusCode, Version};

use crate::answer::Refusal;

/// This process's name on the way; random, so that two proxies in a row are not taken for a loop.
#[derive(Clone, Debug)]
pub(crate) struct Via {
    pseudonym: String,
    /// By the version in which a request came.
    members: [(Version, HeaderValue); 3],
}

// ===== impl Via =====

impl Via {
    pub(crate) fn new() -> Self {
        let random = RandomState::new().build_hasher().finish();
        let pseudonym = format!("cache-{:08x}", random >> 32);
        let member = |version| {
            // Lent for ever, once for a process: copies of it count nothing that all threads would have to share.
            HeaderValue::from_static(format!("{version} {pseudonym}").leak())
        };
        let versions = [(Version::HTTP_11, "1.1"), (Version::HTTP_2, "2.0"), (Version::HTTP_10, "1.0")];
        Self { members: versions.map(|(version, written)| (version, member(written))), pseudonym }
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
        let version = request.version();
        let [first, ..] = &self.members;
        let (_, member) = self.members.iter().find(|(of, _)| *of == version).unwrap_or(first);
        request.headers_mut().append(VIA, member.clone());
        Ok(())
    }
}
