//! Look-up and fill over cells: the selection of variants (RFC 9111 §4.1), the same for every store.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;

use super::entry::{Cell, IndexedVariant, StoredResponse};
use super::{CellKey, Store};
use crate::error::StoreError;
use crate::key::CacheKey;
use crate::semantics::time::Timestamp;
use crate::semantics::vary::{NominatedFields, VariantKey};

/// What a look-up found.
#[derive(Clone, Debug)]
pub(crate) enum Lookup {
    Found(Arc<StoredResponse>),
    VaryMiss,
    UriMiss,
}

/// How a key's responses are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    /// One response in the key's own cell, or none.
    Alone,
    /// Variants, behind an index.
    Indexed,
}

/// A response on its way into the store, and how it is selected there.
#[derive(Clone, Debug)]
pub(crate) struct Put {
    pub(crate) response: Arc<StoredResponse>,
    pub(crate) nominated: NominatedFields,
    pub(crate) variant: VariantKey,
    pub(crate) ttl: Duration,
    pub(crate) max_variants: usize,
    /// What the look-up before this fill saw.
    pub(crate) seen: Kept,
}

/// What became of a fill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PutOutcome {
    Stored,
    /// The key has as many variants as it may.
    TooManyVariants,
}

/// Finds the response for a request: the newest of those that match.
pub(crate) async fn look_up(
    store: &impl Store,
    key: &CacheKey,
    request: &HeaderMap,
    now: Timestamp,
) -> Result<(Lookup, Kept), StoreError> {
    let index = match store.get(CellKey::base(key)).await? {
        None => return Ok((Lookup::UriMiss, Kept::Alone)),
        Some(Cell::Response(response)) => return Ok((Lookup::Found(response), Kept::Alone)),
        Some(Cell::Index(index)) => index,
    };
    let mut newest: Option<Arc<StoredResponse>> = None;
    for variant in index.candidates(request, now) {
        if let Some(Cell::Response(response)) = store.get(CellKey::variant(key, variant)).await?
            && newest.as_ref().is_none_or(|best| best.freshness.response_time <= response.freshness.response_time)
        {
            newest = Some(response);
        }
    }
    Ok((newest.map_or(Lookup::VaryMiss, Lookup::Found), Kept::Indexed))
}

/// Stores a response. Where the key varies, its variant is written before the index that leads to it. Two fills that
/// meet here may lose one line of the index, which costs one more fetch and nothing else.
pub(crate) async fn put(
    store: &impl Store,
    key: &CacheKey,
    fill: &Put,
    now: Timestamp,
) -> Result<PutOutcome, StoreError> {
    let cell = Cell::Response(Arc::clone(&fill.response));
    if fill.seen == Kept::Alone && fill.nominated.is_empty() {
        // An index that came meanwhile is lost with it: its variants will be fetched once more.
        store.set(CellKey::base(key), &cell, fill.ttl).await?;
        return Ok(PutOutcome::Stored);
    }
    let known = store.get_index(CellKey::base(key)).await?;
    let variant = IndexedVariant { key: fill.variant, until: now.plus(fill.ttl) };
    let index = known.as_deref().cloned().unwrap_or_default();
    let Some(index) = index.with(&fill.nominated, variant, now, fill.max_variants) else {
        return Ok(PutOutcome::TooManyVariants);
    };
    store.set(CellKey::variant(key, fill.variant), &cell, fill.ttl).await?;
    let ttl = index.until().since(now);
    store.set(CellKey::base(key), &Cell::Index(Arc::new(index)), ttl).await?;
    Ok(PutOutcome::Stored)
}

/// Removes all that is stored for a key.
pub(crate) async fn invalidate(store: &impl Store, key: &CacheKey) -> Result<(), StoreError> {
    let mut cells = vec![CellKey::base(key)];
    if let Some(index) = store.get_index(CellKey::base(key)).await? {
        cells.extend(index.variants.iter().map(|variant| CellKey::variant(key, variant.key)));
    }
    store.remove(&cells).await
}
