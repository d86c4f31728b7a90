//! Sockets below what the standard library offers: bound to an interface, or for whole frames.
//!
//! Says what is wrong in the operator's words ([`NetError`]): what was opened, where, and what to do. Knows nothing of the protocols above.

mod arp;
mod batch;
mod control;
mod datagrams;
mod icmp6;
mod interface;
mod option;
mod packet;
mod sockets;
mod udp;
mod udp6;

use socket2::{SockAddr, Socket};

pub use arp::{Arp, Wake};
pub use batch::{BATCH, Backlog, Incoming};
pub use datagrams::{Burst, Inbox, Listening, Met, Outbox, TAKEN, Way};
pub use icmp6::{Heard, Icmp6};
pub use interface::{Changed, Changes, Interface};
pub use option::set_pace;
pub use packet::{End, FrameSocket, Framed};
pub use sockets::Sockets;
pub use udp::UdpPort;
pub use udp6::UdpPort6;

/// Packets that wait for the neighbour's hardware address count here, each for some three seconds: to hosts that are not there, a small buffer
/// is full at once. The kernel grants less where `net.core.wmem_max` says so.
const SENDING: usize = 4 << 20;

/// Sends without ever waiting for room in the buffer: a packet that does not fit is an error, `WouldBlock`.
fn send_now(socket: &Socket, packet: &[u8], to: &SockAddr) -> std::io::Result<()> {
    socket.send_to_with_flags(packet, to, libc::MSG_DONTWAIT).map(drop)
}

/// A socket or an interface that cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// No such interface.
    #[error("there is no network interface '{name}'; this machine has {}", present.join(", "))]
    NoInterface {
        /// What was asked for.
        name: String,
        /// What there is.
        present: Vec<String>,
    },
    /// The interfaces cannot be listed.
    #[error("the network interfaces cannot be listed: {0}")]
    Interfaces(std::io::Error),
    /// Somebody else has the port.
    #[error("UDP port {port} on {interface} is taken by {holder}; stop it, or have it keep off this interface")]
    PortTaken {
        /// The port.
        port: u16,
        /// The interface.
        interface: String,
        /// The other program, as far as we may know it.
        holder: String,
    },
    /// The system does not allow it.
    #[error(
        "no permission to {what}; run as root, or grant {capability} (systemd: AmbientCapabilities=, container: --cap-add)"
    )]
    NoPermission {
        /// What was tried.
        what: String,
        /// The capability that allows it.
        capability: &'static str,
    },
    /// Anything else.
    #[error("cannot {what}: {source}")]
    Other {
        /// What was tried.
        what: String,
        /// Why not.
        source: std::io::Error,
    },
}

impl NetError {
    /// Whether it stays as it is until somebody does something about it.
    pub fn is_lasting(&self) -> bool {
        matches!(self, Self::PortTaken { .. } | Self::NoPermission { .. })
    }

    /// Sorts a failure by what an operator can do about it.
    fn new(source: std::io::Error, what: String, capability: &'static str) -> Self {
        if source.kind() == std::io::ErrorKind::PermissionDenied {
            return Self::NoPermission { what, capability };
        }
        Self::Other { what, source }
    }
}
