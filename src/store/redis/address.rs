//! Where the Redis is, and with which credentials.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use redis::io::tcp::{TcpSettings, socket2::TcpKeepalive};
use redis::{Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, ProtocolVersion};
#[cfg(feature = "tls")]
use redis::{ClientTlsConfig, TlsCertificates};
#[cfg(feature = "tls")]
use rustls::pki_types::{CertificateDer, pem::PemObject};

use super::sentinel::Sentinels;
use super::slots::Node;
use crate::error::{ConfigError, StoreError, StoreErrorKind};

/// A Redis URL, parsed. Its `Debug` and `Display` show no user and no password.
#[derive(Clone)]
pub(crate) struct RedisAddress {
    /// With Sentinel, all but the host and the port are the primary's.
    info: ConnectionInfo,
    sentinels: Option<Sentinels>,
    /// Of a cluster, the nodes to begin with; a node of one has none.
    nodes: Vec<Node>,
    /// Whose content is the password, whatever the URL says.
    password_file: Option<PathBuf>,
    #[cfg(feature = "tls")]
    certificates: TlsCertificates,
}

/// A peer that says nothing for this long is asked whether it lives; one that acknowledges nothing is given up.
const KEEPALIVE: Duration = Duration::from_secs(15);
const USER_TIMEOUT: Duration = Duration::from_secs(10);
const PORT: u16 = 6379;
/// Hosts in one URL.
const MOST_HOSTS: usize = 16;
/// No password is longer.
const MAX_PASSWORD: u64 = 64 * 1024;

impl RedisAddress {
    pub(crate) fn parse(url: &str) -> Result<Self, ConfigError> {
        let url = url.trim();
        let is_of = |schemes: &[&str]| schemes.iter().any(|scheme| url.starts_with(&format!("{scheme}:")));
        if is_of(&["rediss", "valkeys", "rediss+sentinel", "rediss+cluster"]) {
            prepare_tls()?;
        } else if !is_of(&["redis", "valkey", "unix", "redis+unix", "redis+sentinel", "redis+cluster"]) {
            let reason = "write redis://host:port/database or rediss://… (with user and password before the host), \
                          redis+sentinel://host:port,host:port/name/database, redis+cluster://host:port,host:port, \
                          or unix:///path/to/socket";
            return Err(invalid(reason));
        }
        if let Some(listed) = Listed::of(url, "cluster") {
            return Self::of_cluster(&listed);
        }
        match Sentinels::parse(url)? {
            Some((sentinels, primary)) => Self::new(&primary, Some(sentinels)),
            None => Self::new(url, None),
        }
    }

    /// `redis+cluster://[user[:password]@]host[:port],host[:port]`.
    fn of_cluster(listed: &Listed<'_>) -> Result<Self, ConfigError> {
        if !matches!(listed.path, "" | "0") {
            return Err(invalid("a cluster has one database: leave its number out"));
        }
        let hosts = listed.hosts(PORT)?;
        let mut nodes = Vec::with_capacity(hosts.len());
        for host in &hosts {
            match understood(&format!("{}://{host}", listed.scheme))?.addr() {
                ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => {
                    nodes.push((host.clone(), *port));
                }
                _ => return Err(invalid("a node of a cluster has a host and a port")),
            }
        }
        Ok(Self { nodes, ..Self::new(&listed.at(&hosts[0], ""), None)? })
    }

    fn new(url: &str, sentinels: Option<Sentinels>) -> Result<Self, ConfigError> {
        Ok(Self {
            info: understood(url)?,
            sentinels,
            nodes: Vec::new(),
            password_file: None,
            #[cfg(feature = "tls")]
            certificates: TlsCertificates { client_tls: None, root_cert: None },
        })
    }

    /// `redis://127.0.0.1:6379`.
    pub(crate) fn local() -> Self {
        Self::new("redis://127.0.0.1:6379", None).expect("this is an address")
    }

    pub(crate) fn set_password_file(&mut self, file: PathBuf) {
        self.password_file = Some(file);
    }

    pub(crate) fn set_sentinel_login(&mut self, user: Option<String>, file: PathBuf) -> Result<(), ConfigError> {
        let nobody = || invalid("a password for sentinels is for redis+sentinel:// and rediss+sentinel://");
        self.sentinels.as_mut().ok_or_else(nobody)?.set_login(user, file);
        Ok(())
    }

