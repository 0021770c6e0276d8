//! The store's side of a body that is recorded: what it has been given of it, and what it is still to get.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time;

use super::Shared;
use super::fill::{self, Fill};
use super::upload::Upload;
use crate::body::recorder::{Abandoned, Recorder, compacted};
use crate::error::StoreError;
use crate::store::entry::StoredBody;

#[derive(Debug)]
pub(super) struct Keeper {
    pub(super) recorder: Recorder,
    pub(super) fill: Box<Fill>,
    pub(super) upload: Upload,
    /// The whole body, for a store that takes it only whole.
    kept: Vec<Bytes>,
}

impl Keeper {
    pub(super) fn new(recorder: Recorder, fill: Box<Fill>, upload: Upload) -> Self {
        Self { recorder, fill, upload, kept: Vec::new() }
    }

    /// The next octets, a part of a frame of so many, as they are to be kept.
    pub(super) fn take(&mut self, octets: &Bytes, of: usize) -> Result<Bytes, Abandoned> {
        self.recorder.take(octets, of, !self.upload.is_piecemeal())
    }

    pub(super) fn add(&mut self, piece: &Bytes) {
        match self.upload.is_piecemeal() {
            true => self.upload.add(piece.clone()),
            false => self.kept.push(piece.clone()),
        }
    }

    /// The whole body, of this length, as its head has to name it, when what goes before that is written; `None` where the
    /// store does not take it in time.
    pub(super) async fn whole(&mut self, length: u64, limit: Duration) -> Option<StoredBody> {
        if !self.upload.is_piecemeal() {
            return Some(StoredBody::new(compacted(std::mem::take(&mut self.kept))));
        }
        match self.upload.whole(length) {
            Some(body) => Some(body),
            None => time::timeout(limit, Box::pin(self.upload.finish(length))).await.ok().and_then(Result::ok),
        }
    }

    /// Nothing is stored, and what has been written goes.
    pub(super) fn abandon(self, shared: &Arc<Shared>, reason: Abandoned) {
        let key = self.fill.abandon(reason);
        if let Some(chunks) = self.upload.leavings() {
            fill::discard(shared, key, chunks);
        }
    }
}

/// Waits for the store to confirm what it was given last.
pub(super) async fn written(keeper: &mut Option<Keeper>) -> Result<u64, StoreError> {
    match keeper {
        Some(keeper) => keeper.upload.written().await,
        None => Ok(0),
    }
}
