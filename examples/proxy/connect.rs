//! What all connecting to origins has in common: whose signature counts, and one deadline for the whole of it.

use std::fmt;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::Uri;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tower::Service;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A connection on its way.
pub(crate) type Connecting<T> = Pin<Box<dyn Future<Output = Result<T, BoxError>> + Send>>;

/// Makes connections within a deadline that includes whatever `C` does.
#[derive(Clone, Debug)]
pub(crate) struct Timely<C> {
    inner: C,
    limit: Duration,
}

/// The deadline passed.
#[derive(Debug)]
pub(crate) struct ConnectTimedOut;

/// Reads the certificates of a PEM file.
///
/// # Errors
///
/// A sentence about what is wrong with the file.
pub(crate) fn roots_in(file: &Path) -> Result<RootCertStore, String> {
    let unreadable = |error: &dyn fmt::Display| format!("{}: {error}", file.display());
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(file).map_err(|error| unreadable(&error))? {
        let certificate = certificate.map_err(|error| unreadable(&error))?;
        roots.add(certificate).map_err(|error| unreadable(&error))?;
    }
    match roots.is_empty() {
        true => Err(unreadable(&"no certificate in PEM form in this file")),
        false => Ok(roots),
    }
}

// ===== impl Timely =====

impl<C> Timely<C> {
    pub(crate) fn new(inner: C, limit: Duration) -> Self {
        Self { inner, limit }
    }
}

impl<C> Service<Uri> for Timely<C>
where
    C: Service<Uri, Error = BoxError>,
    C::Response: 'static,
    C::Future: Send + 'static,
{
    type Response = C::Response;
    type Error = BoxError;
    type Future = Connecting<C::Response>;

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
