//! An ICMPv6 socket on one interface, for neighbour discovery (RFC 4861): hears what is sent to all routers of the link, and to all nodes.
//!
//! Bound to the device. What it sends has hop limit 255, as receivers demand; the kernel fills in the checksum. Receiving ends after half
//! a second without a packet, so that a thread can look up. Sending never waits.

use std::io;
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::{Interface, NetError, send_now};

/// How long a receive waits.
const PATIENCE: Duration = Duration::from_millis(500);
/// All routers of the link.
const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);

/// All nodes of the link, routers that advertise among those who hear it.
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// An ICMPv6 socket on an interface.
#[derive(Debug)]
pub struct Icmp6 {
    /// The standard library has no type for raw sockets; this one sends and receives them just so.
    socket: UdpSocket,
    index: u32,
}

impl Icmp6 {
    /// Opens it and joins the groups of all routers and of all nodes.
    pub fn open(interface: &Interface) -> Result<Self, NetError> {
        let opened = || {
            let socket = Socket::new(Domain::IPV6, Type::RAW.cloexec(), Some(Protocol::ICMPV6))?;
            socket.bind_device(Some(interface.name.as_bytes()))?;
            socket.set_multicast_hops_v6(255)?;
            socket.set_unicast_hops_v6(255)?;
            socket.set_multicast_loop_v6(false)?;
            socket.set_multicast_if_v6(interface.index)?;
            socket.join_multicast_v6(&ALL_ROUTERS, interface.index)?;
            socket.join_multicast_v6(&ALL_NODES, interface.index)?;
            socket.set_read_timeout(Some(PATIENCE))?;
            Ok(socket.into())
        };
        let what = || format!("open an ICMPv6 socket on {}", interface.name);
        let socket = opened().map_err(|error: io::Error| NetError::new(error, what(), "CAP_NET_RAW"))?;
        let index = interface.index;
        Ok(Self { socket, index })
    }

    /// Waits for a message: its bytes and who sent it. `None`: there was none for a while.
    pub fn receive<'a>(&self, buffer: &'a mut [u8]) -> io::Result<Option<(&'a [u8], Ipv6Addr)>> {
        match self.socket.recv_from(buffer) {
            Ok((length, SocketAddr::V6(from))) => Ok(Some((&buffer[..length], *from.ip()))),
            Ok(_) => Ok(None),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
                ) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Sends a message on the link, or fails at once: `WouldBlock` when too many wait already.
    pub fn send(&self, message: &[u8], to: Ipv6Addr) -> io::Result<()> {
        let to = SocketAddrV6::new(to, 0, 0, self.index);
        send_now(&SockRef::from(&self.socket), message, &SocketAddr::from(to).into())
    }
}
