//! Look-up and fill over cells: the selection of variants (RFC 9111 §4.1), the same for every store.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;

use super::entry::{Cell, Chunks, IndexedVariant, StoredResponse, VaryIndex};
use super::{CellKey, LeaseKey, Sight, Store, Write};
use crate::clock::Clock;
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
    /// Nothing, and what will come is for nobody else.
    Uncacheable,
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
    /// The chunks of the responses that it replaces.
    pub(crate) replaces: Vec<Chunks>,
}

/// What became of a fill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PutOutcome {
    Stored,
    /// The key has as many variants as it may.
    TooManyVariants,
    /// What it was fetched for has changed meanwhile.
    OutOfDate,
    /// The lease under which it was fetched is lost: to a change, or to somebody who fetched it anew.
    Fenced,
}

/// Finds the response for a request: the newest of those that match.
pub(crate) async fn look_up(
    store: &impl Store,
    key: &CacheKey,
    request: &HeaderMap,
    now: Timestamp,
    sight: Sight,
) -> Result<(Lookup, Kept), StoreError> {
    let index = match store.get(CellKey::base(key), sight).await? {
        Some(Cell::Uncacheable) => return Ok((Lookup::Uncacheable, Kept::Alone)),
        None | Some(Cell::Search(_) | Cell::Epoch(_)) => return Ok((Lookup::UriMiss, Kept::Alone)),
        Some(Cell::Response(response)) => return Ok((Lookup::Found(response, None), Kept::Alone)),
        Some(Cell::Index(index)) => index,
    };
    let mut newest: Option<(Arc<StoredResponse>, VariantKey)> = None;
    for variant in index.candidates(request, now) {
        if let Some(Cell::Response(response)) = store.get(CellKey::variant(key, variant), sight).await?
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
        if let Some(Cell::Response(response)) = store.get(CellKey::variant(key, variant.key), Sight::First).await? {
            found.push(response);
        }
    }
    Ok(found)
}

/// Stores a response. Where the key varies, its variant is written before the index that leads to it, or under a lease
/// in one step with it. Two fills that meet here may lose one line of the index, which costs one more fetch and nothing
/// else.
pub(crate) async fn put(
    store: &impl Store,
    key: &CacheKey,
    fill: &Put,
    lease: Option<LeaseKey<'_>>,
    clock: &Clock,
) -> Result<PutOutcome, StoreError> {
    let cell = Cell::Response(Arc::clone(&fill.response));
    let written = match (fill.seen, fill.nominated.is_empty()) {
        // An index that came meanwhile is lost with it: its variants will be fetched once more.
        (Kept::Alone, true) => {
            let write = Write { key: CellKey::base(key), cell: &cell, ttl: fill.ttl };
            write_all(store, lease, &[write], fill.seen).await?
        }
        // In boxes of their own, here and below, as all that most fills have no use for.
        _ => Box::pin(put_variant(store, key, fill, &cell, lease, clock.now())).await?,
    };
    if written == PutOutcome::Stored {
        for chunks in fill.replaces.iter().filter(|chunks| fill.response.body.chunks_to_be() != Some(**chunks)) {
            tidied(Box::pin(store.discard(CellKey::base(key), *chunks)).await);
        }
    }
    Ok(written)
}

/// What is replaced ends by itself where it cannot be ended: what replaces it is there.
pub(crate) fn tidied(result: Result<(), StoreError>) {
    if let Err(error) = result {
        tracing::debug!(store.error = %error, "what was replaced is left to end by itself");
    }
}

async fn put_variant(
    store: &impl Store,
    key: &CacheKey,
    fill: &Put,
    cell: &Cell,
    lease: Option<LeaseKey<'_>>,
    now: Timestamp,
) -> Result<PutOutcome, StoreError> {
    let known = match store.peek(CellKey::base(key)).await? {
        Some(Cell::Index(index)) => index.as_ref().clone(),
        _ => VaryIndex::default(),
    };
    let variant = IndexedVariant { key: fill.variant, until: now.plus(fill.ttl) };
    let Some(index) = known.with(&fill.nominated, variant, now, fill.max_variants) else {
        return Ok(PutOutcome::TooManyVariants);
    };
    let (ttl, index) = (index.until().since(now), Cell::Index(Arc::new(index)));
    let variant = Write { key: CellKey::variant(key, fill.variant), cell, ttl: fill.ttl };
    let index = Write { key: CellKey::base(key), cell: &index, ttl };
    write_all(store, lease, &[variant, index], fill.seen).await
}

/// Under a lease all or nothing: a change that another process made meanwhile has taken the lease away. It may not have
/// known the lease of a variant, but has removed the index by which that is found.
async fn write_all(
    store: &impl Store,
    lease: Option<LeaseKey<'_>>,
    writes: &[Write<'_>],
    seen: Kept,
) -> Result<PutOutcome, StoreError> {
    let Some(lease) = lease else {
        for write in writes {
            store.set(write.key, write.cell, write.ttl).await?;
        }
        return Ok(PutOutcome::Stored);
    };
    match store.commit(lease, writes, seen == Kept::Indexed).await? {
        true => Ok(PutOutcome::Stored),
        false => Ok(PutOutcome::Fenced),
    }
}

/// Ends all that is stored for a key, and the fetches for it that are under way elsewhere: what they bring is not stored.
pub(crate) async fn invalidate(store: &impl Store, key: &CacheKey) -> Result<(), StoreError> {
    clear(store, key, true).await
}

/// Removes what is stored for a key, which has been replaced elsewhere.
pub(crate) async fn supersede(store: &impl Store, key: &CacheKey) -> Result<(), StoreError> {
    clear(store, key, false).await
}

/// What the key's own cell holds is read and removed in one round trip; without that cell its variants and chunks cannot
/// be found any more, and tidying them is housekeeping.
async fn clear(store: &impl Store, key: &CacheKey, with_lease: bool) -> Result<(), StoreError> {
    let base = CellKey::base(key);
    let (held, removed) = tokio::join!(store.peek(base), store.remove(base, with_lease));
    removed?;
    match held {
        Ok(Some(Cell::Response(response))) => discard_body(store, key, &response).await,
        Ok(Some(Cell::Index(index))) => {
            for variant in &index.variants {
                let cell = CellKey::variant(key, variant.key);
                let (held, removed) = tokio::join!(store.peek(cell), store.remove(cell, with_lease));
                removed?;
                if let Ok(Some(Cell::Response(response))) = held {
                    discard_body(store, key, &response).await?;
                }
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

async fn discard_body(store: &impl Store, key: &CacheKey, response: &StoredResponse) -> Result<(), StoreError> {
    match response.body.chunks() {
        Some(chunks) => store.discard(CellKey::base(key), chunks).await,
        None => Ok(()),
    }
}
