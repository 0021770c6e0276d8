//! The checks that need nothing but the request itself.

use hyper::header::{EXPECT, HeaderName, HeaderValue, MAX_FORWARDS, TRANSFER_ENCODING};
use hyper::{Method, Request, StatusCode, Version};

use crate::answer::Refusal;
use crate::framing::Framing;

/// Refuses requests of which two readers could disagree where they end.
pub(super) fn framing<B>(request: &Request<B>, framing: Option<Framing>) -> Result<(), Refusal> {
    // HTTP/2 frames say where a message ends.
    if request.version() >= Version::HTTP_2 {
        return Ok(());
    }
    let refuse = |reason| Err(Refusal::bad_request(reason).closing());
    match framing {
        Some(Framing::Length | Framing::Chunked) => {}
        Some(Framing::BothLengths) => return refuse("both Content-Length and Transfer-Encoding"),
        Some(Framing::RepeatedLength) => return refuse("more than one Content-Length"),
        None => return refuse("the end of the request is not certain"),
    }
    let mut codings = request.headers().get_all(TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => Ok(()),
        (Some(coding), None) if coding.as_bytes().eq_ignore_ascii_case(b"chunked") => Ok(()),
        _ => refuse("the only Transfer-Encoding that is accepted is chunked"),
    }
}

/// Holds the target and the fields to their limits.
pub(super) fn sizes<B>(request: &Request<B>, max_uri_size: usize, max_header_size: usize) -> Result<(), Refusal> {
    let uri = request.uri();
    let path = uri.path_and_query().map_or(0, |path| path.as_str().len());
    let authority = uri.authority().map_or(0, |authority| authority.as_str().len());
    if path + authority > max_uri_size {
        return Err(Refusal::new(StatusCode::URI_TOO_LONG, "the target is too long"));
    }
    let field = |(name, value): (&HeaderName, &HeaderValue)| name.as_str().len() + value.len() + 4;
    if request.headers().iter().map(field).sum::<usize>() > max_header_size {
        let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        return Err(Refusal::new(status, "the header fields are too large"));
    }
    Ok(())
}

/// Refuses the methods that make no sense at a reverse proxy.
///
/// `CONNECT` asks for a tunnel to anywhere. `TRACE` shows the client what the proxy adds for the origin.
pub(super) fn method<B>(request: &Request<B>) -> Result<(), Refusal> {
    let refuse = |reason| Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, reason).closing());
    match *request.method() {
        Method::CONNECT => refuse("CONNECT is not offered here"),
        Method::TRACE => refuse("TRACE is not offered here"),
        _ => Ok(()),
    }
}

/// Settles `Expect` here: the server sends `100 Continue` when somebody begins to read the body.
///
/// It is never passed on: an origin that answers it out of turn could shift every later response by one.
pub(super) fn expectation<B>(request: &mut Request<B>) -> Result<(), Refusal> {
    let known = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"100-continue");
    let met = request.headers().get_all(EXPECT).iter().all(known);
    // RFC 9110 §10.1.1: an expectation in an HTTP/1.0 request is ignored.
    if !met && request.version() != Version::HTTP_10 {
        return Err(Refusal::new(StatusCode::EXPECTATION_FAILED, "only 100-continue can be expected"));
    }
    request.headers_mut().remove(EXPECT);
    Ok(())
}

/// Counts `Max-Forwards` of an `OPTIONS` request down and answers it at zero (RFC 9110 §7.6.2).
pub(super) fn forwards_left<B>(request: &mut Request<B>) -> Result<(), Refusal> {
    if *request.method() != Method::OPTIONS {
        return Ok(());
    }
    let Some(value) = request.headers().get(MAX_FORWARDS) else {
        return Ok(());
    };
    let left: Option<u32> = value.to_str().ok().and_then(|text| text.parse().ok());
    match left {
        Some(0) => Err(options()),
        Some(left) => {
            request.headers_mut().insert(MAX_FORWARDS, HeaderValue::from(left - 1));
            Ok(())
        }
        None => Err(Refusal::bad_request("Max-Forwards is not a number")),
    }
}

/// The answer to `OPTIONS *`, which asks the server it reaches about itself (RFC 9110 §9.3.7).
pub(super) fn options() -> Refusal {
    Refusal::new(StatusCode::NO_CONTENT, "")
}

/// The answer to a WebSocket handshake that nobody switched on.
///
/// Passed on without its `Upgrade` it would get some page or error of the origin that helps nobody.
pub(super) fn upgrades_are_off() -> Refusal {
    let reason = "WebSocket is switched off; the proxy passes it with --upgrades";
    Refusal::new(StatusCode::NOT_IMPLEMENTED, reason)
}
