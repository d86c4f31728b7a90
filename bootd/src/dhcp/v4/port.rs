//! The sockets of one interface: receives batches of packets, has them decided, and sends the replies of a batch together.
//!
//! One thread an interface. It never waits for anything but its socket, and never for a full batch. A packet that makes the code panic costs
//! that packet; a failing socket costs a pause. Both are counted.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use bootd_sdk::mac::Mac;

use super::PART;
use super::outbox::{Letter, Outlet};
use super::policy::Receiving;
use super::reply::Destination;
use super::service::{Desk, Shell};
use crate::dhcp::LOOK_AGAIN;
use crate::metrics::Metrics;
use crate::net::{FrameSocket, Framed, Incoming, Interface, NetError, UdpPort, shorten_time_slice};

/// The sockets of one interface.
pub(crate) struct Port {
    name: String,
    number: u16,
    wire: Arc<Wire>,
    /// Shared with replies that wait for the store.
    outlet: Arc<dyn Outlet>,
}

/// Where packets come from and replies leave.
struct Wire {
    udp: ArcSwap<UdpPort>,
    frames: FrameSocket,
    interface: ArcSwap<Interface>,
}

impl Port {
    /// Opens them.
    pub(crate) fn open(name: &str, number: u16) -> Result<Self, NetError> {
        let interface = Interface::find(name)?;
        let udp = UdpPort::open(&interface, number)?;
        let wire = Arc::new(Wire {
            udp: ArcSwap::from_pointee(udp),
            frames: FrameSocket::open()?,
            interface: ArcSwap::from_pointee(interface),
        });
        Ok(Self {
            name: name.into(),
            number,
            outlet: Arc::clone(&wire) as Arc<dyn Outlet>,
            wire,
        })
    }

    /// The interface's name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Takes over what the interface is now. A socket keeps to the one that it was opened on: made anew, the interface needs another.
    fn follow(&self, interface: Interface, metrics: &Metrics) {
        let index = interface.index;
        if self.wire.udp.load().index() != index {
            match UdpPort::open(&interface, self.number) {
                Ok(udp) => {
                    self.wire.udp.store(Arc::new(udp));
                    tracing::warn!(
                        interface = self.name,
                        index,
                        "the interface is a new one: DHCP is heard again"
                    );
                }
                Err(error) => metrics.refused(PART, "reopen_failed", &self.name, &error),
            }
        }
        self.wire.interface.store(Arc::new(interface));
    }
}

/// Receives until `ending`.
pub(crate) fn receive(shell: &Arc<Shell>, port: &Port, ending: &AtomicBool) {
    shorten_time_slice();
    let metrics = &shell.deps().metrics;
    let mut incoming = Incoming::default();
    let mut desk = Desk::new(Arc::clone(metrics));
    let mut receiving = receiving(&port.wire.interface.load());
    let (mut looked, mut there) = (Instant::now(), true);
    while !ending.load(Ordering::Relaxed) {
        if let Err(error) = port.wire.udp.load_full().receive(&mut incoming) {
            metrics.refused(PART, "receive_failed", &port.name(), &error);
            std::thread::sleep(PAUSE);
        }
        for (packet, peer) in incoming.packets() {
            shell.packet(packet, &peer, &receiving, &port.outlet, &mut desk);
        }
        shell.send(&mut desk, &*port.outlet);
        if looked.elapsed() >= LOOK_AGAIN {
            looked = Instant::now();
            // A bridge changes its hardware address when ports come and go; while it is gone the last state stays.
            match Interface::find(port.name()) {
                Ok(interface) => {
                    there = true;
                    receiving = self::receiving(&interface);
                    port.follow(interface, metrics);
                }
                Err(error) if there => {
                    there = false;
                    tracing::warn!(interface = port.name(), %error, "no DHCP there until it comes back");
                }
                Err(_) => {}
            }
        }
    }
}

impl Outlet for Wire {
    fn send(&self, letters: &[Letter], failed: &mut Vec<(usize, io::Error)>) {
        let (udp, interface) = (self.udp.load(), self.interface.load());
        let numbered = || letters.iter().enumerate();
        let packets = numbered().filter_map(|(number, letter)| {
            let to = match letter.envelope.to {
                Destination::Relay(relay) => SocketAddrV4::new(relay, SERVER_PORT),
                Destination::Unicast(ip) => SocketAddrV4::new(ip, CLIENT_PORT),
                // No frames on loopback and the like.
                Destination::Frame(..) if interface.ethernet.is_some() => return None,
                Destination::Broadcast | Destination::Frame(..) => EVERYONE,
            };
            Some((number, &letter.packet[..], to))
        });
        let mut again = Vec::new();
        udp.send(packets, |number, error| {
            let to = letters.get(number).map(|letter| letter.envelope.to);
            // Replies to hosts that are not there fill the buffer of UDP; frames wait for nobody.
            if to == Some(Destination::Broadcast) && error.kind() == io::ErrorKind::WouldBlock {
                again.push((number, error));
            } else {
                failed.push((number, error));
            }
        });
        let Some(ethernet) = interface.ethernet else {
            return failed.append(&mut again);
        };
        let frames = numbered().filter_map(|(number, letter)| {
            let (mac, ip) = match letter.envelope.to {
                Destination::Frame(ip, mac) => (mac, ip),
                _ if again.iter().any(|(other, _)| *other == number) => (Mac([0xff; 6]), Ipv4Addr::BROADCAST),
                _ => return None,
            };
            Some(Framed {
                number,
                payload: &letter.packet,
                from: (ethernet, letter.envelope.server, SERVER_PORT),
                to: (mac, ip, CLIENT_PORT),
            })
        });
        self.frames
            .send(interface.index, frames, |number, error| failed.push((number, error)));
    }
}

fn receiving(interface: &Interface) -> Receiving {
    Receiving {
        addresses: interface.addresses.clone(),
        link: interface.ethernet.map(|mac| (interface.index, mac)),
    }
}

/// Ports of replies are constants even when the server listens elsewhere.
const SERVER_PORT: u16 = 67;
const CLIENT_PORT: u16 = 68;
const EVERYONE: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::BROADCAST, CLIENT_PORT);
/// After a failing receive, so that a lasting failure does not eat the processor.
const PAUSE: Duration = Duration::from_millis(100);
