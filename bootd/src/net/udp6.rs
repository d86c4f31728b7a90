//! A UDP port of IPv6 on one interface: hears what is sent to groups there, and to this machine through it.
//!
//! As [`UdpPort`](super::UdpPort): bound to the device, shared with nobody but its own sockets beside it, batched, never waiting to send.
//! Linux hands a copy of what is sent to a group to every socket that has joined it, so the one that joins has it alone; only what is sent to an
//! address of the interface is spread over several sockets.

use std::io;
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::batch::{self, Backlog, Incoming, Outgoing, to_name6};
use super::{Interface, NetError, SENDING, udp};

/// How long a receive waits.
const PATIENCE: Duration = Duration::from_millis(500);
/// Kernel buffer for packets that wait, as for IPv4.
const WAITING: usize = 4 << 20;
/// A UDP port of IPv6 on an interface.
#[derive(Debug)]
pub struct UdpPort6 {
    socket: UdpSocket,
    /// The number of the interface, which addresses of the link go with.
    index: u32,
}

/// Whether other sockets of this process have the same port and address.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shared {
    No,
    Yes,
}

impl UdpPort6 {
    /// Opens it for all addresses, and joins groups.
    pub fn open(interface: &Interface, port: u16, groups: &[Ipv6Addr]) -> Result<Self, NetError> {
        let opened = Self::bound(interface, Ipv6Addr::UNSPECIFIED, port, Shared::No)?;
        let own = SockRef::from(&opened.socket);
        for group in groups {
            own.join_multicast_v6(group, interface.index)
                .map_err(|error| failed(error, &format!("join {group} for"), port, &interface.name))?;
        }
        Ok(opened)
    }

    /// Takes over one that another process opened on this interface, with the groups that it joined.
    pub fn handed(interface: &Interface, socket: UdpSocket) -> Self {
        // As it is already, where a bootd opened it.
        let _ = socket.set_read_timeout(Some(PATIENCE));
        Self {
            socket,
            index: interface.index,
        }
    }

    /// Opens so many sockets for what is sent to one address of the interface; the kernel chooses one by the sender's address and port. This
    /// socket does not hear that any more. Nobody else can join them.
    pub fn beside(&self, interface: &Interface, address: Ipv6Addr, count: usize) -> Result<Vec<Self>, NetError> {
        let port = self.socket.local_addr().map_or(0, |address| address.port());
        let own = SockRef::from(&self.socket);
        let failed = |error| self::failed(error, "share", port, &interface.name);
        own.set_reuse_port(true).map_err(failed)?;
        let opened = (0..count)
            .map(|_| Self::bound(interface, address, port, Shared::Yes))
            .collect();
        own.set_reuse_port(false).map_err(failed)?;
        opened
    }

    fn bound(interface: &Interface, address: Ipv6Addr, port: u16, shared: Shared) -> Result<Self, NetError> {
        let name = &interface.name;
        let failed = |error, what: &str| failed(error, what, port, name);
        let socket = Socket::new(Domain::IPV6, Type::DGRAM.cloexec(), Some(Protocol::UDP))
            .map_err(|error| failed(error, "make a socket for"))?;
        socket
            .set_only_v6(true)
            .map_err(|error| failed(error, "keep to IPv6 for"))?;
        socket
            .bind_device(Some(name.as_bytes()))
            .map_err(|error| failed(error, "keep to the interface for"))?;
        // Smaller is no reason not to serve.
        let _ = socket.set_recv_buffer_size(WAITING);
        let _ = socket.set_send_buffer_size(SENDING);
        socket
            .set_read_timeout(Some(PATIENCE))
            .map_err(|error| failed(error, "wait on"))?;
        if shared == Shared::Yes {
            socket.set_reuse_port(true).map_err(|error| failed(error, "share"))?;
        }
        let scope = if address.is_unicast_link_local() {
            interface.index
        } else {
            0
        };
        let address = SocketAddr::from(SocketAddrV6::new(address, port, 0, scope));
        socket.bind(&address.into()).map_err(|error| match error.kind() {
            io::ErrorKind::AddrInUse => NetError::PortTaken {
                port,
                interface: name.clone(),
                holder: udp::holder("/proc/self/net/udp6", port),
            },
            _ => failed(error, "bind"),
        })?;
        Ok(Self {
            socket: socket.into(),
            index: interface.index,
        })
    }

