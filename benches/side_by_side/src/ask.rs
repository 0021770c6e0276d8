//! One request at a time, for what is not measured.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// The status and the size of the body, as they came.
///
/// # Errors
///
/// A sentence about what went wrong.
pub(crate) fn get(address: &str, path: &str) -> Result<(u16, Vec<u8>), String> {
    let told = |error: std::io::Error| format!("GET {path} of {address}: {error}");
    let mut stream = TcpStream::connect(address).map_err(told)?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a socket option");
    let request = format!("GET {path} HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(told)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).map_err(told)?;
    let end_of_head = answer.windows(4).position(|window| window == b"\r\n\r\n");
    let end_of_head = end_of_head.ok_or_else(|| format!("GET {path} of {address}: no answer"))?;
    let head = String::from_utf8_lossy(&answer[..end_of_head]).into_owned();
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| format!("GET {path} of {address}: {head}"))?;
    answer.drain(..end_of_head + 4);
    Ok((status, answer))
}

/// Asks, and wants a 200 and a body of this size.
///
/// # Errors
///
/// A sentence about what came instead.
pub(crate) fn expect(address: &str, path: &str, size: usize) -> Result<(), String> {
    match get(address, path)? {
        (200, body) if body.len() == size && body.iter().all(|&octet| octet == b'x') => Ok(()),
        (status, body) => Err(format!("GET {path} was answered with {status} and {} octets", body.len())),
    }
}

/// How many requests have reached the origin.
pub(crate) fn count(origin: &str) -> u64 {
    let (_, body) = get(origin, "/count").expect("the origin answers");
    String::from_utf8_lossy(&body).parse().expect("the origin tells a number")
}
