//! An HTTP/1.1 origin on a raw socket. It writes exactly the bytes of its script, so it can misbehave in every way
//! that a server built on an HTTP library would not.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use super::gate::Gate;

// ===== Script =====

/// What the origin does for one request.
#[derive(Clone, Debug)]
pub struct Script {
    interim: Vec<u8>,
    start_line: String,
    fields: Vec<String>,
    body: Framing,
    before_head: Option<Gate>,
    before_body: Option<Gate>,
    within_body: Option<(usize, Gate)>,
    raw: Option<Vec<u8>>,
    afterwards: Afterwards,
}

#[derive(Clone, Debug)]
enum Framing {
    Nothing,
    Length { declared: u64, body: Vec<u8> },
    Chunked { chunks: Vec<Chunk>, trailers: Vec<String>, is_finished: bool },
    UntilClose(Vec<u8>),
}

#[derive(Clone, Debug)]
enum Chunk {
    Data(Vec<u8>),
    Wait(Gate),
}

/// What becomes of the connection after the script's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Afterwards {
    Keep,
    Close,
    Reset,
    Silence,
    Echo,
}

impl Script {
    /// A response without a body, for instance `Script::status("304 Not Modified")`.
    pub fn status(status: &str) -> Self {
        Self {
            interim: Vec::new(),
            start_line: format!("HTTP/1.1 {status}"),
            fields: Vec::new(),
            body: Framing::Nothing,
            before_head: None,
            before_body: None,
            within_body: None,
            raw: None,
            afterwards: Afterwards::Keep,
        }
    }

    /// `200 OK` with a body and its Content-Length.
    pub fn ok(body: impl AsRef<[u8]>) -> Self {
        Self::status("200 OK").body(body)
    }

    /// The request is read, the connection stays open, nothing comes.
    pub fn silent() -> Self {
        Self { afterwards: Afterwards::Silence, ..Self::raw("") }
    }

    /// The connection is reset instead of an answer.
    pub fn reset() -> Self {
        Self { afterwards: Afterwards::Reset, ..Self::raw("") }
    }

    /// Exactly these bytes, then the connection is closed.
    pub fn raw(bytes: impl AsRef<[u8]>) -> Self {
        Self { raw: Some(bytes.as_ref().to_vec()), afterwards: Afterwards::Close, ..Self::status("200 OK") }
    }

    /// `101 Switching Protocols`; from then on the origin echoes what it gets.
    pub fn upgrade(protocol: &str) -> Self {
        let script =
            Self::status("101 Switching Protocols").header("connection", "upgrade").header("upgrade", protocol);
        Self { afterwards: Afterwards::Echo, ..script }
    }

