//! Replicas of one primary, for look-ups, where they are to spare it. What one of them lacks, or does not say in time, the
//! primary is asked for: it may be behind. What was purged is known by the clock, which is read from primaries alone.

use std::sync::Arc;

use super::link::Link;
use super::slots::Node;

/// Links to them, in the order in which they were named.
#[derive(Clone, Debug, Default)]
pub(super) struct Replicas {
    links: Vec<(Node, Arc<Link>)>,
}

/// More than anybody has of one primary.
const MOST: usize = 16;

impl Replicas {
    /// Those of them that were known keep their links.
    pub(super) fn renewed(&self, nodes: &[Node], link: impl Fn(&Node) -> Arc<Link>) -> Self {
        let known = |node: &Node| self.links.iter().find(|(known, _)| known == node).map(|(_, link)| Arc::clone(link));
        let links = nodes.iter().take(MOST).map(|node| (node.clone(), known(node).unwrap_or_else(|| link(node))));
        Self { links: links.collect() }
    }

    /// One that is worth asking.
    pub(super) fn any(&self) -> Option<&Arc<Link>> {
        let first = fastrand::usize(..self.links.len().max(1));
        let all = self.links.iter().cycle().skip(first).take(self.links.len());
        all.map(|(_, link)| link).find(|link| link.is_available())
    }

    /// Those that are worth asking, and all.
    pub(super) fn count(&self) -> (usize, usize) {
        (self.links.iter().filter(|(_, link)| link.is_available()).count(), self.links.len())
    }
}
