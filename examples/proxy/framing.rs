//! Reads along with the HTTP/1 parser and judges how each request is framed.
//!
//! The server below drops `Content-Length` when `Transfer-Encoding` is there too, so no service can see that
//! both were sent; two proxies that disagree about such a request are how requests are smuggled. The
//! scanner sees the raw bytes, parses each request head with the same parser and leaves one verdict per
//! request, in order.
//!
//! It follows bodies of a known length only. After a chunked body it is blind, and the verdict says so: the
//! connection then closes with the response, so nothing unseen can follow. A head that the parser refuses
//! makes it blind as well, because the server refuses the same head. A request without a verdict is refused.

use std::collections::VecDeque;

use httparse::{EMPTY_HEADER, Request, Status};

/// What opens an HTTP/2 connection (RFC 9113 §3.4).
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// As many header fields as the server accepts.
const MAX_FIELDS: usize = 100;

/// How the body of one request is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// By one `Content-Length`, or there is no body.
    Length,
    /// By `Transfer-Encoding`; the connection must close after the response.
    Chunked,
    /// By both, which nobody may pass on (RFC 9112 §6.1).
    BothLengths,
    /// By more than one `Content-Length` (RFC 9112 §6.3).
    RepeatedLength,
}

/// The reader at the front of one connection.
#[derive(Debug)]
pub(crate) struct HeadScanner {
    state: State,
    /// The part of the current head that has arrived.
    head: Vec<u8>,
    /// How much of `head` has been searched for its end.
    searched: usize,
    /// The longest head worth keeping; the server refuses a longer one.
    limit: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// At the first byte of the connection: HTTP/1 or HTTP/2.
    Preface,
    /// Between requests or inside a head.
    Head,
    /// Inside a body of which so many bytes are to come.
    Body(u64),
    /// HTTP/2, which has one unambiguous framing.
    Http2,
    /// HTTP/1 that can no longer be followed.
    Blind,
}

// ===== impl HeadScanner =====

impl HeadScanner {
    pub(crate) fn new(limit: usize) -> Self {
        Self { state: State::Preface, head: Vec::new(), searched: 0, limit }
    }

    /// Whether a head has begun and not ended.
    pub(crate) fn in_head(&self) -> bool {
        !self.head.is_empty()
    }

    /// Whether bytes may have arrived that nobody will read.
    pub(crate) fn mid_message(&self) -> bool {
        match self.state {
            State::Preface | State::Head => self.in_head(),
            State::Body(_) | State::Blind => true,
            State::Http2 => false,
        }
    }

    /// Reads `bytes` as the continuation of all that came before.
    pub(crate) fn scan(&mut self, mut bytes: &[u8], verdicts: &mut VecDeque<Framing>) {
        while !bytes.is_empty() {
            match self.state {
                State::Http2 | State::Blind => return,
                State::Body(left) => {
                    let skipped = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                    bytes = &bytes[skipped..];
                    self.state = match left - skipped as u64 {
                        0 => State::Head,
                        left => State::Body(left),
                    };
                }
                State::Preface => {
                    self.head.extend_from_slice(bytes);
                    if self.head.len() < HTTP2_PREFACE.len() && HTTP2_PREFACE.starts_with(&self.head) {
                        return;
                    }
                    if self.head.starts_with(HTTP2_PREFACE) {
                        self.stop(State::Http2);
                        return;
                    }
                    self.state = State::Head;
                    let replay = std::mem::take(&mut self.head);
                    self.scan(&replay, verdicts);
                    return;
                }
                State::Head => bytes = self.scan_head(bytes, verdicts),
            }
        }
    }

    /// Takes the rest of one head from `bytes` and returns what follows it.
    fn scan_head<'a>(&mut self, bytes: &'a [u8], verdicts: &mut VecDeque<Framing>) -> &'a [u8] {
        // Empty lines before a request are ignored (RFC 9112 §2.2).
        let bytes = if self.head.is_empty() {
            let start = bytes.iter().position(|byte| !b"\r\n".contains(byte));
            &bytes[start.unwrap_or(bytes.len())..]
        } else {
            bytes
        };
        let before = self.head.len();
        self.head.extend_from_slice(bytes);
        let Some(end) = self.head_end() else {
            if self.head.len() > self.limit {
                self.stop(State::Blind);
            }
            return &[];
        };
        let judged = judge(&self.head[..end]);
        self.head.clear();
        self.searched = 0;
        match judged {
            Some((framing, next)) => {
                verdicts.push_back(framing);
                self.state = next;
            }
            None => self.stop(State::Blind),
        }
        &bytes[end - before..]
    }

    /// Where the first empty line ends; a line may end in a bare LF, as the parser allows.
    fn head_end(&mut self) -> Option<usize> {
        let from = self.searched;
        for at in from..self.head.len() {
            if self.head[at] != b'\n' {
                continue;
            }
            match &self.head[at + 1..] {
                [b'\n', ..] => return Some(at + 2),
                [b'\r', b'\n', ..] => return Some(at + 3),
                _ => {}
            }
        }
        // The last two bytes may be the start of an empty line whose end has not come.
        self.searched = self.head.len().saturating_sub(2).max(from);
        None
    }

    fn stop(&mut self, state: State) {
        self.state = state;
        self.head = Vec::new();
    }
}

/// How the request with this head is framed and what follows the head; `None` for a head that is refused.
fn judge(head: &[u8]) -> Option<(Framing, State)> {
    let mut fields = [EMPTY_HEADER; MAX_FIELDS];
    let mut request = Request::new(&mut fields);
    match request.parse(head) {
        Ok(Status::Complete(length)) if length == head.len() => {}
        _ => return None,
    }
    let named = |name: &'static str| {
        let fields = request.headers.iter();
        fields.filter(move |field| field.name.eq_ignore_ascii_case(name))
    };
    let mut lengths = named("content-length");
    let length = lengths.next();
    if named("transfer-encoding").next().is_some() {
        let framing = match length {
            Some(_) => Framing::BothLengths,
            None => Framing::Chunked,
        };
        return Some((framing, State::Blind));
    }
    if lengths.next().is_some() {
        return Some((Framing::RepeatedLength, State::Blind));
    }
    let next = match length.map(|field| content_length(field.value)) {
        None | Some(Some(0)) => State::Head,
        Some(Some(length)) => State::Body(length),
        Some(None) => State::Blind,
    };
    Some((Framing::Length, next))
}

/// `Content-Length = 1*DIGIT` (RFC 9110 §8.6).
fn content_length(value: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(value).ok()?;
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if digits { text.parse().ok() } else { None }
}
