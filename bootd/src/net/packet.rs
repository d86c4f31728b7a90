//! Whole Ethernet frames, for clients that have an address and do not use it yet: the kernel would ask for them by ARP, in vain.
//!
//! One long-lived packet socket, for sending only (protocol 0: the kernel hands it nothing), serves every interface.
//! Contains unsafe code: the link-level address that `sendto` wants.
#![allow(unsafe_code)]

use std::io;
use std::net::Ipv4Addr;

use bootd_sdk::mac::Mac;
use socket2::{Domain, SockAddr, Socket, Type};

use super::{NetError, SENDING, send_now};

/// Who sends or gets a UDP packet in a frame.
type End = (Mac, Ipv4Addr, u16);

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

    /// Sends a UDP packet out of the interface with this number, or fails at once: `WouldBlock` when too many wait already.
    pub fn send(&self, payload: &[u8], interface: u32, from: End, to: End) -> io::Result<()> {
        let frame = frame(payload, from, to).ok_or(io::ErrorKind::InvalidInput)?;
        send_now(&self.0, &frame, &link(interface, to.0)?)
    }
}

fn link(interface: u32, to: Mac) -> io::Result<SockAddr> {
    let [a, b, c, d, e, f] = to.0;
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: (libc::ETH_P_IP as u16).to_be(),
        sll_ifindex: i32::try_from(interface).map_err(|_| io::ErrorKind::InvalidInput)?,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 6,
        sll_addr: [a, b, c, d, e, f, 0, 0],
    };
    // SAFETY: the storage is larger than `sockaddr_ll` and suitably aligned for every address; the length that is set is that of what was
    // written, a complete address of the family in its first field.
    let (_, address) = unsafe {
        SockAddr::try_init(|storage, length| {
            storage.cast::<libc::sockaddr_ll>().write(address);
            *length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
            Ok(())
        })?
    };
    Ok(address)
}

/// Ethernet, IPv4 and UDP headers before the payload. `None`: too long for IPv4.
fn frame(payload: &[u8], from: End, to: End) -> Option<Vec<u8>> {
    let udp_length = u16::try_from(payload.len() + 8).ok()?;
    let ip_length = udp_length.checked_add(20)?;
    let mut frame = Vec::with_capacity(14 + usize::from(ip_length));
    frame.extend_from_slice(&to.0.0);
    frame.extend_from_slice(&from.0.0);
    frame.extend_from_slice(&[0x08, 0x00]);

    let mut ip = [0; 20];
    ip[0] = 0x45; // version 4, five words
    ip[2..4].copy_from_slice(&ip_length.to_be_bytes());
    ip[6] = 0x40; // do not fragment
    ip[8] = 64;
    ip[9] = 17; // UDP
    ip[12..16].copy_from_slice(&from.1.octets());
    ip[16..20].copy_from_slice(&to.1.octets());
    let checksum = checksum(0, &ip);
    ip[10..12].copy_from_slice(&checksum.to_be_bytes());
    frame.extend_from_slice(&ip);

    let mut udp = [0; 8];
    udp[0..2].copy_from_slice(&from.2.to_be_bytes());
    udp[2..4].copy_from_slice(&to.2.to_be_bytes());
    udp[4..6].copy_from_slice(&udp_length.to_be_bytes());
    let pseudo = sum(17 + u32::from(udp_length), &ip[12..20]);
    // Zero would mean that there is no checksum.
    let checksum = match self::checksum(sum(pseudo, &udp), payload) {
        0 => u16::MAX,
        checksum => checksum,
    };
    udp[6..8].copy_from_slice(&checksum.to_be_bytes());
    frame.extend_from_slice(&udp);
    frame.extend_from_slice(payload);
    Some(frame)
}

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
            let frame = frame(&payload, from, to).unwrap();
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
        assert!(frame(&vec![0; 65_536], from, to).is_none());
    }
}