    #[cfg(feature = "tls")]
    pub(crate) fn set_root_certificates(&mut self, pem: Vec<u8>) -> Result<(), ConfigError> {
        has_certificate(&pem)?;
        self.certificates.root_cert = Some(pem);
        self.with_certificates(self.info.clone()).map(|_| ())
    }

    #[cfg(feature = "tls")]
    pub(crate) fn set_client_certificate(
        &mut self,
        client_cert: Vec<u8>,
        client_key: Vec<u8>,
    ) -> Result<(), ConfigError> {
        has_certificate(&client_cert)?;
        self.certificates.client_tls = Some(ClientTlsConfig { client_cert, client_key });
        self.with_certificates(self.info.clone()).map(|_| ())
    }

    /// The way to the server as it is at present: with Sentinel the primary is asked for, and the password is read.
    pub(super) async fn client(&self, protocol: Option<ProtocolVersion>) -> Result<Client, StoreError> {
        let mut info = self.info.clone();
        if let Some(sentinels) = &self.sentinels {
            let (addr, _) = sentinels.primary(info.addr(), |info| self.secured(info)).await?;
            info = info.set_addr(addr);
        }
        // CLIENT SETINFO is a right of its own, which the user need not have.
        let mut settings = info.redis_settings().clone().set_skip_set_lib_name();
        if let Some(file) = &self.password_file {
            settings = settings.set_password(password(file)?);
        }
        if let Some(protocol) = protocol {
            settings = settings.set_protocol(protocol);
        }
        let unusable = |_| StoreError::with_detail(StoreErrorKind::Unavailable, "no address");
        Client::open(self.secured(info.set_redis_settings(settings))?).map_err(unusable)
    }

    /// Whether the primary is elsewhere by now; where the majority of all sentinels does not say so, it is not. Without them
    /// there is nobody to ask.
    pub(super) async fn has_moved_from(&self, present: &ConnectionAddr) -> bool {
        let Some(sentinels) = &self.sentinels else { return false };
        let primary = sentinels.primary(self.info.addr(), |info| self.secured(info)).await;
        primary.is_ok_and(|(primary, is_decided)| is_decided && primary.to_string() != present.to_string())
    }

    /// Where the replicas are at present, as Sentinel says.
    pub(super) async fn replicas(&self) -> Result<Vec<Node>, StoreError> {
        match &self.sentinels {
            Some(sentinels) => sentinels.replicas(|info| self.secured(info)).await,
            None => Ok(Vec::new()),
        }
    }

    pub(crate) fn knows_replicas(&self) -> bool {
        self.is_cluster() || self.is_watched()
    }

    pub(super) fn is_cluster(&self) -> bool {
        !self.nodes.is_empty()
    }

    pub(super) fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// A node of the cluster, or a replica that Sentinel names.
    pub(super) fn node(&self, (host, port): &Node) -> Self {
        let info = self.info.clone().set_addr(at(self.info.addr(), host.clone(), *port));
        Self { info, nodes: Vec::new(), sentinels: None, ..self.clone() }
    }

    pub(super) fn host(&self) -> &str {
        match self.info.addr() {
            ConnectionAddr::Tcp(host, _) | ConnectionAddr::TcpTls { host, .. } => host,
            _ => "",
        }
    }

    pub(super) fn is_watched(&self) -> bool {
        self.sentinels.is_some()
    }

    #[cfg(feature = "tls")]
    fn secured(&self, info: ConnectionInfo) -> Result<ConnectionInfo, StoreError> {
        let unusable = |_| StoreError::with_detail(StoreErrorKind::Unavailable, "unusable certificates");
        match info.addr() {
            ConnectionAddr::TcpTls { .. } => self.with_certificates(info).map_err(unusable),
            _ => Ok(info),
        }
    }

    #[cfg(not(feature = "tls"))]
    #[allow(clippy::unused_self, clippy::unnecessary_wraps)]
    fn secured(&self, info: ConnectionInfo) -> Result<ConnectionInfo, StoreError> {
        Ok(info)
    }

