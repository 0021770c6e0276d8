//! A body that is sent chunk by chunk is gathered meanwhile, for somebody who wants to have all of it afterwards.

use std::fmt;

use bytes::Bytes;

use super::budget::Reservation;
use crate::store::entry::Chunks;

/// Who wants it.
pub(crate) trait Gatherer: fmt::Debug + Send + Sync {
    /// All of it has come.
    fn has(&self, pieces: Vec<Bytes>);
}

/// What has come so far. Dropped, it was not all.
#[derive(Debug)]
pub(crate) struct Gathering {
    pieces: Vec<Bytes>,
    count: u64,
    gatherer: Box<dyn Gatherer>,
    /// For the whole body.
    _room: Reservation,
}

impl Gathering {
    pub(crate) fn new(chunks: Chunks, room: Reservation, gatherer: Box<dyn Gatherer>) -> Self {
        Self { pieces: Vec::new(), count: chunks.count(), gatherer, _room: room }
    }

    /// One more chunk; itself, if there are more to come.
    pub(crate) fn with(mut self: Box<Self>, index: u32, octets: &Bytes) -> Option<Box<Self>> {
        if self.pieces.len() as u64 != u64::from(index) {
            return None;
        }
        self.pieces.push(octets.clone());
        if (self.pieces.len() as u64) < self.count {
            return Some(self);
        }
        self.gatherer.has(std::mem::take(&mut self.pieces));
        None
    }
}
