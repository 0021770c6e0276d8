//! What is read is judged by the purge clock before anybody sees it.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;

use super::entry::{Cell, Chunks, StoredResponse};
use super::near::Keeping;
use super::{AnyStore, CellKey, LeaseKey, Sight, Store};
use crate::clock::Clock;
use crate::collapse::lease::Leased;
use crate::error::StoreError;
use crate::key::CacheKey;
use crate::observe::PurgeNews;
use crate::purge::clock::Verdict;
use crate::purge::label::{Number, Stamp};
use crate::purge::plane::{Dead, Plane};
use crate::purge::target::Member;
use crate::semantics::time::Timestamp;
use crate::semantics::vary::VariantKey;

/// What a look-up came to.
enum Found {
    Cell(Cell),
    /// It is as good as gone.
    Purged,
    Nothing,
}

impl Found {
    fn cell(self) -> Option<Cell> {
        match self {
            Self::Cell(cell) => Some(cell),
            Self::Purged | Self::Nothing => None,
        }
    }
}

impl AnyStore {
    /// The purge clock, as it is known here.
    pub(crate) fn plane(&self) -> &Plane {
        match self {
            Self::Redis(store) => store.plane(),
            Self::Memory(store) => store.plane(),
        }
    }

    /// How purges are heard of.
    pub(crate) fn purge_news(&self) -> PurgeNews {
        match self {
            Self::Redis(store) => store.purge_news(),
            Self::Memory(_) => PurgeNews::Local,
        }
    }

    /// Whether it can be seen as a lease is taken that there is nothing.
    pub(crate) fn looks_with_lease(&self) -> bool {
        match self {
            Self::Redis(store) => store.looks_with_lease(),
            Self::Memory(_) => false,
        }
    }

    /// Whether a lease can be [bid](Self::bid) for.
    pub(crate) fn takes_bids(&self) -> bool {
        match self {
            Self::Redis(store) => store.takes_bids(),
            Self::Memory(_) => false,
        }
    }

    /// Takes a lease if it is free; who has it otherwise is not asked, nor whether the service has failed.
    pub(crate) async fn bid(&self, lease: LeaseKey<'_>, lifetime: Duration) -> Result<Leased, StoreError> {
        match self {
            Self::Redis(store) => store.bid(lease, lifetime).await,
            Self::Memory(_) => Ok(Leased::Without),
        }
    }

    /// Records purges for all who use this store; the number of the last.
    pub(crate) async fn purge(&self, members: &[Member]) -> Result<Number, StoreError> {
        match self {
            Self::Redis(store) => store.purge(members).await,
            Self::Memory(store) => Ok(store.purge(members)),
        }
    }

    /// What a fetch that sets out now is stamped with, and over which connection that was read, if it is still there. What
    /// comes is written over that one alone: another may lead to a server that has given the same numbers to other purges.
    pub(crate) fn stamp(&self) -> (Stamp, Option<u64>) {
        match self {
            Self::Redis(store) => store.stamp(),
            Self::Memory(store) => (store.plane().stamp(), Some(0)),
        }
    }

    /// A fresh response in this process's memory that a request without directives may have, judged as one that was read.
    /// It is that of the server of whose purges enough is known; otherwise, and in strict mode, the store is asked.
    pub(crate) fn look_up_near(
        &self,
        key: &CacheKey,
        request: &HeaderMap,
        now: Timestamp,
    ) -> Option<(Arc<StoredResponse>, Option<VariantKey>)> {
        let (near, plane) = (self.near()?, self.plane());
        let connection = plane.read_over().filter(|_| plane.is_in_sync())?;
        let (response, variant) = near.look_up(key, request, now, connection)?;
        self.is_near_good(key, &response, now).then_some((response, variant))
    }

    /// Whether a response may be answered from memory.
    fn is_near_good(&self, key: &CacheKey, response: &StoredResponse, now: Timestamp) -> bool {
        let freshness = &response.freshness;
        freshness.remaining(now).is_some()
            && !freshness.always_validate
            && self.plane().judge(key, &response.label) == Verdict::Good
    }

    /// A ticket for who is to gather the body of a response, to be kept in this process's memory.
    pub(crate) fn begin_to_gather(&self, key: CellKey<'_>, chunks: Chunks, keeping: Keeping) -> Option<u64> {
        self.near()?.begin_to_gather(key, chunks, keeping.connection)
    }

    pub(crate) fn end_gathering(&self, key: CellKey<'_>, ticket: u64) {
        if let Some(near) = self.near() {
            near.end_gathering(key, ticket);
        }
    }

    /// Whether this process's memory has a response with this body.
    pub(crate) fn has_near_body(&self, key: CellKey<'_>, chunks: Chunks, keeping: Keeping) -> bool {
        self.near().is_some_and(|near| near.has_body(key, chunks, keeping.connection))
    }

    /// Whether nothing has come between since the head was read.
    pub(crate) fn may_still_keep(&self, key: CellKey<'_>, keeping: Keeping) -> bool {
        let changes = self.near().map(|near| near.changes(key.primary));
        changes == Some(keeping.changes) && self.stamp().1 == Some(keeping.connection)
    }

