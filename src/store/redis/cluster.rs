//! Redis Cluster: a link to each primary, and which slots it has.
//!
//! Each node fares by itself: what one does not answer is a miss, and the others go on. A redirect is followed, and
//! remembered. Who has what is asked anew when that happens, when a node does not answer, and every few seconds.
//!
//! The cluster client of redis-rs does not say which server an answer came from, and the purge clock has to know whether
//! two readings came from the same one: another, after a failover, may have lost what the first had.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use redis::{AsyncConnectionConfig, Cmd, Pipeline, Value};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time;
use tracing::Instrument;

use super::address::RedisAddress;
use super::breaker::Backoff;
use super::lanes::LaneName;
use super::link::{Access, Link, LinkSettings};
use super::replicas::Replicas;
use super::replies::{Failure, Redirect, Verdict, cure};
use super::routes::Routes;
use super::slots::{Node, Share, Slot, first_key, shares};
use crate::abreast::abreast;
use crate::clock::Stopwatch;
use crate::error::{StoreError, StoreErrorKind};

#[derive(Debug)]
pub(crate) struct Cluster {
    /// With the nodes to begin with.
    address: RedisAddress,
    settings: LinkSettings,
    generations: Arc<AtomicU64>,
    /// The purge clock, and where it is.
    clock_key: Vec<u8>,
    clock: Slot,
    map: RwLock<Option<Arc<Routes>>>,
    /// Whether it has been asked who has what.
    asked: watch::Sender<bool>,
    refresh: Mutex<Refresh>,
    /// Who answered for the purge clock while that was on its way there.
    clock_guest: Mutex<Option<Arc<Link>>>,
}

#[derive(Debug)]
struct Refresh {
    running: Option<Stopwatch>,
    ended: Option<Stopwatch>,
    pause: Duration,
    backoff: Backoff,
    /// Why nobody said who has what, the last time.
    trouble: Option<StoreError>,
}

/// The right to ask who has what, given back when the task ends, however it ends.
struct Refreshing(Arc<Cluster>);

/// Redirects that are followed for one command: to the new node, and on its way to another.
const MOST_HOPS: usize = 3;
/// Nodes that are asked who has what.
const ASKED_AT_ONCE: usize = 5;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LAST_PAUSE: Duration = Duration::from_millis(500);
/// A task that gave no sign for so long sits in a runtime that nobody drives.
const LOST: Duration = Duration::from_secs(5);
/// Where the parts of a generation begin: so many connections and moves are told apart.
const GUEST_AT: u32 = 20;
const MOVES_AT: u32 = 40;

// ===== impl Cluster =====

impl Cluster {
    pub(super) fn new(address: RedisAddress, settings: LinkSettings, clock: &[u8]) -> Self {
        let backoff = Backoff::new(FIRST_PAUSE, LAST_PAUSE);
        let refresh = Refresh { running: None, ended: None, pause: Duration::ZERO, backoff, trouble: None };
        Self {
            address,
            settings: LinkSettings { is_of_cluster: true, ..settings },
            generations: Arc::default(),
            clock_key: clock.to_vec(),
            clock: Slot::of_key(clock),
            map: RwLock::new(None),
            asked: watch::Sender::new(false),
            refresh: Mutex::new(refresh),
            clock_guest: Mutex::new(None),
        }
    }

    pub(super) fn address(&self) -> &RedisAddress {
        &self.address
    }

    /// Whether any node is.
    pub(super) fn is_available(self: &Arc<Self>) -> bool {
        let Some(map) = self.map() else {
            let is_first = !*self.asked.borrow();
            self.start_refresh();
            return is_first;
        };
        // Each that is down is to be repaired.
        let available = map.links.iter().filter(|(_, link)| link.is_available()).count();
        if available < map.links.len() {
            self.start_refresh();
        }
        available > 0
    }

    pub(super) fn takes_writes(self: &Arc<Self>, slot: Slot) -> bool {
        match self.map() {
            Some(map) => map.owner(slot).is_some_and(Link::takes_writes),
            None => self.is_available(),
        }
    }

    pub(super) fn generation(&self) -> Option<u64> {
        let map = self.map()?;
        let owner = map.owner(self.clock)?.heads.generation()?;
        let guest = self.clock_guest.lock().ok()?.as_ref().map(|guest| guest.heads.generation());
        let (moves, guest) = (map.clock_moves << MOVES_AT, guest.map_or(Some(0), |guest| guest)? << GUEST_AT);
        Some(owner.wrapping_add(guest).wrapping_add(moves))
    }

