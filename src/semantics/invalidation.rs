//! Which stored responses an unsafe request ends (RFC 9111 §4.4).

use http::header::{self, HeaderName};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, StatusCode, Uri};

/// §4.4: a non-error response is one with a 2xx or 3xx status.
pub(crate) fn invalidates(status: StatusCode) -> bool {
    status.is_success() || status.is_redirection()
}

/// The targets besides the request's own: those of Location and Content-Location, of the same origin alone. A reference
/// is resolved against the request's target.
pub(crate) fn named_targets(target: &Uri, host: Option<&Authority>, response: &HeaderMap) -> Vec<Uri> {
    [header::LOCATION, header::CONTENT_LOCATION].iter().filter_map(|name| named(target, host, response, name)).collect()
}

/// RFC 9110 §8.7: whether a response's Content-Location says that it is a representation of the request's own target.
pub(crate) fn represents_target(target: &Uri, host: Option<&Authority>, response: &HeaderMap) -> bool {
    named(target, host, response, &header::CONTENT_LOCATION)
        .is_some_and(|named| named.path() == target.path() && named.query() == target.query())
}

fn named(target: &Uri, host: Option<&Authority>, response: &HeaderMap, name: &HeaderName) -> Option<Uri> {
    let reference = response.get(name)?.to_str().ok()?;
    let own = target.authority().or(host);
    if let Ok(uri) = reference.parse::<Uri>()
        // A relative path such as "y" reads as an authority as well.
        && uri.scheme().is_some()
        && let Some(authority) = uri.authority()
    {
        let same = uri.scheme() == target.scheme() || target.scheme().is_none();
        // §4.4: MUST NOT where the origins differ.
        if !same || !own.is_some_and(|own| same_authority(own, authority, uri.scheme())) {
            return None;
        }
        // Behind a listener that ends TLS, a target in origin form does not say which scheme it has: neither may this one.
        return match target.scheme() {
            Some(_) => Some(uri),
            // A target in authority form has no path, nor can it be given one.
            None if target.authority().is_some() => None,
            None => Uri::builder().path_and_query(uri.path_and_query()?.clone()).build().ok(),
        };
    }
    let resolved = resolve(target.path(), reference)?;
    let mut parts = target.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(resolved).ok()?);
    Uri::from_parts(parts).ok()
}

fn same_authority(one: &Authority, other: &Authority, scheme: Option<&Scheme>) -> bool {
    let default_port = if scheme == Some(&Scheme::HTTPS) { 443 } else { 80 };
    let port = |authority: &Authority| authority.port_u16().unwrap_or(default_port);
    one.host().eq_ignore_ascii_case(other.host()) && port(one) == port(other)
}

/// RFC 3986 §5.2 for a reference without an authority: an absolute or a relative path, or a query alone.
fn resolve(base: &str, reference: &str) -> Option<String> {
    let reference = reference.split('#').next().unwrap_or_default();
    if reference.starts_with("//") {
        return None;
    }
    let (path, query) = match reference.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (reference, None),
    };
    let joined = match path {
        "" => base.to_owned(),
        absolute if absolute.starts_with('/') => absolute.to_owned(),
        // A target in authority form, or "*", has no path to be relative to.
        relative => format!("{}/{relative}", base.rsplit_once('/').map_or("", |(parent, _)| parent)),
    };
    let path = without_dots(&joined);
    Some(match query {
        Some(query) => format!("{path}?{query}"),
        None => path,
    })
}

/// RFC 3986 §5.2.4.
fn without_dots(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            "." => {}
            ".." => {
                kept.pop();
            }
            other => kept.push(other),
        }
        if last && matches!(segment, "." | "..") {
            kept.push("");
        }
    }
    format!("/{}", kept.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn targets(target: &str, fields: &[(&'static str, &str)]) -> Vec<String> {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.insert(*name, HeaderValue::from_str(value).unwrap());
        }
        let host = Authority::from_static("h");
        named_targets(&target.parse().unwrap(), Some(&host), &headers).iter().map(Uri::to_string).collect()
    }

    #[test]
    fn a_target_in_authority_form_names_nothing() {
        for reference in ["http://h/x/./y/..", "http://h", "/x", "x"] {
            let response = HeaderMap::from_iter([(header::LOCATION, reference.parse().unwrap())]);
            assert_eq!(named_targets(&Uri::from_static("h"), None, &response), [""; 0], "{reference}");
        }
    }

    #[test]
    fn references_are_resolved_against_the_target() {
        for (reference, expected) in [
            ("/x", "http://h/x"),
            ("y", "http://h/a/y"),
            ("../y?q=1", "http://h/y?q=1"),
            ("?q", "http://h/a/b?q"),
            ("", "http://h/a/b"),
            ("./", "http://h/a/"),
            ("http://H:80/z#f", "http://H:80/z"),
        ] {
            assert_eq!(targets("http://h/a/b", &[("location", reference)]), [expected], "{reference}");
        }
        assert_eq!(targets("/a/b", &[("content-location", "y")]), ["/a/y"]);
        assert_eq!(targets("/a", &[("content-location", "y")]), ["/y"]);
        targets("h:80", &[("location", "y"), ("content-location", "")]);
        targets("*", &[("location", "y"), ("content-location", "?q")]);
        for scheme in ["http", "https"] {
            assert_eq!(targets("/a", &[("location", &format!("{scheme}://h/y?q"))]), ["/y?q"], "{scheme}");
        }
    }

    #[test]
    fn another_origin_is_never_touched() {
        for reference in ["http://other/x", "https://h/x", "http://h:81/x", "//other/x", "http://h@other/x"] {
            assert!(targets("http://h/a", &[("location", reference)]).is_empty(), "{reference}");
        }
        assert!(targets("/a", &[("location", "http://other/y")]).is_empty());
    }

    #[test]
    fn both_fields_count() {
        assert_eq!(targets("/a", &[("location", "/x"), ("content-location", "/y")]), ["/x", "/y"]);
    }
}
