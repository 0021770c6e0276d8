//! The command line.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{Args, Command, CommandFactory, FromArgMatches, Parser, ValueEnum};
use hyper::StatusCode;
use hyper::http::uri::PathAndQuery;

use crate::access::AccessArgs;
use crate::admin::AdminArgs;
use crate::care::CareArgs;
use crate::key::KeyArgs;
use crate::origin::HostField;
use crate::origin_url::OriginUrl;
use crate::redact::redact;
use crate::redis::RedisArgs;
use crate::routes::Route;
use crate::settings::{Arguments, Effective};
use crate::tls::TlsArgs;
use crate::trusted::Network;
use crate::units::{duration, size, timeout};

const EXAMPLES: &str = "\
Examples:
  proxy --origin http://127.0.0.1:8000
  proxy --origin https://example.com --redis redis://127.0.0.1:6379
  proxy --origin http://127.0.0.1:8000 --default-ttl 60s --ignore-query 'utm_*,fbclid'

Each setting may also come from the environment (CACHE_PROXY_DEFAULT_TTL=60s), from a file .env in the working
directory, or from a TOML file (--config); a flag goes before the environment, and that before the file.

Durations: 100ms, 5s, 2m, 1h; a plain number means seconds. Sizes: 65536, 64k, 8MiB, 1G.
SIGTERM or Ctrl-C lets requests in flight finish; a second one ends the proxy at once.";

/// A caching reverse proxy: tower-redis-cache in front of an origin, or of several.
#[derive(Parser)]
#[command(name = "proxy", version, after_help = EXAMPLES, max_term_width = 110)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) origin: OriginArgs,
    #[command(flatten)]
    pub(crate) cache: CacheArgs,
    #[command(flatten)]
    pub(crate) redis: RedisArgs,
    #[command(flatten)]
    pub(crate) key: KeyArgs,
    #[command(flatten)]
    pub(crate) care: CareArgs,
    #[command(flatten)]
    pub(crate) listen: ListenArgs,
    #[command(flatten)]
    pub(crate) tls: TlsArgs,
    #[command(flatten)]
    pub(crate) access: AccessArgs,
    #[command(flatten)]
    pub(crate) admin: AdminArgs,

    /// Look at the store, say what is well and what is not, and end: with 2 if nothing can be cached, else with 0
    #[arg(long)]
    pub(crate) check: bool,

    /// What to log, as level or target=level pairs: warn,access=off; also from RUST_LOG
    #[arg(long, value_name = "FILTER", default_value = "warn,access=info,proxy=info")]
    pub(crate) log: String,

    /// Log to the end of this file instead of standard error; it is opened anew at SIGHUP
    #[arg(long, value_name = "FILE")]
    pub(crate) log_file: Option<PathBuf>,

    /// Take settings from this TOML file, by their names here without --: default-ttl = "60s"
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// Print the settings as they are after flags, environment and file, without secrets, and end. Those that are not shown
    /// have the default that is named here
    #[arg(long)]
    pub(crate) print_config: bool,
}

#[derive(Args)]
#[command(next_help_heading = "Origin")]
pub(crate) struct OriginArgs {
    /// Where to get what is not in the cache: http:// or https://, a host, perhaps a port
    #[arg(long, value_name = "URL")]
    pub(crate) origin: OriginUrl,

    /// For a host (or *.host), a path and all below it, or both: another origin, other lifetimes, another key, or no cache. As
    /// in 'host=api.example path=/v2 origin=http://127.0.0.1:9000 ttl=1m', or 'path=/admin bypass'; may be given several
    /// times, and the one that says most counts. There are origin, ttl, default-ttl, stale-while-revalidate,
    /// stale-if-error, bypass, bypass-cookie, bypass-header, methods, ignore-query, keep-query, sort-query, key-header and
    /// key-cookie
    #[arg(long, value_name = "RULE")]
    pub(crate) route: Vec<Route>,

