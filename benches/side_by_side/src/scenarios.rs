//! What is asked of whom. The first server of each scenario is what the others are compared with.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Load {
    /// One path over and over, which everybody has.
    Hit,
    /// One path over and over, which nobody may keep.
    Pass,
    /// New paths, which are kept.
    Miss,
    /// One path that everybody has, at a fixed rate.
    Rate,
    /// One new path for many clients at once.
    Stampede,
}

pub(crate) struct Scenario {
    pub(crate) id: &'static str,
    pub(crate) title: &'static str,
    pub(crate) load: Load,
    pub(crate) size: usize,
    /// Whether some of the servers keep what they have in Redis.
    pub(crate) in_redis: bool,
    pub(crate) servers: &'static [&'static str],
}

impl Scenario {
    /// Fewer for large bodies: those that are under way at the end are paid for and not counted.
    pub(crate) fn connections(&self) -> usize {
        if self.size < MIB { 64 } else { 8 }
    }
}

pub(crate) const RATE: u32 = 3_000;
pub(crate) const CROWD: usize = 200;
pub(crate) const DELAY_MILLIS: u64 = 200;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

const NEAR: &[&str] = &[
    "hyper",
    "layer-memory",
    "layer-near",
    "proxy-memory",
    "proxy-near",
    "nginx",
    "varnish",
    "tower-http-cache-memory",
    "http-cache-tower-server",
    "hitbox-memory",
    "axum-response-cache",
];
const REDIS: &[&str] =
    &["redis-get", "layer-redis", "proxy-redis", "nginx-lua", "tower-http-cache-redis", "hitbox-redis"];
const PASS: &[&str] = &[
    "hyper-proxy",
    "layer-near",
    "proxy-near",
    "nginx",
    "nginx-no-lock",
    "varnish",
    "tower-http-cache-memory",
    "http-cache-tower-server",
    "hitbox-memory",
];
const MISS: &[&str] = &[
    "hyper-proxy",
    "redis-get-set",
    "layer-redis",
    "proxy-redis",
    "nginx",
    "varnish",
    "tower-http-cache-redis",
    "hitbox-redis",
];
const PACED: &[&str] =
    &["hyper", "redis-get", "layer-near", "layer-redis", "proxy-near", "proxy-redis", "nginx", "varnish"];
const CROWDED: &[&str] = &[
    "hyper-proxy",
    "layer-near",
    "layer-redis",
    "proxy-near",
    "proxy-redis",
    "nginx",
    "varnish",
    "tower-http-cache-memory",
    "tower-http-cache-redis",
    "http-cache-tower-server",
    "hitbox-memory",
    "hitbox-redis",
    "axum-response-cache",
];

pub(crate) const ALL: &[Scenario] = &[
    hits("near-1k", "Hits in memory, 1 KiB", KIB, false, NEAR),
    hits("near-64k", "Hits in memory, 64 KiB", 64 * KIB, false, NEAR),
    hits("near-1m", "Hits in memory, 1 MiB", MIB, false, NEAR),
    hits("redis-1k", "Hits in Redis, 1 KiB", KIB, true, REDIS),
    hits("redis-64k", "Hits in Redis, 64 KiB", 64 * KIB, true, REDIS),
    hits("redis-1m", "Hits in Redis, 1 MiB", MIB, true, REDIS),
    Scenario {
        id: "pass-1k",
        title: "Passing on what may not be kept, 1 KiB",
        load: Load::Pass,
        size: KIB,
        in_redis: false,
        servers: PASS,
    },
    misses("miss-1k", "Misses that are kept, 1 KiB", KIB),
    misses("miss-1m", "Misses that are kept, 1 MiB", MIB),
    Scenario {
        id: "latency-1k",
        title: "Latency of hits of 1 KiB at 3,000 requests/s",
        load: Load::Rate,
        size: KIB,
        in_redis: false,
        servers: PACED,
    },
    Scenario {
        id: "stampede",
        title: "200 clients at once for what is new, from an origin that takes 200 ms",
        load: Load::Stampede,
        size: KIB,
        in_redis: false,
        servers: CROWDED,
    },
];

const fn hits(
    id: &'static str,
    title: &'static str,
    size: usize,
    in_redis: bool,
    servers: &'static [&'static str],
) -> Scenario {
    Scenario { id, title, load: Load::Hit, size, in_redis, servers }
}

const fn misses(id: &'static str, title: &'static str, size: usize) -> Scenario {
    Scenario { id, title, load: Load::Miss, size, in_redis: true, servers: MISS }
}