    fn clock_was_asked(&self, guest: Option<&Arc<Link>>) {
        if let Ok(mut known) = self.clock_guest.lock()
            && known.as_ref().map(Arc::as_ptr) != guest.map(Arc::as_ptr)
        {
            *known = guest.map(Arc::clone);
        }
    }

    pub(super) async fn clock_address(self: &Arc<Self>) -> Result<RedisAddress, StoreError> {
        Ok(self.owner(self.clock).await?.address.clone())
    }

    pub(super) async fn links(self: &Arc<Self>) -> Result<Vec<Arc<Link>>, StoreError> {
        let trouble = |error| self.refresh.lock().ok().and_then(|refresh| refresh.trouble.clone()).unwrap_or(error);
        let map = self.known_map().await.map_err(trouble)?;
        Ok(map.links.iter().map(|(_, link)| Arc::clone(link)).collect())
    }

    /// A replica of the node that has what a command is about.
    pub(super) fn replica(&self, command: &Cmd) -> Option<Arc<Link>> {
        self.map()?.replica(Slot::of_command(command)).map(Arc::clone)
    }

    /// Replicas that are worth asking, and all.
    pub(super) fn replicas(&self) -> (usize, usize) {
        let map = self.map().unwrap_or_default();
        map.replicas().iter().map(Replicas::count).fold((0, 0), |(well, all), (more, other)| (well + more, all + other))
    }

    /// One command and its answer; with a limit, in its turn.
    pub(super) async fn call(
        self: &Arc<Self>,
        lane: LaneName,
        access: Access,
        command: &Cmd,
        limit: Option<Duration>,
    ) -> Result<Value, Failure> {
        let slot = Slot::of_command(command);
        let (mut link, mut once) = (self.owner(slot).await.map_err(Failure::ignored)?, false);
        for _ in 0..=MOST_HOPS {
            let answer = match limit {
                Some(limit) if once => {
                    let late = |_| Err(Failure::ignored(StoreError::new(StoreErrorKind::Timeout)));
                    time::timeout(limit, asking(&link, lane, access, command)).await.unwrap_or_else(late)
                }
                None if once => asking(&link, lane, access, command).await,
                Some(limit) => link.call_in_turn(lane, access, command, limit).await,
                None => link.call(lane, access, command).await,
            };
            let Err(Failure { redirect: Some(redirect), .. }) = &answer else {
                if slot == self.clock && first_key(command) == self.clock_key {
                    self.clock_was_asked(once.then_some(&link));
                }
                return self.noted(answer);
            };
            once = redirect.once;
            link = self.follow(slot, &link, redirect).map_err(Failure::ignored)?;
        }
        Err(Failure::ignored(moving()))
    }

    /// Several commands about keys in one slot, in one go. Those that are redirected are followed one by one.
    pub(super) async fn call_all(
        self: &Arc<Self>,
        lane: LaneName,
        access: Access,
        commands: &Pipeline,
    ) -> Result<Vec<Value>, Failure> {
        let Some(first) = commands.cmd_iter().next() else { return Ok(Vec::new()) };
        let link = self.owner(Slot::of_command(first)).await.map_err(Failure::ignored)?;
        let answers = self.noted(link.call_each(lane, access, commands).await)?;
        let mut all = Vec::with_capacity(answers.len());
        for (answer, command) in answers.into_iter().zip(commands.cmd_iter()) {
            all.push(match answer {
                Err(Failure { redirect: Some(_), .. }) => self.call(lane, access, command, None).await?,
                answer => self.noted(answer)?,
            });
        }
        Ok(all)
    }

    /// Where a node cannot be asked, another may have its slots by now.
    fn noted<T>(self: &Arc<Self>, answer: Result<T, Failure>) -> Result<T, Failure> {
        if let Err(Failure { error, verdict, .. }) = &answer
            && (*verdict == Verdict::Replace
                || matches!(error.kind(), StoreErrorKind::Unavailable | StoreErrorKind::NotReady))
        {
            self.start_refresh();
        }
        answer
    }

