//! How an instance hears of purges.

/// How an instance hears that something was purged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PurgeNews {
    /// Nobody else can purge: the store is this process's memory.
    #[default]
    Local,
    /// By looking, five times in [`max_unsynced`](crate::CacheConfig::max_unsynced): nothing else works, or not yet.
    Heartbeat,
    /// By messages on a channel.
    Messages,
    /// Redis tells of each change by itself (RESP3, `CLIENT TRACKING`).
    Tracking,
    /// Not at all: this user may not run scripts, or not use sorted sets. Nothing that others purge is known here.
    Denied,
}

impl PurgeNews {
    /// The word for it in logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Heartbeat => "heartbeat",
            Self::Messages => "messages",
            Self::Tracking => "tracking",
            Self::Denied => "denied",
        }
    }
}

impl PurgeNews {
    /// What was kept as a number.
    pub(crate) fn from_number(number: u8) -> Self {
        let all = [Self::Local, Self::Heartbeat, Self::Messages, Self::Tracking, Self::Denied];
        all.into_iter().find(|news| *news as u8 == number).unwrap_or_default()
    }
}
