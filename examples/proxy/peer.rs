//! Who is at the other end of a connection.

use std::net::IpAddr;

use hyper::header::HeaderValue;

/// An address, that of IPv4 where it is mapped into IPv6, and how it is written: each request of a connection tells the
/// origin of it.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(crate) address: IpAddr,
    pub(crate) written: HeaderValue,
}

impl Peer {
    pub(crate) fn new(address: IpAddr) -> Self {
        let address = address.to_canonical();
        let written = HeaderValue::from_str(&address.to_string()).expect("an address is a valid field value");
        Self { address, written }
    }
}
