//! Sentinel: who the primary is, is asked each time a connection is made.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::fmt;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Duration;

use redis::{AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, RedisConnectionInfo};
use tokio::time::{self, error::Elapsed};

use super::address::{Listed, at, password, understood};
use super::slots::Node;
use crate::abreast::abreast_until;
use crate::error::{ConfigError, StoreError, StoreErrorKind};

/// The sentinels that watch a primary, and its name.
#[derive(Clone)]
pub(super) struct Sentinels {
    nodes: Vec<ConnectionInfo>,
    name: String,
    is_secure: bool,
    /// Who they are asked as: a user, if it is not the default one, and the file with the password.
    login: Option<(Option<String>, PathBuf)>,
}

/// What one of them may take to answer.
const PATIENCE: Duration = Duration::from_millis(400);
const PORT: u16 = 26379;
const ASKED_AT_ONCE: usize = 16;

impl Sentinels {
    /// `redis+sentinel://[user[:password]@]host[:port],host[:port]/name[/database]`, and the URL of the primary as it would
    /// be at the first of them. `None` for other URLs.
    pub(super) fn parse(url: &str) -> Result<Option<(Self, String)>, ConfigError> {
        let Some(listed) = Listed::of(url, "sentinel") else { return Ok(None) };
        let (name, database) = listed.path.split_once('/').unwrap_or((listed.path, ""));
        if name.is_empty() {
            return Err(ConfigError::new("redis", "the name of the primary is missing: /name"));
        }
        let (scheme, hosts) = (listed.scheme, listed.hosts(PORT)?);
        let nodes = hosts.iter().map(|host| understood(&format!("{scheme}://{host}")));
        let nodes = nodes.collect::<Result<Vec<_>, _>>()?;
        let primary = listed.at(&hosts[0], database);
        let sentinels = Self { nodes, name: name.to_owned(), is_secure: scheme == "rediss", login: None };
        Ok(Some((sentinels, primary)))
    }

    pub(super) fn set_login(&mut self, user: Option<String>, file: PathBuf) {
        self.login = Some((user, file));
    }

