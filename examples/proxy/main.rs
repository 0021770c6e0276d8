//! A caching reverse proxy: [`RedisCacheLayer`](tower_redis_cache::RedisCacheLayer) in front of an origin, or several.
//!
//! ```text
//! cargo run --release --example proxy -- --origin http://127.0.0.1:8000
//! ```
//!
//! What a request passes, outermost first:
//!
//! ```text
//! guarded_stream + monitor   deadlines, connection limit, framing verdicts   (connection.rs, listener.rs)
//! access_log                 one line per request
//! front_door                 refuses what is not sound, rewrites the rest
//! access                     tokens, rates and places of clients, where there are such rules
//! QueryLayer                 reads the content of a QUERY, which is part of the key
//! routes                     another origin, or another lifetime, by host and path
//! watch                      counts what operators want to see
//! RedisCacheLayer            the cache
//! watch                      ... and how the origin does
//! origin                     connection pool, TLS, 502 and 504
//! ```
//!
//! It does not compress, balance load or serve files; other programs do that well.

mod access;
mod access_log;
mod admin;
mod answer;
mod authority;
mod banner;
mod cache;
mod care;
mod cli;
mod client_stream;
mod connect;
mod connection;
mod descriptors;
mod fields;
mod framing;
mod front_door;
mod guarded_stream;
mod idle_body;
mod key;
mod listener;
mod log_place;
mod monitor;
mod origin;
mod origin_url;
mod peer;
mod redact;
mod redis;
mod reload;
mod request_body;
mod response_body;
mod routes;
mod settings;
mod shutdown;
mod tls;
mod trusted;
mod units;
mod via;
mod watch;
mod workers;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::time::Instant;
use tower::ServiceBuilder;
use tower_redis_cache::{CacheHandle, QueryLayer, Severity};

use access::{Access, AccessLayer};
use access_log::Logging;
use admin::{Admin, AdminArgs, Sights};
use banner::Banner;
use cache::Cache;
use cli::{Cli, refuse};
use connection::ParserLimits;
use front_door::{FrontDoorLayer, Rules};
use listener::{Listener, ListenerLimits};
use monitor::Timeouts;
use origin::{HealthCheck, OriginSettings, Trust};
use reload::Reload;
use routes::{Origins, Routes};
use settings::Effective;
use shutdown::Shutdown;
use tls::Tls;
use trusted::TrustedPeers;
use via::Via;
use watch::{Watch, WatchLayer};
use workers::Workers;

/// glibc gives the memory of large bodies back to the system and asks for it again: a page fault for each 4 KiB of them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Any error, where only its text matters.
pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// How long after the start Redis may take until somebody is told.
const STORE_PATIENCE: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    let (cli, effective) = match Cli::read() {
        Ok((cli, effective)) if cli.print_config => {
            print!("{effective}");
            return ExitCode::SUCCESS;
        }
        Ok(read) => read,
        Err(code) => return ExitCode::from(code),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(run(cli, effective)),
        Err(error) => Err(format!("cannot start the runtime: {error}")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => ExitCode::from(refuse(&reason)),
    }
}

/// Says how the store is; an error where nothing can be cached.
async fn check(handle: &CacheHandle) -> Result<(), String> {
    let diagnosis = handle.doctor().await;
    print!("{diagnosis}");
    match diagnosis.severity() {
        Severity::Broken => Err("nothing can be cached like this".to_owned()),
        _ => Ok(()),
    }
}

