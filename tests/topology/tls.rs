//! TLS, with certificates of one's own on either side.

use std::fs;

use tower_redis_cache::CacheConfig;

use super::{is_cached, story};
use crate::support::redis::{RedisServer, free_port};
use crate::support::story::get;

const CERTIFICATE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/proxy/tls/origin.pem");
const KEY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/proxy/tls/origin.key");

/// A server with a port for TLS, and its URL by this host name.
fn server(host: &str, asks_for_certificates: &str) -> (RedisServer, String) {
    let port = free_port().expect("a port").to_string();
    let arguments = ["--tls-port", &port, "--tls-cert-file", CERTIFICATE, "--tls-key-file", KEY];
    let clients = ["--tls-ca-cert-file", CERTIFICATE, "--tls-auth-clients", asks_for_certificates];
    (RedisServer::start_with(&[&arguments[..], &clients].concat()), format!("rediss://{host}:{port}"))
}

fn read(file: &str) -> Vec<u8> {
    fs::read(file).expect("a file")
}

fn config(url: &str) -> CacheConfig {
    CacheConfig::new(url).expect("a URL")
}

#[tokio::test]
async fn a_certificate_of_ones_own_is_trusted_where_that_is_said() {
    for host in ["localhost", "127.0.0.1"] {
        let (server, url) = server(host, "no");
        let story = story(config(&url).redis_root_certificates(read(CERTIFICATE)).expect("a certificate"));
        is_cached(&story, "/a").await;
        server.cli(&["CLIENT", "KILL", "TYPE", "normal"]);
        is_cached(&story, "/b").await;
        let large = "x".repeat(1 << 20);
        let body = large.clone();
        story.origin.answers(move |_| crate::support::scripted::ok(body.clone()).cache_control("max-age=60"));
        story.client_asks(get("/large")).await.is_stored().has_body(&large);
        story.client_asks(get("/large")).await.is_hit().has_body(&large);
    }
}

#[tokio::test]
async fn the_nodes_of_a_cluster_are_reached_the_same_way() {
    // The nodes of a cluster talk to each other at a port that is 10,000 higher.
    let is_free = |port: &u16| std::net::TcpListener::bind(("127.0.0.1", port + 10_000)).is_ok();
    let port = (0..50).filter_map(|_| free_port()).find(is_free).expect("two ports").to_string();
    let tls = ["--tls-port", &port, "--tls-cert-file", CERTIFICATE, "--tls-key-file", KEY, "--tls-auth-clients", "no"];
    let trusted = ["--tls-ca-cert-file", CERTIFICATE, "--cluster-enabled", "yes", "--tls-cluster", "yes"];
    let server = RedisServer::start_with(&[&tls[..], &trusted].concat());
    assert_eq!(server.cli(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]), "OK");
    let url = format!("rediss+cluster://localhost:{port}");
    is_cached(&story(config(&url).redis_root_certificates(read(CERTIFICATE)).expect("a certificate")), "/a").await;
    assert!(!server.keys("trc:*").is_empty());
}

#[tokio::test]
async fn a_server_that_is_not_trusted_gets_nothing() {
    let (server, url) = server("localhost", "no");
    let story = story(config(&url));
    for number in 0..5 {
        story.client_asks(get(&format!("/{number}"))).await.is_forwarded_for("miss").has_detail("store-unavailable");
    }
    assert!(server.keys("*").is_empty());
}

#[tokio::test]
async fn a_server_that_wants_to_know_its_clients_is_shown_a_certificate() {
    let (server, url) = server("localhost", "yes");
    let trusting = |url: &str| config(url).redis_root_certificates(read(CERTIFICATE)).expect("a certificate");
    let nobody = story(trusting(&url));
    nobody.client_asks(get("/a")).await.is_forwarded_for("miss").has_detail("store-unavailable");
    assert!(server.keys("*").is_empty());
    let known =
        trusting(&url).redis_client_certificate(read(CERTIFICATE), read(KEY)).expect("a certificate and its key");
    is_cached(&story(known), "/a").await;
}

#[test]
fn what_cannot_be_used_is_an_error_that_repeats_nothing() {
    let wrong = |config: Result<CacheConfig, tower_redis_cache::ConfigError>| {
        let error = config.expect_err("it cannot be used").to_string();
        assert!(error.starts_with("redis: ") && !error.contains("s3cret"), "{error}");
    };
    wrong(config("rediss://h").redis_root_certificates("s3cret"));
    wrong(config("rediss://h").redis_client_certificate(read(CERTIFICATE), "s3cret"));
    wrong(config("redis://h").redis_root_certificates(read(CERTIFICATE)));
    wrong(CacheConfig::new("rediss://u:s3cret@h/#insecure"));
}
