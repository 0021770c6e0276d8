//! Paths as rules have them, and as an origin might read those of requests.

use percent_encoding::percent_decode_str;

/// The path of a rule, without a slash at its end.
pub(super) fn read(text: &str) -> Result<String, String> {
    match text {
        _ if !text.starts_with('/') => Err(format!("path={text}: a path begins with a slash")),
        _ if text.contains(['?', '#', '%', '\\', ';']) || plain(text) != text => Err(format!(
            "path={text}: write it plainly, without a query, percent-encodings, or dots that lead elsewhere"
        )),
        _ => Ok(text.trim_end_matches('/').to_owned()),
    }
}

/// Decoded, with one slash at a time, and without `.` and `..`.
pub(super) fn plain(path: &str) -> String {
    resolved(percent_decode_str(path).decode_utf8_lossy().replace('\\', "/"))
}

/// The same, and without what some servers take for parameters of a segment: `/admin;x` is `/admin`.
pub(super) fn without_parameters(path: &str) -> String {
    let decoded = percent_decode_str(path).decode_utf8_lossy().replace('\\', "/");
    let segments: Vec<&str> = decoded.split('/').map(|segment| segment.split(';').next().unwrap_or_default()).collect();
    resolved(segments.join("/"))
}

fn resolved(decoded: String) -> String {
    let mut segments: Vec<&str> = Vec::new();
    for segment in decoded.split('/').filter(|segment| !matches!(*segment, "" | ".")) {
        match segment {
            ".." => drop(segments.pop()),
            segment => segments.push(segment),
        }
    }
    let is_directory = decoded.ends_with('/') || decoded.ends_with("/.") || decoded.ends_with("/..");
    let end = if is_directory && !segments.is_empty() { "/" } else { "" };
    format!("/{}{end}", segments.join("/"))
}
