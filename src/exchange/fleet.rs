//! Who leads in this process makes sure that nobody else in the fleet fetches the same: it takes a lease before it goes
//! to the service. Where another process has it, that one's answer is waited for, and taken from the store.
//!
//! Nothing of this is needed for an answer to be right, and whatever goes wrong with it ends in a fetch: a store that
//! does not answer, one without leases, a wait that is too long.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use http::{Response, StatusCode, request};
use tokio::time;

use super::bid::Bid;
use super::collapse::{self, Followed, Landing};
use super::flight::{Flight, FlightGuard};
use super::lease::Lease;
use super::lookup::{self, Asked, Held};
use super::relay::{self, Boarding};
use super::{Miss, SetsOut, Shared, hit, patience, revalidate};
use crate::body::CacheBody;
use crate::clock::Stopwatch;
use crate::collapse::failing::{Bearable, Failure};
use crate::collapse::lease::{Ground, Leased, Pauses, Token};
use crate::error::StoreError;
use crate::key::CacheKey;
use crate::observe::ForwardReason;
use crate::semantics::PresentedRequest;
use crate::semantics::collapse::is_for_others;
use crate::semantics::reuse::{Decision, Found, Refresh, decide};
use crate::semantics::staleness::Trouble;
use crate::semantics::vary::{NominatedFields, VariantKey};
use crate::store::{Hearing, Sight};

/// What a lead is to do.
pub(super) enum Clearance<R> {
    Fetch(Box<Miss>),
    /// Another process has fetched it.
    Answer(Box<Response<CacheBody<R>>>),
}

/// What has come of a fetch elsewhere.
enum Joined<R> {
    Answer(Box<Response<CacheBody<R>>>),
    /// It is for other values of the nominated fields: this is the request's own variant.
    Vary(VariantKey),
    Nothing,
    /// The lease is held no longer, and it is time to look.
    Over,
}

/// Somebody who waits for another process, since the request began.
struct Wait {
    pauses: Pauses,
    hearing: Option<Hearing>,
    since: Stopwatch,
}

/// What one look at the lease and at the store has shown.
struct Look {
    lease: Lease,
    leased: Leased,
    found: Found<Held>,
    asked: Asked,
}

/// A lead that has waited for nobody yet.
struct Begun {
    /// When the look-up began.
    since: Stopwatch,
    now: Stopwatch,
    /// One that was not won.
    bid: Option<Box<Bid>>,
}

/// What is thought of beforehand.
struct Prospects {
    /// The failures of others for which there is something to send instead.
    bearable: Bearable,
    /// In all likelihood.
    finds_nothing: bool,
}

/// Looks that follow one another at once, for another variant or because a lease has just ended; after those there is a
/// pause, or the lead goes without a lease.
const MOST_TURNS: usize = 4;

/// Takes the lease, unless this request has it already, or waits for what its holder brings.
pub(super) async fn clear<R>(
    shared: &Arc<Shared>,
    mut miss: Box<Miss>,
    parts: &request::Parts,
    flight: &FlightGuard,
    since: Stopwatch,
) -> Clearance<R> {
    // Whoever has waited for another lead, or has used up its time, looks anew.
    let now = Stopwatch::start();
    let is_early = since.elapsed_at(now) < miss.asked.time_left_at(now, shared);
    let mut bid = miss.bid.take().filter(|_| is_early);
    if let Some(lease) = bid.as_mut().and_then(|bid| bid.won(now)) {
        flight.hold(lease);
        miss.sets_out = Some(SetsOut { time: shared.clock().now(), stopwatch: now });
        return Clearance::Fetch(miss);
    }
    let begun = is_early.then_some(Begun { since: miss.asked.since, now, bid });
    contend(shared, miss, parts, flight, (since, begun)).await
}

