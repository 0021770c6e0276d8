//! Connections to the origin: TCP, TLS where the origin is `https`, and one deadline for both.

use std::fmt;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::Uri;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tower::Service;

use crate::BoxError;

/// How soon a silent connection is probed.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// Whose signature on the origin's certificate counts.
#[derive(Clone, Debug)]
pub(crate) enum Trust {
    /// The authorities that browsers trust, compiled in: no file of the machine is needed.
    Public,
    /// Only these.
    Only(Arc<RootCertStore>),
}

/// Makes connections within a deadline that includes name resolution and the TLS handshake.
#[derive(Clone, Debug)]
pub(super) struct Connector {
    inner: HttpsConnector<HttpConnector>,
    limit: Duration,
}

/// The deadline passed.
#[derive(Debug)]
pub(super) struct ConnectTimedOut;

type Connecting = <HttpsConnector<HttpConnector> as Service<Uri>>::Response;

// ===== impl Trust =====

impl Trust {
    /// Reads the certificates of a PEM file.
    ///
    /// # Errors
    ///
    /// A sentence about what is wrong with the file.
    pub(crate) fn from_file(path: &Path) -> Result<Self, String> {
        let unreadable = |error: &dyn fmt::Display| format!("{}: {error}", path.display());
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(path).map_err(|e| unreadable(&e))? {
            let certificate = certificate.map_err(|e| unreadable(&e))?;
            roots.add(certificate).map_err(|e| unreadable(&e))?;
        }
        if roots.is_empty() {
            return Err(unreadable(&"no certificate in PEM form in this file"));
        }
        Ok(Self::Only(Arc::new(roots)))
    }
}

// ===== impl Connector =====

impl Connector {
    pub(super) fn new(trust: &Trust, limit: Duration, http2: bool) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(KEEPALIVE));
        tcp.set_connect_timeout(Some(limit));
        let builder = HttpsConnectorBuilder::new();
        let builder = match trust {
            Trust::Public => builder.with_webpki_roots(),
            Trust::Only(roots) => {
                let config = ClientConfig::builder().with_root_certificates(Arc::clone(roots));
                builder.with_tls_config(config.with_no_client_auth())
            }
        };
        let builder = builder.https_or_http();
        let inner = match http2 {
            true => builder.enable_all_versions().wrap_connector(tcp),
            false => builder.enable_http1().wrap_connector(tcp),
        };
        Self { inner, limit }
    }
}

impl Service<Uri> for Connector {
    type Response = Connecting;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Connecting, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = self.inner.call(uri);
        let limit = self.limit;
        Box::pin(async move {
            match tokio::time::timeout(limit, connecting).await {
                Ok(connected) => connected,
                Err(_) => Err(ConnectTimedOut.into()),
            }
        })
    }
}

// ===== impl ConnectTimedOut =====

impl fmt::Display for ConnectTimedOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no connection within the connect timeout")
    }
}

impl std::error::Error for ConnectTimedOut {}
