//! A body that is sent chunk by chunk is gathered meanwhile, for somebody who wants to have all of it afterwards.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use super::budget::Reservation;

/// Who wants it, until it is dropped.
pub(crate) trait Gatherer: fmt::Debug + Send + Sync {
    /// Whether it is still of use.
    fn is_in_time(&self) -> bool;

    /// All of it has come, and is held in this room.
    fn has(self: Box<Self>, pieces: Vec<Bytes>, room: Arc<Reservation>);
}

/// What has come so far. Dropped, it was not all.
#[derive(Debug)]
pub(crate) struct Gathering {
    pieces: Vec<Bytes>,
    count: u64,
    gatherer: Box<dyn Gatherer>,
    /// For the whole body.
    room: Reservation,
}

impl Gathering {
    /// Of so many chunks.
    pub(crate) fn new(count: u64, gatherer: Box<dyn Gatherer>, room: Reservation) -> Self {
        Self { pieces: Vec::new(), count, gatherer, room }
    }

    /// One more chunk; itself, if there are more to come.
    pub(crate) fn with(mut self, index: u32, octets: &Bytes) -> Option<Self> {
        if self.pieces.len() as u64 != u64::from(index) || !self.gatherer.is_in_time() {
            return None;
        }
        self.pieces.push(octets.clone());
        if (self.pieces.len() as u64) < self.count {
            return Some(self);
        }
        let Self { pieces, gatherer, room, .. } = self;
        gatherer.has(pieces, Arc::new(room));
        None
    }
}