    /// Which host the origin is asked for: its own, or the one the client asked for (HTTP/1.1 only)
    #[arg(long, value_enum, default_value = "origin")]
    pub(crate) host: HostField,

    /// Trust the certificates in this PEM file, instead of the public authorities, for an https origin
    #[arg(long, value_name = "FILE")]
    pub(crate) origin_ca: Option<PathBuf>,

    /// How long a connection to the origin may take, name resolution and TLS included
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = timeout)]
    pub(crate) connect_timeout: Duration,

    /// How long the origin may take until its response begins
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = timeout)]
    pub(crate) first_byte_timeout: Duration,

    /// Ask each origin for this path from time to time. One that answers with 500 or more, or not at all, twice in a row is
    /// out of service: requests for it are answered from the cache or with 503, until it answers again
    #[arg(long, value_name = "PATH", value_parser = health_path)]
    pub(crate) health_check: Option<PathAndQuery>,

    /// How often, and how long an answer to that may take
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = timeout)]
    pub(crate) health_interval: Duration,

    /// Let WebSocket through (otherwise answered with 501)
    #[arg(long)]
    pub(crate) upgrades: bool,
}

#[derive(Args)]
#[command(next_help_heading = "Cache")]
pub(crate) struct CacheArgs {
    /// Keep responses in this Redis; without it they are kept in this process's memory; also from REDIS_URL
    #[arg(long, value_name = "URL")]
    pub(crate) redis: Option<String>,

    /// How much memory the cache may take when there is no Redis
    #[arg(long, value_name = "SIZE", default_value = "256MiB", value_parser = size)]
    pub(crate) memory_size: u64,

    /// How much memory to keep in front of Redis, for answers that do not ask it [default: none]
    #[arg(long, value_name = "SIZE", requires = "redis", value_parser = size)]
    pub(crate) near_cache: Option<u64>,

    /// For how long to go by what was last heard of purges in Redis
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = duration)]
    pub(crate) max_unsynced: Duration,

    /// Ask Redis at each look-up whether anything was purged
    #[arg(long)]
    pub(crate) strict_purges: bool,

    /// Pass the fields by which responses are tagged on to clients
    #[arg(long)]
    pub(crate) pass_tags: bool,

    /// First part of every key in Redis, so that several caches can share one [default: trc]
    #[arg(long, value_name = "NAME")]
    pub(crate) namespace: Option<String>,

    /// What may be stored: the cautious choice, or all that RFC 9111 allows
    #[arg(long, value_enum, default_value = "safe")]
    pub(crate) policy: Policy,

    /// How long to keep a response that does not say how long it is fresh [default: not at all]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) default_ttl: Option<Duration>,

    /// Keep every storable response exactly so long, whatever it says
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) ttl: Option<Duration>,

    /// Keep no response shorter than this
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) min_ttl: Option<Duration>,

    /// Keep no response longer than this
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) max_ttl: Option<Duration>,

    /// Keep responses with a status that say nothing of their lifetime so long: 404=10s,410=1h
    #[arg(long, value_name = "STATUS=TIME,..", value_delimiter = ',', value_parser = status_ttl)]
    pub(crate) negative_ttl: Vec<(StatusCode, Duration)>,

    /// Send a response for so long after it became stale while it is validated in the background
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) stale_while_revalidate: Option<Duration>,

    /// Send a response for so long after it became stale instead of an error of the origin
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) stale_if_error: Option<Duration>,

    /// Keep stale responses so long, to be validated, or for when the origin cannot be reached [default: 1h]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) keep_stale: Option<Duration>,

    /// Give clients no say by Cache-Control in their requests: no reload reaches the origin
    #[arg(long)]
    pub(crate) ignore_request_directives: bool,

    /// Obey these fields before Cache-Control, the first of them first (RFC 9213) [default: CDN-Cache-Control]
    #[arg(long, value_name = "NAME,..", value_delimiter = ',')]
    pub(crate) target_list: Vec<String>,

    /// Do not show clients the fields of the target list
    #[arg(long)]
    pub(crate) hide_targeted: bool,

    /// Shorten each lifetime at random by up to so many percent, so that not all end at once
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(0..=50))]
    pub(crate) ttl_jitter: Option<u8>,

    /// Do not store larger bodies; they still reach the client [default: 8MiB]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(crate) max_body_size: Option<u64>,

    /// Keep no more responses in Redis than this; the least recently used go
    #[arg(long, value_name = "NUMBER", requires = "redis")]
    pub(crate) max_entries: Option<u64>,

    /// Read the content of QUERY requests up to this size, to cache what they find; answer more with 413. 0: QUERY
    /// passes uncached
    #[arg(long, value_name = "SIZE", default_value = "64k", value_parser = content_size)]
    pub(crate) max_query_content: usize,

    /// How long one request may wait for Redis before it goes to the origin [default: 100ms]
    #[arg(long, value_name = "TIME", value_parser = timeout)]
    pub(crate) store_timeout: Option<Duration>,

    /// Let that follow what Redis takes, and be no less than this
    #[arg(long, value_name = "TIME", value_parser = timeout)]
    pub(crate) adaptive_store_timeout: Option<Duration>,
}