    /// Waits for packets. None: there were none for a while.
    pub fn receive(&self, into: &mut Incoming<SocketAddrV6>) -> io::Result<()> {
        match into.receive(&self.socket) {
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted => Ok(()),
                _ => Err(error),
            },
            Ok(()) => Ok(()),
        }
    }

    /// How many packets wait.
    pub fn backlog(&self) -> io::Result<Backlog> {
        Backlog::of(&self.socket)
    }

    /// Sends packets, each with a number by which `failed` calls those that fail: at once, with `WouldBlock`, when too many wait already.
    pub fn send<'a>(
        &self,
        packets: impl Iterator<Item = (usize, &'a [u8], SocketAddrV6)>,
        failed: impl FnMut(usize, io::Error),
    ) {
        let packets = packets.map(|(number, payload, to)| Outgoing {
            number,
            head: [],
            payload,
            to: to_name6(to, self.index),
        });
        batch::send(&self.socket, packets, failed);
    }
}

impl AsFd for UdpPort6 {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn failed(error: io::Error, what: &str, port: u16, interface: &str) -> NetError {
    NetError::new(
        error,
        format!("{what} UDP port {port} of IPv6 on {interface}"),
        "CAP_NET_BIND_SERVICE and CAP_NET_RAW",
    )
}

#[cfg(test)]
mod tests {
    use super::super::batch::BATCH;
    use super::*;

    /// Where the system has no IPv6 there is nothing to test.
    fn loopback() -> Option<Interface> {
        let loopback = Interface::find("lo").unwrap();
        (!loopback.networks6.is_empty()).then_some(loopback)
    }

    #[test]
    fn packets_go_through_in_batches_and_silence_ends() {
        let Some(loopback) = loopback() else { return };
        let port = UdpPort6::open(&loopback, 0, &[]).unwrap();
        let number = port.socket.local_addr().unwrap().port();
        let to = SocketAddrV6::new(Ipv6Addr::LOCALHOST, number, 0, 0);
        let packets: Vec<Vec<u8>> = (0..BATCH + 3).map(|n| vec![n as u8; n + 1]).collect();
        let numbered = packets.iter().enumerate();
        port.send(
            numbered.map(|(number, packet)| (number, &packet[..], to)),
            |number, error| panic!("{number}: {error}"),
        );
        let mut incoming = Incoming::default();
        port.receive(&mut incoming).unwrap();
        assert!(incoming.is_full());
        let mut came: Vec<Vec<u8>> = incoming.packets().map(|(packet, _)| packet.to_vec()).collect();
        port.receive(&mut incoming).unwrap();
        assert!(
            incoming
                .packets()
                .all(|(_, peer)| (*peer.ip(), peer.port()) == (Ipv6Addr::LOCALHOST, number))
        );
        came.extend(incoming.packets().map(|(packet, _)| packet.to_vec()));
        assert_eq!(came, packets);
        port.receive(&mut incoming).unwrap();
        assert_eq!(incoming.packets().count(), 0);
        assert!(UdpPort6::open(&loopback, number, &[]).is_err());
    }

    #[test]
    fn what_is_sent_to_an_address_is_spread_and_the_rest_is_not() {
        let Some(loopback) = loopback() else { return };
        let all = UdpPort6::open(&loopback, 0, &[]).unwrap();
        let port = all.socket.local_addr().unwrap().port();
        let beside = all.beside(&loopback, Ipv6Addr::LOCALHOST, 2).unwrap();
        for _ in 0..64 {
            let sender = UdpSocket::bind("[::1]:0").unwrap();
            sender.send_to(b"hello", (Ipv6Addr::LOCALHOST, port)).unwrap();
        }
        let came = |port: &UdpPort6| {
            let mut incoming = Incoming::default();
            port.receive(&mut incoming).unwrap();
            incoming.packets().count()
        };
        let (first, second) = (came(&beside[0]), came(&beside[1]));
        assert!(first > 8 && second > 8 && first + second == 64, "{first} and {second}");
        assert_eq!(came(&all), 0);
        assert!(UdpPort6::open(&loopback, port, &[]).is_err());
    }
}
