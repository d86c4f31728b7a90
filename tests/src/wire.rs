//! A client on a cable of its own: DHCP and TFTP by hand, well formed or not, and HTTP under a node's address.
//!
//! The client is a [`Machine`] of its own, so its packets reach the server as those of any machine in the rack do.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use socket2::{Domain, Protocol, Socket, Type};

use crate::{Machine, Network, Rack, SERVER};

/// A machine at the end of the cable `cable`.
pub struct Client {
    machine: Machine,
}

/// What a DHCP server answered.
#[derive(Debug, Clone)]
pub struct Reply {
    /// Option 53.
    pub kind: u8,
    /// The offered address.
    pub yiaddr: Ipv4Addr,
    /// The whole message.
    pub bytes: Vec<u8>,
}

/// DHCPDISCOVER.
pub const DISCOVER: u8 = 1;
/// DHCPOFFER.
pub const OFFER: u8 = 2;
/// DHCPREQUEST.
pub const REQUEST: u8 = 3;
/// DHCPACK.
pub const ACK: u8 = 5;

impl Client {
    /// Plugs a cable into the rack's bridge. One a rack.
    pub fn plug(rack: &Rack) -> Result<Self> {
        Self::plug_into(&rack.network)
    }

    /// Plugs a cable into a bridge. One a bridge.
    pub fn plug_into(network: &Network) -> Result<Self> {
        Ok(Self {
            machine: Machine::plug(network, "cable")?,
        })
    }

    /// The machine.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// `ip` with these words, at the client.
    pub fn ip(&self, words: &str) -> Result<()> {
        self.machine.ip(words)
    }

    /// Runs something in a thread at the client's end.
    pub fn at<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        self.machine.at(work)
    }

    /// A socket on the DHCP client's port, without an address of its own.
    pub fn dhcp_socket(&self) -> Result<DhcpSocket> {
        self.at(|| {
            let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
            socket.set_reuse_address(true)?;
            socket.set_broadcast(true)?;
            socket.bind_device(Some(b"cable0"))?;
            socket.bind(&SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68).into())?;
            Ok(DhcpSocket(socket.into()))
        })
        .context("open the DHCP client's socket")
    }

    /// A UDP socket for anything else. Give the client an address first.
    pub fn udp_socket(&self) -> Result<UdpSocket> {
        self.at(|| Ok(UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?))
    }

    /// GET from the server's boot listener, under the client's present address: status and body.
    pub fn get(&self, path: &str) -> Result<(u16, String)> {
        self.http(&format!("GET {path} HTTP/1.0\r\nHost: {SERVER}:8081\r\n\r\n"))
    }

    /// Sends bytes to the boot listener: the answer's status and body.
    pub fn http(&self, request: &str) -> Result<(u16, String)> {
        let bytes = self.at(|| {
            let to = SocketAddr::from((SERVER, 8081));
            let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(5))?;
            stream.set_read_timeout(Some(Duration::from_secs(10)))?;
            stream.write_all(request.as_bytes())?;
            let mut bytes = Vec::new();
            stream.read_to_end(&mut bytes)?;
            Ok(bytes)
        })?;
        let text = String::from_utf8_lossy(&bytes);
        let status = text.split_whitespace().nth(1).and_then(|word| word.parse().ok());
        let body = text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
        Ok((status.context("an answer without status")?, body.unwrap_or_default()))
    }

    /// Reads a file by TFTP, with blocks of 512 bytes and no options.
    pub fn tftp(&self, name: &str) -> Result<Vec<u8>> {
        let socket = self.udp_socket()?;
        socket.set_read_timeout(Some(Duration::from_secs(3)))?;
        let mut request = vec![0, 1];
        request.extend_from_slice(name.as_bytes());
        request.extend_from_slice(b"\0octet\0");
        socket.send_to(&request, (SERVER, 69))?;
        let mut file = Vec::new();
        let mut packet = [0; 2048];
        loop {
            let (n, from) = socket.recv_from(&mut packet).context("no TFTP answer")?;
            ensure!(n >= 4, "a TFTP answer of {n} bytes");
            match packet[1] {
                3 => {
                    socket.send_to(&[0, 4, packet[2], packet[3]], from)?;
                    file.extend_from_slice(&packet[4..n]);
                    if n < 516 {
                        return Ok(file);
                    }
                }
                5 => bail!("TFTP error {}: {}", packet[3], String::from_utf8_lossy(&packet[4..n])),
                other => bail!("TFTP opcode {other}"),
            }
        }
    }
}

/// A DHCP client's socket.
pub struct DhcpSocket(UdpSocket);

