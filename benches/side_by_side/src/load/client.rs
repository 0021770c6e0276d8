//! A keep-alive connection.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub(super) struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    pub(super) async fn connect(address: &str) -> Self {
        let stream = TcpStream::connect(address).await.expect("the server listens");
        stream.set_nodelay(true).expect("a socket option");
        Self { stream, buffer: vec![0; 128 * 1024] }
    }

    /// Sends the request and reads the answer to its end, which must be a 200.
    pub(super) async fn exchange(&mut self, request: &[u8]) {
        self.stream.write_all(request).await.expect("the server reads");
        let mut filled = 0;
        let end_of_head = loop {
            filled += self.read(filled).await;
            if let Some(at) = self.buffer[..filled].windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
        };
        let head = String::from_utf8_lossy(&self.buffer[..end_of_head]);
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        let mut left = (end_of_head + length_in(&head)).checked_sub(filled).expect("no more than was asked for");
        while left > 0 {
            left = left.checked_sub(self.read(0).await).expect("no more than was asked for");
        }
    }

    async fn read(&mut self, from: usize) -> usize {
        let count = self.stream.read(&mut self.buffer[from..]).await.expect("the server writes");
        assert!(count > 0, "the server closed the connection");
        count
    }
}

fn length_in(head: &str) -> usize {
    let field = head.lines().filter_map(|line| line.split_once(':'));
    let mut lengths = field.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let (_, length) = lengths.next().expect("an answer that says how long it is");
    length.trim().parse().expect("a number")
}

pub(super) fn request_for(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nhost: bench\r\n\r\n").into_bytes()
}