/// Serves until a signal says otherwise; an error is a sentence that says what to change.
async fn run(cli: Cli, effective: Effective) -> Result<(), String> {
    let logging = Logging::start(&cli.log, cli.log_file.as_deref())?;
    let routes = Routes::new(cli.origin.route.clone())?;
    let cache = Cache::new(&cli, &routes)?;
    let handle = cache.layer.handle();
    let (tls, access) = (Tls::new(cli.tls.load()?), Access::new(&cli.access)?);
    if cli.check {
        return check(&handle).await;
    }
    let limits = listener_limits(&cli);
    descriptors::make_room_for(limits.max_connections);
    let lenient = cli.cache.default_ttl.or(cli.cache.ttl).is_some() || routes.have_lifetimes();
    let query = Some(cli.cache.max_query_content).filter(|most| *most > 0).map(QueryLayer::new);
    let shutdown_timeout = cli.listen.shutdown_timeout;
    let url = cli.origin.origin.clone();
    let mut shutdown = Shutdown::new().map_err(|error| format!("cannot hear signals: {error}"))?;
    let (socket, listening) = bind(cli.listen.listen, "--listen").await?;

    let (watch, admin_args) = (Watch::default(), cli.admin.clone());
    let is_watched = admin_args.admin.is_some();
    let workers = Workers::start(cli.listen.threads).map_err(|error| format!("--threads: {error}"))?;
    let (rules, origin) = settings(cli, workers.count())?;
    let (origins, checked) = Origins::new(&routes, &origin);
    let stack = ServiceBuilder::new()
        .layer(access_log::layer())
        .layer(FrontDoorLayer::new(rules))
        .layer(AccessLayer::new(access.clone(), is_watched.then(|| watch.clone())))
        .layer(routes.layer())
        .option_layer(query)
        .option_layer(is_watched.then(|| WatchLayer::clients(&watch)))
        .layer(cache.layer)
        .option_layer(is_watched.then(|| WatchLayer::origin(&watch)))
        .service(origins);

    let kept_in = cache.kept_in.clone();
    let sights = Sights { handle: handle.clone(), watch, kept_in, routes, origins: checked };
    let admin = managed(&admin_args, sights).await?;
    let managed_at = admin.listening();
    let reload = Reload { logging, admin: Arc::clone(&admin), tls: tls.clone(), access, effective };
    reload.begin().map_err(|error| format!("cannot hear signals: {error}"))?;
    let banner = Banner {
        listening: &tls.url(listening),
        here: &tls.url(banner::reachable(listening)),
        origin: &url,
        kept_in: &cache.kept_in,
        managed_at,
        lenient,
    };
    // Somebody who closed standard output does not want to read it.
    let _ = banner.print();
    tokio::spawn(report_store(handle.clone()));

    let listener = Listener::new(limits, tls, workers);
    listener.serve(socket, stack, shutdown.asked()).await;
    admin.leaves();
    tracing::info!("shutting down; a second signal ends the proxy at once");
    tokio::spawn(shutdown.insisted());
    end(&listener, &handle, shutdown_timeout).await;
    Ok(())
}

/// Lets requests end, and what they store, within `limit`.
async fn end(listener: &Listener, handle: &CacheHandle, limit: Duration) {
    let until = Instant::now() + limit;
    if !listener.drain(limit).await {
        tracing::warn!("requests were cut off by the shutdown timeout");
    }
    if !handle.drain(until.saturating_duration_since(Instant::now())).await {
        tracing::warn!("writes to the cache were cut off by the shutdown timeout");
    }
}

/// Opens the operators' listener, if there is to be one.
async fn managed(args: &AdminArgs, sights: Sights) -> Result<Arc<Admin>, String> {
    let token_file = args.admin_token_file.as_deref();
    let Some(address) = args.admin else { return Admin::new(token_file, None, sights) };
    let (socket, address) = bind(address, "--admin").await?;
    let admin = Admin::new(token_file, Some(address), sights)?;
    tokio::spawn(Arc::clone(&admin).serve(socket));
    Ok(admin)
}

/// Opens a listener where an argument says.
async fn bind(address: SocketAddr, argument: &str) -> Result<(TcpListener, SocketAddr), String> {
    let socket = TcpListener::bind(address)
        .await
        .map_err(|error| format!("cannot listen on {address}: {error}; choose another with {argument} ADDR"))?;
    let address = socket.local_addr().map_err(|error| error.to_string())?;
    Ok((socket, address))
}

fn listener_limits(cli: &Cli) -> ListenerLimits {
    let args = &cli.listen;
    ListenerLimits {
        max_connections: args.max_connections,
        timeouts: Timeouts {
            header: args.header_timeout,
            keep_alive: args.keep_alive_timeout,
            idle: args.idle_timeout,
        },
        parser: ParserLimits { max_header_size: args.max_header_size, max_uri_size: args.max_uri_size },
    }
}

fn settings(cli: Cli, threads: usize) -> Result<(Rules, OriginSettings), String> {
    let trust = match &cli.origin.origin_ca {
        Some(file) => Trust::from_file(file).map_err(|error| format!("--origin-ca: {error}"))?,
        None => Trust::Public,
    };
    let rules = Rules {
        max_uri_size: cli.listen.max_uri_size,
        max_header_size: cli.listen.max_header_size,
        upgrades: cli.origin.upgrades,
        trusted: TrustedPeers(cli.listen.trust_forwarded),
        via: Via::new(),
    };
    let origin = OriginSettings {
        url: cli.origin.origin,
        threads,
        host: cli.origin.host,
        trust,
        connect_timeout: cli.origin.connect_timeout,
        first_byte_timeout: cli.origin.first_byte_timeout,
        idle_timeout: cli.listen.idle_timeout,
        health_check: cli.origin.health_check.map(|path| HealthCheck { path, interval: cli.origin.health_interval }),
    };
    Ok((rules, origin))
}

/// Says once when the store does not answer. The proxy works without it, and the cache begins by itself.
async fn report_store(store: CacheHandle) {
    let until = Instant::now() + STORE_PATIENCE;
    while !store.ready().await {
        if Instant::now() >= until {
            tracing::warn!("Redis does not answer; requests go to the origin, and caching begins when it does");
            return;
        }
        tokio::time::sleep(STORE_PATIENCE / 20).await;
    }
}
