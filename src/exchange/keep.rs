//! A large response is kept in this process's memory when all of its body has been read.
//!
//! That may take a client long. So the head is read once more when the body is there: what has been replaced meanwhile, by
//! whomever, is not kept. Mostly one gathers for all who read the same at the same time.

use std::sync::Arc;

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::time;

use super::Shared;
use crate::body::Reservation;
use crate::body::gather::Gatherer;
use crate::key::CacheKey;
use crate::semantics::time::Timestamp;
use crate::semantics::vary::VariantKey;
use crate::store::entry::{Cell, Chunks, StoredResponse};
use crate::store::near::Keeping;
use crate::store::{CellKey, Store};

/// Who gathers the body of a response, until it is kept or given up.
#[derive(Debug)]
pub(super) struct NearKeeper {
    shared: Arc<Shared>,
    key: CacheKey,
    variant: Option<VariantKey>,
    /// By these two it is known again.
    chunks: Chunks,
    received: Timestamp,
    keeping: Keeping,
    ticket: u64,
    /// Whoever reads a body may do so elsewhere.
    runtime: Handle,
}

impl NearKeeper {
    /// `None` where somebody else does, or it is kept already.
    pub(super) fn begin(
        shared: &Arc<Shared>,
        cell: CellKey<'_>,
        response: &StoredResponse,
        (chunks, keeping): (Chunks, Keeping),
    ) -> Option<Box<Self>> {
        let ticket = shared.store.begin_to_gather(cell, chunks, keeping)?;
        let received = response.freshness.response_time;
        let (shared, key, variant) = (Arc::clone(shared), cell.primary.clone(), cell.variant);
        Some(Box::new(Self { shared, key, variant, chunks, received, keeping, ticket, runtime: Handle::current() }))
    }

    fn cell(&self) -> CellKey<'_> {
        CellKey { primary: &self.key, variant: self.variant }
    }

    async fn keep(self, pieces: Vec<Bytes>, _room: Arc<Reservation>) {
        let (shared, limit) = (&self.shared, self.shared.config.store_write_timeout);
        let Ok(Ok(Some(Cell::Response(present)))) = time::timeout(limit, shared.store.peek(self.cell())).await else {
            return;
        };
        if present.body.chunks() != Some(self.chunks) || present.freshness.response_time != self.received {
            return;
        }
        // The room of what is kept is the memory tier's.
        let body = present.body.kept(pieces);
        let response = Arc::new(StoredResponse { body, ..Arc::unwrap_or_clone(present) });
        shared.store.keep_near(self.cell(), response, self.keeping, shared.clock().now());
    }
}

impl Gatherer for NearKeeper {
    fn is_in_time(&self) -> bool {
        let Self { shared, chunks, keeping, .. } = self;
        shared.store.may_still_keep(self.cell(), *keeping)
            && !shared.store.has_near_body(self.cell(), *chunks, *keeping)
    }

    fn has(self: Box<Self>, pieces: Vec<Bytes>, room: Arc<Reservation>) {
        if let Some(place) = self.shared.background.enter_last() {
            let runtime = self.runtime.clone();
            place.begin_in(&runtime, "keep", Box::pin(self.keep(pieces, room)));
        }
    }
}

impl Drop for NearKeeper {
    fn drop(&mut self) {
        self.shared.store.end_gathering(self.cell(), self.ticket);
    }
}
