//! What a store asks its Redis through: one server, or the node of a cluster that has the key.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use redis::{Cmd, Pipeline, Value};
use tokio::time;

use super::address::RedisAddress;
use super::cluster::Cluster;
use super::lanes::LaneName;
use super::layout::Name;
pub(super) use super::link::Access;
use super::link::{Link, LinkSettings};
use super::replicas::Replicas;
use super::replies::{Failure, Verdict};
use super::scripts::Call;
use super::slots::Slot;
use crate::error::{StoreError, StoreErrorKind};

/// A handle to it.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    way: Way,
    settings: Arc<LinkSettings>,
}

/// A replica is given this part of the time: the primary may have to be asked as well, and for more than one thing.
const BY_REPLICA: u32 = 4;

#[derive(Clone, Debug)]
enum Way {
    /// With the replicas that Sentinel names.
    One(Arc<Link>, Arc<Mutex<Replicas>>),
    Many(Arc<Cluster>),
}

impl Connection {
    /// Makes no connection: the first command does.
    pub(crate) fn new(address: RedisAddress, settings: LinkSettings, clock: &[u8]) -> Self {
        let way = match address.is_cluster() {
            true => Way::Many(Arc::new(Cluster::new(address, settings.clone(), clock))),
            false => Way::One(Link::new(address, &settings, Arc::new(AtomicU64::new(0))), Arc::default()),
        };
        Self { way, settings: Arc::new(settings) }
    }

    /// Whether keys with different hash tags may be out of each other's reach.
    pub(super) fn is_cluster(&self) -> bool {
        matches!(self.way, Way::Many(_))
    }

    /// Whether it is worth asking.
    pub(crate) fn is_available(&self) -> bool {
        match &self.way {
            Way::One(link, _) => link.is_available(),
            Way::Many(cluster) => cluster.is_available(),
        }
    }

    /// Whether the server that has a key takes writes.
    pub(crate) fn takes_writes(&self, name: impl FnOnce() -> Name) -> bool {
        match &self.way {
            Way::One(link, _) => link.takes_writes(),
            Way::Many(cluster) => cluster.takes_writes(Slot::of_key(&name())),
        }
    }

    /// What a server may take to answer.
    pub(super) fn patience(&self) -> Duration {
        self.settings.patience
    }

    /// What a look-up may take, where that is not fixed.
    pub(super) fn deadline(&self) -> Option<Duration> {
        self.settings.deadline()
    }

    /// One command and its answer.
    pub(crate) async fn call(&self, lane: LaneName, access: Access, command: &Cmd) -> Result<Value, Failure> {
        match &self.way {
            Way::One(link, _) => link.call(lane, access, command).await,
            Way::Many(cluster) => Box::pin(cluster.call(lane, access, command, None)).await,
        }
    }

    /// The same, waiting for its turn where as many commands are in flight as may be, and from then on for no longer than
    /// `limit`.
    pub(crate) async fn call_in_turn(
        &self,
        lane: LaneName,
        access: Access,
        command: &Cmd,
        limit: Duration,
    ) -> Result<Value, Failure> {
        match &self.way {
            Way::One(link, _) => link.call_in_turn(lane, access, command, limit).await,
            Way::Many(cluster) => Box::pin(cluster.call(lane, access, command, Some(limit))).await,
        }
    }

    /// Several commands about keys with one hash tag in one go, and their answers; the first error counts for all.
    pub(crate) async fn call_all(
        &self,
        lane: LaneName,
        access: Access,
        commands: &Pipeline,
    ) -> Result<Vec<Value>, Failure> {
        match &self.way {
            Way::One(link, _) => link.call_each(lane, access, commands).await?.into_iter().collect(),
            Way::Many(cluster) => Box::pin(cluster.call_all(lane, access, commands)).await,
        }
    }

    /// A script and its answer. It is sent whole where the server does not know it.
    pub(crate) async fn run(&self, lane: LaneName, access: Access, call: &Call) -> Result<Value, Failure> {
        match self.call(lane, access, call.by_name()).await {
            Err(Failure { verdict: Verdict::NoScript, .. }) => self.call(lane, access, &call.in_full()).await,
            answer => answer,
        }
    }

