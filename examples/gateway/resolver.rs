//! How names become addresses. It is asked once for each connection, and what it says is checked, never believed.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;

/// The addresses of a name, as they come.
pub(crate) type Resolving = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>>;

/// Something that knows names. Tests have one that lies.
pub(crate) trait Resolve: fmt::Debug + Send + Sync + 'static {
    fn resolve(&self, host: &str) -> Resolving;
}

/// The system's own: files, DNS, whatever it is set to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SystemResolver;

// ===== impl SystemResolver =====

impl Resolve for SystemResolver {
    fn resolve(&self, host: &str) -> Resolving {
        let host = host.to_owned();
        Box::pin(async move {
            let found = tokio::net::lookup_host((host, 0)).await?;
            Ok(found.map(|address| address.ip()).collect())
        })
    }
}
