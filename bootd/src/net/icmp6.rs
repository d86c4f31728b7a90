//! An ICMPv6 socket on one interface, for neighbour discovery (RFC 4861): hears what is sent to all routers of the link, and to all nodes.
//!
//! Bound to the device. Says from how near a message comes. What it sends has hop limit 255, as receivers demand; the kernel fills in the checksum. Receiving ends after half
//! a second without a packet, so that a thread can look up. Sending never waits.

use std::io;
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use super::control::{Received, number};
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
    socket: Socket,
    index: u32,
}

/// A message that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heard<'a> {
    /// Its bytes.
    pub message: &'a [u8],
    /// Who sent it.
    pub from: Ipv6Addr,
    /// 255: it was forwarded by nobody. 0: it is not known.
    pub hop_limit: u8,
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
            socket.set_recv_hoplimit_v6(true)?;
            socket.set_multicast_if_v6(interface.index)?;
            socket.join_multicast_v6(&ALL_ROUTERS, interface.index)?;
            socket.join_multicast_v6(&ALL_NODES, interface.index)?;
            socket.set_read_timeout(Some(PATIENCE))?;
            Ok(socket)
        };
        let what = || format!("open an ICMPv6 socket on {}", interface.name);
        let socket = opened().map_err(|error: io::Error| NetError::new(error, what(), "CAP_NET_RAW"))?;
        let index = interface.index;
        Ok(Self { socket, index })
    }

    /// Waits for a message. `None`: there was none for a while.
    pub fn receive<'a>(&self, buffer: &'a mut [u8]) -> io::Result<Option<Heard<'a>>> {
        let received = match Received::wait(&self.socket, buffer, 0) {
            Ok(received) => received,
            Err(error) => {
                let is_none = matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
                );
                return if is_none { Ok(None) } else { Err(error) };
            }
        };
        let Some(SocketAddr::V6(from)) = received.peer else {
            return Ok(None);
        };
        let hop_limit = received.told(libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT).and_then(number);
        Ok(Some(Heard {
            message: buffer.get(..received.length).unwrap_or_default(),
            from: *from.ip(),
            hop_limit: hop_limit.and_then(|limit| u8::try_from(limit).ok()).unwrap_or_default(),
        }))
    }

    /// Sends a message on the link, or fails at once: `WouldBlock` when too many wait already.
    pub fn send(&self, message: &[u8], to: Ipv6Addr) -> io::Result<()> {
        let to = SocketAddrV6::new(to, 0, 0, self.index);
        send_now(&self.socket, message, &SocketAddr::from(to).into())
    }
}
