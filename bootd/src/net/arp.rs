//! ARP, to ask whether somebody uses an address (RFC 5227): probes go out, and who says to have which address is heard.
//!
//! One packet socket serves every interface; the kernel puts the Ethernet header on and takes it off. What is heard is whatever anybody on the
//! wire says, so it is read as carefully as a packet of a client. A probe names no sender address: no neighbour learns anything from it.
//! Contains unsafe code: sending to and receiving from link-level addresses.
#![allow(unsafe_code)]

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use bootd_sdk::mac::Mac;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use socket2::{Domain, Protocol, Socket, Type};

use super::NetError;

/// A socket for ARP on all interfaces.
#[derive(Debug)]
pub struct Arp(Socket);

/// Somebody says to have an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heard {
    /// The number of the interface.
    pub interface: u32,
    /// Who.
    pub mac: Mac,
    /// Which.
    pub ip: Ipv4Addr,
}

/// Wakes a thread that waits.
#[derive(Debug)]
pub struct Wake(OwnedFd);

impl Wake {
    /// A new one.
    pub fn new() -> io::Result<Self> {
        Ok(Self(eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?))
    }

    /// Wakes whoever waits, or will wait next.
    pub fn wake(&self) {
        // It fails only when it was called 2^64 times since the last wait, and then the thread wakes anyway.
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }

    /// Waits until woken, until there is something to hear, or for this time at most. `None`: for ever.
    pub fn wait(&self, arp: Option<&Arp>, time: Option<Duration>) -> io::Result<()> {
        // Up, not down: who wakes a moment early only waits again.
        let time = time.map(|time| Timespec {
            tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: time.subsec_nanos().into(),
        });
        let mut fds = vec![PollFd::new(&self.0, PollFlags::IN)];
        fds.extend(arp.map(|arp| PollFd::new(&arp.0, PollFlags::IN)));
        match poll(&mut fds, time.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let _ = rustix::io::read(&self.0, &mut [0; 8]);
        Ok(())
    }
}

impl Arp {
    /// Opens it.
    pub fn open() -> Result<Self, NetError> {
        let protocol = Protocol::from(i32::from((libc::ETH_P_ARP as u16).to_be()));
        let socket = Socket::new(Domain::PACKET, Type::DGRAM.cloexec().nonblocking(), Some(protocol));
        let socket = socket.map_err(|error| NetError::new(error, "open a socket for ARP".into(), "CAP_NET_RAW"))?;
        Ok(Self(socket))
    }

    /// Asks everybody on an interface, by its number and our hardware address there, who has an address.
    pub fn probe(&self, (interface, from): (u32, Mac), ip: Ipv4Addr) -> io::Result<()> {
        let message = probe(from, ip);
        let to = everybody(interface);
        // SAFETY: the message and the address are valid for their lengths, and the kernel only reads them.
        let sent = unsafe {
            libc::sendto(
                self.0.as_raw_fd(),
                message.as_ptr().cast(),
                message.len(),
                libc::MSG_DONTWAIT,
                (&raw const to).cast(),
                size_of::<libc::sockaddr_ll>() as libc::socklen_t,
            )
        };
        if sent < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        }
    }

    /// Hears one message. `None`: there is none now. What is no claim is passed over.
    pub fn hear(&self) -> io::Result<Option<Heard>> {
        loop {
            let mut message = [0u8; 64];
            let mut from = everybody(0);
            let mut length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
            // SAFETY: the message and the address are valid for writes of the lengths that are told, and outlive the call; whatever bytes the
            // kernel writes are a valid value of both types.
            let received = unsafe {
                libc::recvfrom(
                    self.0.as_raw_fd(),
                    message.as_mut_ptr().cast(),
                    message.len(),
                    libc::MSG_DONTWAIT,
                    (&raw mut from).cast(),
                    &raw mut length,
                )
            };
            let Ok(received) = usize::try_from(received) else {
                let error = io::Error::last_os_error();
                return match error.kind() {
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(None),
                    // What an interface says that goes: others are still there.
                    io::ErrorKind::NetworkDown => continue,
                    _ => Err(error),
                };
            };
            let Some((mac, ip)) = claim(message.get(..received).unwrap_or_default()) else {
                continue;
            };
            let interface = from.sll_ifindex.cast_unsigned();
            return Ok(Some(Heard { interface, mac, ip }));
        }
    }
}

fn everybody(interface: u32) -> libc::sockaddr_ll {
    libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: (libc::ETH_P_ARP as u16).to_be(),
        sll_ifindex: interface.cast_signed(),
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 6,
        sll_addr: [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0],
    }
}

/// Ethernet and IPv4, six and four bytes, a request.
const HEAD: [u8; 8] = [0, 1, 8, 0, 6, 4, 0, 1];

fn probe(from: Mac, ip: Ipv4Addr) -> [u8; 28] {
    let mut message = [0; 28];
    message[..8].copy_from_slice(&HEAD);
    message[8..14].copy_from_slice(&from.0);
    message[24..].copy_from_slice(&ip.octets());
    message
}

/// The sender of a request or a reply and its address. `None`: it is something else, or names none, as probes of others do.
fn claim(message: &[u8]) -> Option<(Mac, Ipv4Addr)> {
    let message = message.first_chunk::<28>()?;
    if message[..6] != HEAD[..6] || !matches!(message[6..8], [0, 1 | 2]) {
        return None;
    }
    let [a, b, c, d, e, f, w, x, y, z] = *message[8..].first_chunk::<10>()?;
    let ip = Ipv4Addr::new(w, x, y, z);
    (!ip.is_unspecified()).then_some((Mac([a, b, c, d, e, f]), ip))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_claims_nothing_and_asks_for_the_address() {
        let message = probe(Mac([2, 0, 0, 0, 0, 1]), Ipv4Addr::new(172, 16, 0, 200));
        let expected = [
            0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 172, 16, 0, 200,
        ];
        assert_eq!(message, expected);
        assert_eq!(claim(&message), None);
    }

    #[test]
    fn claims_are_read_and_anything_else_is_not() {
        let mut message = probe(Mac([2, 0, 0, 0, 0, 9]), Ipv4Addr::UNSPECIFIED).to_vec();
        message[14..18].copy_from_slice(&[172, 16, 0, 200]);
        let expected = Some((Mac([2, 0, 0, 0, 0, 9]), Ipv4Addr::new(172, 16, 0, 200)));
        assert_eq!(claim(&message), expected);
        message[7] = 2;
        message.extend([0; 18]); // Ethernet pads
        assert_eq!(claim(&message), expected);
        for length in 0..28 {
            assert_eq!(claim(&message[..length]), None);
        }
        for at in 0..8 {
            let mut other = message.clone();
            other[at] ^= 0x40;
            assert_eq!(claim(&other), None, "byte {at}");
        }
    }

    #[test]
    fn who_waits_is_woken_before_and_while_it_waits() {
        let wake = std::sync::Arc::new(Wake::new().unwrap());
        wake.wake();
        wake.wait(None, None).unwrap();
        wake.wait(None, Some(Duration::from_millis(1))).unwrap();
        let other = std::sync::Arc::clone(&wake);
        let thread = std::thread::spawn(move || other.wake());
        wake.wait(None, None).unwrap();
        thread.join().unwrap();
    }
}