async fn contend<R>(
    shared: &Arc<Shared>,
    mut miss: Box<Miss>,
    parts: &request::Parts,
    flight: &FlightGuard,
    (since, mut begun): (Stopwatch, Option<Begun>),
) -> Clearance<R> {
    let (mut turns, mut wait) = (0, None::<Wait>);
    while let Some(look) =
        look(shared, &miss, parts, begun.take(), prospects(shared, &miss, parts, wait.is_some())).await
    {
        if shared.uncacheable.has(&miss.key, &PresentedRequest::of(parts), shared.clock()) {
            flight.decline();
            break;
        }
        // In boxes of their own, as all that most have no use for.
        if let Found::Response(held) = &look.found
            && let Some(landing) = Box::pin(landing_of(shared, &miss, parts, held, &look.asked)).await
        {
            let Some(response) = answer_with(shared, &miss, parts, flight, landing) else { break };
            return Clearance::Answer(response);
        }
        let wanted = lookup::variant_wanted(&look.found, &look.asked, parts).or(miss.variant);
        let is_other = wanted != miss.variant;
        let Look { lease, leased, found, asked } = look;
        if is_other || wait.is_some() && matches!(leased, Leased::Granted(_)) {
            Box::pin(renew(shared, &mut miss, parts, found, asked)).await;
            miss.variant = wanted;
        }
        match leased {
            _ if is_other && turns < MOST_TURNS => turns += 1,
            Leased::Granted(_) => {
                if !is_other {
                    flight.hold(lease);
                }
                break;
            }
            Leased::Unshared => {
                flight.decline();
                break;
            }
            Leased::Without | Leased::NotFree => break,
            Leased::Failing(failure) => return back_off(shared, miss, parts, flight, failure),
            Leased::Taken(holder) => {
                let wait = wait.get_or_insert_with(|| Wait::new(shared, &miss.key, since));
                match Box::pin(join_elsewhere(shared, &miss, parts, flight, holder)).await {
                    Joined::Answer(response) => return Clearance::Answer(response),
                    Joined::Vary(own) if turns < MOST_TURNS => (turns, miss.variant) = (turns + 1, Some(own)),
                    Joined::Over if turns < MOST_TURNS => turns += 1,
                    _ if wait.pause(shared).await => {}
                    _ => return out_of_time(shared, miss, parts, flight),
                }
            }
        }
    }
    Clearance::Fetch(miss)
}

/// What another process has fetched, or is fetching, as the answer, and for those who wait here.
fn answer_with<R>(
    shared: &Shared,
    miss: &Miss,
    parts: &request::Parts,
    flight: &Flight,
    landing: Landing,
) -> Option<Box<Response<CacheBody<R>>>> {
    let answer = collapse::serve(shared, miss, parts, &landing, false);
    landing.offer(shared, flight, shared.clock().now());
    match answer {
        Followed::Answer(response) => Some(response),
        _ => None,
    }
}

/// What the holder of the lease fetches, if there is anything of it to be read yet.
async fn join_elsewhere<R>(
    shared: &Arc<Shared>,
    miss: &Miss,
    parts: &request::Parts,
    flight: &FlightGuard,
    holder: Token,
) -> Joined<R> {
    match relay::board(shared, miss, parts, flight, holder).await {
        Boarding::Landed(landing, lookout) => match answer_with(shared, miss, parts, flight, landing) {
            Some(response) => {
                lookout.begin();
                Joined::Answer(response)
            }
            None => Joined::Nothing,
        },
        Boarding::Vary(own) => Joined::Vary(own),
        Boarding::Nothing => Joined::Nothing,
        Boarding::Over => Joined::Over,
    }
}

