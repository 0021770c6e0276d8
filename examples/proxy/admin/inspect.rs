//! What would be done with a request, and what is stored for it.

use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::http::{Request, StatusCode, Uri, header, request};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tower_redis_cache::{InspectedResponse, Inspection, PurgeState};

use super::Admin;
use super::stats::told;
use crate::routes::Routes;

/// `url=`, and perhaps `method=` and `header=Name: value`, as often as wanted.
pub(super) async fn inspect(State(admin): State<Arc<Admin>>, RawQuery(query): RawQuery) -> Response {
    match asked(&admin.sights.routes, query.as_deref().unwrap_or_default()) {
        Ok(head) => told(&inspected(&admin.sights.handle.inspect(&head).await)),
        Err(reason) => (StatusCode::BAD_REQUEST, format!("{reason}\n")).into_response(),
    }
}

fn asked(routes: &Routes, query: &str) -> Result<request::Parts, String> {
    let mut request = Request::builder();
    let mut site = None;
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        request = match &*name {
            "url" => {
                let url: Uri = value.parse().map_err(|error| format!("url={value}: {error}"))?;
                site = url.authority().map(ToString::to_string);
                request.uri(url)
            }
            "method" => request.method(&*value),
            "header" => {
                let (name, value) =
                    value.split_once(':').ok_or_else(|| format!("header={value}: write Name: value"))?;
                request.header(name.trim(), value.trim())
            }
            _ => return Err(format!("{name:?} says nothing: there are url=URL, method=METHOD and header=Name:value")),
        };
    }
    let site = site.ok_or("name what to look at: url=http://HOST/PATH")?;
    let mut request = request.body(()).map_err(|error| error.to_string())?;
    let host = site.parse().map_err(|_| format!("{site:?} is no host"))?;
    request.headers_mut().entry(header::HOST).or_insert(host);
    routes.apply(&mut request);
    Ok(request.into_parts().0)
}

fn inspected(inspection: &Inspection) -> Value {
    let outcome = &inspection.outcome;
    json!({
        "key": inspection.key.as_ref().map(|key| format!("{key:?}")),
        "would": {
            "hit": outcome.is_hit(),
            "fwd": outcome.forward_reason().map(|reason| reason.as_str()),
            "ttl": outcome.ttl(),
            "detail": outcome.detail(),
        },
        "tier": inspection.tier.map(|tier| format!("{tier:?}").to_lowercase()),
        "selected": inspection.selected.as_ref().map(response),
        "responses": inspection.responses.iter().map(response).collect::<Vec<_>>(),
        "vary": inspection.vary,
        "last_purge": inspection.last_purge,
        "knows_purges": inspection.knows_purges,
        "is_uncacheable": inspection.is_uncacheable,
        "is_being_fetched": inspection.is_being_fetched,
    })
}

fn response(response: &InspectedResponse) -> Value {
    let purge = match response.purge {
        PurgeState::NotPurged => "none",
        PurgeState::Stale { .. } => "soft",
        PurgeState::Purged => "hard",
        _ => "unknown",
    };
    json!({
        "status": response.status.as_u16(),
        "length": response.length,
        "age": response.age.as_secs_f64(),
        "lifetime": response.lifetime.as_secs_f64(),
        "tags": response.tags,
        "fetched_at_purge": response.fetched_at_purge,
        "purge": purge,
    })
}