    #[cfg(feature = "tls")]
    fn with_certificates(&self, info: ConnectionInfo) -> Result<ConnectionInfo, ConfigError> {
        if !matches!(info.addr(), ConnectionAddr::TcpTls { .. }) {
            return Err(invalid("certificates are for rediss://, rediss+sentinel:// and rediss+cluster://"));
        }
        let certificates = TlsCertificates {
            client_tls: self.certificates.client_tls.clone(),
            root_cert: self.certificates.root_cert.clone(),
        };
        // The library's words may quote what it could not read, which may be a key.
        let client = Client::build_with_tls(info.clone(), certificates)
            .map_err(|_| invalid("the certificates or the key cannot be read: PEM is expected"))?;
        Ok(info.set_addr(client.get_connection_info().addr().clone()))
    }
}

/// A URL with several hosts, by the parts that are the same for all of them.
pub(super) struct Listed<'a> {
    pub(super) scheme: &'a str,
    credentials: String,
    hosts: &'a str,
    pub(super) path: &'a str,
    options: String,
}

impl<'a> Listed<'a> {
    /// `scheme+kind://[user[:password]@]host[:port],host[:port]/path?options`.
    pub(super) fn of(url: &'a str, kind: &str) -> Option<Self> {
        let (scheme, rest) = url.split_once("://")?;
        let scheme = scheme.strip_suffix(kind)?.strip_suffix('+')?;
        let (rest, options) =
            rest.split_once('?').map_or((rest, String::new()), |(rest, options)| (rest, format!("?{options}")));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (credentials, hosts) = match authority.rsplit_once('@') {
            Some((credentials, hosts)) => (format!("{credentials}@"), hosts),
            None => (String::new(), authority),
        };
        Some(Self { scheme, credentials, hosts, path, options })
    }

    /// Each with a port.
    pub(super) fn hosts(&self, port: u16) -> Result<Vec<String>, ConfigError> {
        let hosts: Vec<_> = self.hosts.split(',').map(|host| with_port(host, port)).collect();
        match hosts.len() > MOST_HOSTS {
            true => Err(invalid(format!("at most {MOST_HOSTS} hosts"))),
            false => Ok(hosts),
        }
    }

    /// The URL of one of them.
    pub(super) fn at(&self, host: &str, path: &str) -> String {
        let Self { scheme, credentials, options, .. } = self;
        format!("{scheme}://{credentials}{host}/{path}{options}")
    }
}

fn with_port(host: &str, port: u16) -> String {
    // An IPv6 address has colons of its own, and brackets.
    match host.rsplit_once(':') {
        Some((_, port)) if port.bytes().all(|octet| octet.is_ascii_digit()) && !port.is_empty() => host.to_owned(),
        _ => format!("{host}:{port}"),
    }
}

/// The same kind of address elsewhere.
pub(super) fn at(like: &ConnectionAddr, host: String, port: u16) -> ConnectionAddr {
    match like.clone() {
        ConnectionAddr::TcpTls { insecure, tls_params, .. } => {
            ConnectionAddr::TcpTls { host, port, insecure, tls_params }
        }
        _ => ConnectionAddr::Tcp(host, port),
    }
}

fn invalid(reason: impl Into<String>) -> ConfigError {
    ConfigError::new("redis", reason)
}

/// What a URL says, by the parser of the client library.
pub(super) fn understood(url: &str) -> Result<ConnectionInfo, ConfigError> {
    // The parser's own words may repeat the URL, and with it a password; its category cannot.
    let info = url
        .into_connection_info()
        .map_err(|error| invalid(format!("the URL cannot be understood ({})", error.category())))?;
    match info.addr() {
        ConnectionAddr::TcpTls { insecure: true, .. } => {
            Err(invalid("TLS without a look at the certificate is no TLS: leave #insecure out"))
        }
        _ => Ok(with_tcp_settings(info)),
    }
}

/// None at all would be none to trust.
#[cfg(feature = "tls")]
fn has_certificate(pem: &[u8]) -> Result<(), ConfigError> {
    match CertificateDer::pem_slice_iter(pem).next() {
        Some(Ok(_)) => Ok(()),
        _ => Err(invalid("the certificates cannot be read: PEM is expected")),
    }
}

