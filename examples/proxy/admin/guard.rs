//! Who may ask: holders of the token, or, where there is none, people and programs on this machine, but not the pages that
//! they have open in a browser.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, PoisonError};

use axum::extract::{Request, State};
use axum::http::header::HeaderName;
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::Admin;
use crate::access::{Tokens, presented};
use crate::authority::parse_authority;

/// By it browsers say whose page asks.
const SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The rule.
#[derive(Clone, Debug)]
pub(crate) struct Guard {
    tokens: Option<Tokens>,
}

// ===== impl Guard =====

impl Guard {
    /// # Errors
    ///
    /// A sentence about the argument to change.
    pub(crate) fn new(token_file: Option<&Path>, listening: Option<SocketAddr>) -> Result<Self, String> {
        let Some(file) = token_file else {
            return match listening {
                Some(address) if !address.ip().is_loopback() => Err(format!(
                    "--admin {address} can be reached from elsewhere: name a file with a token by --admin-token-file, \
                     or listen on 127.0.0.1"
                )),
                _ => Ok(Self { tokens: None }),
            };
        };
        let tokens = Tokens::read(file).map_err(|error| format!("--admin-token-file: {}: {error}", file.display()))?;
        Ok(Self { tokens: Some(tokens) })
    }

    /// The answer to who may not ask.
    fn refusal(&self, request: &Request) -> Option<Response> {
        let (method, headers) = (request.method(), request.headers());
        let origin = text(headers, &header::ORIGIN);
        let is_from_elsewhere = origin
            .is_some_and(|origin| origin.split_once("://").map(|(_, authority)| authority) != named(request))
            || text(headers, &SITE).is_some_and(|site| !matches!(site, "same-origin" | "none"));
        // What another page in the operator's browser asks for.
        if is_from_elsewhere {
            return Some((StatusCode::FORBIDDEN, "not for pages of another origin\n").into_response());
        }
        match &self.tokens {
            Some(tokens) if presented(headers).is_some_and(|given| tokens.have(&given)) => None,
            Some(_) => {
                let challenge = [(header::WWW_AUTHENTICATE, "Basic realm=\"management\", Bearer")];
                Some((StatusCode::UNAUTHORIZED, challenge, "the token is missing or wrong\n").into_response())
            }
            // Its Host is that of a site. A page that sends one says where it comes from.
            None if (method.as_str() == "PURGE" && origin.is_none()) || is_named_plainly(request) => None,
            None => {
                let reason = "ask for it by its address or as localhost, or start the proxy with --admin-token-file\n";
                Some((StatusCode::FORBIDDEN, reason).into_response())
            }
        }
    }
}

pub(super) async fn check(State(admin): State<Arc<Admin>>, request: Request, next: Next) -> Response {
    // Whoever looks after processes has no token.
    if matches!(request.uri().path(), "/healthz" | "/readyz") && request.method().as_str() != "PURGE" {
        return next.run(request).await;
    }
    let guard = admin.guard.read().unwrap_or_else(PoisonError::into_inner).clone();
    match guard.refusal(&request) {
        None => next.run(request).await,
        Some(refusal) => refusal,
    }
}

/// A name that leads here might be anybody's, who then reads what a browser is told ("DNS rebinding").
pub(super) fn is_named_plainly(request: &Request) -> bool {
    let Some(authority) = named(request).and_then(|host| parse_authority(host.as_bytes())) else { return false };
    let host = authority.host();
    host.eq_ignore_ascii_case("localhost") || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok()
}

/// What the client calls this place: in HTTP/2 that is in the target.
fn named(request: &Request) -> Option<&str> {
    text(request.headers(), &header::HOST).or_else(|| request.uri().authority().map(|authority| authority.as_str()))
}

fn text<'a>(headers: &'a HeaderMap, name: &header::HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}