    /// One more field line, written as it is given.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.fields.push(format!("{name}: {value}"));
        self
    }

    pub fn body(mut self, body: impl AsRef<[u8]>) -> Self {
        let body = body.as_ref().to_vec();
        self.body = Framing::Length { declared: body.len() as u64, body };
        self
    }

    /// Chunks of the chunked coding.
    pub fn chunked<B: AsRef<[u8]>>(mut self, chunks: impl IntoIterator<Item = B>) -> Self {
        let chunks = chunks.into_iter().map(|chunk| Chunk::Data(chunk.as_ref().to_vec())).collect();
        self.body = Framing::Chunked { chunks, trailers: Vec::new(), is_finished: true };
        self
    }

    /// A body that ends where the connection does.
    pub fn until_close(mut self, body: impl AsRef<[u8]>) -> Self {
        self.body = Framing::UntilClose(body.as_ref().to_vec());
        self.afterwards = Afterwards::Close;
        self
    }

    /// The gate stands between the chunks before and those that [`and_chunks`](Self::and_chunks) adds.
    pub fn chunk_gate(mut self, gate: &Gate) -> Self {
        if let Framing::Chunked { chunks, .. } = &mut self.body {
            chunks.push(Chunk::Wait(gate.clone()));
        }
        self
    }

    pub fn and_chunks<B: AsRef<[u8]>>(mut self, more: impl IntoIterator<Item = B>) -> Self {
        if let Framing::Chunked { chunks, .. } = &mut self.body {
            chunks.extend(more.into_iter().map(|chunk| Chunk::Data(chunk.as_ref().to_vec())));
        }
        self
    }

    /// A trailer field after the last chunk.
    pub fn trailer(mut self, name: &str, value: &str) -> Self {
        if let Framing::Chunked { trailers, .. } = &mut self.body {
            trailers.push(format!("{name}: {value}"));
        }
        self
    }

    /// Says another Content-Length than the body has, then closes.
    pub fn declares(mut self, length: u64) -> Self {
        if let Framing::Length { declared, .. } = &mut self.body {
            *declared = length;
        }
        self.afterwards = Afterwards::Close;
        self
    }

    /// Leaves the last chunk out, then closes.
    pub fn without_last_chunk(mut self) -> Self {
        if let Framing::Chunked { is_finished, .. } = &mut self.body {
            *is_finished = false;
        }
        self.afterwards = Afterwards::Close;
        self
    }

    /// An interim response, for instance `("103 Early Hints", "link: </a.css>")`, before the final one.
    pub fn interim(mut self, status: &str, field: &str) -> Self {
        self.interim.extend_from_slice(format!("HTTP/1.1 {status}\r\n{field}\r\n\r\n").as_bytes());
        self
    }

    pub fn head_after(mut self, gate: &Gate) -> Self {
        self.before_head = Some(gate.clone());
        self
    }

    pub fn body_after(mut self, gate: &Gate) -> Self {
        self.before_body = Some(gate.clone());
        self
    }

    /// The body, of a stated length, comes up to there at once, and what is left when the gate opens.
    pub fn body_stops_at(mut self, octets: usize, gate: &Gate) -> Self {
        self.within_body = Some((octets, gate.clone()));
        self
    }

    pub fn then_closes(mut self) -> Self {
        self.afterwards = Afterwards::Close;
        self
    }

    pub fn then_resets(mut self) -> Self {
        self.afterwards = Afterwards::Reset;
        self
    }

    fn head(&self) -> Vec<u8> {
        let mut head = self.start_line.clone();
        for field in &self.fields {
            head.push_str("\r\n");
            head.push_str(field);
        }
        match &self.body {
            Framing::Length { declared, .. } => head.push_str(&format!("\r\ncontent-length: {declared}")),
            Framing::Chunked { .. } => head.push_str("\r\ntransfer-encoding: chunked"),
            Framing::Nothing | Framing::UntilClose(_) => {}
        }
        if self.afterwards == Afterwards::Close {
            head.push_str("\r\nconnection: close");
        }
        head.push_str("\r\n\r\n");
        // One byte for each char below 256, so that a script can hold obs-text.
        head.chars().map(|char| u8::try_from(u32::from(char)).unwrap_or(b'?')).collect()
    }

    async fn perform(&self, connection: &mut TcpStream, is_head: bool) -> io::Result<()> {
        if let Some(raw) = &self.raw {
            return connection.write_all(raw).await;
        }
        connection.write_all(&self.interim).await?;
        pass(self.before_head.as_ref()).await;
        connection.write_all(&self.head()).await?;
        pass(self.before_body.as_ref()).await;
        if is_head {
            return Ok(());
        }
        match &self.body {
            Framing::Nothing => Ok(()),
            Framing::Length { body, .. } if self.within_body.is_some() => {
                let (octets, gate) = self.within_body.as_ref().expect("a gate");
                connection.write_all(&body[..*octets]).await?;
                gate.opened().await;
                connection.write_all(&body[*octets..]).await
            }
            Framing::Length { body, .. } | Framing::UntilClose(body) => connection.write_all(body).await,
            Framing::Chunked { chunks, trailers, is_finished } => {
                write_chunks(connection, chunks).await?;
                if !is_finished {
                    return Ok(());
                }
                let trailers: String = trailers.iter().map(|trailer| format!("{trailer}\r\n")).collect();
                connection.write_all(format!("0\r\n{trailers}\r\n").as_bytes()).await
            }
        }
    }
}

async fn pass(gate: Option<&Gate>) {
    if let Some(gate) = gate {
        gate.opened().await;
    }
}

async fn write_chunks(connection: &mut TcpStream, chunks: &[Chunk]) -> io::Result<()> {
    for chunk in chunks {
        match chunk {
            Chunk::Wait(gate) => gate.opened().await,
            Chunk::Data(data) => {
                connection.write_all(format!("{:x}\r\n", data.len()).as_bytes()).await?;
                connection.write_all(data).await?;
                connection.write_all(b"\r\n").await?;
            }
        }
    }
    Ok(())
}

// ===== Origin =====

/// A request as it stood on the wire.
#[derive(Clone, Debug)]
pub struct Received {
    /// Start line and field lines.
    pub head: String,
    pub body: Vec<u8>,
}

impl Received {
    pub fn method(&self) -> &str {
        self.head.split(' ').next().unwrap_or_default()
    }

    pub fn target(&self) -> &str {
        self.head.split(' ').nth(1).unwrap_or_default()
    }

    /// All values of a field, in order.
    pub fn values(&self, name: &str) -> Vec<&str> {
        let named = |line: &&str| line.split_once(':').is_some_and(|(n, _)| n.eq_ignore_ascii_case(name));
        let lines = self.head.lines().skip(1);
        lines.filter(named).filter_map(|line| Some(line.split_once(':')?.1.trim())).collect()
    }
}

