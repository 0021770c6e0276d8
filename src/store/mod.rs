//! The seam: what the cache asks of a store, and the two stores that answer.
//!
//! A store keeps *cells*. The cell of a primary key holds either the one response that the key has, or, where responses
//! vary, an index of variants, each in a cell of its own. [`select`] turns that into look-ups and fills, once for all
//! stores; a store itself only reads, writes and removes cells.

pub(crate) mod entry;
pub(crate) mod memory;
pub(crate) mod redis;
pub(crate) mod select;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

pub use self::memory::MemoryStore;
pub(crate) use self::redis::RedisStore;
pub(crate) use self::redis::address::RedisAddress;
pub(crate) use self::select::{Kept, Lookup, Put};

use self::entry::{Cell, VaryIndex};
use crate::error::StoreError;
use crate::key::CacheKey;
use crate::semantics::vary::VariantKey;

/// The name of a cell.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CellKey<'a> {
    pub(crate) primary: &'a CacheKey,
    pub(crate) variant: Option<VariantKey>,
}

impl<'a> CellKey<'a> {
    pub(crate) fn base(primary: &'a CacheKey) -> Self {
        Self { primary, variant: None }
    }

    pub(crate) fn variant(primary: &'a CacheKey, variant: VariantKey) -> Self {
        Self { primary, variant: Some(variant) }
    }
}

/// What a store can do. It gives up nothing of its own accord: deadlines are the caller's.
pub(crate) trait Store: Send + Sync {
    /// The cell, whole and verified to belong to this key, or nothing.
    fn get(&self, key: CellKey<'_>) -> impl Future<Output = Result<Option<Cell>, StoreError>> + Send;

    /// The cell's index of variants, if that is what it holds: no body is read and nothing is counted.
    fn get_index(&self, key: CellKey<'_>) -> impl Future<Output = Result<Option<Arc<VaryIndex>>, StoreError>> + Send;

    /// Writes a cell that ends by itself after `ttl`.
    fn set(&self, key: CellKey<'_>, cell: &Cell, ttl: Duration) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Removes cells, whether they exist or not.
    fn remove(&self, keys: &[CellKey<'_>]) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// The store of a layer.
#[derive(Debug)]
pub(crate) enum AnyStore {
    Redis(RedisStore),
    Memory(MemoryStore),
}

impl AnyStore {
    /// Whether a look-up is worth its wait. A store that is known to be away is not asked.
    pub(crate) fn is_available(&self) -> bool {
        match self {
            Self::Redis(store) => store.is_available(),
            Self::Memory(_) => true,
        }
    }

    /// Whether writes are taken at present.
    pub(crate) fn takes_writes(&self) -> bool {
        match self {
            Self::Redis(store) => store.takes_writes(),
            Self::Memory(_) => true,
        }
    }

    /// A look-up met its deadline: the store's own judgement of its health wants to know.
    pub(crate) fn met_deadline(&self) {
        match self {
            Self::Redis(store) => store.met_deadline(),
            Self::Memory(_) => {}
        }
    }

    /// Resolves when the store answers, or with an error.
    pub(crate) async fn ready(&self) -> Result<(), StoreError> {
        match self {
            Self::Redis(store) => store.ready().await,
            Self::Memory(_) => Ok(()),
        }
    }
}

impl Store for AnyStore {
    async fn get(&self, key: CellKey<'_>) -> Result<Option<Cell>, StoreError> {
        match self {
            Self::Redis(store) => store.get(key).await,
            Self::Memory(store) => store.get(key).await,
        }
    }

    async fn get_index(&self, key: CellKey<'_>) -> Result<Option<Arc<VaryIndex>>, StoreError> {
        match self {
            Self::Redis(store) => store.get_index(key).await,
            Self::Memory(store) => store.get_index(key).await,
        }
    }

    async fn set(&self, key: CellKey<'_>, cell: &Cell, ttl: Duration) -> Result<(), StoreError> {
        match self {
            Self::Redis(store) => store.set(key, cell, ttl).await,
            Self::Memory(store) => store.set(key, cell, ttl).await,
        }
    }

    async fn remove(&self, keys: &[CellKey<'_>]) -> Result<(), StoreError> {
        match self {
            Self::Redis(store) => store.remove(keys).await,
            Self::Memory(store) => store.remove(keys).await,
        }
    }
}
