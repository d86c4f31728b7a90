//! Packets as they are kept, and as they are shown: with an IP header and one of UDP or TCP, since sockets give neither.
//!
//! The addresses and ports are those of the socket; identification, checksums and sequence numbers are made up (a checksum of UDP over IPv4 may be
//! left out, those of TCP are right). So a file shows what was said, not how it lay on the wire.

use std::net::{IpAddr, SocketAddr};

use super::MOST_BYTES;

/// A packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    kind: Kind,
    direction: Direction,
    client: SocketAddr,
    server: SocketAddr,
    /// What is in it, as far as it is kept.
    pub(super) bytes: Box<[u8]>,
}

/// Who sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// The client.
    FromClient,
    /// bootd.
    ToClient,
}

/// What it is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A datagram.
    Udp,
    /// The head of a request or an answer of HTTP.
    Tcp,
}

impl Packet {
    /// A packet with the first [`MOST_BYTES`] of what is in it.
    pub fn new(kind: Kind, direction: Direction, client: SocketAddr, server: SocketAddr, bytes: &[u8]) -> Self {
        Self {
            kind,
            direction,
            client,
            server,
            bytes: bytes.get(..bytes.len().min(MOST_BYTES)).unwrap_or_default().into(),
        }
    }

    /// What is in it, as far as it is kept.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether the client sent it.
    pub fn is_from_client(&self) -> bool {
        self.direction == Direction::FromClient
    }

    /// With its headers. `number`: its place in the file, from which TCP's sequence numbers are made.
    pub(super) fn frame(&self, number: u32) -> Vec<u8> {
        let (from, to) = match self.direction {
            Direction::FromClient => (self.client, self.server),
            Direction::ToClient => (self.server, self.client),
        };
        let mut inner = Vec::with_capacity(20 + self.bytes.len());
        inner.extend(from.port().to_be_bytes());
        inner.extend(to.port().to_be_bytes());
        match self.kind {
            Kind::Udp => {
                let length = u16::try_from(8 + self.bytes.len()).unwrap_or(u16::MAX);
                inner.extend(length.to_be_bytes());
                inner.extend([0, 0]);
            }
            Kind::Tcp => {
                // Far enough apart that no two parts are taken for one.
                let sequence = number.wrapping_mul(0x1_0000);
                inner.extend(sequence.to_be_bytes());
                inner.extend([0, 0, 0, 0]);
                // Five words of header; PSH and ACK; a window.
                inner.extend([0x50, 0x18, 0xff, 0xff, 0, 0, 0, 0]);
            }
        }
        inner.extend(&self.bytes);
        self.checked(from.ip(), to.ip(), &mut inner);
        let mut frame = header(self.protocol(), from.ip(), to.ip(), inner.len());
        frame.extend(inner);
        frame
    }

    fn protocol(&self) -> u8 {
        match self.kind {
            Kind::Udp => 17,
            Kind::Tcp => 6,
        }
    }

    /// Fills the checksum in (RFC 768, RFC 9293 section 3.1, RFC 8200 section 8.1).
    fn checked(&self, from: IpAddr, to: IpAddr, inner: &mut [u8]) {
        let mut pseudo = Vec::with_capacity(40 + inner.len());
        for ip in [from, to] {
            match ip {
                IpAddr::V4(ip) => pseudo.extend(ip.octets()),
                IpAddr::V6(ip) => pseudo.extend(ip.octets()),
            }
        }
        pseudo.extend([0, self.protocol()]);
        pseudo.extend(u16::try_from(inner.len()).unwrap_or(u16::MAX).to_be_bytes());
        pseudo.extend(&*inner);
        let at = match self.kind {
            Kind::Udp => 6,
            Kind::Tcp => 16,
        };
        let sum = match checksum(&pseudo) {
            0 => 0xffff,
            sum => sum,
        };
        if let Some(place) = inner.get_mut(at..at + 2) {
            place.copy_from_slice(&sum.to_be_bytes());
        }
    }
}

/// An IP header. Where the families differ, as with a client that has no address yet, the one of the other decides.
fn header(protocol: u8, from: IpAddr, to: IpAddr, length: usize) -> Vec<u8> {
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let total = u16::try_from(20 + length).unwrap_or(u16::MAX).to_be_bytes();
            let mut header = vec![0x45, 0, total[0], total[1], 0, 0, 0x40, 0, 64, protocol, 0, 0];
            header.extend(from.octets());
            header.extend(to.octets());
            let sum = checksum(&header).to_be_bytes();
            if let Some(place) = header.get_mut(10..12) {
                place.copy_from_slice(&sum);
            }
            header
        }
        (from, to) => {
            let length = u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes();
            let mut header = vec![0x60, 0, 0, 0, length[0], length[1], protocol, 64];
            for ip in [from, to] {
                let ip = match ip {
                    IpAddr::V4(ip) => ip.to_ipv6_mapped(),
                    IpAddr::V6(ip) => ip,
                };
                header.extend(ip.octets());
            }
            header
        }
    }
}

/// RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let (pairs, rest) = bytes.as_chunks::<2>();
    let mut sum: u32 = pairs.iter().map(|pair| u32::from(u16::from_be_bytes(*pair))).sum();
    sum += rest.first().map_or(0, |byte| u32::from(*byte) << 8);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datagram_has_the_headers_that_it_came_with() {
        let client = SocketAddr::from(([172, 16, 0, 1], 68));
        let server = SocketAddr::from(([172, 16, 0, 254], 67));
        let packet = Packet::new(Kind::Udp, Direction::FromClient, client, server, b"hello");
        let frame = packet.frame(0);
        assert_eq!(frame.len(), 20 + 8 + 5);
        assert_eq!(frame[9], 17);
        assert_eq!(&frame[12..20], &[172, 16, 0, 1, 172, 16, 0, 254]);
        assert_eq!(&frame[20..26], &[0, 68, 0, 67, 0, 13]);
        assert_eq!(checksum(&frame[..20]), 0, "the header's own sum is right");
        let back = Packet::new(Kind::Udp, Direction::ToClient, client, server, b"hello").frame(0);
        assert_eq!(&back[20..24], &[0, 67, 0, 68]);
    }

    #[test]
    fn of_a_long_packet_the_beginning_is_kept() {
        let at = SocketAddr::from(([0; 16], 547));
        let packet = Packet::new(Kind::Udp, Direction::FromClient, at, at, &[1; 9000]);
        assert_eq!(packet.frame(0).len(), 40 + 8 + MOST_BYTES);
    }
}
