//! What an operator, or the answer to an unsafe request (RFC 9111 §4.4), ends: recorded in the purge clock, and removed
//! where it can be named.
//!
//! The record is what counts: it reaches every instance, and the fetches that are under way. The removal gives the room
//! back, and takes the leases away, so that nobody waits for what comes too late.

use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, Uri, header, request};
use tokio::time;

use super::{Shared, epoch, search};
use crate::abreast::abreast;
use crate::error::{StoreError, StoreErrorKind};
use crate::key::{CacheKey, key_for};
use crate::purge::target::{MAX_TARGETS, Member};
use crate::purge::{PurgeError, PurgeMode, PurgeTarget, Purged};
use crate::store::{Sight, select};

/// What is asked of the store at one time.
const AT_ONCE: usize = 64;

/// What is to be ended.
#[derive(Debug, Default)]
pub(super) struct Ending {
    /// With the responses to QUERYs of the target.
    pub(super) keys: Vec<CacheKey>,
    /// Besides the keys.
    pub(super) members: Vec<Member>,
    /// What a GET of these targets may find under other keys (`No-Vary-Search`).
    pub(super) targets: Vec<request::Parts>,
}

/// Ends what the targets name.
pub(crate) async fn purge(
    shared: &Arc<Shared>,
    targets: Vec<PurgeTarget>,
    mode: PurgeMode,
) -> Result<Purged, PurgeError> {
    if !(1..=MAX_TARGETS).contains(&targets.len()) {
        return Err(PurgeError::Count(targets.len()));
    }
    let mut ending = Ending::default();
    for target in targets {
        ending.add(shared, target)?;
    }
    let ended = ending.end(shared, mode).await;
    let number = ended.recorded?;
    // Removal only gives room back.
    if let Err(error) = ended.removed {
        tracing::debug!(store.error = %error, "what was purged is not removed");
    }
    shared.counters.purges.increment();
    tracing::debug!(number, ?mode, "purged");
    Ok(Purged::at(number))
}

/// What came of it.
#[derive(Debug)]
pub(super) struct Ended {
    /// The number of the last record.
    recorded: Result<u64, StoreError>,
    removed: Result<(), StoreError>,
    /// All of it is keys; what else is named cannot be removed.
    is_keys_alone: bool,
}

impl Ended {
    /// Whether nothing of it is served any more. Where this user of the store has no purge clock, removal has to do.
    pub(super) fn is_complete(&self) -> bool {
        match &self.recorded {
            Ok(_) => true,
            Err(error) => error.kind() == StoreErrorKind::Denied && self.is_keys_alone && self.removed.is_ok(),
        }
    }
}

impl Ending {
    fn add(&mut self, shared: &Shared, target: PurgeTarget) -> Result<(), PurgeError> {
        match target {
            PurgeTarget::Key(key) => self.keys.push(key),
            PurgeTarget::Tag(tag) => self.members.push(Member::tag(&tag)?),
            PurgeTarget::Prefix { host, path } => self.members.push(Member::prefix(&host, &path)?),
            PurgeTarget::Everything => self.members.push(Member::everything()),
            PurgeTarget::Url(url) => {
                let extractor = shared.config.key.as_ref();
                let keyed = |parts: request::Parts| Some((key_for(extractor, &parts, parts.uri.clone())?, parts));
                let named: Vec<_> = gets(&url)?.into_iter().filter_map(keyed).collect();
                if named.is_empty() {
                    return Err(PurgeError::Invalid("this URL has no key".into()));
                }
                for (key, parts) in named {
                    if !self.keys.contains(&key) {
                        self.keys.push(key);
                        self.targets.push(parts);
                    }
                }
            }
        }
        Ok(())
    }

    /// Records and removes, side by side: what is stored between the two is purged all the same. Each is done within the
    /// time for writing to the store.
    pub(super) async fn end(self, shared: &Shared, mode: PurgeMode) -> Ended {
        let limit = shared.config.store_write_timeout;
        let is_keys_alone = self.members.is_empty();
        let recording = self.record(shared, mode, limit);
        let removing = time::timeout(limit, remove(shared, &self.keys, mode));
        let ((recorded, others), removed) = tokio::join!(recording, removing);
        let mut removed = in_time(removed);
        match others {
            Ok(others) if mode == PurgeMode::Hard && !others.is_empty() => {
                let removing = others.iter().map(|key| select::invalidate(&shared.store, key)).collect();
                removed = removed.and(in_time(time::timeout(limit, remove_all(removing)).await));
            }
            Ok(_) => {}
            Err(unknown) => removed = removed.and(Err(unknown)),
        }
        Ended { recorded, removed, is_keys_alone }
    }

