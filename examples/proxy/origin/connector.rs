//! Connections to the origin: TCP, TLS where the origin is `https`, and one deadline for both.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use rustls::{ClientConfig, RootCertStore};

use crate::connect::{Timely, roots_in};

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
pub(super) type Connector = Timely<HttpsConnector<HttpConnector>>;

// ===== impl Trust =====

impl Trust {
    /// Reads the certificates of a PEM file.
    ///
    /// # Errors
    ///
    /// A sentence about what is wrong with the file.
    pub(crate) fn from_file(path: &Path) -> Result<Self, String> {
        roots_in(path).map(|roots| Self::Only(Arc::new(roots)))
    }
}

pub(super) fn connector(trust: &Trust, limit: Duration, http2: bool) -> Connector {
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
    Timely::new(inner, limit)
}