#[derive(Args)]
#[command(next_help_heading = "Clients")]
pub(crate) struct ListenArgs {
    /// Where to listen, for HTTP/1.1 and HTTP/2; port 0 picks a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080", value_parser = listen_address)]
    pub(crate) listen: SocketAddr,

    /// Believe X-Forwarded-For, -Proto and -Host from these addresses or CIDR blocks [default: from nobody]
    #[arg(long, value_name = "ADDR,..", value_delimiter = ',')]
    pub(crate) trust_forwarded: Vec<Network>,

    /// How many threads serve connections [default: one for each processor]
    #[arg(long, value_name = "N", value_parser = threads)]
    pub(crate) threads: Option<NonZeroUsize>,

    /// How long a connection may take to send a whole request head
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = timeout)]
    pub(crate) header_timeout: Duration,

    /// How long a body may stand still, in either direction and towards the origin too
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = timeout)]
    pub(crate) idle_timeout: Duration,

    /// How long a connection is kept for the next request
    #[arg(long, value_name = "TIME", default_value = "75s", value_parser = timeout)]
    pub(crate) keep_alive_timeout: Duration,

    /// How many connections are served at a time; more wait to be accepted
    #[arg(long, value_name = "N", default_value_t = 4096, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) max_connections: u32,

    /// Answer larger request heads with 431
    #[arg(long, value_name = "SIZE", default_value = "32k", value_parser = head_size)]
    pub(crate) max_header_size: usize,

    /// Answer longer request targets with 414
    #[arg(long, value_name = "SIZE", default_value = "8k", value_parser = head_size)]
    pub(crate) max_uri_size: usize,

    /// How long requests in flight, and writes to the cache, may take to finish on shutdown
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = timeout)]
    pub(crate) shutdown_timeout: Duration,
}

/// What may be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Policy {
    Safe,
    Rfc9111,
}

// ===== impl Cli =====

impl Cli {
    /// Reads the arguments.
    ///
    /// # Errors
    ///
    /// The exit code, after help or a one-line message has been printed.
    pub(crate) fn read() -> Result<(Self, Effective), u8> {
        let command = Self::command();
        let arguments = Arguments::of_process(&command).map_err(|reason| match command.clone().try_get_matches() {
            // Who asks for help has it, whatever is wrong with the rest.
            Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
                let _ = error.print();
                0
            }
            _ => refuse(&reason),
        })?;
        Self::of(command, &arguments).map_err(|error| match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
                // Nobody is left to tell when standard output is closed.
                let _ = error.print();
                0
            }
            _ => refuse(&located(&arguments, &error)),
        })
    }

    /// The same for a process that goes on.
    ///
    /// # Errors
    ///
    /// A sentence about what is wrong now.
    pub(crate) fn read_again() -> Result<(Self, Effective), String> {
        let command = Self::command();
        let arguments = Arguments::of_process(&command)?;
        Self::of(command, &arguments).map_err(|error| redact(&located(&arguments, &error)))
    }

    fn of(command: Command, arguments: &Arguments) -> Result<(Self, Effective), clap::Error> {
        let known = command.clone();
        let matches = command.try_get_matches_from(&arguments.all)?;
        let effective = Effective::of(&known, &matches);
        Ok((Self::from_arg_matches(&matches)?, effective))
    }
}

