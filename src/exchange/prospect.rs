//! What becomes of a response: it passes, or it is recorded as it does.

use std::sync::Arc;
use std::time::Duration;

use http::{header, response};

use super::fill::Fill;
use super::forward::Sent;
use super::keeper::Keeper;
use super::record::Desk;
use super::upload::Upload;
use super::{Shared, unavailable_detail};
use crate::body::Reservation;
use crate::body::recorder::{Limits, Recorder};
use crate::body::shared::{SharedBody, WINDOW};
use crate::clock::Stopwatch;
use crate::collapse::uncacheable::BARREN;
use crate::error::StoreErrorKind;
use crate::observe::{ForwardReason, Outcome, Ttl};
use crate::semantics::storing::{BodyLength, ReceivedHead, Refusal, Storability, Storable, storability};
use crate::semantics::time::Timestamp;

/// What is to be done with a response.
pub(super) enum Prospect {
    /// It passes, and that is all.
    Pass(Outcome),
    /// It is recorded as it passes.
    Record(Outcome, Box<Desk>),
}

pub(super) fn prospect(shared: &Arc<Shared>, sent: &Sent, head: &response::Parts, body_length: BodyLength) -> Prospect {
    let outcome = Outcome::forwarded(sent.miss.reason).with_status(head.status);
    let received = ReceivedHead {
        status: head.status,
        headers: &head.headers,
        body_length,
        represents_target: sent.represents_target,
        request_time: sent.request_time,
        response_time: shared.clock().now(),
    };
    let storable = match storability(&sent.request(), &received, &sent.route, &shared.config.rules) {
        Storability::Refuse(refusal) => {
            return Prospect::Pass(refused(shared, sent, outcome, (refusal, received.response_time)));
        }
        Storability::Store(storable) => storable,
    };
    let Ok(tags) = shared.config.purges.tagger.tags(head) else {
        return Prospect::Pass(refused(shared, sent, outcome, (Refusal::Tags, received.response_time)));
    };
    shared.uncacheable.forget(&sent.miss.key);
    record(shared, sent, &received, (storable, tags), outcome)
}

fn refused(shared: &Shared, sent: &Sent, outcome: Outcome, (refusal, now): (Refusal, Timestamp)) -> Outcome {
    shared.counters.refused.increment();
    let is_of_the_key = shared.uncacheable.note(&sent.miss.key, refusal, now);
    if is_of_the_key && has_just_found_nothing(sent) && !outcome.is_server_error() {
        shared.uncacheable.note_barren(&sent.miss.key, sent.request_time);
    }
    // What is stored for a QUERY has another key, and nobody would find the marker.
    let can_be_marked = is_of_the_key && sent.miss.asked.epoch.is_none();
    if let Some(lease) = sent.flight.as_ref().and_then(|flight| flight.lease()).filter(|_| can_be_marked) {
        lease.note_uncacheable();
    }
    match sent.miss.reason {
        // That the store was away says more than what would have become of the response.
        ForwardReason::Miss => outcome.with_detail(unavailable_detail(sent.miss.asked.failure)),
        _ => outcome.refused(refusal),
    }
}

/// That was for what another process may have stored meanwhile.
fn has_just_found_nothing(sent: &Sent) -> bool {
    let asked = &sent.miss.asked;
    sent.miss.reason == ForwardReason::UriMiss
        && asked.is_answered
        && asked.epoch.is_none()
        && asked.since.elapsed() < BARREN
}

/// The key has as many variants as it may.
const FULL: &str = "too-many-variants";

fn dropped(shared: &Shared, outcome: Outcome, detail: &'static str) -> Outcome {
    match detail {
        FULL => shared.counters.refused.increment(),
        _ => shared.counters.dropped_writes.increment(),
    }
    outcome.with_detail(detail)
}

