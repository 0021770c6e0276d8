//! Clients that speak TLS to the proxy.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::{http1, http2};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustix::process::Signal;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::running::{Proxy, refused};
use crate::support::gate::{patiently, until_some};
use crate::support::origin::{Origin, Script};
use crate::wire::get;

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/proxy/tls").join(name)
}

/// A proxy with this certificate and key.
async fn secured(origin: &Origin, [certificate, key]: [&Path; 2], more: &[&str]) -> Proxy {
    let [certificate, key] = [certificate, key].map(|path| path.to_str().expect("paths of tests are text"));
    Proxy::with(&origin.url(), &[&["--tls-cert", certificate, "--tls-key", key], more].concat()).await
}

/// Shakes hands as one who trusts this certificate alone; an error if the proxy has another.
async fn handshake(proxy: &Proxy, trusted: &str, protocol: &str) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(file(trusted)).expect("a certificate")).expect("it can be trusted");
    let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![protocol.into()];
    let stream = TcpStream::connect(proxy.address()).await?;
    let name = ServerName::try_from("localhost").expect("a name");
    patiently("a handshake", TlsConnector::from(Arc::new(config)).connect(name, stream)).await
}

async fn whole(response: Response<hyper::body::Incoming>) -> Response<Bytes> {
    let (head, body) = response.into_parts();
    Response::from_parts(head, patiently("a body", body.collect()).await.expect("a whole body").to_bytes())
}

/// A GET of a path at site.test over this protocol.
async fn ask(proxy: &Proxy, path: &str, protocol: &str) -> Response<Bytes> {
    let stream = handshake(proxy, "origin.pem", protocol).await.expect("a handshake");
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(protocol.as_bytes()));
    let request = Request::get(format!("https://site.test{path}")).body(Empty::<Bytes>::new()).expect("a request");
    let io = TokioIo::new(stream);
    let asking = async {
        if protocol == "h2" {
            let (mut sender, connection) = http2::handshake(TokioExecutor::new(), io).await.expect("a connection");
            tokio::spawn(connection);
            return sender.send_request(request).await;
        }
        let (mut sender, connection) = http1::handshake(io).await.expect("a connection");
        tokio::spawn(connection);
        let mut request = request;
        *request.uri_mut() = path.parse().expect("a path");
        request.headers_mut().insert("host", "site.test".parse().expect("a host"));
        sender.send_request(request).await
    };
    whole(patiently("a response", asking).await.expect("a response")).await
}

fn is_hit(response: &Response<Bytes>) -> bool {
    response.headers()["cache-status"].to_str().expect("text").contains("; hit")
}

#[tokio::test]
async fn http1_and_http2_over_tls_share_what_is_stored() {
    let origin = Origin::start().await;
    let body: Vec<u8> = (0..700_000_u32).map(|n| (n * 7 % 251) as u8).collect();
    origin.says("/a", Script::ok(&body).header("cache-control", "max-age=60"));
    let proxy = secured(&origin, [&file("origin.pem"), &file("origin.key")], &[]).await;
    assert!(proxy.banner().contains("https://"), "{}", proxy.banner());
    let first = ask(&proxy, "/a", "h2").await;
    assert!(!is_hit(&first) && first.body() == &body);
    for protocol in ["http/1.1", "h2"] {
        let hit = until_some("a hit", || async { Some(ask(&proxy, "/a", protocol).await).filter(is_hit) }).await;
        assert!(hit.body() == &body, "{protocol}");
    }
    // The origin and the key know that it was secure.
    assert_eq!(origin.received()[0].values("x-forwarded-proto"), ["https"]);
}

