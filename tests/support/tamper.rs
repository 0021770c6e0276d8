//! A relay between the cache and Redis that knows which command an answer is to, and does something to some of them.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What is done to an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tampering {
    /// Another takes its place: as it is on the wire.
    Replaced(&'static str),
    /// The first half of it, and then the connection is reset.
    Truncated,
    /// An octet in the middle is another one.
    Flipped,
    /// It comes in pieces, with pauses.
    Trickling,
    /// It never comes, nor anything after it. The connection is reset when the plan changes.
    Withheld,
    /// The same, for answers of more than 64 KiB only.
    WithheldIfLong,
    /// It comes twice.
    Doubled,
}

/// A command by its name, in capitals, and what is done to answers to it.
pub type Plan = Option<(&'static str, Tampering)>;

/// Forwards to one port on the loopback. Gone when dropped.
#[derive(Debug)]
pub struct Tamper {
    address: SocketAddr,
    plan: watch::Sender<Plan>,
    tampered: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Tamper {
    /// Relays to `port` on the loopback, for now as it is.
    pub async fn to(port: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let address = listener.local_addr().expect("a bound listener has an address");
        let (plan, tampered) = (watch::Sender::new(None), Arc::<AtomicUsize>::default());
        let (rule, count) = (plan.clone(), Arc::clone(&tampered));
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await else { continue };
                tokio::spawn(relay(client, server, rule.subscribe(), Arc::clone(&count)));
            }
        });
        Self { address, plan, tampered, task }
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    pub fn plans(&self, plan: Plan) {
        self.plan.send_replace(plan);
    }

    /// Answers that something was done to.
    pub fn tampered(&self) -> usize {
        self.tampered.load(Ordering::Relaxed)
    }
}

impl Drop for Tamper {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The commands of one connection whose answers are yet to come.
type Asked = Arc<Mutex<VecDeque<String>>>;

async fn relay(client: TcpStream, server: TcpStream, plan: watch::Receiver<Plan>, tampered: Arc<AtomicUsize>) {
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    let asked = Asked::default();
    tokio::select! {
        () = commands(from_client, to_server, Arc::clone(&asked)) => {}
        () = answers(from_server, to_client, asked, plan, tampered) => {}
    }
}

async fn commands(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, asked: Asked) {
    let mut seen = Vec::new();
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        seen.extend_from_slice(&buffer[..length]);
        while let Some(end) = end_of(&seen, 0) {
            let name = first_bulk(&seen[..end]);
            asked.lock().expect("nobody panics").push_back(name.to_ascii_uppercase());
            seen.drain(..end);
        }
        if to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}

async fn answers(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    asked: Asked,
    mut plan: watch::Receiver<Plan>,
    tampered: Arc<AtomicUsize>,
) {
    let mut seen = Vec::new();
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        seen.extend_from_slice(&buffer[..length]);
        while let Some(end) = end_of(&seen, 0) {
            let answer: Vec<u8> = seen.drain(..end).collect();
            let is_push = answer[0] == b'>';
            let name = if is_push { None } else { asked.lock().expect("nobody panics").pop_front() };
            let present = plan.borrow_and_update().clone();
            let planned = present.filter(|(planned, _)| name.as_deref() == Some(*planned)).map(|(_, what)| what);
            let planned = match planned {
                Some(Tampering::WithheldIfLong) => (answer.len() > 64 * 1024).then_some(Tampering::Withheld),
                planned => planned,
            };
            if planned.is_some() {
                tampered.fetch_add(1, Ordering::Relaxed);
            }
            if planned == Some(Tampering::Withheld) {
                let _ = plan.changed().await;
                return;
            }
            if !pass(&mut to, answer, planned).await {
                return;
            }
        }
    }
}

/// Whether the connection goes on.
async fn pass(to: &mut OwnedWriteHalf, mut answer: Vec<u8>, what: Option<Tampering>) -> bool {
    let middle = answer.len() / 2;
    match what {
        None => {}
        Some(Tampering::Replaced(other)) => answer = other.as_bytes().to_vec(),
        Some(Tampering::Truncated) => {
            let _ = to.write_all(&answer[..middle]).await;
            return false;
        }
        Some(Tampering::Flipped) => answer[middle] ^= 0x10,
        Some(Tampering::Trickling) => {
            for piece in answer.chunks(answer.len().div_ceil(8)) {
                if to.write_all(piece).await.is_err() {
                    return false;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            return true;
        }
        Some(Tampering::Withheld | Tampering::WithheldIfLong) => return false,
        Some(Tampering::Doubled) => answer.extend_from_within(..),
    }
    to.write_all(&answer).await.is_ok()
}

// ===== the protocol =====

/// Where what begins at `at` ends, if it is all there.
fn end_of(octets: &[u8], at: usize) -> Option<usize> {
    let line = octets[at..].windows(2).position(|pair| pair == b"\r\n")? + at;
    let number = || std::str::from_utf8(&octets[at + 1..line]).ok()?.parse::<i64>().ok();
    let after = line + 2;
    match octets[at] {
        b'$' | b'=' | b'!' => match number()? {
            length if length < 0 => Some(after),
            length => Some(after + length as usize + 2).filter(|end| *end <= octets.len()),
        },
        kind @ (b'*' | b'~' | b'>' | b'%') => {
            let parts = number()?.max(0) * if kind == b'%' { 2 } else { 1 };
            (0..parts).try_fold(after, |at, _| if at < octets.len() { end_of(octets, at) } else { None })
        }
        _ => Some(after),
    }
}

/// The name of a command.
fn first_bulk(command: &[u8]) -> String {
    let mut lines = command.split(|octet| *octet == b'\n').skip(2);
    String::from_utf8_lossy(lines.next().unwrap_or_default()).trim().to_owned()
}
