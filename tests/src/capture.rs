//! A capture in the rack: to whom a node speaks.
//!
//! A packet socket whose filter, in the kernel, lets through what a machine itself sends and leaves out only the rest of its TCP connections to
//! the rack's server: what a node fetches there is thousands of packets, all others are few, so that none is lost.

use std::collections::BTreeMap;
use std::io::Read;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use socket2::{Domain, Protocol, SockFilter, Socket, Type};

use crate::SERVER;

/// A running capture of one machine's packets.
pub struct Capture {
    seen: Arc<Mutex<BTreeMap<Ipv4Addr, usize>>>,
    stop: Arc<AtomicBool>,
}

impl Capture {
    /// Begins, for the machine with this MAC, on all interfaces of the rack.
    pub fn of(mac: [u8; 6]) -> Result<Self> {
        let socket = Socket::new(
            Domain::PACKET,
            Type::RAW,
            Some(Protocol::from(i32::from(ALL_PACKETS.to_be()))),
        )
        .context("open a packet socket")?;
        socket.attach_filter(&filter(mac)).context("filter packets")?;
        socket.set_read_timeout(Some(Duration::from_millis(100)))?;
        let capture = Self {
            seen: Arc::default(),
            stop: Arc::default(),
        };
        let (seen, stop) = (Arc::clone(&capture.seen), Arc::clone(&capture.stop));
        thread::spawn(move || {
            let mut frame = [0; 2048];
            while !stop.load(Ordering::Relaxed) {
                let Ok(length) = (&socket).read(&mut frame) else {
                    continue;
                };
                // One that came before the filter was there may be anybody's.
                if frame[6..12] == mac
                    && let Some(to) = destination(&frame[..length])
                {
                    *seen
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .entry(to)
                        .or_default() += 1;
                }
            }
        });
        Ok(capture)
    }

    /// Whom the machine has spoken to, and those whose hardware address it asked for (ARP), each with the number of packets. A packet
    /// counts once on each interface that it passes.
    pub fn spoken_to(&self) -> BTreeMap<Ipv4Addr, usize> {
        // What was sent last is there when the reader had its turn.
        thread::sleep(Duration::from_millis(200));
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// `ETH_P_ALL`.
const ALL_PACKETS: u16 = 3;
const IPV4: u16 = 0x0800;
const ARP: u16 = 0x0806;

/// The IPv4 address that a frame goes to, or asks for.
fn destination(frame: &[u8]) -> Option<Ipv4Addr> {
    let kind = u16::from_be_bytes(frame.get(12..14)?.try_into().ok()?);
    let at = match kind {
        IPV4 => 14 + 16,
        ARP => 14 + 24,
        _ => return None,
    };
    let octets: [u8; 4] = frame.get(at..at + 4)?.try_into().ok()?;
    Some(octets.into())
}

/// From this MAC, and not (IPv4, TCP, to the rack's server, without SYN).
fn filter(mac: [u8; 6]) -> Vec<SockFilter> {
    // Load a word, half word or byte; jump if equal, or if a bit is set; return.
    const WORD: u16 = 0x20;
    const HALF: u16 = 0x28;
    const BYTE: u16 = 0x30;
    const EQUAL: u16 = 0x15;
    const SET: u16 = 0x45;
    const RETURN: u16 = 0x06;
    let [a, b, c, d, e, f] = mac;
    let (head, end) = (u32::from_be_bytes([a, b, c, d]), u32::from(u16::from_be_bytes([e, f])));
    [
        (WORD, 0, 0, 6),
        (EQUAL, 0, 11, head),
        (HALF, 0, 0, 10),
        (EQUAL, 0, 9, end),
        (HALF, 0, 0, 12),
        (EQUAL, 0, 6, IPV4.into()),
        (BYTE, 0, 0, 14 + 9),
        (EQUAL, 0, 4, 6),
        (WORD, 0, 0, 14 + 16),
        (EQUAL, 0, 2, SERVER.to_bits()),
        // The flags, behind an IPv4 header of 20 bytes, as all of these have.
        (BYTE, 0, 0, 14 + 20 + 13),
        (SET, 0, 1, 2),
        (RETURN, 0, 0, 96),
        (RETURN, 0, 0, 0),
    ]
    .map(|(code, yes, no, value)| SockFilter::new(code, yes, no, value))
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_and_questions_for_an_address_count() {
        let mut frame = [0; 60];
        frame[12..14].copy_from_slice(&IPV4.to_be_bytes());
        frame[30..34].copy_from_slice(&[172, 16, 0, 253]);
        assert_eq!(destination(&frame), Some(Ipv4Addr::new(172, 16, 0, 253)));
        frame[12..14].copy_from_slice(&ARP.to_be_bytes());
        frame[38..42].copy_from_slice(&[172, 16, 0, 7]);
        assert_eq!(destination(&frame), Some(Ipv4Addr::new(172, 16, 0, 7)));
        frame[12..14].copy_from_slice(&0x86dd_u16.to_be_bytes());
        assert_eq!(destination(&frame), None);
        assert_eq!(destination(&frame[..13]), None);
    }
}