/// For a refresh that nobody waits for: whether to go on with it. Where somebody else is at it, or has done it, it is of
/// no use.
pub(super) async fn clear_refresh(shared: &Arc<Shared>, miss: &Miss, parts: &request::Parts, flight: &Flight) -> bool {
    let looking = look(shared, miss, parts, None, Prospects { bearable: Bearable::ALL, finds_nothing: false });
    let Some(Look { lease, leased, found, .. }) = looking.await else { return true };
    let decision = decide(&PresentedRequest::of(parts), found, shared.clock().now(), &shared.config.rules);
    if let Decision::Hit(reuse, held) = decision
        && reuse.refresh == Refresh::NotNeeded
        && miss.found_at != Some(held.response.freshness.response_time)
    {
        return false;
    }
    match leased {
        Leased::Granted(_) => {
            flight.hold(lease);
            true
        }
        Leased::Without | Leased::NotFree | Leased::Unshared => true,
        Leased::Taken(_) => false,
        Leased::Failing(failure) => {
            shared.failing.hear(&miss.key, failure, shared.clock().now());
            false
        }
    }
}

fn prospects(shared: &Shared, miss: &Miss, parts: &request::Parts, has_waited: bool) -> Prospects {
    let bearable = patience::bearable(shared, miss, parts);
    // Whoever has waited has waited for something.
    let finds_nothing =
        !has_waited && shared.store.looks_with_lease() && lookup::has_found_nothing(shared, miss, parts);
    Prospects { bearable, finds_nothing }
}

/// Tries for the lease and looks again: whoever gets the lease sees what its last holder wrote. That is one round trip. Where
/// nothing is to be found, as for most, it is only seen in it whether there is anything, and whether the lease is free; if
/// not so, there is a second.
/// `None` where there is no lease to be had.
async fn look(
    shared: &Arc<Shared>,
    miss: &Miss,
    parts: &request::Parts,
    begun: Option<Begun>,
    Prospects { bearable, finds_nothing }: Prospects,
) -> Option<Look> {
    let has_begun = begun.is_some();
    let Begun { since, now, bid } = begun.unwrap_or_else(|| {
        let now = Stopwatch::start();
        Begun { since: now, now, bid: None }
    });
    let limit = since.after(shared.store_deadline());
    if miss.reason == ForwardReason::Miss || limit <= now.after(Duration::ZERO) || !shared.store.takes_writes(&miss.key)
    {
        return None;
    }
    let (lease, is_taken) = bid.map(|bid| bid.rest()).unwrap_or_default();
    let lease = match lease {
        Some(lease) => lease,
        None => Lease::wanted(shared, miss)?,
    };
    // It ends by itself, and takes nothing of what is known of the lease with it. In boxes: whoever waits for them would
    // have to be as large.
    let look_up = |since| Box::pin(lookup::look_up(shared, &miss.key, parts, Sight::Again, since));
    if finds_nothing {
        let leased = match is_taken {
            true => Leased::NotFree,
            false => granted(time::timeout_at(limit, pin!(lease.take(bearable, true))).await.ok()?)?,
        };
        let (found, asked) = match leased {
            Leased::Granted(Ground::Bare) => (Found::UriMiss, Asked::nothing()),
            Leased::NotFree => {
                // Its holder, if it has one, is going to be waited for: there is time to ask, once more as long as a
                // look-up has. A look that began late has what is left of its time, and goes without a lease after that.
                let since = if has_begun { Stopwatch::start() } else { since };
                return take_and_look(shared, since, lease, bearable, look_up(since)).await;
            }
            _ => look_up(since).await,
        };
        return Some(Look { lease, leased, found, asked });
    }
    take_and_look(shared, since, lease, bearable, look_up(since)).await
}

fn granted(leased: Result<Leased, StoreError>) -> Option<Leased> {
    leased.inspect_err(|error| tracing::debug!(store.error = %error, "no lease")).ok()
}

/// Both in one round trip.
async fn take_and_look(
    shared: &Shared,
    since: Stopwatch,
    lease: Lease,
    bearable: Bearable,
    look_up: Pin<Box<impl Future<Output = (Found<Held>, Asked)>>>,
) -> Option<Look> {
    let (limit, taking) = (since.after(shared.store_deadline()), Box::pin(lease.take(bearable, false)));
    let (leased, (found, asked)) = tokio::join!(time::timeout_at(limit, taking), look_up);
    Some(Look { leased: granted(leased.ok()?)?, lease, found, asked })
}

