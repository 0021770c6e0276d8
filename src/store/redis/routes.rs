//! Who has what in a cluster, as far as it is known: by what the nodes say, and by what redirects have said since.

use std::sync::Arc;
use std::time::Duration;

use super::link::Link;
use super::replicas::Replicas;
use super::slots::{Node, SLOTS, Share, Slot};
use crate::clock::Stopwatch;

/// Who has what, as far as it is known.
#[derive(Clone, Debug)]
pub(super) struct Routes {
    /// For each slot the place of its node among the links.
    owners: Vec<u16>,
    pub(super) links: Vec<(Node, Arc<Link>)>,
    /// Of each of them.
    replicas: Vec<Replicas>,
    /// What most nodes said.
    view: Vec<Share>,
    /// What redirects said since, for as long as some nodes may not have heard of it.
    patches: Vec<(Slot, Node, Stopwatch)>,
    /// How often the purge clock came to another node.
    pub(super) clock_moves: u64,
}

/// Makes a link to a node.
type NewLink<'a> = dyn Fn(&Node) -> Arc<Link> + 'a;

const NOBODY: u16 = u16::MAX;
/// More nodes than a cluster is made for.
const MOST_NODES: usize = 1000;
/// Redirects that are remembered against what the others say.
const MOST_PATCHES: usize = 256;
/// How long it takes at the most until all nodes have heard of a change.
const HEARSAY: Duration = Duration::from_secs(3);

impl Routes {
    pub(super) fn is_of(&self, view: &[Share]) -> bool {
        self.view == view
    }

    /// By what the nodes say now. A redirect is younger than what those say who have not heard of it.
    pub(super) fn renewed(
        &self,
        view: Vec<Share>,
        link: impl Fn(&Node) -> Arc<Link>,
        replica: Option<&NewLink<'_>>,
    ) -> Self {
        let mut routes = Self { clock_moves: self.clock_moves, ..Self::default() };
        for Share { slots, node, .. } in &view {
            if let Some(owner) = routes.place(node, &link) {
                routes.owners[usize::from(*slots.start())..=usize::from(*slots.end())].fill(owner);
            }
        }
        for (slot, node, since) in &self.patches {
            if since.elapsed() < HEARSAY
                && let Some(owner) = routes.place(node, &link)
            {
                let is_owner = self.is_with(*slot, &routes.links[usize::from(owner)].1);
                routes.patch_since(*slot, node, is_owner.then_some(owner), *since);
            }
        }
        if let Some(replica) = replica {
            routes.replicas = routes.links.iter().map(|(node, _)| self.replicas_of(node, &view, replica)).collect();
        }
        routes.view = view;
        routes
    }

    fn replicas_of(&self, node: &Node, view: &[Share], replica: &NewLink<'_>) -> Replicas {
        let share = view.iter().find(|share| share.node == *node);
        let known = self.links.iter().zip(&self.replicas).find(|((known, _), _)| known == node);
        let known = known.map(|(_, replicas)| replicas.clone()).unwrap_or_default();
        known.renewed(share.map_or(&[], |share| &share.replicas), replica)
    }

    /// A replica of the node that has a slot.
    pub(super) fn replica(&self, slot: Slot) -> Option<&Arc<Link>> {
        self.replicas.get(usize::from(self.owners[slot.index()]))?.any()
    }

    pub(super) fn replicas(&self) -> &[Replicas] {
        &self.replicas
    }

    /// By a redirect: to this place, or only on the way there.
    pub(super) fn patch(&mut self, slot: Slot, node: &Node, owner: Option<u16>) {
        self.patch_since(slot, node, owner, Stopwatch::start());
    }

    fn patch_since(&mut self, slot: Slot, node: &Node, owner: Option<u16>, since: Stopwatch) {
        if let Some(owner) = owner {
            self.owners[slot.index()] = owner;
        }
        self.patches.retain(|(known, ..)| *known != slot);
        // What finds no room is redirected again.
        if self.patches.len() < MOST_PATCHES {
            self.patches.push((slot, node.clone(), since));
        }
    }

    /// The link that a redirect leads to, if nothing has to be remembered of it.
    pub(super) fn known(&self, slot: Slot, node: &Node, once: bool) -> Option<Arc<Link>> {
        let is_remembered = |(known, other, since): &(Slot, Node, Stopwatch)| {
            (*known, other) == (slot, node) && since.elapsed() < HEARSAY / 2
        };
        let is_kept = || self.view.iter().any(|share| share.node == *node) || self.patches.iter().any(is_remembered);
        self.link(node).filter(|link| if once { is_kept() } else { self.is_with(slot, link) })
    }

    pub(super) fn is_with(&self, slot: Slot, link: &Arc<Link>) -> bool {
        self.owner(slot).is_some_and(|owner| Arc::ptr_eq(owner, link))
    }

    pub(super) fn owner(&self, slot: Slot) -> Option<&Arc<Link>> {
        self.links.get(usize::from(self.owners[slot.index()])).map(|(_, link)| link)
    }

