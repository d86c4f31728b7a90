//! DHCPv6 and router solicitations by hand, from a machine on a cable of its own.
//!
//! Messages are written and read byte by byte here, so that nothing of bootd's own reader is trusted.

use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::Machine;

/// SOLICIT.
pub const SOLICIT: u8 = 1;
/// ADVERTISE.
pub const ADVERTISE: u8 = 2;
/// REQUEST.
pub const REQUEST: u8 = 3;
/// RENEW.
pub const RENEW: u8 = 5;
/// REPLY.
pub const REPLY: u8 = 7;
/// INFORMATION-REQUEST.
pub const INFORMATION_REQUEST: u8 = 11;
/// RELAY-FORW.
pub const RELAY_FORW: u8 = 12;

/// All servers and relays of a link.
pub const SERVERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);

/// What a DHCPv6 server answered.
#[derive(Debug, Clone)]
pub struct Reply6 {
    /// Its type.
    pub kind: u8,
    /// Its options.
    pub options: Vec<(u16, Vec<u8>)>,
    /// Who sent it.
    pub from: SocketAddr,
}

impl Reply6 {
    /// The value of an option.
    pub fn option(&self, code: u16) -> Option<&[u8]> {
        let found = self.options.iter().find(|(other, _)| *other == code);
        found.map(|(_, value)| value.as_slice())
    }

    /// The first address of the first IA_NA, and its valid lifetime.
    pub fn address(&self) -> Option<(Ipv6Addr, u32)> {
        let ia = options(self.option(3)?.get(12..)?);
        let (_, value) = ia.iter().find(|(code, _)| *code == 5)?;
        let ip: [u8; 16] = value.get(..16)?.try_into().ok()?;
        Some((ip.into(), u32::from_be_bytes(value.get(20..24)?.try_into().ok()?)))
    }
}

/// A socket of a machine, for DHCPv6 through its only cable.
pub struct Dhcp6Socket(UdpSocket);

impl Dhcp6Socket {
    /// On the client's port; the machine's address of the link is there a moment after its cable is plugged.
    pub fn open(machine: &Machine, interface: &str, port: u16) -> Result<Self> {
        let socket = machine.at(|| {
            let socket = Socket::new(Domain::IPV6, Type::DGRAM, Some(Protocol::UDP))?;
            socket.set_only_v6(true)?;
            socket.bind_device(Some(interface.as_bytes()))?;
            let any = SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, port, 0, 0);
            socket.bind(&any.into())?;
            Ok(socket.into())
        });
        Ok(Self(socket.context("open a socket for DHCPv6")?))
    }

    /// Sends to the group of servers, or to an address.
    pub fn send(&self, message: &[u8], to: Ipv6Addr) -> Result<()> {
        let socket = SockRef::from(&self.0);
        socket.send_to(message, &SocketAddr::from((to, 547)).into())?;
        Ok(())
    }

    /// Waits for the answer to a transaction.
    pub fn receive(&self, xid: [u8; 3], within: Duration) -> Result<Reply6> {
        let start = Instant::now();
        let mut packet = [0; 4096];
        loop {
            let left = within.saturating_sub(start.elapsed());
            if left.is_zero() {
                bail!("no answer within {} s", within.as_secs_f32());
            }
            self.0.set_read_timeout(Some(left))?;
            let Ok((length, from)) = self.0.recv_from(&mut packet) else {
                continue;
            };
            let mut message = &packet[..length];
            // What a relay gets holds the client's.
            let mut inner = Vec::new();
            while message.first() == Some(&13) && message.len() > 34 {
                let found = options(&message[34..]).into_iter().find(|(code, _)| *code == 9);
                inner = found.map(|(_, value)| value).unwrap_or_default();
                message = &inner;
            }
            let _ = &inner;
            if message.len() >= 4 && message[1..4] == xid {
                return Ok(Reply6 {
                    kind: message[0],
                    options: options(&message[4..]),
                    from,
                });
            }
        }
    }
}

/// A transaction that no other one is.
pub fn xid() -> [u8; 3] {
    static NEXT: AtomicU32 = AtomicU32::new(0x0010_0000);
    let [_, a, b, c] = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    [a, b, c]
}

/// A message of the client with this hardware address, with a DUID-LL of it and an IA_NA.
pub fn message(kind: u8, xid: [u8; 3], mac: [u8; 6], more: &[u8]) -> Vec<u8> {
    let mut message = vec![kind, xid[0], xid[1], xid[2]];
    message.extend_from_slice(&option(1, &[&[0, 3, 0, 1], &mac[..]].concat()));
    if kind != INFORMATION_REQUEST {
        message.extend_from_slice(&option(3, &[0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0]));
    }
    message.extend_from_slice(more);
    message
}

/// What a relay on this link makes of the message of a client.
pub fn relayed(message: &[u8], link: Ipv6Addr, peer: Ipv6Addr) -> Vec<u8> {
    let mut packet = vec![RELAY_FORW, 0];
    packet.extend_from_slice(&link.octets());
    packet.extend_from_slice(&peer.octets());
    packet.extend_from_slice(&option(9, message));
    packet
}

/// One option.
pub fn option(code: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = code.to_be_bytes().to_vec();
    bytes.extend_from_slice(&(value.len() as u16).to_be_bytes());
    bytes.extend_from_slice(value);
    bytes
}

/// Code and value of each option; what is cut off is left out.
pub fn options(mut bytes: &[u8]) -> Vec<(u16, Vec<u8>)> {
    let mut found = Vec::new();
    while let [a, b, c, d, rest @ ..] = bytes {
        let length = usize::from(u16::from_be_bytes([*c, *d]));
        let Some(value) = rest.get(..length) else { break };
        found.push((u16::from_be_bytes([*a, *b]), value.to_vec()));
        bytes = &rest[length..];
    }
    found
}

/// The address of the link that is made of a hardware address.
pub fn link_local(mac: [u8; 6]) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac;
    Ipv6Addr::from([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f])
}
