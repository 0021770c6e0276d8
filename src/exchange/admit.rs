//! Whether a request touches the cache at all, and by which key.

use std::mem;

use http::{Method, request};

use super::Shared;
use crate::config::CacheOverride;
use crate::key::CacheKey;
use crate::observe::{ForwardReason, Outcome};
use crate::query::QueryContent;
use crate::semantics::PresentedRequest;
use crate::semantics::admission::{Admission, Content, admit, is_query};

/// What a request is to the cache, with its key.
pub(crate) enum Admitted {
    Cacheable(CacheKey),
    Invalidating(CacheKey),
    Passthrough(Outcome),
}

impl Admitted {
    pub(crate) fn of(shared: &Shared, parts: &mut request::Parts, has_content: bool) -> Self {
        if parts.extensions.get::<CacheOverride>().is_some_and(|route| route.bypass) {
            return Self::Passthrough(bypass("override"));
        }
        let is_known = parts.extensions.get::<QueryContent>().is_some();
        let content = match has_content {
            _ if is_known => Content::Known,
            true => Content::Unread,
            false => Content::Absent,
        };
        let admission = admit(&PresentedRequest::of(parts), content);
        if let Admission::Passthrough(reason, detail) = admission {
            let outcome = Outcome::forwarded(reason);
            return Self::Passthrough(detail.into_iter().fold(outcome, Outcome::with_detail));
        }
        let is_invalidating = admission == Admission::Invalidating;
        match key(shared, parts) {
            Ok(key) if is_invalidating => Self::Invalidating(key),
            Ok(key) => Self::Cacheable(key),
            Err(_) if is_invalidating => Self::Passthrough(Outcome::forwarded(ForwardReason::Method)),
            Err(detail) => Self::Passthrough(bypass(detail)),
        }
    }
}

/// The key of the GET that the request is or stands for.
fn key(shared: &Shared, parts: &mut request::Parts) -> Result<CacheKey, &'static str> {
    let method = mem::replace(&mut parts.method, Method::GET);
    let key = shared.config.key.key(parts);
    parts.method = method;
    let mut key = key.ok_or("no-key")?;
    if is_query(&parts.method)
        && let Some(content) = parts.extensions.get::<QueryContent>()
    {
        key = key.with_content(&parts.headers, content.as_bytes());
    }
    if key.parts().len() > shared.config.max_key_size {
        return Err("key-size");
    }
    Ok(key)
}

fn bypass(detail: &'static str) -> Outcome {
    Outcome::forwarded(ForwardReason::Bypass).with_detail(detail)
}