    pub(super) fn link(&self, node: &Node) -> Option<Arc<Link>> {
        self.links.iter().find(|(known, _)| known == node).map(|(_, link)| Arc::clone(link))
    }

    /// The place of a node's link, which may have to be made.
    pub(super) fn place(&mut self, node: &Node, link: impl FnOnce(&Node) -> Arc<Link>) -> Option<u16> {
        let place = self.links.iter().position(|(known, _)| known == node).or_else(|| {
            (self.links.len() < MOST_NODES).then(|| self.links.push((node.clone(), link(node))))?;
            self.links.len().checked_sub(1)
        })?;
        u16::try_from(place).ok()
    }

    /// Counts whether the clock has come to another node.
    pub(super) fn is_after(&mut self, before: &Self, clock: Slot) {
        let is_same = match (before.owner(clock), self.owner(clock)) {
            (Some(before), Some(after)) => Arc::ptr_eq(before, after),
            _ => false,
        };
        self.clock_moves = before.clock_moves + u64::from(!is_same);
    }
}

impl Default for Routes {
    fn default() -> Self {
        Self {
            owners: vec![NOBODY; usize::from(SLOTS)],
            links: Vec::new(),
            replicas: Vec::new(),
            view: Vec::new(),
            patches: Vec::new(),
            clock_moves: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use super::*;
    use crate::config::CacheConfig;
    use crate::store::redis::link::LinkSettings;

    fn link(node: &Node) -> Arc<Link> {
        let config = CacheConfig::new("redis+cluster://h").unwrap();
        let (provision, patience) = (config.provision, config.store_timeout);
        let settings = LinkSettings {
            provision,
            probe: Vec::new(),
            patience,
            is_of_cluster: true,
            pace: None,
            reads_replicas: false,
        };
        Link::new(config.redis.node(node), &settings, Arc::new(AtomicU64::new(0)))
    }

    fn node(name: &str) -> Node {
        (name.to_owned(), 1)
    }

    fn owner(routes: &Routes, slot: Slot) -> String {
        routes.owner(slot).map(|link| link.address.to_string()).unwrap_or_default()
    }

    #[test]
    fn what_a_redirect_says_is_younger_than_what_nodes_say() {
        let view = |middle| {
            let share = |slots, name| Share { slots, node: node(name), replicas: Vec::new() };
            vec![share(0..=10_000, "a"), share(10_001..=16_383, middle)]
        };
        let slot = Slot::of_key(b"foo");
        let mut routes = Routes::default().renewed(view("b"), link, None);
        assert!(routes.is_of(&view("b")) && !routes.is_of(&view("c")));
        assert_eq!(owner(&routes, slot), "redis://b:1/0");
        let place = routes.place(&node("a"), link);
        routes.patch(slot, &node("a"), place);
        assert_eq!(owner(&routes, slot), "redis://a:1/0");
        let renewed = routes.renewed(view("b"), |node| routes.link(node).expect("they are known"), None);
        assert_eq!(owner(&renewed, slot), "redis://a:1/0");
        assert_eq!(owner(&renewed, Slot::of_key(b"bar")), "redis://a:1/0");
        assert_eq!(renewed.links.len(), 2);
    }

    #[test]
    fn who_is_only_on_the_way_to_be_an_owner_is_kept_and_owns_nothing() {
        let slot = Slot::of_key(b"foo");
        let view = || vec![Share { slots: 0..=16_383, node: node("a"), replicas: Vec::new() }];
        let mut routes = Routes::default().renewed(view(), link, None);
        assert!(routes.known(slot, &node("b"), true).is_none());
        routes.place(&node("b"), link);
        routes.patch(slot, &node("b"), None);
        assert!(routes.known(slot, &node("b"), true).is_some() && routes.known(slot, &node("b"), false).is_none());
        let renewed = routes.renewed(view(), link, None);
        assert!(owner(&renewed, slot) == "redis://a:1/0" && renewed.link(&node("b")).is_some());
    }

    #[test]
    fn a_clock_that_comes_to_another_node_is_counted() {
        let clock = Slot::of_key(b"foo");
        let view = |name| vec![Share { slots: 0..=16_383, node: node(name), replicas: Vec::new() }];
        let first = Routes::default().renewed(view("a"), link, None);
        let mut same = first.renewed(view("a"), |node| first.link(node).expect("it is known"), None);
        same.is_after(&first, clock);
        let mut other = same.renewed(view("b"), link, None);
        other.is_after(&same, clock);
        assert_eq!(other.clock_moves, same.clock_moves + 1);
    }

    #[test]
    fn more_nodes_than_there_can_be_are_not_taken_in() {
        let mut routes = Routes::default();
        let places = (0..=MOST_NODES).filter_map(|number| routes.place(&node(&number.to_string()), link));
        assert_eq!(places.count(), MOST_NODES);
    }
}