    /// Resolves when a server has answered a read.
    pub(crate) async fn ready(&self) -> Result<(), StoreError> {
        let mut answer = Err(StoreError::new(StoreErrorKind::Unavailable));
        for link in self.links().await? {
            answer = match &self.way {
                Way::One(..) => link.answers().await,
                // Another one may be well.
                Way::Many(_) => {
                    let late = |_| Err(StoreError::new(StoreErrorKind::Timeout));
                    time::timeout(self.settings.patience, link.answers()).await.unwrap_or_else(late)
                }
            };
            if answer.is_ok() {
                break;
            }
        }
        answer
    }

    /// Over which connection the purge clock is read: another may lead to another server.
    pub(crate) fn generation(&self) -> Option<u64> {
        match &self.way {
            Way::One(link, _) => link.heads.generation(),
            Way::Many(cluster) => cluster.generation(),
        }
    }

    /// Where the purge clock is.
    pub(super) async fn clock_address(&self) -> Result<RedisAddress, StoreError> {
        match &self.way {
            Way::One(link, _) => Ok(link.address.clone()),
            Way::Many(cluster) => cluster.clock_address().await,
        }
    }

    /// Whether the server may be another one from time to time.
    pub(super) fn is_watched(&self) -> bool {
        match &self.way {
            Way::One(link, _) => link.address.is_watched(),
            Way::Many(_) => true,
        }
    }

    /// Goes where the servers are by now.
    pub(super) async fn follow(&self) {
        match &self.way {
            Way::One(link, replicas) => {
                tokio::join!(link.follow_primary(), self.follow_replicas(link, replicas));
            }
            Way::Many(cluster) => cluster.start_refresh(),
        }
    }

    async fn follow_replicas(&self, link: &Link, replicas: &Mutex<Replicas>) {
        if !self.settings.reads_replicas {
            return;
        }
        // Where nobody says, they are where they were.
        let Ok(nodes) = link.address.replicas().await else { return };
        if let Ok(mut replicas) = replicas.lock() {
            *replicas = replicas.renewed(&nodes, |node| Link::to_replica(link.address.node(node), &self.settings));
        }
    }

    /// Whether look-ups go to replicas.
    pub(super) fn reads_replicas(&self) -> bool {
        self.settings.reads_replicas
    }

    /// Replicas that are worth asking, and all; `None` where they are not to be asked.
    pub(super) fn replicas(&self) -> Option<(usize, usize)> {
        self.settings.reads_replicas.then(|| match &self.way {
            Way::One(_, replicas) => replicas.lock().map_or((0, 0), |replicas| replicas.count()),
            Way::Many(cluster) => cluster.replicas(),
        })
    }

    /// What a replica says in its part of the time.
    pub(super) async fn ask_replica(&self, lane: LaneName, command: &Cmd) -> Option<Value> {
        let replica = match &self.way {
            Way::One(_, replicas) => replicas.lock().ok()?.any().map(Arc::clone),
            Way::Many(cluster) => cluster.replica(command),
        }?;
        // A body is given all the time there is.
        let adaptive = self.deadline().filter(|_| lane == LaneName::Heads);
        let patience = adaptive.unwrap_or(self.settings.patience) / BY_REPLICA;
        let asked = replica.generation(lane);
        let answer = time::timeout(patience, replica.call(lane, Access::Read, command)).await;
        answer.inspect_err(|_| replica.was_late(lane, asked)).ok()?.ok()
    }

    /// The servers, as far as they are known.
    pub(super) async fn links(&self) -> Result<Vec<Arc<Link>>, StoreError> {
        match &self.way {
            Way::One(link, _) => Ok(vec![Arc::clone(link)]),
            Way::Many(cluster) => cluster.links().await,
        }
    }

    /// How it is written in the log.
    pub(super) fn address(&self) -> &RedisAddress {
        match &self.way {
            Way::One(link, _) => &link.address,
            Way::Many(cluster) => cluster.address(),
        }
    }
}
