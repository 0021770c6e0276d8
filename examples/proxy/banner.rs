//! What the proxy says when it starts.

use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::origin_url::OriginUrl;

/// Everything a person who has just started the proxy wants to know.
#[derive(Debug)]
pub(crate) struct Banner<'a> {
    pub(crate) listening: &'a str,
    /// The same, as this machine reaches it.
    pub(crate) here: &'a str,
    pub(crate) origin: &'a OriginUrl,
    pub(crate) kept_in: &'a str,
    /// Where operators ask.
    pub(crate) managed_at: Option<SocketAddr>,
    /// Whether responses without explicit freshness are kept.
    pub(crate) lenient: bool,
}

// ===== impl Banner =====

impl Banner<'_> {
    /// Prints to standard output.
    ///
    /// # Errors
    ///
    /// When standard output is closed.
    pub(crate) fn print(&self) -> io::Result<()> {
        let (listening, here) = (self.listening, self.here);
        let insecure = if here.starts_with("https") { "-k " } else { "" };
        let mut out = io::stdout().lock();
        writeln!(out, "listening on   {listening}")?;
        writeln!(out, "origin         {}", self.origin)?;
        writeln!(out, "caching in     {}", self.kept_in)?;
        if let Some(address) = self.managed_at {
            writeln!(out, "management     http://{}/", reachable(address))?;
        }
        writeln!(out)?;
        writeln!(out, "See that it works: run this twice.")?;
        writeln!(out, "  curl {insecure}-s -o /dev/null -D - {here}/")?;
        writeln!(out, "First  Cache-Status: tower-redis-cache; fwd=uri-miss; ...")?;
        writeln!(out, "then   Cache-Status: tower-redis-cache; hit; ...")?;
        if !self.lenient {
            writeln!(
                out,
                "No hit? The origin must say how long a response is fresh (Cache-Control: max-age=60); \
                 for one that does not, start the proxy with --default-ttl 60s."
            )?;
        }
        out.flush()
    }
}

/// The address under which this machine reaches what listens on `listening`.
pub(crate) fn reachable(listening: SocketAddr) -> SocketAddr {
    let ip = match listening.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, listening.port())
}
