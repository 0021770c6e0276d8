//! Keeps passwords out of what the proxy prints.

/// `text` with the user, password and query of every URL in it replaced.
///
/// Errs on the side of hiding too much: a password may itself hold `@`, `/` or `?`.
pub(crate) fn redact(text: &str) -> String {
    let mut pieces = text.split("://");
    let mut out = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        out.push_str("://");
        let shown = match piece.rfind('@') {
            Some(at) => {
                out.push_str("***@");
                &piece[at + 1..]
            }
            None => piece,
        };
        match shown.split_once('?') {
            Some((before, after)) => {
                out.push_str(before);
                out.push_str("?***");
                let rest = after.find(|c: char| c.is_whitespace() || c == '\'' || c == '"');
                out.push_str(rest.map_or("", |end| &after[end..]));
            }
            None => out.push_str(shown),
        }
    }
    out
}
