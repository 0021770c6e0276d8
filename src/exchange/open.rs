//! A large body is opened: before the head goes out, the chunk that is wanted first is read, and the others are known to
//! be there. They are read as the body is sent.
//!
//! A body that cannot be opened is a miss. One that turns out later not to be whole goes on from the service if that can be
//! asked for the rest, and otherwise breaks off; its head is removed, so that this happens once.

use std::ops::Range;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time;
use tracing::Instrument;

use super::Shared;
use super::keep::NearKeeper;
use super::lookup::{Asked, Held, read_body};
use super::relay::Progress;
use crate::body::chunks::{Chunk, ChunkSource, OpenBody, Spare};
use crate::body::gather::Gatherer;
use crate::body::shared::Backing;
use crate::boxed::boxed;
use crate::error::{BodyError, StoreErrorKind};
use crate::key::CacheKey;
use crate::semantics::vary::VariantKey;
use crate::store::entry::{Cell, Chunks, StoredResponse};
use crate::store::{CellKey, Store};

/// The chunks of one body in the store.
#[derive(Debug)]
pub(super) struct StoredChunks {
    pub(super) shared: Arc<Shared>,
    pub(super) key: CacheKey,
    pub(super) variant: Option<VariantKey>,
    pub(super) chunks: Chunks,
    pub(super) runtime: Handle,
    /// Where they are still being written.
    pub(super) progress: Option<Progress>,
    /// One of them was not to be had.
    pub(super) is_torn: AtomicBool,
    pub(super) spare: StandBy,
}

/// Who has the body besides the store, and whether the store ceased to give it.
#[derive(Debug, Default)]
pub(super) struct StandBy {
    /// Whoever reads the body holds it.
    spare: OnceLock<Weak<dyn Spare>>,
    is_on: AtomicBool,
}

impl StandBy {
    fn get(&self) -> Option<Arc<dyn Spare>> {
        self.spare.get()?.upgrade()
    }
}

/// A store that could not be asked is asked again after so long.
const RETRY: Duration = Duration::from_millis(50);
/// A chunk waits its turn so many times as long as the store may take for it.
const TURNS: u32 = 10;

/// The response with its body, or with the way to it; `None` where the `wanted` parts are not to be had.
pub(super) async fn open(
    shared: &Arc<Shared>,
    own: &CacheKey,
    held: Held,
    wanted: &[Range<u64>],
    asked: &mut Asked,
) -> Option<Arc<StoredResponse>> {
    match held.response.body.chunks() {
        Some(chunks) if !held.response.body.is_loaded() => {
            boxed(|| open_chunks(shared, own, held, chunks, wanted, asked)).await
        }
        _ => Some(held.response),
    }
}

async fn open_chunks(
    shared: &Arc<Shared>,
    own: &CacheKey,
    held: Held,
    chunks: Chunks,
    wanted: &[Range<u64>],
    asked: &mut Asked,
) -> Option<Arc<StoredResponse>> {
    let wanted = Chunks::indices_of(wanted);
    let at_hand = match wanted.first() {
        Some(&index) => {
            let room = Arc::new(shared.reading.take(chunks.length_of(index)));
            let reading = pin!(shared.store.open(held.cell(own), chunks, &wanted));
            let octets = read_body(shared, held.key(own), asked, reading).await?;
            Some(Chunk { index, octets, room })
        }
        None => None,
    };
    let keeper = held.response.body.keeping().filter(|_| wanted.len() as u64 == chunks.count());
    let keeper =
        keeper.and_then(|keeping| NearKeeper::begin(shared, held.cell(own), &held.response, (chunks, keeping)));
    let body = match at_hand {
        Some(chunk) if chunks.count() == 1 => {
            if let Some(keeper) = keeper {
                keeper.has(vec![chunk.octets.clone()], Arc::clone(&chunk.room));
            }
            held.response.body.loaded(vec![chunk.octets], chunk.room)
        }
        at_hand => {
            let (shared, runtime) = (Arc::clone(shared), Handle::current());
            let budget = shared.reading.clone();
            let (key, variant) = (held.key(own).clone(), held.variant);
            let is_torn = AtomicBool::new(false);
            let source = StoredChunks {
                shared,
                key,
                variant,
                chunks,
                runtime,
                progress: None,
                is_torn,
                spare: StandBy::default(),
            };
            let open = OpenBody::new(Arc::new(source), chunks, budget, at_hand);
            if let Some(keeper) = keeper {
                open.gather_for(keeper);
            }
            held.response.body.opened(open)
        }
    };
    Some(held.with_body(body))
}

/// A body that is being written in chunks, for those who cannot have it from memory any more.
#[derive(Debug)]
pub(super) struct WrittenChunks {
    pub(super) shared: Arc<Shared>,
    pub(super) key: CacheKey,
    pub(super) generation: u128,
    pub(super) runtime: Handle,
}

