//! The sockets of one interface for IPv6: receives batches of packets, has them decided, and sends the replies of a batch together.
//!
//! As for IPv4, one thread a socket, which waits for nothing else. What is sent to the groups of servers has one socket and one thread always, so
//! it is answered once; with `dhcp.threads` there are more for what is sent to an address of the interface, by relays. A reply goes to the
//! address and the port that its packet came from.

use std::io;
use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

use super::PART;
use super::letter::Letter;
use super::policy::Receiving;
use super::service::Shell;
use crate::dhcp::outbox::Outlet;
use crate::dhcp::pressure::Pressure;
use crate::net::{Incoming, Interface, NetError, Sockets, UdpPort6};
use crate::urgency;
use crate::watchdog::Rounds;

/// The sockets of one interface.
pub(crate) struct Port {
    /// What is sent to groups, and what is sent to this machine and heard nowhere else.
    udp: Arc<UdpPort6>,
    number: u16,
    interface: Arc<ArcSwap<Interface>>,
}

/// One socket to receive from, by one thread.
pub(crate) struct Receiver {
    udp: Arc<UdpPort6>,
    interface: Arc<ArcSwap<Interface>>,
    /// Shared with replies that wait for a plugin.
    outlet: Arc<dyn Outlet<Letter>>,
}

/// Where replies leave.
struct Wire(Arc<UdpPort6>);

impl Port {
    /// Opens the one for everything, and joins the groups; or takes it over.
    pub(crate) fn open(interface: Interface, number: u16, sockets: &Sockets) -> Result<Self, NetError> {
        let everything = SocketAddr::from((Ipv6Addr::UNSPECIFIED, number));
        let udp = Arc::new(match sockets.udp(Some(&interface.name), everything) {
            Some(handed) => UdpPort6::handed(&interface, handed),
            None => UdpPort6::open(&interface, number, &GROUPS)?,
        });
        sockets.lend(&udp);
        Ok(Self {
            udp,
            number,
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

    /// So many more for what is sent to each of the addresses that are [`spread_over`].
    pub(crate) fn spread(&self, threads: usize, sockets: &Sockets) -> Result<Vec<Receiver>, NetError> {
        let interface = self.interface();
        let mut receivers = Vec::new();
        for (address, _) in spread_over(&interface) {
            let at = SocketAddr::from((*address, self.number));
            let handed = std::iter::from_fn(|| sockets.udp(Some(&interface.name), at));
            let handed = handed.take(threads).map(|socket| UdpPort6::handed(&interface, socket));
            let mut ports: Vec<UdpPort6> = handed.collect();
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

    fn receiver_of(&self, udp: Arc<UdpPort6>) -> Receiver {
        Receiver {
            outlet: Arc::new(Wire(Arc::clone(&udp))),
            udp,
            interface: Arc::clone(&self.interface),
        }
    }
}

/// The addresses for which there are threads: a few that somebody set. Whoever sends router advertisements gives this machine others, and shall not have
/// it begin threads; what is sent there is served all the same.
pub(crate) fn spread_over(interface: &Interface) -> &[(Ipv6Addr, u8)] {
    let own = interface.networks6.get(..interface.own6).unwrap_or_default();
    own.get(..SPREAD_OVER).unwrap_or(own)
}

/// Each has its own threads.
const SPREAD_OVER: usize = 4;

impl Receiver {
    /// Receives as long as there are rounds.
    pub(crate) fn receive(self, shell: &Arc<Shell>, rounds: &Rounds) {
        urgency::become_urgent();
        let metrics = &shell.deps().metrics;
        let (mut incoming, mut desk) = (Incoming::default(), shell.desk());
        let mut pressure = Pressure::new(metrics, PART);
        let mut interface = self.interface.load_full();
        let mut receiving = receiving(&interface);
        while rounds.go_on() {
            if let Err(error) = self.udp.receive(&mut incoming) {
                metrics.refused(PART, "receive_failed", &interface.name, &error);
                std::thread::sleep(PAUSE);
            }
            if !Arc::ptr_eq(&interface, &self.interface.load()) {
                interface = self.interface.load_full();
                receiving = self::receiving(&interface);
            }
            desk.limit_to(shell.rate_limit());
            desk.begin(pressure.after(incoming.is_full(), || self.udp.backlog()));
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
        let numbered = letters.iter().enumerate();
        let packets = numbered.map(|(number, letter)| (number, &letter.packet[..], letter.to));
        self.0.send(packets, |number, error| failed.push((number, error)));
    }
}

fn receiving(interface: &Interface) -> Receiving {
    Receiving::of(interface.networks6.iter().map(|(ip, _)| *ip))
}

/// All servers and relays of the link, and all servers of the site.
const GROUPS: [Ipv6Addr; 2] = [
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2),
    Ipv6Addr::new(0xff05, 0, 0, 0, 0, 0, 1, 3),
];
/// After a failing receive, so that a lasting failure does not eat the processor.
const PAUSE: Duration = Duration::from_millis(100);