/// Prints why the proxy does not start and returns its exit code.
pub(crate) fn refuse(reason: &str) -> u8 {
    eprintln!("proxy: {} (see --help)", redact(reason));
    2
}

/// The message with the place where the setting comes from, if it was no flag.
fn located(arguments: &Arguments, error: &clap::Error) -> String {
    let message = match error.kind() {
        ErrorKind::MissingRequiredArgument => of_redis_alone(arguments, error).unwrap_or_else(|| one_line(error)),
        _ => one_line(error),
    };
    match arguments.place_of(&message) {
        Some(place) => format!("{place}: {message}"),
        None => message,
    }
}

/// What is wrong with settings that need Redis, where that is missing.
fn of_redis_alone(arguments: &Arguments, error: &clap::Error) -> Option<String> {
    const OTHERS: [&str; 4] = ["near-cache", "max-entries", "compress-at-rest", "entry-secret"];
    if !error.render().to_string().contains("--redis <URL>") {
        return None;
    }
    let names = arguments.all.iter().filter_map(|word| word.to_str()?.strip_prefix("--")?.split('=').next());
    let names = names.filter(|name| name.starts_with("redis-") || OTHERS.contains(name));
    let names: Vec<String> = names.map(|name| format!("--{name}")).collect();
    Some(format!("{} is for Redis alone: add --redis URL, or leave it out", names.join(", ")))
}

/// The message of `error` without its usage and over one line.
fn one_line(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let message = text.split("Usage:").next().unwrap_or_default();
    if error.kind() == ErrorKind::MissingRequiredArgument && message.contains("--origin ") {
        return "--origin is missing: name the server to put the cache in front of, \
                for example --origin http://127.0.0.1:8000"
            .to_owned();
    }
    let message = message.split("For more information").next().unwrap_or_default();
    let lines: Vec<&str> = message.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let line = lines.join("; ").replace(":;", ":");
    line.strip_prefix("error: ").unwrap_or(&line).to_owned()
}

pub(crate) fn listen_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "expected an address and a port, such as 127.0.0.1:8080 or [::]:8080".to_owned())
}

fn status_ttl(text: &str) -> Result<(StatusCode, Duration), String> {
    let (status, ttl) = text.split_once('=').ok_or("expected STATUS=TIME, for example 404=10s")?;
    let status = status.trim().parse().map_err(|_| format!("{status:?} is no status code"))?;
    Ok((status, duration(ttl.trim())?))
}

fn threads(text: &str) -> Result<NonZeroUsize, String> {
    const MOST: usize = 1024;
    match text.parse() {
        Ok(count) if count <= NonZeroUsize::new(MOST).unwrap_or(NonZeroUsize::MIN) => Ok(count),
        _ => Err(format!("expected a number from 1 to {MOST}")),
    }
}

fn health_path(text: &str) -> Result<PathAndQuery, String> {
    match text.parse() {
        Ok(path) if text.starts_with('/') => Ok(path),
        _ => Err("expected a path, such as /healthz".to_owned()),
    }
}

fn content_size(text: &str) -> Result<usize, String> {
    usize::try_from(size(text)?).map_err(|_| "the size is too large".to_owned())
}

fn head_size(text: &str) -> Result<usize, String> {
    // The server's own limits end there.
    const MOST: u64 = 1 << 20;
    match size(text)? {
        size @ 64..=MOST => usize::try_from(size).map_err(|error| error.to_string()),
        _ => Err("expected a size between 64 and 1MiB".to_owned()),
    }
}
