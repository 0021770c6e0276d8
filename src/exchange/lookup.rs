//! Asking the store, within the one deadline that a request has for it.

use std::sync::Arc;

use http::request;
use tokio::time;

use super::Shared;
use crate::key::CacheKey;
use crate::semantics::reuse::Found;
use crate::store::entry::StoredResponse;
use crate::store::{Kept, Lookup, select};

/// The store's answer, or that there was none.
#[derive(Debug)]
pub(super) enum LookedUp {
    Answered(Lookup, Kept),
    Unavailable,
}

pub(super) async fn look_up(shared: &Shared, key: &CacheKey, parts: &request::Parts) -> LookedUp {
    if !shared.store.is_available() {
        return LookedUp::Unavailable;
    }
    let now = shared.clock().now();
    let asking = select::look_up(&shared.store, key, &parts.headers, now);
    match time::timeout(shared.store_deadline(), asking).await {
        Ok(Ok((lookup, kept))) => LookedUp::Answered(lookup, kept),
        Ok(Err(error)) => {
            tracing::debug!(store.error = %error, "look-up failed");
            shared.counters.store_errors.increment();
            LookedUp::Unavailable
        }
        Err(_) => {
            shared.store.met_deadline();
            shared.counters.store_timeouts.increment();
            LookedUp::Unavailable
        }
    }
}

impl LookedUp {
    pub(super) fn found(&self) -> Found<'_> {
        match self {
            Self::Answered(Lookup::Found(stored), _) => Found::Response(&stored.freshness),
            Self::Answered(Lookup::VaryMiss, _) => Found::VaryMiss,
            Self::Answered(Lookup::UriMiss, _) => Found::UriMiss,
            Self::Unavailable => Found::Unavailable,
        }
    }

    pub(super) fn seen(&self) -> Kept {
        match self {
            Self::Answered(_, kept) => *kept,
            Self::Unavailable => Kept::Alone,
        }
    }

    pub(super) fn into_response(self) -> Option<Arc<StoredResponse>> {
        match self {
            Self::Answered(Lookup::Found(stored), _) => Some(stored),
            Self::Answered(Lookup::VaryMiss | Lookup::UriMiss, _) | Self::Unavailable => None,
        }
    }
}
