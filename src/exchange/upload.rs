//! A long body goes into the store in chunks while it comes; what is written so far is of no use to anybody until the
//! head is written, which is the last.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::time;

use super::Shared;
use super::fill::Fill;
use super::flight::FlightGuard;
use super::open::WrittenChunks;
use super::publish::Publication;
use crate::body::shared::Backing;
use crate::error::StoreError;
use crate::key::CacheKey;
use crate::store::entry::{Chunks, StoredBody};
use crate::store::{CellKey, Store};

/// The part of a body that has not been written, and the writing that is under way.
pub(super) struct Upload {
    shared: Arc<Shared>,
    key: CacheKey,
    generation: u128,
    /// The length of a chunk; `None` where the store takes a body only as a whole.
    size: Option<usize>,
    pending: Vec<Bytes>,
    pending_length: usize,
    /// Chunks that have been given to the store, and how many of them it has confirmed.
    given: u32,
    confirmed: u32,
    underway: Option<Writing>,
    /// By which the other processes are told of it.
    publication: Option<Arc<Publication>>,
}

type Writing = Pin<Box<dyn Future<Output = Result<(), StoreError>> + Send>>;

/// Chunks in one writing: the next is collected while it is under way, and a writing takes its length twice over.
const CHUNKS_AT_ONCE: usize = 1;
/// A store that did not take a chunk is asked again after so long.
const RETRY: Duration = Duration::from_millis(50);

impl Upload {
    pub(super) fn new(shared: &Arc<Shared>, key: &CacheKey) -> Self {
        Self {
            shared: Arc::clone(shared),
            key: key.clone(),
            generation: fastrand::u128(..),
            size: shared.store.chunk_size(),
            pending: Vec::new(),
            pending_length: 0,
            given: 0,
            confirmed: 0,
            underway: None,
            publication: None,
        }
    }

    /// Where the body is longer than a chunk, and its length is stated, the other processes read it as it is written: one
    /// that grew past the cap would break off under them.
    pub(super) fn publish(&mut self, flight: Option<&FlightGuard>, fill: &Fill, length: Option<u64>) {
        let Some(length) = length.filter(|length| self.size.is_some_and(|size| *length > size as u64)) else { return };
        let live = fill.live(Chunks { generation: self.generation, length });
        let publication = live.and_then(|live| Publication::of(&self.shared, flight, live)).map(Arc::new);
        self.publication = publication.clone();
        self.underway = publication.map(|publication| -> Writing {
            Box::pin(async move {
                publication.tell(0).await;
                Ok(())
            })
        });
    }

    pub(super) fn publication(&self) -> Option<&Arc<Publication>> {
        self.publication.as_ref()
    }

    /// What has been written, to be read.
    pub(super) fn backing(&self) -> Option<Arc<dyn Backing>> {
        self.size?;
        let (shared, key, generation) = (Arc::clone(&self.shared), self.key.clone(), self.generation);
        Some(Arc::new(WrittenChunks { shared, key, generation, runtime: Handle::current() }))
    }

    pub(super) fn is_underway(&self) -> bool {
        self.underway.is_some()
    }

    /// Whether the store takes a body piecemeal.
    pub(super) fn is_piecemeal(&self) -> bool {
        self.size.is_some()
    }

    pub(super) fn add(&mut self, piece: Bytes) {
        self.pending_length += piece.len();
        self.pending.push(piece);
        self.begin_if_due();
    }

    /// Waits for the writing that is under way. The octets that are in the store by then.
    pub(super) async fn written(&mut self) -> Result<u64, StoreError> {
        if let Some(underway) = &mut self.underway {
            let result = underway.await;
            self.underway = None;
            result?;
            self.confirmed = self.given;
        }
        self.begin_if_due();
        Ok(self.octets(self.confirmed))
    }

    /// The whole body, of this length, if nothing of it has been, or is being, written.
    pub(super) fn whole(&mut self, length: u64) -> Option<StoredBody> {
        let is_whole = self.given == 0 && !self.is_underway();
        let pieces = is_whole.then(|| std::mem::take(&mut self.pending))?;
        Some(StoredBody::planned(pieces, self.shared.store.chunks_for(self.generation, length)))
    }

    /// The same, as its head has to name it, when what is still to be written is written.
    pub(super) async fn finish(&mut self, length: u64) -> Result<StoredBody, StoreError> {
        while self.is_underway() {
            self.written().await?;
        }
        if let Some(body) = self.whole(length) {
            return Ok(body);
        }
        let rest = std::mem::take(&mut self.pending);
        if !rest.is_empty() {
            let cell = CellKey::base(&self.key);
            self.shared.store.write_chunks(cell, self.generation, self.given, &[rest]).await?;
        }
        if let Some(publication) = &self.publication {
            publication.tell_all(length).await;
        }
        Ok(StoredBody::in_chunks(Chunks { generation: self.generation, length }))
    }

    /// What has been written, where the rest is not to follow.
    pub(super) fn leavings(self) -> Option<Chunks> {
        (self.given > 0).then(|| Chunks { generation: self.generation, length: self.octets(self.given) })
    }

    fn begin_if_due(&mut self) {
        let Some(size) = self.size else { return };
        if self.underway.is_some() || self.pending_length < size {
            return;
        }
        let mut chunks = Vec::new();
        while self.pending_length >= size && chunks.len() < CHUNKS_AT_ONCE {
            chunks.push(self.cut(size));
        }
        let first = self.given;
        self.given += u32::try_from(chunks.len()).expect("a few chunks");
        let (shared, key, generation) = (Arc::clone(&self.shared), self.key.clone(), self.generation);
        let (publication, written) = (self.publication.clone(), self.octets(self.given));
        self.underway = Some(Box::pin(async move {
            let mut left = shared.config.store_write_timeout;
            loop {
                let result = shared.store.write_chunks(CellKey::base(&key), generation, first, &chunks).await;
                match (result, &publication) {
                    (Ok(()), Some(publication)) => {
                        publication.tell(written).await;
                        return Ok(());
                    }
                    // Those who read it elsewhere have nothing else: a connection that was lost is soon replaced.
                    (Err(_), Some(_)) if !left.is_zero() => {
                        time::sleep(RETRY).await;
                        left = left.saturating_sub(RETRY);
                    }
                    (result, _) => return result,
                }
            }
        }));
    }

    /// The next chunk, without copying.
    fn cut(&mut self, size: usize) -> Vec<Bytes> {
        let (mut chunk, mut room, mut used) = (Vec::new(), size, 0);
        for piece in &mut self.pending {
            let part = piece.split_to(piece.len().min(room));
            room -= part.len();
            chunk.push(part);
            if !piece.is_empty() {
                break;
            }
            used += 1;
        }
        self.pending.drain(..used);
        self.pending_length -= size;
        chunk
    }

    fn octets(&self, chunks: u32) -> u64 {
        u64::from(chunks) * self.size.unwrap_or_default() as u64
    }
}

impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut upload = f.debug_struct("Upload");
        upload.field("key", &self.key).field("given", &self.given).field("confirmed", &self.confirmed);
        upload.finish_non_exhaustive()
    }
}
