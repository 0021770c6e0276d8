//! May a request touch the cache at all? Decided before anything is looked up.

use http::header::{self, HeaderName};
use http::{HeaderMap, Method};

use super::PresentedRequest;
use super::cache_control::ListMembers;
use crate::observe::ForwardReason;

/// What the cache is to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// It may be answered from the cache, and its answer may be stored.
    Cacheable,
    /// It passes, and what is stored for its target ends if it succeeds (RFC 9111 §4.4).
    Invalidating,
    /// It passes.
    Passthrough(ForwardReason, Option<&'static str>),
}

/// Methods that are safe by their definition, besides GET and HEAD (RFC 9110 §9.2.1 and the registry).
const SAFE_METHODS: [&str; 5] = ["OPTIONS", "TRACE", "PROPFIND", "REPORT", "SEARCH"];

/// Fields whose meaning depends on the origin's current state: a cache does not judge them (RFC 9111 §4.3.2).
const ORIGIN_PRECONDITIONS: [HeaderName; 2] = [header::IF_MATCH, header::IF_UNMODIFIED_SINCE];

/// What of a request's content is known before it is forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    Absent,
    /// It is still to come.
    Unread,
    /// It was read, and is part of the key (RFC 10008 §2.7).
    Known,
}

/// Whether the method is QUERY (RFC 10008).
pub(crate) fn is_query(method: &Method) -> bool {
    method.as_str() == "QUERY"
}

/// Whether a response to the method is made from what is stored for it as a response to GET is.
pub(crate) fn is_retrieval(method: &Method) -> bool {
    *method == Method::GET || is_query(method)
}

/// Whether its target alone says what is asked for.
pub(crate) fn is_retrieval_without_content(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}

pub(crate) fn admit(request: &PresentedRequest<'_>, content: Content) -> Admission {
    match *request.method {
        Method::GET | Method::HEAD => admit_retrieval(request.headers, content != Content::Absent),
        ref method if is_query(method) => match content {
            Content::Known => admit_retrieval(request.headers, false),
            Content::Absent | Content::Unread => Admission::Passthrough(ForwardReason::Method, None),
        },
        Method::CONNECT => Admission::Passthrough(ForwardReason::Method, None),
        ref method if SAFE_METHODS.contains(&method.as_str()) => Admission::Passthrough(ForwardReason::Method, None),
        // §4.4: methods whose safety is unknown count as unsafe.
        _ => Admission::Invalidating,
    }
}

fn admit_retrieval(headers: &HeaderMap, has_content: bool) -> Admission {
    let bypass = |detail| Admission::Passthrough(ForwardReason::Bypass, Some(detail));
    if has_content {
        // RFC 9110 §9.3.1: content in a GET has no meaning the key could hold.
        return bypass("request-content");
    }
    if asks_for_upgrade(headers) {
        return bypass("upgrade");
    }
    if ORIGIN_PRECONDITIONS.iter().any(|name| headers.contains_key(name)) {
        return bypass("precondition");
    }
    Admission::Cacheable
}

/// RFC 9110 §7.8: Upgrade counts where Connection names it.
fn asks_for_upgrade(headers: &HeaderMap) -> bool {
    headers.contains_key(header::UPGRADE)
        && headers
            .get_all(header::CONNECTION)
            .iter()
            .flat_map(|line| ListMembers::new(line.as_bytes()))
            .any(|option| option.eq_ignore_ascii_case(b"upgrade"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn admitted(method: &str, fields: &[(&'static str, &'static str)], has_content: bool) -> Admission {
        let content = if has_content { Content::Unread } else { Content::Absent };
        admitted_with(method, fields, content)
    }

    #[test]
    fn a_query_needs_its_content_in_the_key() {
        assert_eq!(admitted_with("QUERY", &[], Content::Known), Admission::Cacheable);
        for content in [Content::Absent, Content::Unread] {
            assert_eq!(admitted_with("QUERY", &[], content), Admission::Passthrough(ForwardReason::Method, None));
        }
        let bypass = Admission::Passthrough(ForwardReason::Bypass, Some("request-content"));
        assert_eq!(admitted_with("GET", &[], Content::Known), bypass);
    }

    fn admitted_with(method: &str, fields: &[(&'static str, &'static str)], content: Content) -> Admission {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_static(value));
        }
        admit(&PresentedRequest { method: &method.parse().unwrap(), headers: &headers }, content)
    }

    #[test]
    fn only_get_and_head_are_answered_from_the_cache() {
        for method in ["GET", "HEAD"] {
            assert_eq!(admitted(method, &[], false), Admission::Cacheable);
        }
        for method in ["POST", "PUT", "PATCH", "DELETE", "PURGE", "get"] {
            assert_eq!(admitted(method, &[], false), Admission::Invalidating, "{method}");
        }
        for method in ["OPTIONS", "TRACE", "CONNECT", "QUERY"] {
            assert_eq!(admitted(method, &[], true), Admission::Passthrough(ForwardReason::Method, None), "{method}");
        }
    }

    #[test]
    fn what_the_cache_cannot_judge_passes() {
        let bypass = |detail| Admission::Passthrough(ForwardReason::Bypass, Some(detail));
        assert_eq!(admitted("GET", &[], true), bypass("request-content"));
        assert_eq!(
            admitted("GET", &[("upgrade", "websocket"), ("connection", "x, Upgrade")], false),
            bypass("upgrade")
        );
        assert_eq!(admitted("GET", &[("upgrade", "h2c")], false), Admission::Cacheable);
        assert_eq!(admitted("GET", &[("range", "bytes=0-1"), ("if-range", "\"a\"")], false), Admission::Cacheable);
        assert_eq!(admitted("HEAD", &[("if-match", "*")], false), bypass("precondition"));
        assert_eq!(admitted("GET", &[("if-none-match", "*")], false), Admission::Cacheable);
    }
}
