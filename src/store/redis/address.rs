//! Where the Redis is, and with which credentials.

use std::fmt;
use std::time::Duration;

use redis::io::tcp::{TcpSettings, socket2::TcpKeepalive};
use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo};

use crate::error::ConfigError;

/// A Redis URL, parsed. Its `Debug` and `Display` show no user and no password.
#[derive(Clone)]
pub(crate) struct RedisAddress {
    info: ConnectionInfo,
}

/// A peer that says nothing for this long is asked whether it lives; one that acknowledges nothing is given up.
const KEEPALIVE: Duration = Duration::from_secs(15);
const USER_TIMEOUT: Duration = Duration::from_secs(10);

impl RedisAddress {
    pub(crate) fn parse(url: &str) -> Result<Self, ConfigError> {
        let url = url.trim();
        if url.starts_with("rediss:") || url.starts_with("valkeys:") {
            return Err(ConfigError::new("redis", "TLS (rediss://) is not supported yet; use redis:// or unix://"));
        }
        if !["redis:", "valkey:", "unix:", "redis+unix:"].iter().any(|scheme| url.starts_with(scheme)) {
            let reason =
                "write redis://host:port/database (with user and password before the host) or unix:///path/to/socket";
            return Err(ConfigError::new("redis", reason));
        }
        // The parser's own words may repeat the URL, and with it a password; its category cannot.
        let info = url.into_connection_info().map_err(|error| {
            let category = error.category().to_owned();
            ConfigError::new("redis", format!("the URL cannot be understood ({category})"))
        })?;
        Ok(Self { info: with_tcp_settings(info) })
    }

    /// `redis://127.0.0.1:6379`.
    pub(crate) fn local() -> Self {
        let info = ("127.0.0.1", 6379).into_connection_info().expect("a host and a port are an address");
        Self { info: with_tcp_settings(info) }
    }

    pub(crate) fn info(&self) -> &ConnectionInfo {
        &self.info
    }
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
        match self.info.addr() {
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
            "rediss://h",
        ] {
            let error = RedisAddress::parse(url).map(|address| address.to_string()).unwrap_err().to_string();
            assert!(!error.contains("s3cret") && error.starts_with("redis: "), "{url}: {error}");
        }
    }
}
