//! An origin that speaks TLS, with a certificate that nobody but its tests trusts.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

const CERTIFICATE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/proxy/tls/origin.pem");
const KEY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/proxy/tls/origin.key");

/// It answers every request with `secret hello` until the test process ends.
#[derive(Debug)]
pub(crate) struct TlsOrigin {
    port: u16,
}

impl TlsOrigin {
    pub(crate) fn start() -> Self {
        let certificate = CertificateDer::from_pem_file(CERTIFICATE).expect("a certificate");
        let key = PrivateKeyDer::from_pem_file(KEY).expect("a key");
        let config = ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate], key);
        let config = Arc::new(config.expect("the key belongs to the certificate"));
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("a bound listener has an address").port();
        thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let config = Arc::clone(&config);
                // A client that does not trust us ends the handshake; that is its business.
                thread::spawn(move || drop(serve(connection, config)));
            }
        });
        Self { port }
    }

    pub(crate) fn url(&self) -> String {
        format!("https://localhost:{}", self.port)
    }

    /// The file that makes it trusted.
    pub(crate) fn certificate() -> &'static str {
        CERTIFICATE
    }
}

fn serve(connection: TcpStream, config: Arc<ServerConfig>) -> io::Result<()> {
    let session = ServerConnection::new(config).map_err(io::Error::other)?;
    let mut stream = BufReader::new(StreamOwned::new(session, connection));
    loop {
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            if stream.read_line(&mut line)? == 0 {
                return Ok(());
            }
        }
        let stream = stream.get_mut();
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\nsecret hello")?;
        stream.flush()?;
    }
}
