//! A scripted client of IPv6 for the tests of this folder.

use std::net::Ipv6Addr;

/// The server of the test site: what configuration B6 of the contract names.
pub(crate) const SERVER_ID: [u8; 10] = [0, 3, 0, 1, 2, 0, 0, 0, 0, 0xfe];

/// Builds packets.
#[derive(Clone)]
pub(crate) struct Client {
    options: Vec<u8>,
}

impl Client {
    /// The client with the MAC `02:00:00:00:00:<number>`, and a DUID-LL of it.
    pub(crate) fn new(number: u8) -> Self {
        Self::nameless().option(1, &[0, 3, 0, 1, 2, 0, 0, 0, 0, number])
    }

    /// One without a DUID.
    pub(crate) fn nameless() -> Self {
        Self { options: Vec::new() }
    }

    pub(crate) fn option(mut self, code: u16, value: &[u8]) -> Self {
        self.options.extend_from_slice(&option(code, value));
        self
    }

    pub(crate) fn raw(mut self, bytes: &[u8]) -> Self {
        self.options.extend_from_slice(bytes);
        self
    }

    /// Option 2 with the server's DUID.
    pub(crate) fn for_server(self) -> Self {
        self.option(2, &SERVER_ID)
    }

    /// An IA_NA with this number and these addresses.
    pub(crate) fn ia(self, id: u32, addresses: &[&str]) -> Self {
        let value = ia(id, addresses);
        self.option(3, &value)
    }

    /// Option 6.
    pub(crate) fn asks(self, codes: &[u16]) -> Self {
        let value: Vec<u8> = codes.iter().flat_map(|code| code.to_be_bytes()).collect();
        self.option(6, &value)
    }

    /// The packet with this message type.
    pub(crate) fn send(self, kind: u8) -> Vec<u8> {
        let mut packet = vec![kind, 0x11, 0x22, 0x33];
        packet.extend_from_slice(&self.options);
        packet
    }

    pub(crate) fn solicit(self) -> Vec<u8> {
        self.send(1)
    }

    pub(crate) fn request(self) -> Vec<u8> {
        self.for_server().send(3)
    }

    pub(crate) fn renew(self) -> Vec<u8> {
        self.for_server().send(5)
    }
}

/// The address of the link that a client with this MAC has.
pub(crate) fn link_local(number: u8) -> Ipv6Addr {
    Ipv6Addr::from([0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xfe, 0, 0, number])
}

/// One option.
pub(crate) fn option(code: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = code.to_be_bytes().to_vec();
    bytes.extend_from_slice(&(value.len() as u16).to_be_bytes());
    bytes.extend_from_slice(value);
    bytes
}

/// The value of an IA_NA.
pub(crate) fn ia(id: u32, addresses: &[&str]) -> Vec<u8> {
    let mut value = id.to_be_bytes().to_vec();
    value.extend_from_slice(&[0; 8]);
    for ip in addresses {
        let mut address = ip.parse::<Ipv6Addr>().unwrap().octets().to_vec();
        address.extend_from_slice(&[0; 8]);
        value.extend_from_slice(&option(5, &address));
    }
    value
}

/// A text behind its length.
pub(crate) fn part(text: &str) -> Vec<u8> {
    let mut bytes = (text.len() as u16).to_be_bytes().to_vec();
    bytes.extend_from_slice(text.as_bytes());
    bytes
}

/// The value of option 16, of Intel.
pub(crate) fn vendor_class(text: &str) -> Vec<u8> {
    [&[0, 0, 1, 0x57], &part(text)[..]].concat()
}

/// What a relay makes of a message: `more` are its own options.
pub(crate) fn relayed(message: &[u8], hops: u8, link: &str, peer: Ipv6Addr, more: &[u8]) -> Vec<u8> {
    let mut packet = vec![12, hops];
    packet.extend_from_slice(&link.parse::<Ipv6Addr>().unwrap().octets());
    packet.extend_from_slice(&peer.octets());
    packet.extend_from_slice(more);
    packet.extend_from_slice(&option(9, message));
    packet
}

/// Code and value of each option, in order.
pub(crate) fn options(mut bytes: &[u8]) -> Vec<(u16, Vec<u8>)> {
    let mut found = Vec::new();
    while let [a, b, c, d, rest @ ..] = bytes {
        let length = usize::from(u16::from_be_bytes([*c, *d]));
        found.push((u16::from_be_bytes([*a, *b]), rest[..length].to_vec()));
        bytes = &rest[length..];
    }
    assert!(bytes.is_empty(), "{bytes:?} behind the options");
    found
}
