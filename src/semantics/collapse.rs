//! Which requests one response may answer that was fetched for one of them (RFC 9111 §4).

use http::header;

use super::admission::is_retrieval;
use super::freshness::Freshness;
use super::reuse::request_directives;
use super::staleness::{Grace, asks_for_fresher};
use super::time::Timestamp;
use super::{PresentedRequest, Rules};

/// Whether a request may be answered by what another has fetched, and fetch for others.
///
/// One that asks for more than a fresh response gets what it asks for: its directives were meant for the origin. One for
/// a part gets that part. Where nothing can be stored a request keeps its conditions, and its answer is for nobody else.
pub(crate) fn may_collapse(request: &PresentedRequest<'_>, can_be_stored: bool, rules: &Rules) -> bool {
    let has_any = |names: &[header::HeaderName]| names.iter().any(|name| request.headers.contains_key(name));
    let has_conditions =
        || has_any(&[header::IF_NONE_MATCH, header::IF_MODIFIED_SINCE, header::IF_MATCH, header::IF_UNMODIFIED_SINCE]);
    let keeps_conditions = !can_be_stored && has_conditions();
    is_retrieval(request.method) && !asks_for_more(request, rules) && !has_any(&[header::RANGE]) && !keeps_conditions
}

/// Whether a request wants more than what is stored, however new that is.
pub(crate) fn asks_for_more(request: &PresentedRequest<'_>, rules: &Rules) -> bool {
    let directives = request_directives(request, rules);
    directives.no_store || asks_for_fresher(&directives)
}

/// Whether those who waited for a response may have it: §4 lets a response answer several requests if it may be reused
/// for each of them. One that is stale from the start, or demands it (§5.2.2.4), is validated by each for itself.
pub(crate) fn is_for_others(freshness: &Freshness, now: Timestamp, grace: &Grace) -> bool {
    let is_fresh = freshness.remaining(now).is_some();
    !freshness.always_validate && (is_fresh || freshness.stale.while_revalidating(freshness.staleness(now), grace))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::Method;

    use super::*;
    use crate::config::CacheConfig;
    use crate::semantics::staleness::StalePermission;
    use crate::semantics::tests::headers;

    fn collapses(method: &Method, can_be_stored: bool, lines: &[(&'static str, &'static str)]) -> bool {
        let headers = headers(lines);
        may_collapse(&PresentedRequest { method, headers: &headers }, can_be_stored, &CacheConfig::default().rules)
    }

    #[test]
    fn only_plain_retrievals_wait_for_each_other() {
        let get = |lines: &[(&'static str, &'static str)]| collapses(&Method::GET, true, lines);
        assert!(get(&[]));
        assert!(get(&[("if-none-match", "\"a\""), ("authorization", "x"), ("cache-control", "max-stale")]));
        for directive in ["no-cache", "no-store", "max-age=0", "min-fresh=1"] {
            assert!(!get(&[("cache-control", directive)]), "{directive}");
        }
        assert!(!get(&[("pragma", "no-cache")]));
        assert!(!get(&[("range", "bytes=0-1")]));
        assert!(!collapses(&Method::HEAD, true, &[]));
        assert!(collapses(&Method::GET, false, &[]));
        assert!(!collapses(&Method::GET, false, &[("if-none-match", "\"a\"")]));
    }

    #[test]
    fn what_demands_validation_is_for_the_one_who_asked() {
        let now = Timestamp::from_millis(5_000);
        let freshness = |seconds, forbidden, always_validate| Freshness {
            lifetime: Duration::from_secs(seconds),
            corrected_initial_age: Duration::ZERO,
            response_time: now,
            stale: StalePermission { forbidden, ..StalePermission::default() },
            always_validate,
        };
        let none = Grace::default();
        assert!(is_for_others(&freshness(1, false, false), now, &none));
        assert!(is_for_others(&freshness(1, true, false), now, &none));
        assert!(!is_for_others(&freshness(0, false, false), now, &none));
        assert!(!is_for_others(&freshness(0, true, false), now, &none));
        assert!(!is_for_others(&freshness(1, false, true), now, &none));
        let grace = Grace { while_revalidate: Duration::from_secs(1), ..Grace::default() };
        assert!(is_for_others(&freshness(0, false, false), now, &grace));
        assert!(!is_for_others(&freshness(0, true, false), now, &grace));
    }
}
