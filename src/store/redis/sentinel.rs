//! Sentinel: who the primary is, is asked each time a connection is made.

use std::fmt;
use std::time::Duration;

use redis::{AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo};
use tokio::time;

use super::address::understood;
use crate::abreast::abreast;
use crate::error::{ConfigError, StoreError, StoreErrorKind};

/// The sentinels that watch a primary, and its name.
#[derive(Clone)]
pub(super) struct Sentinels {
    nodes: Vec<ConnectionInfo>,
    name: String,
    is_secure: bool,
}

/// What one of them may take to answer.
const PATIENCE: Duration = Duration::from_millis(400);
const PORT: u16 = 26379;
const MOST: usize = 16;

impl Sentinels {
    /// `redis+sentinel://[user[:password]@]host[:port],host[:port]/name[/database]`, and the URL of the primary as it would
    /// be at the first of them. `None` for other URLs.
    pub(super) fn parse(url: &str) -> Result<Option<(Self, String)>, ConfigError> {
        let invalid = |reason: &'static str| ConfigError::new("redis", reason);
        let Some((scheme, rest)) = url.split_once("+sentinel://") else { return Ok(None) };
        let (rest, options) = rest.split_once('?').map_or((rest, ""), |(rest, options)| (rest, options));
        let (authority, path) = rest.split_once('/').ok_or(invalid("the name of the primary is missing: /name"))?;
        let (name, database) = path.split_once('/').unwrap_or((path, ""));
        let (credentials, hosts) = match authority.rsplit_once('@') {
            Some((credentials, hosts)) => (format!("{credentials}@"), hosts),
            None => (String::new(), authority),
        };
        if name.is_empty() {
            return Err(invalid("the name of the primary is missing: /name"));
        }
        let hosts: Vec<_> = hosts.split(',').map(with_port).collect();
        if hosts.len() > MOST {
            return Err(invalid("at most 16 sentinels"));
        }
        let nodes = hosts.iter().map(|host| understood(&format!("{scheme}://{host}")));
        let nodes = nodes.collect::<Result<Vec<_>, _>>()?;
        let options = if options.is_empty() { String::new() } else { format!("?{options}") };
        let primary = format!("{scheme}://{credentials}{}/{database}{options}", hosts[0]);
        let sentinels = Self { nodes, name: name.to_owned(), is_secure: scheme == "rediss" };
        Ok(Some((sentinels, primary)))
    }

    /// Where the primary is at present: what most of the sentinels say that answer in time, all being asked at once.
    pub(super) async fn primary(
        &self,
        like: &ConnectionAddr,
        secured: impl Fn(ConnectionInfo) -> Result<ConnectionInfo, StoreError>,
    ) -> Result<ConnectionAddr, StoreError> {
        let nodes = self.nodes.iter().map(|node| secured(node.clone())).collect::<Result<Vec<_>, _>>()?;
        let asking: Vec<_> = nodes.into_iter().map(|node| time::timeout(PATIENCE, self.ask(node))).collect();
        let mut said: Vec<((String, u16), usize)> = Vec::new();
        abreast(asking, MOST, |answer| match answer {
            Ok(Ok(Some(place))) => match said.iter_mut().find(|(known, _)| *known == place) {
                Some((_, times)) => *times += 1,
                None => said.push((place, 1)),
            },
            Ok(Ok(None)) => tracing::debug!("a sentinel does not know the primary"),
            Ok(Err(error)) => tracing::debug!(error = error.category(), "a sentinel cannot be asked"),
            Err(_) => tracing::debug!("a sentinel does not answer in time"),
        })
        .await;
        let most = said.into_iter().max_by_key(|(_, times)| *times);
        let unknown = StoreError::with_detail(StoreErrorKind::Unavailable, "no sentinel knows the primary");
        most.map(|((host, port), _)| at(like, host, port)).ok_or(unknown)
    }

    async fn ask(&self, info: ConnectionInfo) -> redis::RedisResult<Option<(String, u16)>> {
        let config = AsyncConnectionConfig::new().set_connection_timeout(Some(PATIENCE));
        let mut connection = Client::open(info)?.get_multiplexed_async_connection_with_config(&config).await?;
        let mut command = redis::cmd("SENTINEL");
        command.arg("GET-MASTER-ADDR-BY-NAME").arg(&self.name);
        command.query_async(&mut connection).await
    }
}

fn with_port(host: &str) -> String {
    // An IPv6 address has colons of its own, and brackets.
    match host.rsplit_once(':') {
        Some((_, port)) if port.bytes().all(|octet| octet.is_ascii_digit()) && !port.is_empty() => host.to_owned(),
        _ => format!("{host}:{PORT}"),
    }
}

/// The same kind of address elsewhere.
fn at(like: &ConnectionAddr, host: String, port: u16) -> ConnectionAddr {
    match like.clone() {
        ConnectionAddr::TcpTls { insecure, tls_params, .. } => {
            ConnectionAddr::TcpTls { host, port, insecure, tls_params }
        }
        _ => ConnectionAddr::Tcp(host, port),
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
