//! Purges: what they name, and what became of them.

use std::sync::Arc;

use axum::extract::{RawQuery, Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use tower_redis_cache::{PurgeError, PurgeMode, PurgeTarget};

use super::Admin;
use super::guard::is_named_plainly;
use super::stats::told;

/// `url=`, `tag=`, `prefix=` and `everything`, each as often as wanted, and `mode=soft`.
pub(super) async fn by_query(State(admin): State<Arc<Admin>>, RawQuery(query): RawQuery) -> Response {
    match wanted(query.as_deref().unwrap_or_default()) {
        Ok((targets, mode)) => purge(&admin, targets, mode).await,
        Err(reason) => refused(&reason),
    }
}

/// The URL of the request itself. Where only `Host` names the site, under both schemes.
pub(super) async fn by_method(admin: &Admin, request: Request) -> Response {
    let (uri, headers) = (request.uri(), request.headers());
    if uri.scheme().is_none() && is_named_plainly(&request) && admin.is_at(port_of(headers)) {
        return refused("this is the management's own address: name the site, for example by -H 'Host: shop.example'");
    }
    let targets = match uri.scheme() {
        Some(_) => vec![PurgeTarget::url(uri.clone())],
        None => {
            let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
            let of = |scheme| format!("{scheme}://{host}{uri}").parse().map(PurgeTarget::url);
            match [of("http"), of("https")] {
                [Ok(http), Ok(https)] => vec![http, https],
                _ => return refused("name the site by Host"),
            }
        }
    };
    purge(admin, targets, if is_soft(headers) { PurgeMode::Soft } else { PurgeMode::Hard }).await
}

fn port_of(headers: &HeaderMap) -> Option<u16> {
    headers.get(header::HOST)?.to_str().ok()?.parse::<Authority>().ok()?.port_u16()
}

/// `Soft-Purge: 1`, or as Fastly has it.
fn is_soft(headers: &HeaderMap) -> bool {
    ["soft-purge", "fastly-soft-purge"].iter().any(|name| headers.get(*name).is_some_and(|value| value == "1"))
}

async fn purge(admin: &Admin, targets: Vec<PurgeTarget>, mode: PurgeMode) -> Response {
    match admin.sights.handle.purge(targets, mode).await {
        Ok(purged) => told(&json!({ "purged": true, "number": purged.number })),
        Err(PurgeError::Store(reason)) => {
            let reason = format!("the store did not confirm it; purge again: {reason}\n");
            (StatusCode::SERVICE_UNAVAILABLE, reason).into_response()
        }
        Err(error) => refused(&error.to_string()),
    }
}

fn refused(reason: &str) -> Response {
    (StatusCode::BAD_REQUEST, format!("{reason}\n")).into_response()
}

fn wanted(query: &str) -> Result<(Vec<PurgeTarget>, PurgeMode), String> {
    let (mut targets, mut mode) = (Vec::new(), PurgeMode::Hard);
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        match &*name {
            "url" => {
                let url: Uri = value.parse().map_err(|error| format!("url={value}: {error}"))?;
                targets.push(PurgeTarget::url(url));
            }
            "tag" => targets.push(PurgeTarget::tag(value)),
            "prefix" => {
                if value.contains("://") {
                    return Err(format!("prefix={value}: write HOST/PATH, without a scheme"));
                }
                let (host, path) = value.split_once('/').unwrap_or((&value, ""));
                targets.push(PurgeTarget::prefix(host, format!("/{path}")));
            }
            "everything" if value.is_empty() || value == "1" => targets.push(PurgeTarget::everything()),
            "mode" => {
                mode = match &*value {
                    "hard" => PurgeMode::Hard,
                    "soft" => PurgeMode::Soft,
                    _ => return Err(format!("mode={value}: there are hard and soft")),
                };
            }
            _ => {
                return Err(format!(
                    "{name:?} says nothing: there are url=URL, tag=TAG, prefix=HOST/PATH, everything and mode=soft"
                ));
            }
        }
    }
    match targets.is_empty() {
        true => Err("name what to purge: url=URL, tag=TAG, prefix=HOST/PATH or everything".to_owned()),
        false => Ok((targets, mode)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_names_targets_and_a_mode() {
        let (targets, mode) =
            wanted("url=http%3A%2F%2Fa%2Fb%3Fc&tag=x+y&prefix=a/b/c&prefix=a&everything&mode=soft").unwrap();
        assert_eq!(mode, PurgeMode::Soft);
        let expected = [
            PurgeTarget::url("http://a/b?c".parse().unwrap()),
            PurgeTarget::tag("x y"),
            PurgeTarget::prefix("a", "/b/c"),
            PurgeTarget::prefix("a", "/"),
            PurgeTarget::everything(),
        ];
        assert_eq!(targets, expected);
    }

    #[test]
    fn what_names_nothing_is_refused() {
        for senseless in
            ["", "mode=soft", "prefix=http://a/b", "urls=a", "url=a%20b", "tag=a&mode=hardest", "everything=no"]
        {
            assert!(wanted(senseless).is_err(), "{senseless}");
        }
    }
}
