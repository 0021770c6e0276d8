//! A closed loop of keep-alive connections, each with one request under way.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Sends the requests and checks that each answer is a 200 with as many octets of body as expected.
pub(crate) fn run(address: &str, connections: usize, requests: usize, body_size: usize) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let clients: Vec<_> =
            (0..connections).map(|_| tokio::spawn(client(address.to_owned(), requests, body_size))).collect();
        for client in clients {
            client.await.expect("a client that does not panic");
        }
    });
}

async fn client(address: String, requests: usize, body_size: usize) {
    let mut stream = TcpStream::connect(&address).await.expect("the server listens");
    stream.set_nodelay(true).expect("a socket option");
    let mut buffer = vec![0; body_size + 4096];
    for _ in 0..requests {
        stream.write_all(b"GET /item HTTP/1.1\r\nhost: bench\r\n\r\n").await.expect("the server reads");
        let mut filled = 0;
        let end_of_head = loop {
            filled += read(&mut stream, &mut buffer[filled..]).await;
            if let Some(at) = buffer[..filled].windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
        };
        assert!(buffer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&buffer[..end_of_head]));
        while filled < end_of_head + body_size {
            filled += read(&mut stream, &mut buffer[filled..]).await;
        }
        assert_eq!(filled, end_of_head + body_size);
    }
}

async fn read(stream: &mut TcpStream, buffer: &mut [u8]) -> usize {
    let count = stream.read(buffer).await.expect("the server writes");
    assert!(count > 0, "the server closed the connection");
    count
}