    /// The node that a redirect names. One for good is remembered before anything is asked there: by that it is known that
    /// the answer comes from another node.
    fn follow(self: &Arc<Self>, slot: Slot, from: &Link, redirect: &Redirect) -> Result<Arc<Link>, StoreError> {
        let host = match redirect.host.is_empty() {
            true => from.address.host().to_owned(),
            false => redirect.host.clone(),
        };
        let node = (host, redirect.port);
        if let Some(link) = self.map().and_then(|map| map.known(slot, &node, redirect.once)) {
            return Ok(link);
        }
        let link = self.change(|map| {
            let place = map.place(&node, |node| self.link_to(node))?;
            map.patch(slot, &node, (!redirect.once).then_some(place));
            Some(Arc::clone(&map.links[usize::from(place)].1))
        });
        self.start_refresh();
        link.flatten().ok_or_else(moving)
    }

    fn link_to(&self, node: &Node) -> Arc<Link> {
        Link::new(self.address.node(node), &self.settings, Arc::clone(&self.generations))
    }

    async fn owner(self: &Arc<Self>, slot: Slot) -> Result<Arc<Link>, StoreError> {
        let owner = self.known_map().await?.owner(slot).map(Arc::clone);
        owner.ok_or_else(|| {
            self.start_refresh();
            StoreError::with_detail(StoreErrorKind::NotReady, "no node has the slot")
        })
    }

    /// Only before it was asked for the first time does this wait, and the caller's deadline bounds that.
    async fn known_map(self: &Arc<Self>) -> Result<Arc<Routes>, StoreError> {
        if let Some(map) = self.map() {
            return Ok(map);
        }
        let mut asked = self.asked.subscribe();
        self.start_refresh();
        // The sender lives in `self`, so waiting cannot fail.
        let _ = asked.wait_for(|asked| *asked).await;
        self.map().ok_or_else(|| StoreError::new(StoreErrorKind::Unavailable))
    }