/// What is stored now, if it is what was waited for: another than this request had found, and fit for it.
async fn landing_of(
    shared: &Arc<Shared>,
    miss: &Miss,
    parts: &request::Parts,
    held: &Held,
    asked: &Asked,
) -> Option<Landing> {
    let freshness = &held.response.freshness;
    if miss.found_at == Some(freshness.response_time) || held.response.status == StatusCode::PARTIAL_CONTENT {
        return None;
    }
    let (request, now) = (PresentedRequest::of(parts), shared.clock().now());
    let decision = decide(&request, Found::Response(held.clone()), now, &shared.config.rules);
    if !is_for_others(freshness, now, &shared.config.rules.grace) && !matches!(decision, Decision::Hit(..)) {
        return None;
    }
    let nominated = NominatedFields::of_response(&held.response.headers).ok()?;
    let (response, _) = hit::take(shared, &miss.key, parts, held.clone(), &mut asked.clone()).await?;
    let variant = nominated.select(&parts.headers);
    Some(Landing { response, body: None, nominated, variant })
}

/// As it stands after a wait.
async fn renew(shared: &Arc<Shared>, miss: &mut Miss, parts: &request::Parts, found: Found<Held>, mut asked: Asked) {
    let found_at = lookup::found_at(&found);
    match decide(&PresentedRequest::of(parts), found, shared.clock().now(), &shared.config.rules) {
        Decision::Forward(reason, held) if reason != ForwardReason::Miss => {
            miss.found_under = held.as_ref().and_then(|held| held.elsewhere.clone());
            miss.stored = revalidate::candidate(shared, &miss.key, parts, held, &mut asked).await;
            (miss.reason, miss.asked, miss.found_at, miss.variants) = (reason, asked, found_at, Vec::new());
        }
        _ => {}
    }
}

// ===== impl Wait =====

impl Wait {
    fn new(shared: &Shared, key: &CacheKey, since: Stopwatch) -> Self {
        Self { pauses: shared.config.pace.pauses(), hearing: shared.store.hear(key), since }
    }

    /// Waits until somebody says that it is time to look again, or it is; `false` if there is none left.
    async fn pause(&mut self, shared: &Shared) -> bool {
        let left = shared.config.collapse_timeout.saturating_sub(self.since.elapsed());
        if left.is_zero() {
            return false;
        }
        pause(self.pauses.next().min(left), self.hearing.as_mut()).await;
        true
    }
}

/// Until it is told that there is something new, or it may be without being told.
pub(super) async fn pause(pause: Duration, hearing: Option<&mut Hearing>) {
    let pause = time::sleep(pause);
    let Some(hearing) = hearing else { return pause.await };
    tokio::select! {
        () = hearing.heard() => {}
        () = pause => {}
    }
    // What is told from here on may come after the look that follows.
    hearing.listens();
}

/// A stale response, where the service has just failed another process.
fn back_off<R>(
    shared: &Shared,
    miss: Box<Miss>,
    parts: &request::Parts,
    flight: &Flight,
    failure: Failure,
) -> Clearance<R> {
    match patience::after_failure_elsewhere(shared, &miss, parts, failure) {
        Some(response) => {
            flight.fail(failure.trouble);
            Clearance::Answer(Box::new(response))
        }
        None => Clearance::Fetch(miss),
    }
}

/// A stale response, if it may be sent where the service is too slow (RFC 5861 §4); otherwise the service is asked.
fn out_of_time<R>(shared: &Shared, miss: Box<Miss>, parts: &request::Parts, flight: &Flight) -> Clearance<R> {
    shared.counters.collapse_timeouts.increment();
    match revalidate::stale_for(shared, &miss, parts, Trouble::ErrorStatus, None) {
        Some(response) => {
            flight.fail(Trouble::ErrorStatus);
            Clearance::Answer(Box::new(response))
        }
        None => Clearance::Fetch(miss),
    }
}
