//! What makes a key, as flags and rules say.

use clap::Args;
use tower_redis_cache::DefaultKey;

#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Cache key (scheme, host, path and query, unless changed here)")]
pub(crate) struct KeyArgs {
    /// Drop these query parameters, for the key and for the origin; name* stands for all that begin so
    #[arg(long, value_name = "NAME,..", value_delimiter = ',')]
    pub(crate) ignore_query: Vec<String>,

    /// Drop all query parameters but these, for the key and for the origin
    #[arg(long, value_name = "NAME,..", value_delimiter = ',', conflicts_with = "ignore_query")]
    pub(crate) keep_query: Vec<String>,

    /// Sort query parameters by name
    #[arg(long)]
    pub(crate) sort_query: bool,

    /// Keep one response per value of this request header; may be given several times
    #[arg(long, value_name = "NAME")]
    pub(crate) key_header: Vec<String>,

    /// Keep one response per value of this cookie; may be given several times
    #[arg(long, value_name = "NAME")]
    pub(crate) key_cookie: Vec<String>,
}

// ===== impl KeyArgs =====

impl KeyArgs {
    /// # Errors
    ///
    /// A sentence that names the argument to change.
    pub(crate) fn extractor(&self) -> Result<DefaultKey, String> {
        let mut extractor = DefaultKey::new();
        for name in &self.key_header {
            extractor = extractor.header(name).map_err(|error| format!("--key-header: {error}"))?;
        }
        for name in &self.key_cookie {
            extractor = extractor.cookie(name);
        }
        if !self.ignore_query.is_empty() {
            extractor = extractor.ignore_query(&self.ignore_query);
        }
        if !self.keep_query.is_empty() {
            extractor = extractor.keep_query(&self.keep_query);
        }
        if self.sort_query {
            extractor = extractor.sort_query();
        }
        Ok(extractor)
    }
}
