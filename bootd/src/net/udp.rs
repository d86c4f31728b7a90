//! A UDP port on one interface, for what is broadcast there and for what is sent to this machine through it.
//!
//! Bound to the device, so that broadcasts of other interfaces stay away; several such sockets share a port. Not shared with anybody else:
//! without SO_REUSEADDR a second server on the same wire is found at start and not by confused clients. Receiving ends after
//! half a second without a packet, so that a thread can look up. Sending never waits.
//!
//! Linux hands a copy of each broadcast to every member of an SO_REUSEPORT group, so only what is sent to an address of the interface is
//! spread over several sockets ([`UdpPort::beside`]); broadcasts have one.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::batch::{self, Backlog, Incoming, Outgoing};
use super::{Interface, NetError, SENDING};

/// How long a receive waits.
const PATIENCE: Duration = Duration::from_millis(500);
/// Kernel buffer for packets that wait: a rack that powers on at once. The kernel grants less where `net.core.rmem_max` says so.
const WAITING: usize = 4 << 20;

/// A UDP port on an interface.
#[derive(Debug)]
pub struct UdpPort {
    socket: UdpSocket,
}

/// Whether other sockets of this process have the same port and address.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shared {
    No,
    Yes,
}

impl UdpPort {
    /// Opens it, for all addresses.
    pub fn open(interface: &Interface, port: u16) -> Result<Self, NetError> {
        Self::bound(interface, Ipv4Addr::UNSPECIFIED, port, Shared::No)
    }

    /// Takes over one that another process opened.
    pub fn handed(socket: UdpSocket) -> Self {
        // As it is already, where a bootd opened it.
        let _ = socket.set_read_timeout(Some(PATIENCE));
        Self { socket }
    }

