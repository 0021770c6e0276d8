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
use crate::error::{ConfigError, StoreError, StoreErrorKind};

/// A Redis URL, parsed. Its `Debug` and `Display` show no user and no password.
#[derive(Clone)]
pub(crate) struct RedisAddress {
    /// With Sentinel, all but the host and the port are the primary's.
    info: ConnectionInfo,
    sentinels: Option<Sentinels>,
    /// Whose content is the password, whatever the URL says.
    password_file: Option<PathBuf>,
    #[cfg(feature = "tls")]
    certificates: TlsCertificates,
}

/// A peer that says nothing for this long is asked whether it lives; one that acknowledges nothing is given up.
const KEEPALIVE: Duration = Duration::from_secs(15);
const USER_TIMEOUT: Duration = Duration::from_secs(10);
/// No password is longer.
const MAX_PASSWORD: u64 = 64 * 1024;

impl RedisAddress {
    pub(crate) fn parse(url: &str) -> Result<Self, ConfigError> {
        let url = url.trim();
        let is_of = |schemes: &[&str]| schemes.iter().any(|scheme| url.starts_with(&format!("{scheme}:")));
        if is_of(&["rediss", "valkeys", "rediss+sentinel"]) {
            prepare_tls()?;
        } else if !is_of(&["redis", "valkey", "unix", "redis+unix", "redis+sentinel"]) {
            let reason = "write redis://host:port/database or rediss://… (with user and password before the host), \
                          redis+sentinel://host:port,host:port/name/database, or unix:///path/to/socket";
            return Err(invalid(reason));
        }
        match Sentinels::parse(url)? {
            Some((sentinels, primary)) => Self::new(&primary, Some(sentinels)),
            None => Self::new(url, None),
        }
    }

    fn new(url: &str, sentinels: Option<Sentinels>) -> Result<Self, ConfigError> {
        Ok(Self {
            info: understood(url)?,
            sentinels,
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
            let addr = sentinels.primary(info.addr(), |info| self.secured(info)).await?;
            info = info.set_addr(addr);
        }
        let mut settings = info.redis_settings().clone();
        if let Some(file) = &self.password_file {
            settings = settings.set_password(password(file)?);
        }
        if let Some(protocol) = protocol {
            settings = settings.set_protocol(protocol);
        }
        let unusable = |_| StoreError::with_detail(StoreErrorKind::Unavailable, "no address");
        Client::open(self.secured(info.set_redis_settings(settings))?).map_err(unusable)
    }

    /// Whether the primary is elsewhere by now; where nobody knows, it is not. Without Sentinel there is nobody to ask.
    pub(super) async fn has_moved_from(&self, present: &ConnectionAddr) -> bool {
        let Some(sentinels) = &self.sentinels else { return false };
        let primary = sentinels.primary(self.info.addr(), |info| self.secured(info)).await;
        primary.is_ok_and(|primary| primary.to_string() != present.to_string())
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
            return Err(invalid("certificates are for rediss:// and rediss+sentinel://"));
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
fn password(file: &Path) -> Result<String, StoreError> {
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