/// The origin; gone when dropped.
#[derive(Debug)]
pub struct Origin {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Shared {
    scripts: Mutex<HashMap<String, VecDeque<Script>>>,
    received: Mutex<Vec<Received>>,
    connections: AtomicUsize,
}

impl Origin {
    pub async fn start() -> Self {
        Self::start_at(Ipv4Addr::LOCALHOST).await
    }

    /// At another address of this machine.
    pub async fn start_at(address: Ipv4Addr) -> Self {
        let listener = TcpListener::bind((address, 0)).await.expect("a free port");
        let address = listener.local_addr().expect("a bound listener has an address");
        let shared = Arc::<Shared>::default();
        let task = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Self { address, shared, task }
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// `127.0.0.1:<port>`
    pub fn authority(&self) -> String {
        self.address.to_string()
    }

    /// `http://127.0.0.1:<port>`
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on requests for this target, or this path with any query, get this answer; `"*"` stands for all
    /// others. Without a script the answer is 404.
    pub fn says(&self, target: &str, script: Script) {
        self.says_in_turn(target, [script]);
    }

    /// One answer after the other; the last one is repeated.
    pub fn says_in_turn(&self, target: &str, scripts: impl IntoIterator<Item = Script>) {
        lock(&self.shared.scripts).insert(target.to_owned(), scripts.into_iter().collect());
    }

    /// How many requests for this target came.
    pub fn count(&self, target: &str) -> usize {
        lock(&self.shared.received).iter().filter(|request| request.target() == target).count()
    }

    /// All requests, in the order in which their heads were read.
    pub fn received(&self) -> Vec<Received> {
        lock(&self.shared.received).clone()
    }

    /// How many connections were accepted.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    while let Ok((connection, _)) = listener.accept().await {
        shared.connections.fetch_add(1, Ordering::SeqCst);
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            // A client that leaves ends its connection with an error; that is its business.
            let _ = serve(connection, &shared).await;
        });
    }
}

async fn serve(connection: TcpStream, shared: &Shared) -> io::Result<()> {
    connection.set_nodelay(true)?;
    let mut connection = BufReader::new(connection);
    while let Some(request) = receive(&mut connection).await? {
        let is_head = request.method() == "HEAD";
        let script = shared.script_for(request.target());
        lock(&shared.received).push(request);
        script.perform(connection.get_mut(), is_head).await?;
        match script.afterwards {
            Afterwards::Keep => {}
            Afterwards::Close => return connection.get_mut().shutdown().await,
            Afterwards::Reset => return connection.get_mut().set_zero_linger(),
            Afterwards::Silence => return read_to_end(&mut connection).await,
            Afterwards::Echo => return echo(&mut connection).await,
        }
    }
    Ok(())
}

impl Shared {
    fn script_for(&self, target: &str) -> Script {
        let mut scripts = lock(&self.scripts);
        let path = target.split('?').next().unwrap_or_default();
        let key = [target, path, "*"].into_iter().find(|&key| scripts.contains_key(key));
        let Some(turns) = key.and_then(|key| scripts.get_mut(key)) else {
            return Script::status("404 Not Found").body("");
        };
        let script = match turns.len() {
            0 => None,
            1 => turns.front().cloned(),
            _ => turns.pop_front(),
        };
        script.unwrap_or_else(|| Script::status("404 Not Found").body(""))
    }
}

async fn receive(connection: &mut BufReader<TcpStream>) -> io::Result<Option<Received>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if connection.read_until(b'\n', &mut head).await? == 0 {
            return Ok(None);
        }
    }
    let head = head[..head.len() - 4].iter().map(|&byte| char::from(byte)).collect();
    let mut request = Received { head, body: Vec::new() };
    if let Some(length) = request.values("content-length").first().and_then(|value| value.parse().ok()) {
        request.body.resize(length, 0);
        connection.read_exact(&mut request.body).await?;
    } else if !request.values("transfer-encoding").is_empty() {
        request.body = receive_chunks(connection).await?;
    }
    Ok(Some(request))
}

async fn receive_chunks(connection: &mut BufReader<TcpStream>) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let mut line = String::new();
        connection.read_line(&mut line).await?;
        let size = line.split(';').next().unwrap_or_default().trim();
        let size = usize::from_str_radix(size, 16).map_err(io::Error::other)?;
        let begin = body.len();
        body.resize(begin + size, 0);
        connection.read_exact(&mut body[begin..]).await?;
        line.clear();
        connection.read_line(&mut line).await?;
        if size == 0 {
            return Ok(body);
        }
    }
}

async fn read_to_end(connection: &mut BufReader<TcpStream>) -> io::Result<()> {
    tokio::io::copy(connection, &mut tokio::io::sink()).await.map(drop)
}

async fn echo(connection: &mut BufReader<TcpStream>) -> io::Result<()> {
    let mut buffer = vec![0; 4096];
    loop {
        match connection.read(&mut buffer).await? {
            0 => return Ok(()),
            length => connection.get_mut().write_all(&buffer[..length]).await?,
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