impl DhcpSocket {
    /// Broadcasts a datagram to the server's port.
    pub fn send(&self, message: &[u8]) -> Result<()> {
        self.0
            .send_to(message, (Ipv4Addr::BROADCAST, 67))
            .context("broadcast")?;
        Ok(())
    }

    /// The answer to the message with this transaction id.
    pub fn receive(&self, xid: u32, within: Duration) -> Result<Reply> {
        let end = Instant::now() + within;
        let mut buffer = [0; 2048];
        loop {
            let left = end.saturating_duration_since(Instant::now());
            ensure!(!left.is_zero(), "no DHCP answer within {within:?}");
            self.0.set_read_timeout(Some(left))?;
            let Ok((n, _)) = self.0.recv_from(&mut buffer) else {
                continue;
            };
            let bytes = buffer[..n].to_vec();
            if n >= 240 && bytes[0] == 2 && bytes[4..8] == xid.to_be_bytes() {
                let kind = option(&bytes, 53).and_then(|value| value.first().copied()).unwrap_or(0);
                let yiaddr = Ipv4Addr::new(bytes[16], bytes[17], bytes[18], bytes[19]);
                return Ok(Reply { kind, yiaddr, bytes });
            }
        }
    }

    /// A DISCOVER and what was offered; asked again each second, as clients do.
    pub fn discover(&self, mac: [u8; 6], within: Duration) -> Result<Reply> {
        self.ask(DISCOVER, mac, &[], within)
    }

    /// The full exchange of four messages: the acknowledgement.
    pub fn lease(&self, mac: [u8; 6], within: Duration) -> Result<Reply> {
        let offer = self.discover(mac, within)?;
        ensure!(offer.kind == OFFER, "not an offer: kind {}", offer.kind);
        let mut options = vec![50, 4];
        options.extend_from_slice(&offer.yiaddr.octets());
        if let Some(server) = option(&offer.bytes, 54) {
            options.extend_from_slice(&[54, 4]);
            options.extend_from_slice(server);
        }
        self.ask(REQUEST, mac, &options, within)
    }

    fn ask(&self, kind: u8, mac: [u8; 6], options: &[u8], within: Duration) -> Result<Reply> {
        let end = Instant::now() + within;
        let mut last = None;
        while Instant::now() < end {
            let xid = xid();
            self.send(&message(kind, xid, mac, options))?;
            match self.receive(xid, Duration::from_secs(1)) {
                Ok(reply) => return Ok(reply),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| anyhow::anyhow!("no time to ask")))
    }
}

impl Reply {
    /// An option's value.
    pub fn option(&self, code: u8) -> Option<&[u8]> {
        option(&self.bytes, code)
    }
}

/// A client's message as a UEFI machine (architecture 7) sends it, answers by broadcast; `options` are added.
pub fn message(kind: u8, xid: u32, mac: [u8; 6], options: &[u8]) -> Vec<u8> {
    let mut bytes = header(xid, mac);
    bytes.extend_from_slice(&[99, 130, 83, 99]);
    bytes.extend_from_slice(&[53, 1, kind, 93, 2, 0, 7, 55, 7, 1, 3, 6, 12, 66, 67, 54]);
    bytes.extend_from_slice(&[60, 32]);
    bytes.extend_from_slice(b"PXEClient:Arch:00007:UNDI:003001");
    bytes.extend_from_slice(options);
    bytes.push(255);
    bytes.resize(bytes.len().max(300), 0);
    bytes
}

/// The 236 bytes before the cookie.
pub fn header(xid: u32, mac: [u8; 6]) -> Vec<u8> {
    let mut bytes = vec![0; 236];
    bytes[..4].copy_from_slice(&[1, 1, 6, 0]);
    bytes[4..8].copy_from_slice(&xid.to_be_bytes());
    bytes[10] = 0x80;
    bytes[28..34].copy_from_slice(&mac);
    bytes
}

/// A transaction id that was not used before.
pub fn xid() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(0x6264_0000);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

fn option(message: &[u8], code: u8) -> Option<&[u8]> {
    let mut rest = message.get(240..)?;
    loop {
        match *rest {
            [0, ..] => rest = &rest[1..],
            [255, ..] | [] | [_] => return None,
            [c, len, ..] => {
                let value = rest.get(2..2 + usize::from(len))?;
                if c == code {
                    return Some(value);
                }
                rest = &rest[2 + usize::from(len)..];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_an_own_message_are_found_again() {
        let bytes = message(DISCOVER, 7, [2, 0, 0, 0, 0, 1], &[61, 1, 9]);
        assert_eq!(option(&bytes, 53), Some(&[DISCOVER][..]));
        assert_eq!(option(&bytes, 61), Some(&[9][..]));
        assert_eq!(option(&bytes, 82), None);
    }
}
