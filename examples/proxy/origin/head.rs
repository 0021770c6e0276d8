//! The heads of requests to the origin and of its responses.

use clap::ValueEnum;
use hyper::body::Body;
use hyper::header::{CONNECTION, CONTENT_LENGTH, HOST, HeaderValue, LOCATION, TE, TRANSFER_ENCODING, UPGRADE};
use hyper::http::uri::PathAndQuery;
use hyper::{HeaderMap, Request, Response, Uri, Version};

use super::failure::Failure;
use crate::fields::{lists, strip_hop_by_hop};
use crate::origin_url::OriginUrl;

/// Which host the origin is asked for: its own, as in `--origin`, or the one the client asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum HostField {
    Origin,
    Client,
}

/// Points `request` at the origin.
pub(super) fn address<B>(request: &mut Request<B>, origin: &OriginUrl, host: HostField) {
    let path = request.uri().path_and_query().cloned();
    let uri = Uri::builder()
        .scheme(origin.scheme.clone())
        .authority(origin.authority.clone())
        .path_and_query(path.unwrap_or(PathAndQuery::from_static("/")))
        .build();
    *request.uri_mut() = uri.expect("a checked origin and a path make a target");
    *request.version_mut() = Version::HTTP_11;
    if host == HostField::Origin {
        // The client library writes the authority of the target, in the form of the version in use.
        request.headers_mut().remove(HOST);
    }
}

/// Removes what belongs to the client's connection. Framing is written anew from the body, never copied.
pub(super) fn settle_request_fields<B: Body>(request: &mut Request<B>, origin: &OriginUrl, upgrade: bool) {
    let size_known = request.body().size_hint().exact().is_some();
    let headers = request.headers_mut();
    // RFC 9110 §10.1.4: trailers are passed on, so the wish for them is too.
    let trailers = lists(headers, &TE, "trailers");
    strip_hop_by_hop(headers);
    headers.remove(TRANSFER_ENCODING);
    headers.remove(CONTENT_LENGTH);
    if !size_known {
        // Said aloud, because the client library would leave out such a body of a GET.
        headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    if upgrade {
        switch(headers);
    } else if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
        if !origin.is_https() {
            // Over https the version may be HTTP/2, which knows no Connection field.
            headers.insert(CONNECTION, HeaderValue::from_static("TE"));
        }
    }
}

/// Removes what belongs to the origin's connection.
pub(super) fn settle_response_fields<B>(response: &mut Response<B>, switching: bool) -> Result<(), Failure> {
    let websocket = lists(response.headers(), &UPGRADE, "websocket");
    if switching && !websocket {
        return Err(Failure::UnaskedSwitch);
    }
    // The version is that of the origin's connection; the client's has its own.
    *response.version_mut() = Version::HTTP_11;
    let headers = response.headers_mut();
    strip_hop_by_hop(headers);
    headers.remove(TRANSFER_ENCODING);
    if switching {
        switch(headers);
    }
    Ok(())
}

fn switch(headers: &mut HeaderMap) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
}

/// What clients call this proxy, as the front door wrote it down.
#[derive(Debug)]
pub(super) struct PublicAddress {
    scheme: HeaderValue,
    host: HeaderValue,
}

// ===== impl PublicAddress =====

impl PublicAddress {
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let scheme = headers.get("x-forwarded-proto")?.clone();
        let host = headers.get("x-forwarded-host")?.clone();
        Some(Self { scheme, host })
    }
}

/// Makes a redirect to the origin one to the proxy, as nginx's `proxy_redirect default` does.
///
/// The result is absolute: cut down to a path, `http://origin//elsewhere/` would lead elsewhere.
pub(super) fn settle_location(headers: &mut HeaderMap, origin: &OriginUrl, public: &Option<PublicAddress>) {
    let (Some(location), Some(public)) = (headers.get(LOCATION), public) else {
        return;
    };
    let base = origin.to_string();
    let Some(rest) = location.as_bytes().strip_prefix(base.as_bytes()) else {
        return;
    };
    if !matches!(rest.first(), None | Some(b'/' | b'?' | b'#')) {
        return;
    }
    let rewritten = [public.scheme.as_bytes(), b"://", public.host.as_bytes(), rest].concat();
    let rewritten = HeaderValue::from_bytes(&rewritten);
    headers.insert(LOCATION, rewritten.expect("parts of valid values make a valid value"));
}
