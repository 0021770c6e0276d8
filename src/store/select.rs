//! Look-up and fill over cells: the selection of variants (RFC 9111 §4.1), the same for every store.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;

use super::entry::{Cell, Chunks, IndexedVariant, StoredResponse, VaryIndex};
use super::{CellKey, Store};
use crate::error::StoreError;
use crate::key::CacheKey;
use crate::semantics::time::Timestamp;
use crate::semantics::vary::{NominatedFields, VariantKey};

/// What a look-up found.
#[derive(Clone, Debug)]
pub(crate) enum Lookup {
    Found(Arc<StoredResponse>, Option<VariantKey>),
    VaryMiss(Arc<VaryIndex>),
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
    /// The chunks of the response that it replaces.
    pub(crate) replaces: Option<Chunks>,
}

/// What became of a fill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PutOutcome {
    Stored,
    /// The key has as many variants as it may.
    TooManyVariants,
    /// What it was fetched for has changed meanwhile.
    OutOfDate,
}

/// Finds the response for a request: the newest of those that match.
pub(crate) async fn look_up(
    store: &impl Store,
    key: &CacheKey,
    request: &HeaderMap,
    now: Timestamp,
) -> Result<(Lookup, Kept), StoreError> {
    let index = match store.get(CellKey::base(key)).await? {
        None | Some(Cell::Search(_) | Cell::Epoch(_)) => return Ok((Lookup::UriMiss, Kept::Alone)),
        Some(Cell::Response(response)) => return Ok((Lookup::Found(response, None), Kept::Alone)),
        Some(Cell::Index(index)) => index,
    };
    let mut newest: Option<(Arc<StoredResponse>, VariantKey)> = None;
    for variant in index.candidates(request, now) {
        if let Some(Cell::Response(response)) = store.get(CellKey::variant(key, variant)).await?
            && newest.as_ref().is_none_or(|(best, _)| best.freshness.response_time <= response.freshness.response_time)
        {
            newest = Some((response, variant));
        }
    }
    let found = match newest {
        Some((response, variant)) => Lookup::Found(response, Some(variant)),
        None => Lookup::VaryMiss(index),
    };
    Ok((found, Kept::Indexed))
}

/// Some of a key's responses, the newest first: one of them may turn out to be the right one for other values of the
/// nominated fields as well.
pub(crate) async fn variants(
    store: &impl Store,
    key: &CacheKey,
    index: &VaryIndex,
    now: Timestamp,
) -> Result<Vec<Arc<StoredResponse>>, StoreError> {
    const MOST: usize = 4;
    let mut found = Vec::new();
    for variant in index.variants.iter().rev().filter(|variant| variant.until > now).take(MOST) {
        if let Some(Cell::Response(response)) = store.get(CellKey::variant(key, variant.key)).await? {
            found.push(response);
        }
    }
    Ok(found)
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
    let written = match (fill.seen, fill.nominated.is_empty()) {
        (Kept::Alone, true) => {
            // An index that came meanwhile is lost with it: its variants will be fetched once more.
            store.set(CellKey::base(key), &cell, fill.ttl).await?;
            PutOutcome::Stored
        }
        _ => put_variant(store, key, fill, &cell, now).await?,
    };
    if let Some(chunks) = fill.replaces.filter(|chunks| fill.response.body.chunks() != Some(*chunks)) {
        store.discard(CellKey::base(key), chunks).await?;
    }
    Ok(written)
}

async fn put_variant(
    store: &impl Store,
    key: &CacheKey,
    fill: &Put,
    cell: &Cell,
    now: Timestamp,
) -> Result<PutOutcome, StoreError> {
    let known = match store.peek(CellKey::base(key)).await? {
        Some(Cell::Index(index)) => index.as_ref().clone(),
        Some(Cell::Response(_) | Cell::Search(_) | Cell::Epoch(_)) | None => VaryIndex::default(),
    };
    let variant = IndexedVariant { key: fill.variant, until: now.plus(fill.ttl) };
    let Some(index) = known.with(&fill.nominated, variant, now, fill.max_variants) else {
        return Ok(PutOutcome::TooManyVariants);
    };
    store.set(CellKey::variant(key, fill.variant), cell, fill.ttl).await?;
    let ttl = index.until().since(now);
    store.set(CellKey::base(key), &Cell::Index(Arc::new(index)), ttl).await?;
    Ok(PutOutcome::Stored)
}

/// Removes all that is stored for a key. What the key's own cell holds is read and removed in one round trip; without
/// that cell its variants and chunks cannot be found any more, and tidying them is housekeeping.
pub(crate) async fn invalidate(store: &impl Store, key: &CacheKey) -> Result<(), StoreError> {
    let base = CellKey::base(key);
    let (held, removed) = tokio::join!(store.peek(base), store.remove(base));
    removed?;
    match held {
        Ok(Some(Cell::Response(response))) => discard_body(store, key, &response).await,
        Ok(Some(Cell::Index(index))) => {
            for variant in &index.variants {
                let cell = CellKey::variant(key, variant.key);
                let (held, removed) = tokio::join!(store.peek(cell), store.remove(cell));
                removed?;
                if let Ok(Some(Cell::Response(response))) = held {
                    discard_body(store, key, &response).await?;
                }
            }
            Ok(())
        }
        Ok(Some(Cell::Search(_) | Cell::Epoch(_)) | None) | Err(_) => Ok(()),
    }
}

async fn discard_body(store: &impl Store, key: &CacheKey, response: &StoredResponse) -> Result<(), StoreError> {
    match response.body.chunks() {
        Some(chunks) => store.discard(CellKey::base(key), chunks).await,
        None => Ok(()),
    }
}
