//! A client that sends exactly the bytes it is told to, and sees how each response ends.

use std::io;
use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http2;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::running::Proxy;
use crate::support::gate::patiently;

/// One connection to the proxy.
#[derive(Debug)]
pub(crate) struct Wire {
    stream: BufReader<TcpStream>,
}

/// How a connection ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// In order, after these bytes.
    Closed(Vec<u8>),
    /// With a reset.
    Reset,
}

/// A response as it stood on the wire.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
    /// Whether the body came to its end; a reset or an early close leaves it incomplete.
    pub(crate) complete: bool,
}

impl Wire {
    pub(crate) async fn to(proxy: &Proxy) -> Self {
        Self::at(proxy.address()).await
    }

    async fn at(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("the proxy listens");
        stream.set_nodelay(true).expect("the option is known");
        Self { stream: BufReader::new(stream) }
    }

    pub(crate) async fn says(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.get_mut().write_all(bytes.as_ref()).await.expect("the proxy reads");
    }

    /// Reads one response to a request other than HEAD.
    pub(crate) async fn hears(&mut self) -> Answer {
        patiently("a response", self.answer(true)).await.expect("a whole head")
    }

    /// Reads one response to a HEAD request.
    pub(crate) async fn hears_head(&mut self) -> Answer {
        patiently("a response", self.answer(false)).await.expect("a whole head")
    }

    /// Reads to the end of the connection.
    pub(crate) async fn end(&mut self) -> End {
        let mut rest = Vec::new();
        match patiently("the end of the connection", self.stream.read_to_end(&mut rest)).await {
            Ok(_) => End::Closed(rest),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => End::Reset,
            Err(error) => panic!("neither closed nor reset: {error}"),
        }
    }

    /// Reads exactly so many bytes.
    pub(crate) async fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        patiently("bytes", self.stream.read_exact(&mut bytes)).await.expect("as many bytes as were expected");
        bytes
    }

    /// Reads one head, of an interim response for instance.
    pub(crate) async fn head(&mut self) -> String {
        patiently("a head", self.read_head()).await.expect("a whole head")
    }

    async fn read_head(&mut self) -> io::Result<String> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            if self.stream.read_until(b'\n', &mut head).await? == 0 {
                return Err(io::Error::other(format!("the connection ended after {head:?}")));
            }
        }
        head.truncate(head.len() - 4);
        Ok(head.iter().map(|&byte| char::from(byte)).collect())
    }

    async fn answer(&mut self, body_expected: bool) -> io::Result<Answer> {
        let head = self.read_head().await?;
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status line");
        let mut answer = Answer { status, head, body: Vec::new(), complete: true };
        let bodiless = !body_expected || status < 200 || status == 204 || status == 304;
        if !bodiless {
            answer.complete = self.body(&mut answer).await.is_ok();
        }
        Ok(answer)
    }

    async fn body(&mut self, answer: &mut Answer) -> io::Result<()> {
        if answer.value("transfer-encoding") == Some("chunked") {
            return self.chunks(&mut answer.body).await;
        }
        let Some(length) = answer.value("content-length") else {
            self.stream.read_to_end(&mut answer.body).await?;
            return Ok(());
        };
        let length: u64 = length.parse().expect("a length is a number");
        let read = (&mut self.stream).take(length).read_to_end(&mut answer.body).await?;
        if read as u64 == length { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    /// Reads chunks; trailers are kept after the body, one a line.
    async fn chunks(&mut self, body: &mut Vec<u8>) -> io::Result<()> {
        loop {
            let size = self.line().await?;
            let size = u64::from_str_radix(size.trim(), 16).map_err(io::Error::other)?;
            if size == 0 {
                break;
            }
            let read = (&mut self.stream).take(size).read_to_end(body).await?;
            if (read as u64) < size || !self.line().await?.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        loop {
            match self.line().await?.as_str() {
                "" => return Ok(()),
                trailer => body.extend_from_slice(format!("\n{trailer}").as_bytes()),
            }
        }
    }

    async fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(line.trim_end().to_owned())
    }
}

impl Answer {
    /// The first value of a field.
    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        lines.find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Whether `Cache-Status` says that this came from the cache.
    pub(crate) fn is_hit(&self) -> bool {
        self.value("cache-status").is_some_and(|value| value.split(';').any(|member| member.trim() == "hit"))
    }

    pub(crate) fn closes(&self) -> bool {
        self.value("connection") == Some("close")
    }

    /// Asserts an answer of the proxy itself: short, plain, kept by no cache.
    #[track_caller]
    pub(crate) fn is_refusal(&self, status: u16) {
        assert_eq!(self.status, status, "{}\n{}", self.head, self.text());
        assert_eq!(self.value("cache-control"), Some("no-store"), "{}", self.head);
        assert_eq!(self.value("content-type"), Some("text/plain; charset=utf-8"), "{}", self.head);
        assert!(self.text().starts_with(&status.to_string()) && self.text().lines().count() == 1, "{}", self.text());
        assert!(self.complete);
    }
}

/// Sends `request`, a whole message, over a connection of its own.
pub(crate) async fn ask(proxy: &Proxy, request: impl AsRef<[u8]>) -> Answer {
    ask_at(proxy.address(), request).await
}

/// The same to any address.
pub(crate) async fn ask_at(address: SocketAddr, request: impl AsRef<[u8]>) -> Answer {
    let mut wire = Wire::at(address).await;
    wire.says(request).await;
    wire.hears().await
}

/// A GET as browsers send it.
pub(crate) async fn get(proxy: &Proxy, target: &str) -> Answer {
    ask(proxy, format!("GET {target} HTTP/1.1\r\nHost: site.test\r\n\r\n")).await
}

/// Asks again and again until the answer comes from the cache: what is stored is stored after the client has it.
pub(crate) async fn get_hit(proxy: &Proxy, target: &str) -> Answer {
    crate::support::gate::until_some("the answer comes from the cache", || async {
        let answer = get(proxy, target).await;
        answer.is_hit().then_some(answer)
    })
    .await
}

/// Sends `request` over HTTP/2 with prior knowledge.
pub(crate) async fn ask_http2(proxy: &Proxy, request: Request<Empty<Bytes>>) -> Response<Bytes> {
    let stream = TcpStream::connect(proxy.address()).await.expect("the proxy listens");
    let (mut sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("a handshake");
    tokio::spawn(connection);
    let response = patiently("a response", sender.send_request(request)).await.expect("a response");
    let (head, body) = response.into_parts();
    Response::from_parts(head, patiently("a body", body.collect()).await.expect("a whole body").to_bytes())
}
