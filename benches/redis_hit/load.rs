//! Keep-alive connections that share a list of paths, each with one request under way.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Asks for each of the items once.
pub(crate) fn run(
    address: &str,
    connections: usize,
    items: impl IntoIterator<Item = usize, IntoIter: Send + 'static>,
    size: usize,
) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let items = Arc::new(Mutex::new(items.into_iter()));
    runtime.block_on(async {
        let client = |_| {
            let (items, address) = (Arc::clone(&items), address.to_owned());
            tokio::spawn(async move {
                let mut client = Client::connect(&address, size).await;
                loop {
                    let Some(item) = items.lock().expect("no panic while it is locked").next() else { return };
                    client.ask(item).await;
                }
            })
        };
        let clients: Vec<_> = (0..connections).map(client).collect();
        for client in clients {
            client.await.expect("a client that does not panic");
        }
    });
}

/// One request after another.
pub(crate) fn median_time(address: &str, items: impl Iterator<Item = usize>, size: usize) -> Duration {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut times: Vec<Duration> = runtime.block_on(async {
        let mut client = Client::connect(address, size).await;
        let mut times = Vec::new();
        for item in items {
            let begun = Instant::now();
            client.ask(item).await;
            times.push(begun.elapsed());
        }
        times
    });
    times.sort_unstable();
    times[times.len() / 2]
}

struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
    size: usize,
}

impl Client {
    async fn connect(address: &str, size: usize) -> Self {
        let stream = TcpStream::connect(address).await.expect("the server listens");
        stream.set_nodelay(true).expect("a socket option");
        Self { stream, buffer: vec![0; size + 4096], size }
    }

    /// Checks that the answer is a 200 with as many octets of body as expected.
    async fn ask(&mut self, item: usize) {
        let request = format!("GET /item/{item} HTTP/1.1\r\nhost: bench\r\n\r\n");
        self.stream.write_all(request.as_bytes()).await.expect("the server reads");
        let mut filled = 0;
        let end_of_head = loop {
            filled += self.read(filled).await;
            if let Some(at) = self.buffer[..filled].windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
        };
        assert!(self.buffer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&self.buffer[..end_of_head]));
        while filled < end_of_head + self.size {
            filled += self.read(filled).await;
        }
        assert_eq!(filled, end_of_head + self.size);
    }

    async fn read(&mut self, filled: usize) -> usize {
        let count = self.stream.read(&mut self.buffer[filled..]).await.expect("the server writes");
        assert!(count > 0, "the server closed the connection");
        count
    }
}
