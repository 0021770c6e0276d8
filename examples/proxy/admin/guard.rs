//! Who may ask: holders of the token, or, where there is none, people and programs on this machine, but not the pages that
//! they have open in a browser.

use std::fs;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError};

use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::{Admin, AdminArgs};
use crate::authority::parse_authority;

/// Shorter ones can be guessed.
const SHORTEST: usize = 16;

/// The rule.
#[derive(Clone, Debug)]
pub(crate) struct Guard {
    /// Only a digest, whose comparison takes the same time whatever is compared.
    token: Option<blake3::Hash>,
}

// ===== impl Guard =====

impl Guard {
    /// # Errors
    ///
    /// A sentence about the argument to change.
    pub(crate) fn new(args: &AdminArgs) -> Result<Self, String> {
        let Some(file) = &args.admin_token_file else {
            return match args.admin {
                Some(address) if !address.ip().is_loopback() => Err(format!(
                    "--admin {address} can be reached from elsewhere: name a file with a token by --admin-token-file, \
                     or listen on 127.0.0.1"
                )),
                _ => Ok(Self { token: None }),
            };
        };
        let token =
            fs::read_to_string(file).map_err(|error| format!("--admin-token-file: {}: {error}", file.display()))?;
        match token.trim() {
            token if token.len() < SHORTEST => {
                Err(format!("--admin-token-file: the token has to have {SHORTEST} characters at the least"))
            }
            token => Ok(Self { token: Some(blake3::hash(token.as_bytes())) }),
        }
    }

    /// The answer to who may not ask.
    fn refusal(&self, method: &Method, headers: &HeaderMap) -> Option<Response> {
        // What another page in the operator's browser asks for.
        if let Some(origin) = text(headers, &header::ORIGIN)
            && origin.split_once("://").map(|(_, authority)| authority) != text(headers, &header::HOST)
        {
            return Some((StatusCode::FORBIDDEN, "not for pages of another origin\n").into_response());
        }
        match self.token {
            Some(token) if presented(headers).is_some_and(|given| blake3::hash(&given) == token) => None,
            Some(_) => {
                let challenge = [(header::WWW_AUTHENTICATE, "Basic realm=\"management\", Bearer")];
                Some((StatusCode::UNAUTHORIZED, challenge, "the token is missing or wrong\n").into_response())
            }
            // A browser sends PURGE to another origin only after asking, which nobody answers.
            None if method.as_str() == "PURGE" || is_named_plainly(headers) => None,
            None => {
                let reason = "ask for it by its address or as localhost, or start the proxy with --admin-token-file\n";
                Some((StatusCode::FORBIDDEN, reason).into_response())
            }
        }
    }
}

pub(super) async fn check(State(admin): State<Arc<Admin>>, request: Request, next: Next) -> Response {
    let guard = admin.guard.read().unwrap_or_else(PoisonError::into_inner).clone();
    match guard.refusal(request.method(), request.headers()) {
        None => next.run(request).await,
        Some(refusal) => refusal,
    }
}

/// A name that leads here might be anybody's, who then reads what a browser is told ("DNS rebinding").
fn is_named_plainly(headers: &HeaderMap) -> bool {
    let Some(authority) = headers.get(header::HOST).and_then(|host| parse_authority(host.as_bytes())) else {
        return false;
    };
    let host = authority.host();
    host.eq_ignore_ascii_case("localhost") || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok()
}

/// The token of `Authorization: Bearer TOKEN`, or of `Authorization: Basic base64(user:TOKEN)`.
fn presented(headers: &HeaderMap) -> Option<Vec<u8>> {
    let (scheme, rest) = text(headers, &header::AUTHORIZATION)?.split_once(' ')?;
    match scheme {
        scheme if scheme.eq_ignore_ascii_case("bearer") => Some(rest.trim().as_bytes().to_vec()),
        scheme if scheme.eq_ignore_ascii_case("basic") => {
            let pair = BASE64_STANDARD.decode(rest.trim()).ok()?;
            let colon = pair.iter().position(|octet| *octet == b':')?;
            Some(pair[colon + 1..].to_vec())
        }
        _ => None,
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &header::HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}