    /// Where the primary is at present: what most of the sentinels say that answer in time, all being asked at once; where
    /// they are divided, those that are named first. With whether that is the majority of all.
    pub(super) async fn primary(
        &self,
        like: &ConnectionAddr,
        secured: impl Fn(ConnectionInfo) -> Result<ConnectionInfo, StoreError>,
    ) -> Result<(ConnectionAddr, bool), StoreError> {
        let nodes = self.asked(secured)?;
        let all = nodes.len();
        let asking = nodes
            .into_iter()
            .enumerate()
            .map(|(rank, node)| async move { (rank, time::timeout(PATIENCE, self.ask(node)).await) });
        let (mut votes, mut is_decided) = (Votes::default(), false);
        // Those who do not answer are not waited for where they do not matter.
        abreast_until(asking.collect::<Vec<_>>(), ASKED_AT_ONCE, |(rank, answer)| {
            is_decided = votes.count(rank, answer) * 2 > all;
            if is_decided { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
        .await;
        let unknown = StoreError::with_detail(StoreErrorKind::Unavailable, "no sentinel knows the primary");
        votes.most().map(|(host, port)| (at(like, host, port), is_decided)).ok_or(unknown)
    }

    /// Replicas that are in step, as the first of the sentinels says that answers.
    pub(super) async fn replicas(
        &self,
        secured: impl Fn(ConnectionInfo) -> Result<ConnectionInfo, StoreError>,
    ) -> Result<Vec<Node>, StoreError> {
        let mut known = None;
        let asking = self.asked(secured)?.into_iter().map(|node| time::timeout(PATIENCE, self.ask_for_replicas(node)));
        abreast_until(asking.collect::<Vec<_>>(), ASKED_AT_ONCE, |answer| match answer {
            Ok(Ok(replicas)) => {
                known = Some(replicas);
                ControlFlow::Break(())
            }
            _ => ControlFlow::Continue(()),
        })
        .await;
        known.ok_or_else(|| StoreError::with_detail(StoreErrorKind::Unavailable, "no sentinel knows the replicas"))
    }

    /// The sentinels, with what they are to be asked by.
    fn asked(
        &self,
        secured: impl Fn(ConnectionInfo) -> Result<ConnectionInfo, StoreError>,
    ) -> Result<Vec<ConnectionInfo>, StoreError> {
        let mut settings = RedisConnectionInfo::default();
        if let Some((user, file)) = &self.login {
            settings = settings.set_password(password(file)?);
            if let Some(user) = user {
                settings = settings.set_username(user);
            }
        }
        let node = |node: &ConnectionInfo| secured(node.clone().set_redis_settings(settings.clone()));
        self.nodes.iter().map(node).collect()
    }

    async fn ask_for_replicas(&self, info: ConnectionInfo) -> redis::RedisResult<Vec<Node>> {
        let config = AsyncConnectionConfig::new().set_connection_timeout(Some(PATIENCE));
        let mut connection = Client::open(info)?.get_multiplexed_async_connection_with_config(&config).await?;
        let mut command = redis::cmd("SENTINEL");
        command.arg("REPLICAS").arg(&self.name);
        let all: Vec<HashMap<String, String>> = command.query_async(&mut connection).await?;
        let in_step = |replica: &HashMap<String, String>| {
            let says = |name: &str| replica.get(name).map(String::as_str);
            let is_well = says("flags") == Some("slave") && says("master-link-status") == Some("ok");
            is_well.then_some(())?;
            Some((says("ip")?.to_owned(), says("port")?.parse().ok()?))
        };
        Ok(all.iter().filter_map(in_step).collect())
    }

    async fn ask(&self, info: ConnectionInfo) -> redis::RedisResult<Option<(String, u16)>> {
        let config = AsyncConnectionConfig::new().set_connection_timeout(Some(PATIENCE));
        let mut connection = Client::open(info)?.get_multiplexed_async_connection_with_config(&config).await?;
        let mut command = redis::cmd("SENTINEL");
        command.arg("GET-MASTER-ADDR-BY-NAME").arg(&self.name);
        command.query_async(&mut connection).await
    }
}

/// What the sentinels say: each place, how many name it, and the first of those by the order of the URL.
#[derive(Debug, Default)]
struct Votes(Vec<((String, u16), usize, usize)>);

impl Votes {
    /// How many say the same by now.
    fn count(&mut self, rank: usize, answer: Result<redis::RedisResult<Option<(String, u16)>>, Elapsed>) -> usize {
        match answer {
            Ok(Ok(Some(place))) => {
                if let Some((_, times, first)) = self.0.iter_mut().find(|(known, ..)| *known == place) {
                    *times += 1;
                    *first = rank.min(*first);
                    return *times;
                }
                self.0.push((place, 1, rank));
                return 1;
            }
            Ok(Ok(None)) => tracing::debug!("a sentinel does not know the primary"),
            Ok(Err(error)) => tracing::debug!(error = error.category(), "a sentinel cannot be asked"),
            Err(_) => tracing::debug!("a sentinel does not answer in time"),
        }
        0
    }

    fn most(&self) -> Option<(String, u16)> {
        let most = self.0.iter().max_by_key(|(_, times, first)| (*times, Reverse(*first)));
        most.map(|(place, ..)| place.clone())
    }
}

fn shown(node: &ConnectionInfo) -> String {
    node.addr().to_string()
}

impl fmt::Display for Sentinels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_secure { "rediss" } else { "redis" };
        let nodes: Vec<_> = self.nodes.iter().map(shown).collect();
        write!(f, "{scheme}+sentinel://{}/{}", nodes.join(","), self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_primary_is_what_most_say_and_else_what_the_first_says() {
        let mut votes = Votes::default();
        let at = |port| Ok(Ok(Some(("h".to_owned(), port))));
        assert_eq!(votes.most(), None);
        assert_eq!(votes.count(1, Ok(Ok(None))), 0);
        assert_eq!(votes.count(3, at(3)), 1);
        assert_eq!(votes.count(2, at(2)), 1);
        assert_eq!(votes.most(), Some(("h".to_owned(), 2)));
        assert_eq!(votes.count(4, at(3)), 2);
        assert_eq!(votes.most(), Some(("h".to_owned(), 3)));
        assert_eq!(votes.count(0, at(2)), 2);
        assert_eq!(votes.most(), Some(("h".to_owned(), 2)));
    }
}
