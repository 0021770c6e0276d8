//! The HTTP side: reads `/?url=…&key=…&params=…`, and asks the gateway.
//!
//! What comes back is foreign content under one host. So that no browser takes it for more, every answer says `nosniff`
//! and, for a browser that shows it as a page, `sandbox`.

use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::header::{
    ALLOW, CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY_REPORT_ONLY, HeaderValue, X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Method, Request, Response, StatusCode};

use crate::gateway::{Gateway, GatewayBody};
use crate::params::Params;
use crate::question::LONGEST;
use crate::refusal::Refusal;

/// What goes to the client.
pub(crate) type FrontBody = Either<GatewayBody, Full<Bytes>>;

/// The parameters of a request to the gateway.
#[derive(Debug, Default)]
struct Asked {
    url: Option<String>,
    key: Option<String>,
    params: Option<String>,
}

/// Answers one request, whatever it is.
pub(crate) async fn answer<B>(gateway: &Gateway, request: Request<B>) -> Response<FrontBody> {
    let answered = ask(gateway, request).await;
    let mut response = match answered {
        Ok(response) => response.map(Either::Left),
        Err(refusal) => {
            let mut answer = refusal.answer().map(Either::Right);
            if refusal.status == StatusCode::METHOD_NOT_ALLOWED {
                answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            }
            answer
        }
    };
    let headers = response.headers_mut();
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox"));
    headers.remove(CONTENT_SECURITY_POLICY_REPORT_ONLY);
    response
}

async fn ask<B>(gateway: &Gateway, request: Request<B>) -> Result<Response<GatewayBody>, Refusal> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are answered"));
    }
    if request.headers().get("service-worker").is_some_and(|value| value == "script") {
        return Err(Refusal::new(StatusCode::FORBIDDEN, "nothing here is a service worker"));
    }
    if request.uri().path() != "/" {
        return Err(Refusal::new(StatusCode::NOT_FOUND, "ask for /?url=URL, with key and params if you like"));
    }
    let asked = Asked::read(request.uri().query().unwrap_or_default())?;
    let missing = || Refusal::bad_request("url is missing: ask for /?url=https%3A%2F%2Fhost%2Fpath");
    let url = asked.url.as_deref().ok_or_else(missing)?;
    let params = asked.params.as_deref().map_or_else(|| Ok(Params::default()), Params::read);
    let params = params.map_err(Refusal::bad_request)?;
    gateway.ask(request.method(), request.headers(), (url, asked.key.as_deref(), &params)).await
}

// ===== impl Asked =====

impl Asked {
    fn read(query: &str) -> Result<Self, Refusal> {
        let mut asked = Self::default();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let place = match &*name {
                "url" => &mut asked.url,
                "key" => &mut asked.key,
                "params" => &mut asked.params,
                // Most likely the rest of a URL, which would be fetched without it.
                _ => {
                    let reason = "there are url, key and params, and no others; encode the & in them as %26";
                    return Err(Refusal::bad_request(reason));
                }
            };
            if value.contains(char::REPLACEMENT_CHARACTER) {
                return Err(Refusal::bad_request(format!("{name} is not UTF-8")));
            }
            if value.len() > LONGEST {
                return Err(Refusal::bad_request(format!("{name} is too long: {LONGEST} octets at most")));
            }
            if place.replace(value.into_owned()).is_some() {
                return Err(Refusal::bad_request(format!("{name} is given twice")));
            }
        }
        Ok(asked)
    }
}
