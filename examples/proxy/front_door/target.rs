//! Which resource a request means: one authority, one path.

use hyper::header::HOST;
use hyper::http::uri::{Authority, PathAndQuery, Scheme};
use hyper::{Method, Request, Version};

use super::checks;
use crate::answer::Refusal;
use crate::authority::parse_authority;

/// The authority of the target, or of `Host` where the target has none.
pub(super) fn authority<B>(request: &Request<B>) -> Result<Authority, Refusal> {
    let mut hosts = request.headers().get_all(HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        // RFC 9112 §3.2: more than one Host, or an invalid one, is answered with 400.
        (Some(_), Some(_)) => return Err(Refusal::bad_request("more than one Host field")),
        (Some(host), None) => match parse_authority(host.as_bytes()) {
            Some(host) => Some(host),
            None => return Err(Refusal::bad_request("the Host field is not valid")),
        },
        (None, _) => None,
    };
    let Some(target) = request.uri().authority() else {
        return host.ok_or_else(|| Refusal::bad_request("the Host field is missing"));
    };
    let Some(target) = parse_authority(target.as_str().as_bytes()) else {
        return Err(Refusal::bad_request("the authority of the target is not valid"));
    };
    match host {
        // RFC 9113 §8.3.1: two authorities that differ make the request malformed.
        Some(host) if host != target && request.version() >= Version::HTTP_2 => {
            Err(Refusal::bad_request("Host and :authority differ"))
        }
        None if request.version() == Version::HTTP_11 => Err(Refusal::bad_request("the Host field is missing")),
        // RFC 9112 §3.2.2: a proxy ignores Host when the target is in absolute form.
        _ => Ok(target),
    }
}

/// The path and query of the target, byte for byte.
pub(super) fn path<B>(request: &Request<B>) -> Result<PathAndQuery, Refusal> {
    let uri = request.uri();
    match uri.scheme() {
        Some(scheme) if *scheme != Scheme::HTTP && *scheme != Scheme::HTTPS => {
            return Err(Refusal::bad_request("the scheme of the target is not http or https"));
        }
        None if uri.authority().is_some() => {
            return Err(Refusal::bad_request("the target does not begin with a slash"));
        }
        _ => {}
    }
    let path = uri.path_and_query().map_or("/", PathAndQuery::as_str);
    if path == "*" {
        return Err(match *request.method() {
            Method::OPTIONS => checks::options(),
            _ => Refusal::bad_request("the target * is for OPTIONS only"),
        });
    }
    let path = match uri.path_and_query() {
        Some(path) if path.as_str().starts_with('/') => path.clone(),
        _ => PathAndQuery::from_static("/"),
    };
    Ok(path)
}