    /// Opens so many sockets for what is sent to one address of the interface; the kernel chooses one by the sender's address and port. This
    /// socket does not hear that any more. Nobody else can join them.
    pub fn beside(&self, interface: &Interface, address: Ipv4Addr, count: usize) -> Result<Vec<Self>, NetError> {
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

    fn bound(interface: &Interface, address: Ipv4Addr, port: u16, shared: Shared) -> Result<Self, NetError> {
        let name = &interface.name;
        let failed = |error, what: &str| failed(error, what, port, name);
        let socket = Socket::new(Domain::IPV4, Type::DGRAM.cloexec(), Some(Protocol::UDP))
            .map_err(|error| failed(error, "make a socket for"))?;
        socket
            .bind_device(Some(name.as_bytes()))
            .map_err(|error| failed(error, "keep to the interface for"))?;
        socket
            .set_broadcast(true)
            .map_err(|error| failed(error, "broadcast from"))?;
        // Smaller is no reason not to serve.
        let _ = socket.set_recv_buffer_size(WAITING);
        let _ = socket.set_send_buffer_size(SENDING);
        socket
            .set_read_timeout(Some(PATIENCE))
            .map_err(|error| failed(error, "wait on"))?;
        if shared == Shared::Yes {
            socket.set_reuse_port(true).map_err(|error| failed(error, "share"))?;
        }
        let address = SocketAddr::from((address, port));
        socket.bind(&address.into()).map_err(|error| match error.kind() {
            io::ErrorKind::AddrInUse => NetError::PortTaken {
                port,
                interface: name.clone(),
                holder: holder("/proc/self/net/udp", port),
            },
            _ => failed(error, "bind"),
        })?;
        Ok(Self { socket: socket.into() })
    }

    /// Waits for packets. None: there were none for a while.
    pub fn receive(&self, into: &mut Incoming) -> io::Result<()> {
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
        packets: impl Iterator<Item = (usize, &'a [u8], SocketAddrV4)>,
        failed: impl FnMut(usize, io::Error),
    ) {
        let packets = packets.map(|(number, payload, to)| Outgoing {
            number,
            head: [],
            payload,
            to: batch::to_name(to),
        });
        batch::send(&self.socket, packets, failed);
    }
}

impl AsFd for UdpPort {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn failed(error: io::Error, what: &str, port: u16, interface: &str) -> NetError {
    NetError::new(
        error,
        format!("{what} UDP port {port} on {interface}"),
        "CAP_NET_BIND_SERVICE and CAP_NET_RAW",
    )
}

/// Who has a UDP port of this table: found by the numbers of its sockets among the open files of processes that we may look into.
pub(super) fn holder(table: &str, port: u16) -> String {
    let table = std::fs::read_to_string(table).unwrap_or_default();
    let inodes: Vec<String> = table.lines().filter_map(|line| inode(line, port)).collect();
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    for process in processes {
        if process.file_name().to_string_lossy().parse::<u32>().is_err() {
            continue;
        }
        let files = std::fs::read_dir(process.path().join("fd")).into_iter().flatten();
        for file in files.flatten() {
            let Ok(target) = std::fs::read_link(file.path()) else {
                continue;
            };
            let target = target.to_string_lossy();
            if inodes.iter().any(|inode| target == *inode) {
                let name = std::fs::read_to_string(process.path().join("comm")).unwrap_or_default();
                return format!("{} (process {})", name.trim(), process.file_name().to_string_lossy());
            }
        }
    }
    "another DHCP server or relay (`ss -ulnp` as root names it)".into()
}

/// The file name of the socket in a line of the table, when it has this port.
fn inode(line: &str, port: u16) -> Option<String> {
    let mut fields = line.split_whitespace();
    let (_, of) = fields.nth(1)?.split_once(':')?;
    let inode = fields.nth(7)?;
    (u16::from_str_radix(of, 16).ok()? == port).then(|| format!("socket:[{inode}]"))
}

#[cfg(test)]
mod tests {
    use super::super::batch::BATCH;
    use super::*;

    #[test]
    fn a_taken_port_is_told_with_who_has_it() {
        let other = UdpSocket::bind("0.0.0.0:0").unwrap();
        let port = other.local_addr().unwrap().port();
        let loopback = Interface::find("lo").unwrap();
        let error = UdpPort::open(&loopback, port).unwrap_err().to_string();
        let own = format!("(process {})", std::process::id());
        assert!(error.contains("is taken by") && error.contains(&own), "{error}");
    }

    #[test]
    fn packets_go_through_in_batches_and_silence_ends() {
        let loopback = Interface::find("lo").unwrap();
        let port = UdpPort::open(&loopback, 0).unwrap();
        let to = SocketAddrV4::new(Ipv4Addr::LOCALHOST, port.socket.local_addr().unwrap().port());
        let packets: Vec<Vec<u8>> = (0..BATCH + 3).map(|n| vec![n as u8; n + 1]).collect();
        let numbered = || packets.iter().enumerate();
        port.send(
            numbered().map(|(number, packet)| (number, &packet[..], to)),
            |number, error| panic!("{number}: {error}"),
        );
        let mut incoming = Incoming::default();
        port.receive(&mut incoming).unwrap();
        assert!(incoming.is_full());
        let mut came: Vec<Vec<u8>> = incoming.packets().map(|(packet, _)| packet.to_vec()).collect();
        port.receive(&mut incoming).unwrap();
        assert_eq!((incoming.len(), incoming.is_full()), (3, false));
        assert!(incoming.packets().all(|(_, peer)| peer == to));
        came.extend(incoming.packets().map(|(packet, _)| packet.to_vec()));
        assert_eq!(came, packets);
        port.receive(&mut incoming).unwrap();
        assert!(incoming.is_empty());
    }

    #[test]
    fn what_is_sent_to_an_address_is_spread_and_the_port_stays_ours() {
        let loopback = Interface::find("lo").unwrap();
        let all = UdpPort::open(&loopback, 0).unwrap();
        let port = all.socket.local_addr().unwrap().port();
        let beside = all.beside(&loopback, Ipv4Addr::LOCALHOST, 2).unwrap();
        assert!(UdpPort::open(&loopback, port).is_err());
        for _ in 0..64 {
            let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
            sender.send_to(b"hello", ("127.0.0.1", port)).unwrap();
            sender.send_to(b"hello", ("127.0.0.2", port)).unwrap();
        }
        let came = |port: &UdpPort| {
            let mut incoming = Incoming::default();
            port.receive(&mut incoming).unwrap();
            incoming.len()
        };
        let backlog = all.backlog().unwrap();
        assert!(0 < backlog.waiting && backlog.waiting < backlog.room, "{backlog:?}");
        assert_eq!(backlog.dropped, 0);
        let (first, second) = (came(&beside[0]), came(&beside[1]));
        assert!(first > 8 && second > 8 && first + second == 64, "{first} and {second}");
        assert_eq!(came(&all), 64);
    }

    #[test]
    fn a_packet_that_cannot_leave_costs_no_other_one() {
        let loopback = Interface::find("lo").unwrap();
        let port = UdpPort::open(&loopback, 0).unwrap();
        let to = SocketAddrV4::new(Ipv4Addr::LOCALHOST, port.socket.local_addr().unwrap().port());
        let long = vec![0; 70_000];
        let mut failed = Vec::new();
        let packets = [(7, &b"a"[..], to), (8, &long, to), (9, b"b", to)];
        port.send(packets.into_iter(), |number, _| failed.push(number));
        let mut incoming = Incoming::default();
        port.receive(&mut incoming).unwrap();
        assert_eq!((failed, incoming.len()), (vec![8], 2));
    }
}