    /// The number of the last record, and the keys besides those that are named under which a GET of the targets may find
    /// something, which are recorded as well. Where those are not to be had, the record is not complete.
    async fn record(
        &self,
        shared: &Shared,
        mode: PurgeMode,
        limit: Duration,
    ) -> (Result<u64, StoreError>, Result<Vec<CacheKey>, StoreError>) {
        let named = time::timeout(limit, record(shared, &self.keys, &self.members, mode));
        let (named, others) = tokio::join!(named, time::timeout(limit, alternatives(shared, &self.targets)));
        let (named, others) = (in_time(named), in_time(others));
        let recorded = match (named, &others) {
            (Ok(_), Ok(others)) if !others.is_empty() => {
                in_time(time::timeout(limit, record(shared, others, &[], mode)).await)
            }
            (Ok(_), Err(unknown)) => Err(StoreError::new(unknown.kind())),
            (named, Ok(others)) => {
                others.iter().for_each(|key| shared.order.invalidate(key));
                named
            }
            (named, Err(_)) => named,
        };
        (recorded, others)
    }
}

fn in_time<T>(done: Result<Result<T, StoreError>, time::error::Elapsed>) -> Result<T, StoreError> {
    done.unwrap_or_else(|_| Err(StoreError::new(StoreErrorKind::Timeout)))
}

async fn record(shared: &Shared, keys: &[CacheKey], others: &[Member], mode: PurgeMode) -> Result<u64, StoreError> {
    let members = keys.iter().map(Member::key).chain(others.iter().cloned()).map(|member| member.in_mode(mode));
    keys.iter().for_each(|key| shared.order.invalidate(key));
    shared.store.purge(&members.collect::<Vec<_>>()).await
}

/// What a GET of these targets may find under other keys.
async fn alternatives(shared: &Shared, targets: &[request::Parts]) -> Result<Vec<CacheKey>, StoreError> {
    let (mut found, mut failure) = (Vec::new(), None);
    // A replica may not know all of them yet.
    let looking: Vec<_> =
        targets.iter().map(|parts| search::alternatives_of(shared, parts, &parts.uri, Sight::Again)).collect();
    abreast(looking, AT_ONCE, |alternatives| match alternatives {
        Ok(alternatives) => found.extend(alternatives.into_iter().map(|(key, _)| key)),
        Err(error) => failure = Some(error),
    })
    .await;
    match failure {
        Some(error) => Err(error),
        None => Ok(found),
    }
}

/// What stays in its place is stale: only what a hard purge ends is removed.
async fn remove(shared: &Shared, keys: &[CacheKey], mode: PurgeMode) -> Result<(), StoreError> {
    match mode {
        PurgeMode::Hard => remove_all(keys.iter().map(|key| epoch::invalidate(&shared.store, key)).collect()).await,
        // The responses to QUERYs cannot be found one by one, to be made stale.
        PurgeMode::Soft => remove_all(keys.iter().map(|key| epoch::end(&shared.store, key)).collect()).await,
    }
}

/// One that cannot be removed does not keep the others.
async fn remove_all(removing: Vec<impl Future<Output = Result<(), StoreError>>>) -> Result<(), StoreError> {
    let mut removed = Ok(());
    abreast(removing, AT_ONCE, |one| {
        if one.is_err() {
            removed = one;
        }
    })
    .await;
    removed
}

/// A GET of a URL with no fields but the host, as it may be sent: with the whole URL, or with its path and query.
fn gets(url: &Uri) -> Result<[request::Parts; 2], PurgeError> {
    let invalid = |why: &str| PurgeError::Invalid(why.into());
    let (Some(scheme), Some(authority)) = (url.scheme_str(), url.authority()) else {
        return Err(invalid("the URL is not absolute"));
    };
    if authority.as_str().contains('@') {
        return Err(invalid("the URL names a user"));
    }
    // Without a port that goes without saying: in origin form nobody sees by which scheme it does.
    let port = if scheme == "https" { ":443" } else { ":80" };
    let host = authority.as_str().strip_suffix(port).unwrap_or(authority.as_str());
    let path = url.path_and_query().map_or("/", |path| path.as_str());
    let get = |target: &str| {
        let request = Request::builder().method(Method::GET).uri(target).header(header::HOST, host).body(());
        request.map(|request| request.into_parts().0).map_err(|_| invalid("nobody can ask for this URL"))
    };
    Ok([get(&url.to_string())?, get(path)?])
}