    fn map(&self) -> Option<Arc<Routes>> {
        self.map.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes what is known; `None` while nothing is.
    fn change<T>(&self, change: impl FnOnce(&mut Routes) -> T) -> Option<T> {
        let mut place = self.map.write().unwrap_or_else(PoisonError::into_inner);
        let known = place.as_ref()?;
        let mut map = Routes::clone(known);
        let changed = change(&mut map);
        map.is_after(known, self.clock);
        *place = Some(Arc::new(map));
        Some(changed)
    }

    /// Takes over what the nodes say; whether that is news.
    fn learn(&self, view: Vec<Share>) -> bool {
        let mut place = self.map.write().unwrap_or_else(PoisonError::into_inner);
        let known = place.clone().unwrap_or_default();
        let is_news = !known.is_of(&view);
        let replica = |node: &Node| Link::to_replica(self.address.node(node), &self.settings);
        let link = |node: &Node| known.link(node).unwrap_or_else(|| self.link_to(node));
        let mut map = known.renewed(view, link, self.settings.reads_replicas.then_some(&replica));
        map.is_after(&known, self.clock);
        *place = Some(Arc::new(map));
        is_news
    }

    // ===== asking who has what =====

    /// Unless that has just been asked, or is being asked.
    pub(super) fn start_refresh(self: &Arc<Self>) {
        let Ok(runtime) = Handle::try_current() else { return };
        if self.refresh.lock().is_ok_and(|mut refresh| refresh.begin()) {
            let refreshing = Refreshing(Arc::clone(self)).run();
            runtime.spawn(refreshing.instrument(tracing::debug_span!(parent: None, "cluster")));
        }
    }

    /// What most nodes say of those that answer.
    async fn ask(&self) -> Result<Vec<Share>, StoreError> {
        let known = self.map().map(|map| map.links.clone()).unwrap_or_default();
        let first = fastrand::usize(..known.len().max(1));
        let mut asked = Vec::with_capacity(ASKED_AT_ONCE);
        for (node, link) in known.iter().cycle().skip(first).take(known.len().min(ASKED_AT_ONCE)) {
            asked.push(self.ask_link(node, link));
        }
        let mut views = Views::default();
        abreast(asked, ASKED_AT_ONCE, |said| views.count(said)).await;
        if views.said.is_empty() {
            let mut asked = Vec::with_capacity(self.address.nodes().len());
            for node in self.address.nodes() {
                asked.push(self.ask_anew(node));
            }
            abreast(asked, ASKED_AT_ONCE, |said| views.count(said)).await;
        }
        views.most()
    }

    async fn ask_link(&self, (host, _): &Node, link: &Arc<Link>) -> Result<Vec<Share>, StoreError> {
        let command = cluster_slots();
        let asking = link.call(LaneName::Heads, Access::Script { writes: false }, &command);
        let answer = time::timeout(self.settings.patience, asking).await;
        let answer = answer.map_err(|_| StoreError::new(StoreErrorKind::Timeout))?;
        answer.map(|answer| shares(&answer, host)).map_err(|failure| failure.error)
    }

    /// By a connection for this alone.
    async fn ask_anew(&self, node: &Node) -> Result<Vec<Share>, StoreError> {
        let asking = async {
            let client = self.address.node(node).client(None).await?;
            let config = AsyncConnectionConfig::new().set_connection_timeout(Some(CONNECT_TIMEOUT));
            let answer = async {
                let mut connection = client.get_multiplexed_async_connection_with_config(&config).await?;
                connection.send_packed_command(&cluster_slots()).await.and_then(Value::extract_error)
            };
            answer.await.map(|answer| shares(&answer, &node.0)).map_err(|error| Failure::from(&error).error)
        };
        time::timeout(CONNECT_TIMEOUT, asking).await.unwrap_or_else(|_| Err(StoreError::new(StoreErrorKind::Timeout)))
    }
}

/// Sends a command to where its slot is on its way to.
async fn asking(link: &Arc<Link>, lane: LaneName, access: Access, command: &Cmd) -> Result<Value, Failure> {
    let mut both = Pipeline::with_capacity(2);
    both.add_command(redis::cmd("ASKING")).add_command(command.clone());
    let answers = link.call_each(lane, access, &both).await?;
    answers.into_iter().next_back().unwrap_or_else(|| Err(Failure::ignored(moving())))
}

fn cluster_slots() -> Cmd {
    let mut command = redis::cmd("CLUSTER");
    command.arg("SLOTS");
    command
}

fn moving() -> StoreError {
    StoreError::with_detail(StoreErrorKind::NotReady, "the slot is being moved")
}

// ===== impl Refresh =====

impl Refresh {
    fn begin(&mut self) -> bool {
        let is_running = self.running.is_some_and(|since| since.elapsed() < LOST);
        if is_running || self.ended.is_some_and(|ended| ended.elapsed() < self.pause) {
            return false;
        }
        self.running = Some(Stopwatch::start());
        true
    }
}

impl Refreshing {
    async fn run(self) {
        let cluster = &self.0;
        let view = cluster.ask().await;
        let view = view.map(|view| cluster.learn(view));
        let is_news = *view.as_ref().unwrap_or(&false);
        if let Ok(mut refresh) = cluster.refresh.lock() {
            if is_news {
                refresh.backoff.reset();
            }
            refresh.pause = refresh.backoff.next();
            match &view {
                Ok(_) if refresh.trouble.take().is_some() => {
                    tracing::warn!(redis = %cluster.address, "the cluster says again who has what");
                }
                Ok(_) => {}
                Err(error) => {
                    if refresh.trouble.replace(error.clone()).is_none() {
                        tracing::warn!(
                            redis = %cluster.address, store.error = %error, cure = cure(error),
                            "no node of the cluster says who has what"
                        );
                    }
                }
            }
        }
        cluster.asked.send_replace(true);
    }
}

impl Drop for Refreshing {
    fn drop(&mut self) {
        if let Ok(mut refresh) = self.0.refresh.lock() {
            refresh.running = None;
            refresh.ended = Some(Stopwatch::start());
        }
    }
}

/// What nodes say, and how many of them.
#[derive(Default)]
struct Views {
    said: Vec<(Vec<Share>, usize)>,
    failure: Option<StoreError>,
}

impl Views {
    fn count(&mut self, said: Result<Vec<Share>, StoreError>) {
        match said {
            Ok(view) if view.is_empty() => {
                let empty = StoreError::with_detail(StoreErrorKind::NotReady, "no slots are assigned");
                self.failure = Some(empty);
            }
            Ok(view) => match self.said.iter_mut().find(|(known, _)| *known == view) {
                Some((_, times)) => *times += 1,
                None => self.said.push((view, 1)),
            },
            Err(error) => self.failure = Some(error),
        }
    }

    fn most(self) -> Result<Vec<Share>, StoreError> {
        let most = self.said.into_iter().max_by_key(|(_, times)| *times).map(|(view, _)| view);
        most.ok_or_else(|| self.failure.unwrap_or_else(|| StoreError::new(StoreErrorKind::Unavailable)))
    }
}
