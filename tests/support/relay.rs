//! A TCP relay between the cache and Redis that can fall silent without closing anything, cut, and count.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Forwards bytes to one port on the loopback. Gone when dropped.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    rule: watch::Sender<Rule>,
    accepted: Arc<AtomicUsize>,
    open: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

/// Connections are numbered from one in the order in which they came.
#[derive(Clone, Copy, Debug)]
struct Rule {
    /// Connections up to this number are silent: their bytes vanish, and they stay open.
    silent_up_to: usize,
    /// Connections up to this number are reset.
    cut_up_to: usize,
    /// Connections that are yet to come are silent from their first byte.
    silent_from_now_on: bool,
    /// Where connections that are yet to come lead.
    port: u16,
    /// Present connections are reset once the server has sent this much more.
    cut_after: Option<usize>,
}

impl Rule {
    fn silences(self, number: usize) -> bool {
        self.silent_from_now_on || number <= self.silent_up_to
    }

    fn cuts(self, number: usize) -> bool {
        number <= self.cut_up_to
    }
}

impl Relay {
    /// Relays to `port` on the loopback.
    pub async fn to(port: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let address = listener.local_addr().expect("a bound listener has an address");
        let rule = Rule { silent_up_to: 0, cut_up_to: 0, silent_from_now_on: false, port, cut_after: None };
        let rule = watch::Sender::new(rule);
        let accepted = Arc::new(AtomicUsize::new(0));
        let open = Arc::new(AtomicUsize::new(0));
        let task = tokio::spawn(accept(listener, rule.clone(), Arc::clone(&accepted), Arc::clone(&open)));
        Self { address, rule, accepted, open, task }
    }

    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// How many connections came so far.
    pub fn connections(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    /// How many connections are open now.
    pub fn open_connections(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }

    /// The connections of now fall silent for ever, half-open; later ones work.
    pub fn silence_present_connections(&self) {
        let present = self.connections();
        self.rule.send_modify(|rule| rule.silent_up_to = present);
    }

    /// Present and later connections are silent: accepted, never answered.
    pub fn silence_all(&self) {
        let present = self.connections();
        self.rule.send_modify(|rule| {
            rule.silent_up_to = present;
            rule.silent_from_now_on = true;
        });
    }

    /// Later connections work again; those that were silenced stay so.
    pub fn let_new_connections_speak(&self) {
        let present = self.connections();
        self.rule.send_modify(|rule| {
            rule.silent_up_to = present;
            rule.silent_from_now_on = false;
        });
    }

    /// Later connections lead to another server, as after a failover; present ones stay where they are.
    pub fn lead_new_connections_to(&self, port: u16) {
        self.rule.send_modify(|rule| rule.port = port);
    }

    /// Each connection is reset as soon as the server has sent this many bytes on it, counted from now.
    pub fn cut_after(&self, bytes: usize) {
        self.rule.send_modify(|rule| rule.cut_after = Some(bytes));
    }

    /// No more of that.
    pub fn cut_no_more(&self) {
        self.rule.send_modify(|rule| rule.cut_after = None);
    }

    /// Resets the connections of now.
    pub fn cut_present_connections(&self) {
        let present = self.connections();
        self.rule.send_modify(|rule| rule.cut_up_to = present);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, rule: watch::Sender<Rule>, accepted: Arc<AtomicUsize>, open: Arc<AtomicUsize>) {
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let number = accepted.fetch_add(1, Ordering::SeqCst) + 1;
        open.fetch_add(1, Ordering::SeqCst);
        let (rule, open) = (rule.subscribe(), Arc::clone(&open));
        connections.spawn(async move {
            relay(client, number, rule).await;
            open.fetch_sub(1, Ordering::SeqCst);
        });
    }
}

async fn relay(mut client: TcpStream, number: usize, mut rule: watch::Receiver<Rule>) {
    let port = rule.borrow().port;
    let Ok(mut server) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await else {
        return;
    };
    let (mut upward, mut downward) = (vec![0; 16 * 1024], vec![0; 16 * 1024]);
    let mut sent_since_the_rule = 0;
    loop {
        tokio::select! {
            read = client.read(&mut upward) => {
                let Ok(length @ 1..) = read else { return };
                let silent = rule.borrow().silences(number);
                if !silent && server.write_all(&upward[..length]).await.is_err() {
                    return;
                }
            }
            read = server.read(&mut downward) => {
                let Ok(length @ 1..) = read else { return };
                let current = *rule.borrow();
                if !current.silences(number) && client.write_all(&downward[..length]).await.is_err() {
                    return;
                }
                sent_since_the_rule += length;
                if current.cut_after.is_some_and(|limit| sent_since_the_rule >= limit) {
                    let _ = client.set_zero_linger();
                    return;
                }
            }
            changed = rule.changed() => {
                sent_since_the_rule = 0;
                if changed.is_err() || rule.borrow().cuts(number) {
                    let _ = client.set_zero_linger();
                    return;
                }
            }
        }
    }
}
