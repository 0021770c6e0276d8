//! Heads of hits as they were told a moment ago: within the same second the next has the same. That is for responses that
//! stay where they are: in memory, or as Redis has just said them once more.

use std::sync::{Arc, RwLock, Weak};

use http::HeaderMap;

use crate::semantics::reuse::Reuse;
use crate::store::entry::StoredResponse;

/// The last ones, each in the place that its response has among these.
pub(crate) struct ToldHeads {
    places: Box<[RwLock<Option<Told>>]>,
}

/// What was told of a response.
struct Told {
    /// As long as this is held nothing else has its address.
    response: Weak<StoredResponse>,
    /// In seconds: its Age, and what is left.
    at: (u64, i64),
    /// Kept when it was asked for a second time.
    headers: Option<HeaderMap>,
}

const PLACES: usize = 256;
/// The values of a head lie in what was read with its body, which is held for as long as they are.
const MAX_BODY: u64 = 4 * 1024;
const MAX_LINES: usize = 24;

impl ToldHeads {
    pub(crate) fn new() -> Self {
        Self { places: (0..PLACES).map(|_| RwLock::default()).collect() }
    }

    fn place(&self, response: &Arc<StoredResponse>) -> &RwLock<Option<Told>> {
        // The lowest digits of what is so large say little.
        let address = Arc::as_ptr(response).addr() / size_of::<StoredResponse>();
        &self.places[(address ^ (address / PLACES)) % PLACES]
    }

    /// The head that is to be told; nobody is waited for.
    pub(super) fn get(&self, response: &Arc<StoredResponse>, reuse: &Reuse) -> Option<HeaderMap> {
        let place = self.place(response).try_read().ok()?;
        place.as_ref().filter(|told| told.is_of(response, reuse))?.headers.clone()
    }

    /// This was told.
    pub(super) fn note(&self, response: &Arc<StoredResponse>, reuse: &Reuse, headers: &HeaderMap) {
        if response.body.len() > MAX_BODY || headers.len() > MAX_LINES {
            return;
        }
        let Ok(mut place) = self.place(response).try_write() else { return };
        match &mut *place {
            Some(told) if told.is_of(response, reuse) => {
                told.headers.get_or_insert_with(|| headers.clone());
            }
            place => *place = Some(Told { response: Arc::downgrade(response), at: at(reuse), headers: None }),
        }
    }
}

impl Told {
    fn is_of(&self, response: &Arc<StoredResponse>, reuse: &Reuse) -> bool {
        self.response.as_ptr() == Arc::as_ptr(response) && self.at == at(reuse)
    }
}

fn at(reuse: &Reuse) -> (u64, i64) {
    (reuse.age.as_secs(), reuse.ttl.as_secs())
}

impl std::fmt::Debug for ToldHeads {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ToldHeads").finish_non_exhaustive()
    }
}
