//! TLS towards clients: a certificate that can change, and HTTP/2 by ALPN.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use clap::Args;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use crate::client_stream::ClientStream;

#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "TLS towards clients")]
pub(crate) struct TlsArgs {
    /// Speak TLS, and HTTP/2 with those who can, by the chain of certificates in this PEM file; read again at SIGHUP
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(crate) tls_cert: Option<PathBuf>,

    /// The key of the first of them (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,
}

/// What makes connections of clients secure, if anything does.
#[derive(Clone, Default)]
pub(crate) struct Tls {
    config: Option<Arc<RwLock<Arc<ServerConfig>>>>,
}

// ===== impl TlsArgs =====

impl TlsArgs {
    /// What the files hold now; `None` without any.
    ///
    /// # Errors
    ///
    /// A sentence about the file that is not right.
    pub(crate) fn load(&self) -> Result<Option<Arc<ServerConfig>>, String> {
        let (Some(chain), Some(key)) = (&self.tls_cert, &self.tls_key) else { return Ok(None) };
        let certificates = certificates(chain).map_err(|error| format!("--tls-cert {}: {error}", chain.display()))?;
        let bad_key = |error: &dyn fmt::Display| format!("--tls-key {}: {error}", key.display());
        let private = PrivateKeyDer::from_pem_file(key).map_err(|error| bad_key(&error))?;
        let mut config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(certificates, private)
            .map_err(|error| bad_key(&error))?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Some(Arc::new(config)))
    }
}

fn certificates(chain: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = CertificateDer::pem_file_iter(chain).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match read.map_err(|error| error.to_string())? {
        none if none.is_empty() => Err("no certificate in PEM form in this file".to_owned()),
        certificates => Ok(certificates),
    }
}

// ===== impl Tls =====

impl Tls {
    pub(crate) fn new(config: Option<Arc<ServerConfig>>) -> Self {
        Self { config: config.map(|config| Arc::new(RwLock::new(config))) }
    }

    /// For connections that begin from now on. Whether there is TLS at all stays as it was at the start.
    pub(crate) fn change(&self, new: Option<Arc<ServerConfig>>) {
        if let (Some(place), Some(new)) = (&self.config, new) {
            *place.write().unwrap_or_else(PoisonError::into_inner) = new;
        }
    }

    /// Shakes hands, where that is to be done, within `limit`.
    ///
    /// # Errors
    ///
    /// When the client does not, or not in time.
    pub(crate) async fn secure(&self, stream: TcpStream, limit: Duration) -> io::Result<ClientStream> {
        let Some(place) = &self.config else { return Ok(ClientStream::Plain(stream)) };
        let config = Arc::clone(&place.read().unwrap_or_else(PoisonError::into_inner));
        let shaking = TlsAcceptor::from(config).accept(stream);
        let secured = tokio::time::timeout(limit, shaking).await;
        let secured = secured.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "no TLS handshake in time"))??;
        Ok(ClientStream::Tls(Box::new(secured)))
    }

    /// How clients name the proxy at an address.
    pub(crate) fn url(&self, address: SocketAddr) -> String {
        let scheme = if self.config.is_some() { "https" } else { "http" };
        format!("{scheme}://{address}")
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("is_on", &self.config.is_some()).finish()
    }
}
