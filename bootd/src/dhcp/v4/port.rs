//! The sockets of one interface: receives batches of packets, has them decided, and sends the replies of a batch together.
//!
//! One thread a socket. It never waits for anything but its socket, and never for a full batch. A packet that makes the code panic costs
//! that packet; a failing socket costs a pause. Both are counted. One socket hears everything; with `dhcp.threads` there are more for what is
//! sent to an address of the interface, by relays and by clients that renew. What is broadcast has one thread always: the kernel would hand a
//! copy to each.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bootd_sdk::mac::Mac;

use super::PART;
use super::letter::Letter;
use super::policy::Receiving;
use super::reply::Destination;
use super::request::SERVER_PORT;
use super::service::Shell;
use crate::dhcp::outbox::Outlet;
use crate::dhcp::pressure::Pressure;
use crate::net::{FrameSocket, Framed, Incoming, Interface, NetError, Sockets, UdpPort};
use crate::urgency;
use crate::watchdog::Rounds;

/// The sockets of one interface.
pub(crate) struct Port {
    name: String,
    number: u16,
    /// What is broadcast, and what is sent to this machine and heard nowhere else.
    udp: Arc<UdpPort>,
    frames: Arc<FrameSocket>,
    interface: Arc<ArcSwap<Interface>>,
}

/// One socket to receive from, by one thread.
pub(crate) struct Receiver {
    name: String,
    wire: Arc<Wire>,
    /// Shared with replies that wait for the store.
    outlet: Arc<dyn Outlet<Letter>>,
}

/// Where packets come from and replies leave.
struct Wire {
    udp: Arc<UdpPort>,
    frames: Arc<FrameSocket>,
    interface: Arc<ArcSwap<Interface>>,
}

impl Port {
    /// Opens the one for everything, or takes it over.
    pub(crate) fn open(interface: Interface, number: u16, sockets: &Sockets) -> Result<Self, NetError> {
        let everything = SocketAddr::from((Ipv4Addr::UNSPECIFIED, number));
        let udp = Arc::new(match sockets.udp(Some(&interface.name), everything) {
            Some(handed) => UdpPort::handed(handed),
            None => UdpPort::open(&interface, number)?,
        });
        sockets.lend(&udp);
        Ok(Self {
            name: interface.name.clone(),
            number,
            udp,
            frames: Arc::new(FrameSocket::open()?),
            interface: Arc::new(ArcSwap::from_pointee(interface)),
        })
    }

    /// What the interface was when it was looked at last.
    pub(crate) fn interface(&self) -> Arc<Interface> {
        self.interface.load_full()
    }

    /// Takes over what the interface is now.
    pub(crate) fn follow(&self, interface: Interface) {
        if **self.interface.load() != interface {
            self.interface.store(Arc::new(interface));
        }
    }

    /// What receives everything that [`Port::spread`] leaves.
    pub(crate) fn receiver(&self) -> Receiver {
        self.receiver_of(Arc::clone(&self.udp))
    }

    /// So many more for what is sent to each address of the interface.
    pub(crate) fn spread(&self, threads: usize, sockets: &Sockets) -> Result<Vec<Receiver>, NetError> {
        let interface = self.interface();
        let mut receivers = Vec::new();
        for address in &interface.addresses {
            let at = SocketAddr::from((*address, self.number));
            let handed = std::iter::from_fn(|| sockets.udp(Some(&interface.name), at));
            let mut ports: Vec<UdpPort> = handed.take(threads).map(UdpPort::handed).collect();
            if ports.len() < threads {
                ports.extend(self.udp.beside(&interface, *address, threads - ports.len())?);
            }
            for udp in ports.into_iter().map(Arc::new) {
                sockets.lend(&udp);
                receivers.push(self.receiver_of(udp));
            }
        }
        Ok(receivers)
    }

    fn receiver_of(&self, udp: Arc<UdpPort>) -> Receiver {
        let wire = Arc::new(Wire {
            udp,
            frames: Arc::clone(&self.frames),
            interface: Arc::clone(&self.interface),
        });
        Receiver {
            name: self.name.clone(),
            outlet: Arc::clone(&wire) as Arc<dyn Outlet<Letter>>,
            wire,
        }
    }
}

impl Receiver {
    /// Receives as long as there are rounds.
    pub(crate) fn receive(self, shell: &Arc<Shell>, rounds: &Rounds) {
        urgency::become_urgent();
        let metrics = &shell.deps().metrics;
        let (mut incoming, mut desk) = (Incoming::default(), shell.desk());
        let mut pressure = Pressure::new(metrics, PART);
        let mut interface = self.wire.interface.load_full();
        let mut receiving = receiving(&interface);
        while rounds.go_on() {
            if let Err(error) = self.wire.udp.receive(&mut incoming) {
                metrics.refused(PART, "receive_failed", &self.name, &error);
                std::thread::sleep(PAUSE);
            }
            if !Arc::ptr_eq(&interface, &self.wire.interface.load()) {
                interface = self.wire.interface.load_full();
                receiving = self::receiving(&interface);
            }
            desk.limit_to(shell.rate_limit());
            desk.begin(pressure.after(incoming.is_full(), || self.wire.udp.backlog()));
            for (packet, peer) in incoming.packets() {
                shell.packet(packet, peer, &receiving, &self.outlet, &mut desk);
            }
            for peer in incoming.too_long() {
                desk.refusals.count("too_long", &peer, &"more than 9216 bytes");
            }
            shell.send(&mut desk, &*self.outlet);
        }
    }
}

impl Outlet<Letter> for Wire {
    fn send(&self, letters: &[Letter], failed: &mut Vec<(usize, io::Error)>) {
        let interface = self.interface.load();
        let numbered = || letters.iter().enumerate();
        let packets = numbered().filter_map(|(number, letter)| {
            let to = match letter.envelope.to {
                Destination::Relay(relay, port) => SocketAddrV4::new(relay, port),
                Destination::Unicast(ip) => SocketAddrV4::new(ip, CLIENT_PORT),
                // No frames on loopback and the like.
                Destination::Frame(..) if interface.ethernet.is_some() => return None,
                Destination::Broadcast | Destination::Frame(..) => EVERYONE,
            };
            Some((number, &letter.packet[..], to))
        });
        let mut again = Vec::new();
        self.udp.send(packets, |number, error| {
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
const CLIENT_PORT: u16 = 68;
const EVERYONE: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::BROADCAST, CLIENT_PORT);
/// After a failing receive, so that a lasting failure does not eat the processor.
const PAUSE: Duration = Duration::from_millis(100);