/// What stands between a storable response and the store.
pub(super) fn obstacle(shared: &Shared, sent: &Sent, now: Stopwatch) -> Option<&'static str> {
    if sent.miss.reason == ForwardReason::Miss || !shared.store.is_available_at(now) {
        return Some(unavailable_detail(sent.miss.asked.failure));
    }
    if !shared.store.takes_writes(&sent.miss.key) {
        return Some("store-full");
    }
    if shared.slow_bodies.has(sent.miss.stored_under(), sent.request_time) {
        return Some("store-slow");
    }
    None
}

/// Recorded for the store if nothing stands in the way; for others who wait in any case.
fn record(
    shared: &Arc<Shared>,
    sent: &Sent,
    received: &ReceivedHead<'_>,
    (mut storable, tags): (Storable, Box<[Box<str>]>),
    outcome: Outcome,
) -> Prospect {
    let variant = storable.nominated.select(&sent.parts.headers);
    let is_full = || (!sent.miss.asked.has_room_for(shared, variant)).then_some(FULL);
    let now = Stopwatch::start();
    let obstacle = obstacle(shared, sent, now).or_else(is_full);
    // Without the store a body is held for those who are slower than others, no more than fits the window: a longer one
    // would go at the pace of the slowest.
    let is_short = received.body_length.exactly.is_none_or(|length| length <= WINDOW);
    if let Some(detail) = obstacle
        && (sent.flight.is_none() || !is_short)
    {
        return Prospect::Pass(dropped(shared, outcome, detail));
    }
    let busy = || Prospect::Pass(dropped(shared, outcome.clone(), unavailable_detail(Some(StoreErrorKind::Busy))));
    storable.freshness.lifetime = jittered(storable.freshness.lifetime, shared.config.ttl_jitter);
    let age = storable.freshness.current_age(received.response_time);
    let ttl = Ttl::between(storable.freshness.lifetime, age);
    let stated_length = storable.stated_length;
    let Some(reservation) = room(shared, stated_length) else { return busy() };
    // The task that leads a flight has its place.
    let place = match &sent.flight {
        Some(_) => None,
        None => match shared.background.enter() {
            Some(place) => Some(place),
            None => return busy(),
        },
    };
    let rules = &shared.config.rules;
    let limits =
        Limits { max_length: rules.max_body_size, max_head_size: rules.max_head_size, max_fields: rules.max_fields };
    let recorder = Recorder::new(stated_length, limits);
    let fill = Fill::new(shared, sent, received, storable, variant, tags, now);
    let mut upload = Upload::new(shared, fill.key());
    let backing = upload.backing().filter(|_| obstacle.is_none());
    let body = SharedBody::new(received.body_length.exactly, shared.most_held(), reservation, backing, now);
    fill.share(Some(&body), received.response_time);
    let (outcome, keeper) = match obstacle {
        Some(detail) => {
            if let Some(flight) = &sent.flight {
                flight.keep_to_itself();
            }
            (dropped(shared, outcome, detail), None)
        }
        None => {
            // Trailers come when all that is told has been told.
            if !received.headers.contains_key(header::TRAILER) {
                upload.publish(sent.flight.as_ref(), &fill, stated_length);
            }
            (outcome.with_ttl(ttl).being_stored(), Some(Keeper::new(recorder, fill, upload)))
        }
    };
    Prospect::Record(outcome, Desk::new(shared, body, keeper, sent, place, now))
}

/// Room is taken as the body comes; a body that cannot have it is not begun.
fn room(shared: &Shared, stated_length: Option<u64>) -> Option<Reservation> {
    let at_first = stated_length.unwrap_or(1);
    match shared.store.chunk_size() {
        Some(chunk) => shared.recording.open_share(at_first.min(chunk as u64)),
        None => shared.recording.open(at_first),
    }
}

/// Shortened by a random part of up to so many per cent.
fn jittered(lifetime: Duration, percent: u8) -> Duration {
    match percent {
        0 => lifetime,
        _ => lifetime.mul_f64(1.0 - fastrand::f64() * f64::from(percent) / 100.0),
    }
}
