//! Whole Ethernet frames, for clients that have an address and do not use it yet: the kernel would ask for them by ARP, in vain.
//!
//! One long-lived packet socket, for sending only (protocol 0: the kernel hands it nothing), serves every interface.

use std::io;
use std::net::Ipv4Addr;

use bootd_sdk::mac::Mac;
use socket2::{Domain, Socket, Type};

use super::batch::{self, Outgoing};
use super::{NetError, SENDING};

/// Who sends or gets a UDP packet in a frame.
pub type End = (Mac, Ipv4Addr, u16);

/// A UDP packet for a frame.
#[derive(Debug, Clone, Copy)]
pub struct Framed<'a> {
    /// By which the sender calls it.
    pub number: usize,
    /// What the UDP packet holds.
    pub payload: &'a [u8],
    /// Who sends it.
    pub from: End,
    /// Who gets it.
    pub to: End,
}

/// A socket for frames.
#[derive(Debug)]
pub struct FrameSocket(Socket);

impl FrameSocket {
    /// Opens it.
    pub fn open() -> Result<Self, NetError> {
        let socket = Socket::new(Domain::PACKET, Type::RAW.cloexec(), None)
            .map_err(|error| NetError::new(error, "open a packet socket".into(), "CAP_NET_RAW"))?;
        // Smaller is no reason not to serve.
        let _ = socket.set_send_buffer_size(SENDING);
        Ok(Self(socket))
    }

    /// Sends UDP packets out of the interface with this number. `failed` hears of those that fail: at once, with `WouldBlock`, when too many
    /// wait already.
    pub fn send<'a>(
        &self,
        interface: u32,
        packets: impl Iterator<Item = Framed<'a>>,
        mut failed: impl FnMut(usize, io::Error),
    ) {
        let mut long = Vec::new();
        let packets = packets.filter_map(|packet| {
            let Some(head) = head(packet.payload, packet.from, packet.to) else {
                long.push(packet.number);
                return None;
            };
            Some(Outgoing {
                number: packet.number,
                head,
                payload: packet.payload,
                to: link(interface, packet.to.0),
            })
        });
        batch::send(&self.0, packets, &mut failed);
        for number in long {
            failed(number, io::ErrorKind::InvalidInput.into());
        }
    }
}

fn link(interface: u32, to: Mac) -> libc::sockaddr_ll {
    let [a, b, c, d, e, f] = to.0;
    libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: (libc::ETH_P_IP as u16).to_be(),
        sll_ifindex: interface.cast_signed(),
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 6,
        sll_addr: [a, b, c, d, e, f, 0, 0],
    }
}

/// Ethernet, IPv4 and UDP headers before the payload. `None`: too long for IPv4.
fn head(payload: &[u8], from: End, to: End) -> Option<[u8; HEAD]> {
    let udp_length = u16::try_from(payload.len() + 8).ok()?;
    let ip_length = udp_length.checked_add(20)?;
    let mut head = [0; HEAD];
    let (ethernet, rest) = head.split_at_mut(14);
    ethernet[..6].copy_from_slice(&to.0.0);
    ethernet[6..12].copy_from_slice(&from.0.0);
    ethernet[12] = 0x08; // IPv4

    let (ip, udp) = rest.split_at_mut(20);
    ip[0] = 0x45; // version 4, five words
    ip[2..4].copy_from_slice(&ip_length.to_be_bytes());
    ip[6] = 0x40; // do not fragment
    ip[8] = 64;
    ip[9] = 17; // UDP
    ip[12..16].copy_from_slice(&from.1.octets());
    ip[16..20].copy_from_slice(&to.1.octets());
    let checksum = checksum(0, ip);
    ip[10..12].copy_from_slice(&checksum.to_be_bytes());

    udp[0..2].copy_from_slice(&from.2.to_be_bytes());
    udp[2..4].copy_from_slice(&to.2.to_be_bytes());
    udp[4..6].copy_from_slice(&udp_length.to_be_bytes());
    let pseudo = sum(17 + u32::from(udp_length), &ip[12..20]);
    // Zero would mean that there is no checksum.
    let checksum = match self::checksum(sum(pseudo, udp), payload) {
        0 => u16::MAX,
        checksum => checksum,
    };
    udp[6..8].copy_from_slice(&checksum.to_be_bytes());
    Some(head)
}

/// Bytes of the headers.
const HEAD: usize = 14 + 20 + 8;

/// The internet checksum (RFC 1071) of what was summed before and these bytes.
fn checksum(before: u32, bytes: &[u8]) -> u16 {
    let mut all = sum(before, bytes);
    while all > 0xffff {
        all = (all >> 16) + (all & 0xffff);
    }
    !(all as u16)
}

/// Adds bytes as 16-bit words. No frame is long enough for an overflow.
fn sum(before: u32, bytes: &[u8]) -> u32 {
    let (words, odd) = bytes.as_chunks::<2>();
    let words: u32 = words.iter().map(|word| u32::from(u16::from_be_bytes(*word))).sum();
    before + words + odd.first().map_or(0, |byte| u32::from(*byte) << 8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_what_a_receiver_checks() {
        let from = (Mac([2, 0, 0, 0, 0, 0xfe]), Ipv4Addr::new(172, 16, 0, 254), 67);
        let to = (Mac([2, 0, 0, 0, 0, 1]), Ipv4Addr::new(172, 16, 0, 1), 68);
        for length in [0, 1, 299, 300, 1400] {
            let payload: Vec<u8> = (0..length).map(|i| (i * 7) as u8).collect();
            let frame = [&head(&payload, from, to).unwrap()[..], &payload].concat();
            assert_eq!(frame[..14], [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0xfe, 8, 0]);
            let (ip, udp) = frame[14..].split_at(20);
            // Summed with its checksum in place, each header comes to all ones.
            assert_eq!(checksum(0, ip), 0);
            let pseudo = sum(17 + udp.len() as u32, &ip[12..20]);
            assert_eq!(checksum(pseudo, udp), 0);
            assert_eq!((ip[6], ip[8]), (0x40, 64));
            assert_eq!(udp[..4], [0, 67, 0, 68]);
            assert_eq!(udp[8..], payload);
        }
        assert!(head(&vec![0; 65_536], from, to).is_none());
    }
}