/// Who trusts the old certificate alone does not get in any more, and what is under way goes on.
#[tokio::test]
async fn a_new_certificate_is_used_at_sighup_and_a_bad_one_is_not() {
    let origin = Origin::start().await;
    origin.says("/a", Script::ok("hello"));
    let place = tempfile::tempdir().expect("a directory");
    let [certificate, key] = ["cert.pem", "key.pem"].map(|name| place.path().join(name));
    let install = |name: &str| {
        fs::copy(file(&format!("{name}.pem")), &certificate).expect("a file");
        fs::copy(file(&format!("{name}.key")), &key).expect("a file");
    };
    install("origin");
    let proxy = secured(&origin, [&certificate, &key], &[]).await;
    let stream = handshake(&proxy, "origin.pem", "http/1.1").await.expect("a handshake");
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.expect("a connection");
    tokio::spawn(connection);
    install("renewed");
    proxy.signal(Signal::HUP);
    proxy.logs(1, |line| line.contains("settings were read again")).await;
    handshake(&proxy, "renewed.pem", "http/1.1").await.expect("the new one is shown");
    assert!(handshake(&proxy, "origin.pem", "http/1.1").await.is_err());
    fs::write(&key, "no key").expect("a file");
    proxy.signal(Signal::HUP);
    proxy.logs(1, |line| line.contains("settings stay as they were") && line.contains("--tls-key")).await;
    handshake(&proxy, "renewed.pem", "http/1.1").await.expect("it is still shown");
    let request = Request::get("/a").header("host", "site.test").body(Empty::<Bytes>::new()).expect("a request");
    let answer = whole(sender.send_request(request).await.expect("the first connection goes on")).await;
    assert_eq!(answer.body(), "hello");
}

/// One that says nothing is not waited for longer than for a head, nor at a shutdown.
#[tokio::test]
async fn who_does_not_shake_hands_is_let_go() {
    let origin = Origin::start().await;
    origin.says("/a", Script::ok("hello").header("cache-control", "max-age=60"));
    let files = [file("origin.pem"), file("origin.key")];
    let mut proxy = secured(&origin, [&files[0], &files[1]], &["--header-timeout", "300ms"]).await;
    let mut silent = TcpStream::connect(proxy.address()).await.expect("the proxy listens");
    let mut nothing = Vec::new();
    let _ = patiently("the end", silent.read_to_end(&mut nothing)).await;
    assert!(nothing.is_empty());
    let mut plain = TcpStream::connect(proxy.address()).await.expect("the proxy listens");
    tokio::io::AsyncWriteExt::write_all(&mut plain, b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n").await.expect("it is read");
    let _ = patiently("the end", plain.read_to_end(&mut nothing)).await;
    assert!(!String::from_utf8_lossy(&nothing).contains("hello") && origin.count("/a") == 0);
    assert_eq!(ask(&proxy, "/a", "h2").await.body(), "hello");
    let patient = secured(&origin, [&files[0], &files[1]], &["--header-timeout", "1h", "--shutdown-timeout", "1h"]);
    let mut other = patient.await;
    let _held = TcpStream::connect(other.address()).await.expect("the proxy listens");
    ask(&other, "/a", "h2").await;
    for proxy in [&mut proxy, &mut other] {
        proxy.signal(Signal::TERM);
        assert!(proxy.ended().await.success());
    }
}

#[tokio::test]
async fn files_that_are_not_right_are_named() {
    let [certificate, key, renewed] = ["origin.pem", "origin.key", "renewed.key"]
        .map(|name| file(name).to_str().expect("paths of tests are text").to_owned());
    for (arguments, reason) in [
        (&["--tls-cert", &certificate][..], "--tls-key"),
        (&["--tls-key", &key], "--tls-cert"),
        (&["--tls-cert", &key, "--tls-key", &key], "no certificate"),
        (&["--tls-cert", &certificate, "--tls-key", &certificate], "--tls-key"),
        (&["--tls-cert", &certificate, "--tls-key", &renewed], "--tls-key"),
        (&["--tls-cert", "/nowhere/at/all", "--tls-key", &key], "/nowhere/at/all"),
    ] {
        let arguments: Vec<&str> = arguments.iter().map(|argument| &**argument).collect();
        let all = [&["--origin", "http://127.0.0.1:1", "--listen", "127.0.0.1:0"], &*arguments].concat();
        let given_up = refused(&all).await;
        assert!(given_up.code == Some(2) && given_up.stderr.contains(reason), "{arguments:?}: {}", given_up.stderr);
    }
    // Without TLS nothing has changed.
    let origin = Origin::start().await;
    origin.says("/a", Script::ok("hello"));
    let proxy = Proxy::before(&origin.url()).await;
    assert_eq!(get(&proxy, "/a").await.body, b"hello");
    assert_eq!(origin.received()[0].values("x-forwarded-proto"), ["http"]);
}
