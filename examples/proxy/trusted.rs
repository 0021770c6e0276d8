//! Which peers may speak for others.

use std::net::IpAddr;
use std::str::FromStr;

/// An address or a block of addresses in CIDR notation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Network {
    address: IpAddr,
    prefix: u8,
}

// ===== impl Network =====

impl Network {
    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        let (ours, theirs, width) = match (self.address, address.to_canonical()) {
            (IpAddr::V4(ours), IpAddr::V4(theirs)) => (u128::from(ours.to_bits()), u128::from(theirs.to_bits()), 32),
            (IpAddr::V6(ours), IpAddr::V6(theirs)) => (ours.to_bits(), theirs.to_bits(), 128),
            _ => return false,
        };
        let host_bits = width - u32::from(self.prefix);
        let network = |bits: u128| bits.checked_shr(host_bits).unwrap_or(0);
        network(ours) == network(theirs)
    }
}

impl FromStr for Network {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const EXPECTED: &str = "expected an address or block such as 10.0.0.1 or 10.0.0.0/8";
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| EXPECTED)?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            Some(prefix) => prefix.parse().map_err(|_| EXPECTED)?,
            None => width,
        };
        if prefix > width {
            return Err(EXPECTED);
        }
        Ok(Self { address, prefix })
    }
}

/// The peers whose `X-Forwarded-*` fields are believed.
#[derive(Clone, Debug, Default)]
pub(crate) struct TrustedPeers(pub(crate) Vec<Network>);

impl TrustedPeers {
    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(address))
    }
}
