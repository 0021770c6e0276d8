//! A caching gateway: fetches the URL that a client names, from origins that you allow, and keeps the answer.
//!
//! ```text
//! cargo run --release --example gateway -- --allow https://api.example.com --default-ttl 60s
//! curl -i 'http://127.0.0.1:8090/?url=https://api.example.com/items'            # twice, and look at Cache-Status
//! curl -iG http://127.0.0.1:8090/ --data-urlencode 'url=https://api.example.com/items' \
//!      --data-urlencode 'params={"page": 2, "tag": ["a", "b"]}' --data-urlencode 'key=items-2'
//! ```
//!
//! `key` is looked up in the cache; if nothing is there, `url` is fetched with the query parameters of `params`, stored
//! and sent. `key` defaults to the URL with its parameters. A key is bound to what it was filled from: another URL
//! under it is a 409 that says so. Put `--redis redis://127.0.0.1:6379` to share answers between processes.
//!
//! A URL from a client is dangerous, so nothing is asked that you did not list:
//!
//! - `--allow`: scheme, host and port of each origin, exactly; for redirects too, of which `--max-redirects` are
//!   followed.
//! - Private, loopback, link-local and other special addresses are refused after the name was resolved, unless listed
//!   with `--allow-address`. The address that was checked is the one that is dialled, so a name that changes its mind
//!   (DNS rebinding) changes nothing.
//! - Credentials and cookies of clients go to no origin. `Set-Cookie`, and what else an origin could say to the clients
//!   of all others under the gateway's host, stays here. Answers say `X-Content-Type-Options: nosniff` and
//!   `Content-Security-Policy: sandbox`.
//!
//! | file | |
//! |---|---|
//! | `gateway.rs` | the library call; how a key is bound |
//! | `front.rs` | the same over HTTP |
//! | `question.rs`, `allow.rs`, `params.rs` | what may be asked |
//! | `fetch.rs`, `body.rs`, `failure.rs` | the service behind the cache: redirects, limits, what goes wrong |
//! | `connector.rs`, `resolver.rs`, `address.rs` | which addresses are dialled |
//! | `binding.rs` | whose a key is |
//!
//! A key is given to whoever comes first, for 30 days: give clients keys that others cannot guess where that matters.
//!
//! For what a server on the open Internet needs besides (deadlines for slow clients, bounds, an access log) see
//! `examples/proxy`, from which five small files are borrowed.

mod address;
mod allow;
mod binding;
mod body;
mod cli;
#[path = "../proxy/connect.rs"]
mod connect;
mod connector;
mod failure;
mod fetch;
#[path = "../proxy/fields.rs"]
#[allow(dead_code, reason = "the proxy uses more of it")]
mod fields;
mod front;
mod gateway;
mod params;
mod question;
#[path = "../proxy/redact.rs"]
mod redact;
mod refusal;
mod resolver;
#[path = "../proxy/shutdown.rs"]
#[allow(dead_code, reason = "the proxy uses more of it")]
mod shutdown;
#[path = "../proxy/units.rs"]
#[allow(dead_code, reason = "the proxy uses more of it")]
mod units;

use std::convert::Infallible;
use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tracing_subscriber::EnvFilter;

use cli::Cli;
use gateway::Gateway;
use redact::redact;
use shutdown::Shutdown;

/// glibc gives the memory of large bodies back to the system and asks for it again: a page fault for each 4 KiB of them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How long a client may take to send a whole request head.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// The most connections of clients; more are closed.
const CONNECTIONS: usize = 1024;
/// How many requests one HTTP/2 client may have open.
const STREAMS: u32 = 64;
/// How long writes to the cache may take to finish at the end.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(10);
/// How long to wait when the system has no descriptor for another connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(&cli).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("gateway: {} (see --help)", redact(&reason));
            ExitCode::from(2)
        }
    }
}

/// Serves until a signal says otherwise; an error is a sentence that says what to change.
async fn run(cli: &Cli) -> Result<(), String> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    let colours = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(std::io::stderr).init();
    let (settings, kept_in) = cli.settings()?;
    let gateway = Gateway::new(settings);
    let mut shutdown = Shutdown::new().map_err(|error| format!("cannot hear signals: {error}"))?;
    let socket = TcpListener::bind(cli.listen)
        .await
        .map_err(|error| format!("cannot listen on {}: {error}; choose another with --listen ADDR", cli.listen))?;
    let listening = socket.local_addr().map_err(|error| error.to_string())?;
    println!("listening on   http://{listening}/?url=URL");
    println!("caching in     {kept_in}");
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            accepted = socket.accept() => accepted,
            () = shutdown.asked() => break,
        };
        match accepted {
            Ok((stream, _)) => {
                let gateway = gateway.clone();
                let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                    tracing::warn!("a connection is closed, because there are {CONNECTIONS}");
                    continue;
                };
                tokio::spawn(async move {
                    serve(stream, gateway).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    if !gateway.handle().drain(SHUTDOWN_TIMEOUT).await {
        tracing::warn!("writes to the cache were cut off by the shutdown timeout");
    }
    Ok(())
}

async fn serve(stream: TcpStream, gateway: Gateway) {
    // The server below waits for the first octets for as long as it takes.
    if !matches!(tokio::time::timeout(HEADER_TIMEOUT, stream.readable()).await, Ok(Ok(()))) {
        return;
    }
    let service = service_fn(|request| {
        let gateway = gateway.clone();
        async move { Ok::<_, Infallible>(front::answer(&gateway, request).await) }
    });
    let mut server = auto::Builder::new(TokioExecutor::new());
    server.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
    server.http2().timer(TokioTimer::new()).keep_alive_interval(HEADER_TIMEOUT).max_concurrent_streams(STREAMS);
    if let Err(error) = server.serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!(%error, "a connection ended early");
    }
}
