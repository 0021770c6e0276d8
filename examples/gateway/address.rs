//! Which addresses are never dialled, unless somebody listed them.
//!
//! Of IPv6 only what is handed out to the public (`2000::/3`) is dialled at all, and not the parts of it that lead
//! elsewhere or nowhere. An address that carries an IPv4 address inside is refused whatever that is: whoever has the
//! IPv4 address can say so, and one way in is easier to guard than seven.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// Blocks of IPv4 that are not on the public network, and what they are.
const REFUSED_V4: [(Ipv4Addr, u32, &str); 17] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8, "an unspecified address"),
    (Ipv4Addr::new(10, 0, 0, 0), 8, "a private address"),
    (Ipv4Addr::new(100, 64, 0, 0), 10, "an address shared behind a carrier's NAT"),
    (Ipv4Addr::new(127, 0, 0, 0), 8, "a loopback address"),
    // Public by its number, and answered by the host of a virtual machine.
    (Ipv4Addr::new(168, 63, 129, 16), 32, "an address of Azure's platform"),
    (Ipv4Addr::new(169, 254, 0, 0), 16, "a link-local address"),
    (Ipv4Addr::new(172, 16, 0, 0), 12, "a private address"),
    (Ipv4Addr::new(192, 0, 0, 0), 24, "an address of IETF protocols"),
    (Ipv4Addr::new(192, 0, 2, 0), 24, "an address for documentation"),
    (Ipv4Addr::new(192, 88, 99, 0), 24, "an address of 6to4 relays"),
    (Ipv4Addr::new(192, 168, 0, 0), 16, "a private address"),
    (Ipv4Addr::new(198, 18, 0, 0), 15, "an address for benchmarks"),
    (Ipv4Addr::new(198, 51, 100, 0), 24, "an address for documentation"),
    (Ipv4Addr::new(203, 0, 113, 0), 24, "an address for documentation"),
    (Ipv4Addr::new(224, 0, 0, 0), 4, "a multicast address"),
    (Ipv4Addr::BROADCAST, 32, "the broadcast address"),
    (Ipv4Addr::new(240, 0, 0, 0), 4, "a reserved address"),
];

/// The same of IPv6; the first that fits gives the name, and the last is all that is not public.
const REFUSED_V6: [(Ipv6Addr, u32, &str); 18] = [
    (Ipv6Addr::UNSPECIFIED, 128, "the unspecified address"),
    (Ipv6Addr::LOCALHOST, 128, "the loopback address"),
    (Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96, "an IPv4-mapped address"),
    (Ipv6Addr::UNSPECIFIED, 96, "an IPv4-compatible address"),
    (Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96, "a NAT64 address"),
    (Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, 0, 0), 48, "a NAT64 address"),
    (Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 0), 64, "a discard address"),
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 32, "a Teredo address"),
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23, "an address of IETF protocols"),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32, "an address for documentation"),
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16, "a 6to4 address"),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20, "an address for documentation"),
    (Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7, "a unique local address"),
    (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10, "a link-local address"),
    (Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 0), 10, "a site-local address"),
    (Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8, "a multicast address"),
    (Ipv6Addr::UNSPECIFIED, 3, "a reserved address"),
    (Ipv6Addr::new(0x4000, 0, 0, 0, 0, 0, 0, 0), 2, "a reserved address"),
];

/// The addresses that may be dialled although they are not public.
#[derive(Clone, Debug, Default)]
pub(crate) struct AddressRules {
    listed: Vec<IpNet>,
}

// ===== impl AddressRules =====

impl AddressRules {
    pub(crate) fn listing(listed: impl IntoIterator<Item = IpNet>) -> Self {
        Self { listed: listed.into_iter().collect() }
    }

    /// What the address is, where that is a reason not to dial it.
    pub(crate) fn refusal(&self, address: IpAddr) -> Option<&'static str> {
        let class = class(address)?;
        let is_listed = self.listed.iter().any(|block| block.contains(&address));
        (!is_listed).then_some(class)
    }
}

/// Reads an address, or a block of them in CIDR notation.
///
/// # Errors
///
/// A sentence that says what is expected.
pub(crate) fn block(text: &str) -> Result<IpNet, String> {
    let single = text.parse::<IpAddr>().map(IpNet::from);
    let block = single.or_else(|_| text.parse::<IpNet>());
    block.map_err(|_| "expected an address or a block such as 10.0.0.1 or 10.0.0.0/8".to_owned())
}

/// The kind of an address that is not public.
fn class(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(address) => {
            let fits = |net: Ipv4Addr, prefix| (address.to_bits() ^ net.to_bits()).leading_zeros() >= prefix;
            REFUSED_V4.iter().find(|(net, prefix, _)| fits(*net, *prefix)).map(|(_, _, class)| *class)
        }
        IpAddr::V6(address) => {
            let fits = |net: Ipv6Addr, prefix| (address.to_bits() ^ net.to_bits()).leading_zeros() >= prefix;
            let found = REFUSED_V6.iter().find(|(net, prefix, _)| fits(*net, *prefix));
            let is_public = address.to_bits() >> 125 == 0b001;
            found.map(|(_, _, class)| *class).or((!is_public).then_some("a reserved address"))
        }
    }
}
