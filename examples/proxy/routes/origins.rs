//! The origins behind the cache: one for all that no rule has one for, and those of the rules.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper::{Request, Response};
use tower::Service;

use super::{By, Routes};
use crate::origin::{Forwarding, Health, Origin, OriginBody, OriginSettings};
use crate::origin_url::OriginUrl;
use crate::request_body::RequestBody;

/// Asks the origin of the rule that fits.
#[derive(Clone, Debug)]
pub(crate) struct Origins {
    usual: Origin,
    by_rule: Arc<[Option<Origin>]>,
}

/// An origin whose health is checked, and what is known of it.
pub(crate) type Checked = (OriginUrl, Arc<Health>);

// ===== impl Origins =====

impl Origins {
    /// Made of the settings that they have in common, with those whose health is checked from now on.
    pub(crate) fn new(routes: &Routes, settings: &OriginSettings) -> (Self, Vec<Checked>) {
        // One set of connections to each, however many rules lead there.
        let usual = Origin::new(settings.clone());
        let mut made = vec![(settings.url.clone(), usual.clone())];
        let mut origin = |url: &OriginUrl| match made.iter().find(|(known, _)| known == url) {
            Some((_, origin)) => origin.clone(),
            None => {
                made.push((url.clone(), Origin::new(OriginSettings { url: url.clone(), ..settings.clone() })));
                made[made.len() - 1].1.clone()
            }
        };
        let by_rule = routes.rules.iter().map(|route| route.origin.as_ref().map(&mut origin)).collect();
        let checked = made.iter().filter_map(|(_, origin)| origin.look_after()).collect();
        (Self { usual, by_rule }, checked)
    }
}

impl Service<Request<RequestBody>> for Origins {
    type Response = Response<OriginBody>;
    type Error = Infallible;
    type Future = Forwarding;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // As each of them is.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<RequestBody>) -> Forwarding {
        let by = request.extensions().get::<By>().copied();
        let other = by.and_then(|By(index)| self.by_rule.get(index)?.clone());
        other.unwrap_or_else(|| self.usual.clone()).call(request)
    }
}
