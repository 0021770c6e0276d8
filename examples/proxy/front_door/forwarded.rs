//! `X-Forwarded-*`: what the origin is told about the client.
//!
//! As nginx users set it up: `X-Forwarded-For`, `X-Forwarded-Proto`, `X-Forwarded-Host` and `X-Real-IP` say what
//! this proxy sees. What a client claims is dropped, together with the fields that make some frameworks take
//! another URL or method than the one in the request line – nothing of that is in the cache key, so one
//! client could choose what all others get.
//!
//! A trusted peer is believed for the address, the scheme and the host. The last two then become part of
//! the cache key. The client's address cannot: an origin whose answer depends on it must say so with `Vary`
//! or forbid caching.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};

use hyper::HeaderMap;
use hyper::header::{HOST, HeaderName, HeaderValue};
use hyper::http::uri::{Authority, Scheme};

use crate::answer::Refusal;
use crate::authority::parse_authority;
use crate::peer::Peer;
use crate::trusted::TrustedPeers;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// Fields besides `X-Forwarded-*` and `X-Original-*` that never come from outside.
const DROPPED: [&str; 11] = [
    "forwarded",
    "proxy",
    "true-client-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-host",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-real-ip",
    "x-rewrite-url",
];

/// The public face of the requested resource.
#[derive(Debug)]
pub(super) struct Front {
    pub(super) scheme: Scheme,
    pub(super) authority: Authority,
}

/// Replaces the forwarding fields, and leaves exactly one `Host`, the one that the key and the origin are told; `believed`
/// holds the trusted peers when `peer` is one of them.
pub(super) fn rewrite(
    headers: &mut HeaderMap,
    mut front: Front,
    peer: Option<Peer>,
    believed: Option<&TrustedPeers>,
) -> Result<Front, Refusal> {
    let mut chain = Vec::new();
    if believed.is_some() {
        // Who says nothing of it forwards as it was asked.
        match headers.get(FORWARDED_PROTO).map(HeaderValue::as_bytes) {
            Some(b"https") => front.scheme = Scheme::HTTPS,
            Some(_) => front.scheme = Scheme::HTTP,
            None => {}
        }
        if let Some(host) = headers.get(FORWARDED_HOST) {
            front.authority = parse_authority(host.as_bytes())
                .ok_or_else(|| Refusal::bad_request("X-Forwarded-Host is not valid"))?;
        }
        chain = forwarded_chain(headers);
    }
    drop_claims(headers);
    let host = value(front.authority.as_str());
    headers.insert(HOST, host.clone());
    headers.insert(FORWARDED_HOST, host);
    headers.insert(FORWARDED_PROTO, proto(&front.scheme));
    match (peer, believed) {
        (Some(peer), Some(trusted)) => {
            let client = client_address(&chain, peer.address, trusted);
            headers.insert(REAL_IP, value(&client.to_string()));
            chain.push(peer.address.to_string());
            headers.insert(FORWARDED_FOR, value(&chain.join(", ")));
        }
        (Some(peer), None) => {
            headers.insert(REAL_IP, peer.written.clone());
            headers.insert(FORWARDED_FOR, peer.written);
        }
        (None, _) => {}
    }
    Ok(front)
}

/// Removes every field that speaks of another client, host, URL or method than the request itself.
///
/// CGI and its heirs turn `-` into `_`, so a name with underscores is the same field to them.
fn drop_claims(headers: &mut HeaderMap) {
    let claims = |name: &HeaderName| {
        let name = match name.as_str() {
            name if name.contains('_') => Cow::Owned(name.replace('_', "-")),
            name => Cow::Borrowed(name),
        };
        name.starts_with("x-forwarded") || name.starts_with("x-original-") || DROPPED.contains(&&*name)
    };
    let dropped: Vec<HeaderName> = headers.keys().filter(|name| claims(name)).cloned().collect();
    for name in dropped {
        headers.remove(name);
    }
}

/// The members of `X-Forwarded-For` over all its lines.
fn forwarded_chain(headers: &HeaderMap) -> Vec<String> {
    let lines = headers.get_all(FORWARDED_FOR).iter();
    lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','))
        .map(|member| member.trim().to_owned())
        .filter(|member| !member.is_empty())
        .collect()
}

/// The last address in the chain that no trusted peer vouches for being a proxy.
fn client_address(chain: &[String], peer: IpAddr, trusted: &TrustedPeers) -> IpAddr {
    let mut client = peer;
    for member in chain.iter().rev() {
        let Some(address) = address(member) else {
            return client;
        };
        client = address;
        if !trusted.contains(address) {
            return client;
        }
    }
    client
}

/// An address with or without a port.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    let with_port = || text.parse::<SocketAddr>().map(|socket| socket.ip());
    let address = bare.parse::<IpAddr>().or_else(|_| with_port()).ok()?;
    Some(address.to_canonical())
}

fn proto(scheme: &Scheme) -> HeaderValue {
    match scheme.as_str() {
        "https" => HeaderValue::from_static("https"),
        _ => HeaderValue::from_static("http"),
    }
}

fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("addresses and authorities are valid field values")
}