#[cfg(feature = "tls")]
#[allow(clippy::unnecessary_wraps)]
fn prepare_tls() -> Result<(), ConfigError> {
    // Where the application has not chosen another. That somebody else was faster is as good.
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
    Ok(())
}

#[cfg(not(feature = "tls"))]
fn prepare_tls() -> Result<(), ConfigError> {
    Err(invalid("rediss:// needs the feature `tls` of this crate"))
}

/// What a file has for a password, without the line's end. It is short and on this machine: nobody waits for it long.
pub(super) fn password(file: &Path) -> Result<String, StoreError> {
    let mut text = String::new();
    let read = File::open(file).and_then(|file| file.take(MAX_PASSWORD).read_to_string(&mut text));
    read.map_err(|_| StoreError::with_detail(StoreErrorKind::Denied, "the password file cannot be read"))?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

fn with_tcp_settings(info: ConnectionInfo) -> ConnectionInfo {
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 5).with_retries(3);
    let settings = TcpSettings::default().set_nodelay(true).set_keepalive(keepalive);
    #[cfg(any(target_os = "android", target_os = "fuchsia", target_os = "linux"))]
    let settings = settings.set_user_timeout(USER_TIMEOUT);
    info.set_tcp_settings(settings)
}

impl fmt::Display for RedisAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(sentinels) = &self.sentinels {
            return write!(f, "{sentinels}/{}", self.info.redis_settings().db());
        }
        if self.is_cluster() {
            let scheme = if matches!(self.info.addr(), ConnectionAddr::TcpTls { .. }) { "rediss" } else { "redis" };
            let nodes: Vec<_> = self.nodes.iter().map(|(host, port)| format!("{host}:{port}")).collect();
            return write!(f, "{scheme}+cluster://{}", nodes.join(","));
        }
        match self.info.addr() {
            ConnectionAddr::TcpTls { host, port, .. } => write!(f, "rediss://{host}:{port}")?,
            ConnectionAddr::Tcp(host, port) => write!(f, "redis://{host}:{port}")?,
            ConnectionAddr::Unix(path) => write!(f, "unix://{}", path.display())?,
            _ => f.write_str("redis")?,
        }
        write!(f, "/{}", self.info.redis_settings().db())
    }
}

impl fmt::Debug for RedisAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_understood_and_secrets_do_not_show() {
        let shown = |url| RedisAddress::parse(url).map(|address| format!("{address:?}"));
        assert_eq!(shown("redis://cache.example").unwrap(), "redis://cache.example:6379/0");
        assert_eq!(shown("redis://app:s3cret@cache.example:7000/3").unwrap(), "redis://cache.example:7000/3");
        assert_eq!(shown("unix:///run/redis.sock").unwrap(), "unix:///run/redis.sock/0");
        assert_eq!(
            shown("redis+sentinel://u:s3cret@a.example,b.example:7,[::1]/cache/2").unwrap(),
            "redis+sentinel://a.example:26379,b.example:7,::1:26379/cache/2"
        );
        assert_eq!(
            shown("redis+cluster://u:s3cret@a.example,[::1]:7").unwrap(),
            "redis+cluster://a.example:6379,::1:7"
        );
        #[cfg(feature = "tls")]
        assert_eq!(shown("rediss://u:s3cret@h:1").unwrap(), "rediss://h:1/0");
    }

    #[test]
    fn a_bad_url_is_an_error_that_repeats_no_secret() {
        for url in [
            "",
            "localhost:6379",
            "http://h",
            "redis://:s3cret@h:port",
            "redis://u:s3cret@h/db",
            "redis://",
            "redis+sentinel://u:s3cret@h",
            "redis+sentinel://u:s3cret@h/",
            "redis+sentinel://u:s3cret@h/name/db",
            "redis+sentinel:///name",
            "redis+cluster://u:s3cret@h/1",
            "redis+cluster://u:s3cret@,h",
            "redis+cluster://:s3cret@h:port",
            "unix+cluster:///socket",
            #[cfg(not(feature = "tls"))]
            "rediss://h",
            #[cfg(not(feature = "tls"))]
            "rediss+sentinel://h/name",
        ] {
            let error = RedisAddress::parse(url).map(|address| address.to_string()).unwrap_err().to_string();
            assert!(!error.contains("s3cret") && error.starts_with("redis: "), "{url}: {error}");
        }
    }
}
