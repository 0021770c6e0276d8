//! A service that nobody is to reach: it counts who does, on all addresses of this machine.

use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::gate::eventually;

#[derive(Debug)]
pub(crate) struct Victim {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl Victim {
    pub(crate) async fn start() -> Self {
        let listener = match TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0)).await {
            Ok(listener) => listener,
            Err(_) => TcpListener::bind("0.0.0.0:0").await.expect("a free port"),
        };
        let address = listener.local_addr().expect("a bound listener has an address");
        let connections = Arc::<AtomicUsize>::default();
        let count = Arc::clone(&connections);
        tokio::spawn(async move {
            while let Ok((mut connection, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(async move {
                    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\nconnection: close\r\n\r\nsecret";
                    // The request is read first, or the connection would be reset. Who comes may leave again.
                    let _ = connection.read(&mut [0; 4096]).await;
                    let _ = connection.write_all(answer).await;
                });
            }
        });
        Self { address, connections }
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// How many came so far. Connections are accepted in their order, so one of our own is the last to be counted.
    pub(crate) async fn connections(&self) -> usize {
        let before = self.connections.load(Ordering::SeqCst);
        let own = TcpStream::connect(("127.0.0.1", self.port())).await.expect("the victim is there");
        let here = own.local_addr().expect("a connection has an address");
        eventually("the victim counts", || self.connections.load(Ordering::SeqCst) > before).await;
        drop((own, here));
        self.connections.swap(0, Ordering::SeqCst) - 1
    }
}
