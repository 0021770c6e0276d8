//! What is asked for: a URL that may be fetched, and the key under which the answer is kept.

use std::sync::Arc;

use hyper::http::request;
use hyper::{StatusCode, Uri};
use tower_redis_cache::CacheKey;
use url::Url;

use crate::allow::AllowList;
use crate::params::Params;
use crate::refusal::Refusal;

/// The longest URL, key and `params`, in octets.
pub(crate) const LONGEST: usize = 8 * 1024;

/// A checked question.
#[derive(Debug)]
pub(crate) struct Question {
    /// With its parameters, without a fragment.
    pub(crate) url: Url,
    pub(crate) uri: Uri,
    /// The name that the client gave it; without one it is known by its URL.
    name: Option<String>,
    /// Of the URL.
    pub(crate) digest: String,
}

/// A request extension: what the cache layer is asked for.
#[derive(Clone, Debug)]
pub(crate) enum Wanted {
    /// The answer.
    Content(Arc<Question>),
    /// Whose the key is.
    Binding(Arc<Question>),
}

// ===== impl Question =====

impl Question {
    /// # Errors
    ///
    /// What is wrong with it.
    pub(crate) fn new(url: &str, key: Option<&str>, params: &Params, allow: &AllowList) -> Result<Self, Refusal> {
        let mut url = read(url)?;
        params.append_to(&mut url);
        if url.as_str().len() > LONGEST {
            return Err(too_long("url with its params"));
        }
        if !allow.has(&url) {
            let reason = format!("{} is not on the list of allowed origins", url.origin().ascii_serialization());
            return Err(Refusal::new(StatusCode::FORBIDDEN, reason));
        }
        let uri = to_uri(&url).ok_or_else(|| Refusal::bad_request("url cannot be asked for over HTTP"))?;
        let name = match key {
            Some("") => return Err(Refusal::bad_request("key is empty; leave it out to use the URL")),
            Some(key) if key.len() > LONGEST => return Err(too_long("key")),
            Some(key) => named(key, &url)?,
            None => None,
        };
        let digest = blake3::hash(url.as_str().as_bytes()).to_hex().to_string();
        Ok(Self { url, uri, name, digest })
    }

    /// The key of the answer. The URL is in it, so that another URL cannot find it, whatever is asked under the name.
    fn content_key(&self) -> CacheKey {
        let name = self.name.as_deref().unwrap_or_default();
        CacheKey::from_parts(["gateway", "content", &self.digest, name])
    }

    /// Where it is written down which URL has the name. A URL without a name has nothing to be mistaken for.
    fn binding_key(&self) -> Option<CacheKey> {
        let name = self.name.as_deref()?;
        Some(CacheKey::from_parts(["gateway", "binding", name]))
    }

    pub(crate) fn has_name(&self) -> bool {
        self.name.is_some()
    }
}

/// A URL that may be fetched, if its origin is allowed.
///
/// # Errors
///
/// What is wrong with it.
fn read(text: &str) -> Result<Url, Refusal> {
    if text.len() > LONGEST {
        return Err(too_long("url"));
    }
    let mut url = Url::parse(text).map_err(|error| {
        Refusal::bad_request(format!("url is no absolute URL ({error}); it looks like https://host/path"))
    })?;
    check(&url).map_err(|reason| Refusal::bad_request(format!("url {reason}")))?;
    url.set_fragment(None);
    Ok(url)
}

/// What a URL must not be, whoever wrote it.
///
/// # Errors
///
/// The end of a sentence that begins with the URL.
pub(crate) fn check(url: &Url) -> Result<(), &'static str> {
    if !matches!(url.scheme(), "http" | "https") {
        return Err("is neither http nor https");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("has a user or a password in it");
    }
    Ok(())
}

/// The same URL for the HTTP library; `None` where that would read another host out of it.
pub(crate) fn to_uri(url: &Url) -> Option<Uri> {
    let uri: Uri = url.as_str().parse().ok()?;
    let is_same =
        uri.host() == url.host_str() && uri.port_u16() == url.port() && uri.scheme_str() == Some(url.scheme());
    is_same.then_some(uri)
}

/// A key that is itself a URL is the URL's own: otherwise one client could take it from all who ask without a key.
fn named(key: &str, url: &Url) -> Result<Option<String>, Refusal> {
    let mut own = match Url::parse(key) {
        Ok(own) if matches!(own.scheme(), "http" | "https") => own,
        _ => return Ok(Some(key.to_owned())),
    };
    own.set_fragment(None);
    match own == *url {
        true => Ok(None),
        false => Err(Refusal::new(
            StatusCode::CONFLICT,
            "the key is a URL, and stands for that URL alone; this is another URL, or the same with other parameters",
        )),
    }
}

fn too_long(what: &str) -> Refusal {
    Refusal::bad_request(format!("{what} is too long: {LONGEST} octets at most"))
}

// ===== impl Wanted =====

impl Wanted {
    fn question(&self) -> &Arc<Question> {
        match self {
            Self::Content(question) | Self::Binding(question) => question,
        }
    }

    /// The key of a request, for the cache layer. What is not asked for by this gateway has none.
    pub(crate) fn cache_key(parts: &request::Parts) -> Option<CacheKey> {
        let wanted = parts.extensions.get::<Self>()?;
        // The layer also asks for the keys of related targets, which this question says nothing about.
        if parts.uri != wanted.question().uri {
            return None;
        }
        match wanted {
            Self::Content(question) => Some(question.content_key()),
            Self::Binding(question) => question.binding_key(),
        }
    }
}
