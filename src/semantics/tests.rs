//! What the tests of several rooms begin with.

use super::{CachePolicy, Grace, Rules, TargetList};
use http::{HeaderMap, HeaderValue};
use std::time::Duration;

pub(crate) fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in fields {
        map.append(*name, HeaderValue::from_str(value).expect("a field value"));
    }
    map
}

/// Small caps, and nothing said by the operator.
pub(super) fn rules() -> Rules {
    Rules {
        policy: CachePolicy::rfc9111(),
        targets: TargetList::default(),
        grace: Grace::default(),
        keep_stale: Duration::ZERO,
        early_refresh: 0.0,
        obeys_request_directives: true,
        negative_ttls: Vec::new(),
        default_ttl: None,
        fixed_ttl: None,
        min_ttl: Duration::ZERO,
        max_ttl: Duration::from_secs(3600),
        max_body_size: 1000,
        max_head_size: 500,
        max_fields: 10,
    }
}
