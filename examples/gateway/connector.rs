//! Connections to origins: a name is resolved once, all its addresses are checked, and one of exactly those is dialled.
//!
//! That there is no second look-up between the check and the connection is what leaves DNS rebinding nothing to do. One
//! refused address among good ones refuses the name. A connection that is kept was checked when it was made. TLS comes
//! after the check, under the same deadline. No proxy of the environment has a say.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::Uri;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tower::Service;

use crate::address::AddressRules;
use crate::connect::{Connecting, Timely};
use crate::resolver::Resolve;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Makes connections within a deadline that includes name resolution and the TLS handshake.
pub(crate) type Connector = Timely<HttpsConnector<CheckedTcp>>;

/// Dials checked addresses only.
#[derive(Clone, Debug)]
pub(crate) struct CheckedTcp {
    resolver: Arc<dyn Resolve>,
    addresses: Arc<AddressRules>,
}

/// The host has an address that may not be dialled.
#[derive(Debug)]
pub(crate) struct RefusedAddress {
    host: String,
    address: IpAddr,
    pub(crate) class: &'static str,
}

/// Trusts the authorities that browsers trust, or only `roots`.
pub(crate) fn connector(
    resolver: Arc<dyn Resolve>,
    addresses: AddressRules,
    roots: Option<RootCertStore>,
    limit: Duration,
) -> Connector {
    let tcp = CheckedTcp { resolver, addresses: Arc::new(addresses) };
    let builder = HttpsConnectorBuilder::new();
    let builder = match roots {
        None => builder.with_webpki_roots(),
        Some(roots) => {
            builder.with_tls_config(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth())
        }
    };
    Timely::new(builder.https_or_http().enable_all_versions().wrap_connector(tcp), limit)
}

// ===== impl CheckedTcp =====

impl CheckedTcp {
    async fn dial(self, uri: Uri) -> Result<TokioIo<TcpStream>, BoxError> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in self.checked(&uri).await? {
            match TcpStream::connect(address).await {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    return Ok(TokioIo::new(stream));
                }
                Err(error) => last = error,
            }
        }
        Err(last.into())
    }

    /// All addresses of the host; none of them if one is refused.
    async fn checked(&self, uri: &Uri) -> Result<Vec<SocketAddr>, BoxError> {
        let host = uri.host().unwrap_or_default();
        let port = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("https") { 443 } else { 80 });
        let found = match host.trim_start_matches('[').trim_end_matches(']').parse() {
            Ok(literal) => vec![literal],
            Err(_) => self.resolver.resolve(host).await?,
        };
        for address in &found {
            if let Some(class) = self.addresses.refusal(*address) {
                return Err(RefusedAddress { host: host.to_owned(), address: *address, class }.into());
            }
        }
        Ok(found.into_iter().map(|address| SocketAddr::new(address, port)).collect())
    }
}

impl Service<Uri> for CheckedTcp {
    type Response = TokioIo<TcpStream>;
    type Error = BoxError;
    type Future = Connecting<TokioIo<TcpStream>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(self.clone().dial(uri))
    }
}

// ===== impl RefusedAddress =====

impl fmt::Display for RefusedAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is at {}, {}", self.host, self.address, self.class)
    }
}

impl std::error::Error for RefusedAddress {}