    /// Keeps a response in this process's memory whose body has been read by now, if it could be answered from there.
    pub(crate) fn keep_near(&self, key: CellKey<'_>, response: Arc<StoredResponse>, keeping: Keeping, now: Timestamp) {
        if let Some(near) = self.near()
            && self.may_still_keep(key, keeping)
            && self.is_near_good(key.primary, &response, now)
        {
            near.keep_gathered(key, response, keeping);
        }
    }

    /// What is stored there, unless it was purged.
    pub(super) async fn look_up(&self, key: CellKey<'_>, sight: Sight) -> Result<Option<Cell>, StoreError> {
        match self.found(key, sight).await? {
            // A primary may have what took the place of what a replica has.
            Found::Purged if sight == Sight::First && self.reads_replicas() => {
                Ok(self.found(key, Sight::Again).await?.cell())
            }
            found => Ok(found.cell()),
        }
    }

    /// What is stored there, as far as it was not purged.
    async fn found(&self, key: CellKey<'_>, sight: Sight) -> Result<Found, StoreError> {
        // What is not kept has no need of it.
        let connection = self.near().and_then(|_| self.stamp().1);
        let changes = self.near().map(|near| near.changes(key.primary));
        let (cell, clock) = match self {
            Self::Redis(store) => (store.get(key, sight).await?, store.clock()),
            Self::Memory(store) => (store.get(key, sight).await?, &store.clock),
        };
        let Some(cell) = cell else { return Ok(Found::Nothing) };
        let mut judged = self.judged(key, cell, clock).await?;
        if let (Some(near), Some(changes), Some(cell), Some(connection)) =
            (self.near(), changes, &mut judged, connection)
            && self.stamp().1 == Some(connection)
        {
            let keeping = Keeping { connection, changes };
            match cell {
                Cell::Response(response) if !response.body.is_loaded() => {
                    near.make_way(key, response);
                    let is_to_be_kept =
                        near.may_keep(response) && self.is_near_good(key.primary, response, clock.now());
                    Arc::make_mut(response).body.set_keeping(is_to_be_kept.then_some(keeping));
                }
                _ => near.keep(key, cell, keeping),
            }
        }
        Ok(judged.map_or(Found::Purged, Found::Cell))
    }

    /// Whether what is found at first sight may be behind.
    fn reads_replicas(&self) -> bool {
        match self {
            Self::Redis(store) => store.reads_replicas(),
            Self::Memory(_) => false,
        }
    }

    /// The cell, unless it was purged: one that was is as good as gone, and soon is.
    async fn judged(&self, key: CellKey<'_>, cell: Cell, clock: &Clock) -> Result<Option<Cell>, StoreError> {
        let Cell::Response(response) = cell else { return Ok(Some(cell)) };
        let plane = self.plane();
        plane.synced().await?;
        let mut verdict = self.verdict(key, &response);
        if verdict == Verdict::Ahead {
            plane.synced_anew().await?;
            verdict = self.verdict(key, &response);
        }
        match verdict {
            Verdict::Good => Ok(Some(Cell::Response(response))),
            Verdict::Stale(number) => Ok(Some(Cell::Response(stale(response, number, clock.now())))),
            Verdict::Purged => {
                plane.bury(Dead { key: key.primary.clone(), variant: key.variant, chunks: response.body.chunks() });
                Ok(None)
            }
            // It was stamped under a making that is no more.
            Verdict::Ahead if response.label.stamp.incarnation != plane.stamp().incarnation => {
                plane.bury(Dead { key: key.primary.clone(), variant: key.variant, chunks: response.body.chunks() });
                Ok(None)
            }
            // Purges that it knows of have been lost. Which, nobody can tell.
            Verdict::Ahead => {
                plane.raise_floor(response.label.stamp.number + 1);
                plane.want();
                Ok(None)
            }
        }
    }

    fn verdict(&self, key: CellKey<'_>, response: &StoredResponse) -> Verdict {
        match self.plane().is_denied() {
            true => Verdict::Good,
            false => self.plane().judge(key.primary, &response.label),
        }
    }

    /// Removes what was [found dead](Plane::bury), and is so still.
    pub(crate) async fn reclaim(&self, dead: &Dead) -> Result<(), StoreError> {
        let key = CellKey { primary: &dead.key, variant: dead.variant };
        let present = match self.peek(key).await? {
            Some(Cell::Response(response)) => response,
            _ => return self.discard_dead(key, dead, None).await,
        };
        if self.verdict(key, &present) == Verdict::Purged {
            self.remove(key, false).await?;
            return self.discard_dead(key, dead, None).await;
        }
        self.discard_dead(key, dead, present.body.chunks()).await
    }

    async fn discard_dead(&self, key: CellKey<'_>, dead: &Dead, in_use: Option<Chunks>) -> Result<(), StoreError> {
        match dead.chunks.filter(|chunks| Some(*chunks) != in_use) {
            Some(chunks) => self.discard(CellKey::base(key.primary), chunks).await,
            None => Ok(()),
        }
    }
}

/// Stale since it was purged, or at least from now on: the clocks that say when that was may differ.
fn stale(response: Arc<StoredResponse>, purged: Number, now: Timestamp) -> Arc<StoredResponse> {
    let mut response = Arc::unwrap_or_clone(response);
    let freshness = &mut response.freshness;
    let purged = Timestamp::from_millis(purged / 1000);
    let age = freshness.current_age(purged).min(freshness.current_age(now));
    freshness.lifetime = freshness.lifetime.min(age);
    Arc::new(response)
}