impl Backing for WrittenChunks {
    fn open(&self, octets: u64) -> OpenBody {
        let chunks = Chunks { generation: self.generation, length: octets };
        let (shared, runtime) = (Arc::clone(&self.shared), self.runtime.clone());
        let budget = shared.reading.clone();
        let (key, is_torn) = (self.key.clone(), AtomicBool::new(false));
        let source = StoredChunks {
            shared,
            key,
            variant: None,
            chunks,
            runtime,
            progress: None,
            is_torn,
            spare: StandBy::default(),
        };
        OpenBody::new(Arc::new(source), chunks, budget, None)
    }
}

// ===== impl StoredChunks =====

impl ChunkSource for StoredChunks {
    fn begin(self: Arc<Self>, index: u32) -> JoinHandle<Result<Bytes, BodyError>> {
        let runtime = self.runtime.clone();
        runtime.spawn(async move { self.read(index).await }.instrument(tracing::debug_span!("read-ahead", index)))
    }

    fn broke_off(&self) {
        self.shared.counters.broken_off.increment();
        tracing::debug!(key = ?self.key, "a stored body broke off");
    }

    fn is_broken(&self) -> bool {
        self.is_torn.load(Ordering::Acquire) || self.progress.as_ref().is_some_and(Progress::is_broken)
    }

    fn stand_by(&self, spare: Weak<dyn Spare>) {
        let _ = self.spare.spare.set(spare);
    }

    fn is_another(&self) -> bool {
        self.spare.is_on.load(Ordering::Acquire)
    }

    fn is_there(&self, index: u32) -> bool {
        // The service is asked for one part after the other.
        !self.spare.is_on.load(Ordering::Acquire)
            && self.progress.as_ref().is_none_or(|progress| progress.has(self.end_of(index)))
    }
}

impl StoredChunks {
    async fn read(&self, index: u32) -> Result<Bytes, BodyError> {
        let is_on = &self.spare.is_on;
        if !is_on.load(Ordering::Acquire) {
            let read = self.read_stored(index).await;
            if read.is_ok() || self.spare.get().is_none() {
                return read;
            }
            is_on.store(true, Ordering::Release);
            tracing::debug!(key = ?self.key, "the service is asked for the rest of a stored body");
        }
        let Some(spare) = self.spare.get() else {
            return Err(BodyError::new("nobody has the rest of the stored body"));
        };
        let end = self.end_of(index);
        spare.read(end - self.chunks.length_of(index)..end).await
    }

    async fn read_stored(&self, index: u32) -> Result<Bytes, BodyError> {
        let shared = &self.shared;
        if let Some(progress) = &self.progress {
            progress.reaches(self.end_of(index)).await?;
        }
        // What waits for its turn says nothing of the store: others are served meanwhile.
        let patience = shared.config.store_write_timeout * TURNS;
        time::timeout(patience, self.ask(index)).await.unwrap_or_else(|_| {
            shared.counters.store_timeouts.increment();
            Err(BodyError::new("a part of the stored body came too late"))
        })
    }

    /// How long the store is waited for: less where there is another to ask.
    fn patience(&self) -> Duration {
        let config = &self.shared.config;
        match self.spare.get() {
            Some(_) => config.store_timeout,
            None => config.store_write_timeout,
        }
    }

    fn end_of(&self, index: u32) -> u64 {
        u64::from(index) * Chunks::SIZE + self.chunks.length_of(index)
    }

    /// Asks until there is an answer: a connection that was lost is soon replaced.
    async fn ask(&self, index: u32) -> Result<Bytes, BodyError> {
        let shared = &self.shared;
        let mut left = self.patience();
        loop {
            match shared.store.read_chunk(self.cell(), self.chunks, index, self.patience()).await {
                Ok(Some(octets)) => return Ok(octets),
                Ok(None) => {
                    self.is_torn.store(true, Ordering::Release);
                    self.remove_head().await;
                    return Err(BodyError::new("a part of the stored body is missing or damaged"));
                }
                Err(error) if error.kind() == StoreErrorKind::Timeout => {
                    shared.counters.store_timeouts.increment();
                    let now = shared.clock().now();
                    match self.spare.get() {
                        Some(_) => shared.slow_bodies.came_late(&self.key, now),
                        None => shared.slow_bodies.broke_off(&self.key, now),
                    }
                    return Err(BodyError::new("a part of the stored body came too late"));
                }
                Err(error) if left.is_zero() => {
                    tracing::debug!(store.error = %error, "a chunk cannot be read");
                    shared.counters.store_errors.increment();
                    return Err(BodyError::new("the rest of the stored body cannot be reached"));
                }
                Err(_) => {
                    time::sleep(RETRY).await;
                    left = left.saturating_sub(RETRY);
                }
            }
        }
    }

    /// Removes the head that leads here. What cannot be removed ends by itself.
    async fn remove_head(&self) {
        let store = &self.shared.store;
        if let Ok(Some(Cell::Response(present))) = store.peek(self.cell()).await
            && present.body.chunks() == Some(self.chunks)
        {
            let _ = store.remove(self.cell(), false).await;
        }
    }

    fn cell(&self) -> CellKey<'_> {
        CellKey { primary: &self.key, variant: self.variant }
    }
}
