//! Which interfaces DHCP is on, as they come, change and go.
//!
//! [`Watch`] owns a port with its threads for each interface that is up and that the configuration means. Those that are there at the start
//! are opened before anything is answered, and what is wrong with them is an error; later, and for those that are not there, it is a warning,
//! which [`Watch::warnings`] tells, and looked at again with each change of the interfaces, and every few seconds anyway. It never touches a
//! packet.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, ArcSwapOption};

use super::router::advertisement::Dhcp6;
use super::v4::port::{Port, Receiver};
use super::v4::service::Shell;
use super::{DhcpError, LOOK_AGAIN, router};
use crate::config::Selector;
use crate::net::{Changed, Changes, Icmp6, Interface};

/// What is wrong with interfaces at present, for the operator.
pub type Warnings = Arc<ArcSwap<Vec<String>>>;

/// The ports.
pub(super) struct Watch {
    shell: Arc<Shell>,
    selectors: Vec<Selector>,
    /// By the number of the interface: made anew, it has another one.
    running: BTreeMap<u32, Running>,
    warnings: Warnings,
    /// What is wrong with the file of hosts.
    hosts: Option<String>,
    ending: Arc<AtomicBool>,
}

/// An interface that is served.
struct Running {
    threads: Threads,
    /// Those for unicast; they are others when the addresses are.
    spread: Threads,
    port: Port,
    /// Another router, to which solicitations are left.
    router: Arc<ArcSwapOption<Ipv6Addr>>,
}

impl Watch {
    /// Opens the ports of the interfaces that are there.
    pub(super) fn start(
        shell: Arc<Shell>,
        selectors: Vec<Selector>,
        ending: Arc<AtomicBool>,
    ) -> Result<Self, DhcpError> {
        let mut watch = Self {
            shell,
            selectors,
            running: BTreeMap::new(),
            warnings: Warnings::default(),
            hosts: None,
            ending,
        };
        let all = Interface::all().map_err(|source| DhcpError::Net {
            interface: "any interface".into(),
            source,
        })?;
        let mut warnings = Vec::new();
        for interface in watch.wanted(&all) {
            match watch.open(interface) {
                Err(DhcpError::Net { interface, source }) if !source.is_lasting() => {
                    warnings.push(format!("interface {interface}: no DHCP there: {source}"));
                }
                Err(error) => return Err(error),
                Ok(()) => {}
            }
        }
        watch.say(&all, warnings);
        Ok(watch)
    }

    /// What is wrong at present; it changes with time.
    pub(super) fn warnings(&self) -> Warnings {
        Arc::clone(&self.warnings)
    }

    /// Follows the interfaces until told to end, then ends the ports.
    pub(super) fn run(mut self) {
        let mut changes = None;
        let mut looked = Instant::now();
        while !self.ending.load(Ordering::Relaxed) {
            let changed = match &changes {
                Some(changes) => Changes::wait(changes),
                None => {
                    changes = Changes::listen().ok();
                    std::thread::sleep(PAUSE);
                    Ok(Changed::Something)
                }
            };
            match changed {
                Ok(Changed::Nothing) if looked.elapsed() < LOOK_AGAIN => continue,
                Ok(_) => {}
                Err(_) => changes = None,
            }
            looked = Instant::now();
            match self.shell.look_at_hosts() {
                None => {}
                Some(Ok(clients)) => {
                    tracing::info!(clients, "the file of hosts is taken over");
                    self.hosts = None;
                }
                Some(Err(error)) => self.hosts = Some(format!("dhcp.hosts: {error}: what it said before counts")),
            }
            // While they cannot be listed, the last state stays.
            if let Ok(all) = Interface::all() {
                self.follow(&all);
            }
        }
        // All are told before any is waited for.
        for running in self.running.values() {
            for threads in [&running.threads, &running.spread] {
                threads.ending.store(true, Ordering::Relaxed);
            }
        }
    }

    /// Ends, changes and opens what must be.
    fn follow(&mut self, all: &[Interface]) {
        let wanted = self.wanted(all);
        let is_wanted = |index: u32, running: &Running| {
            let mut wanted = wanted.iter();
            wanted.any(|interface| interface.index == index && interface.name == running.port.name())
        };
        let gone: Vec<Running> = self
            .running
            .extract_if(.., |index, running| !is_wanted(*index, running))
            .map(|(_, running)| running)
            .collect();
        for running in gone {
            tracing::warn!(
                interface = running.port.name(),
                "the interface went, or is down: no DHCP there until it comes back"
            );
            drop(running);
        }
        let mut warnings = Vec::new();
        for interface in wanted {
            if let Some(running) = self.running.get_mut(&interface.index) {
                running.follow(interface, &self.shell);
                continue;
            }
            let name = interface.name.clone();
            match self.open(interface) {
                Ok(()) => tracing::info!(interface = name, "DHCP is heard on an interface that came"),
                Err(error) => {
                    let metrics = &self.shell.deps().metrics;
                    metrics.refused("dhcp4", "open_failed", &name, &error);
                    warnings.push(format!("interface {name}: no DHCP there: {error}"));
                }
            }
        }
        self.say(all, warnings);
    }

    /// The interfaces that are to be served.
    fn wanted(&self, all: &[Interface]) -> Vec<Interface> {
        let is_meant = |interface: &&Interface| interface.up && is_meant(&self.selectors, interface);
        all.iter().filter(is_meant).cloned().collect()
    }

    fn open(&mut self, interface: Interface) -> Result<(), DhcpError> {
        let (index, name) = (interface.index, interface.name.clone());
        let config = &self.shell.deps().config;
        let port = Port::open(interface.clone(), config.dhcp.port).map_err(|source| DhcpError::Net {
            interface: name.clone(),
            source,
        })?;
        let mut running = Running {
            threads: Threads::default(),
            spread: Threads::default(),
            port,
            router: Arc::default(),
        };
        running
            .threads
            .receive(running.port.receiver(), format!("dhcp-{name}"), &self.shell)
            .map_err(|source| DhcpError::Thread {
                interface: name,
                source,
            })?;
        running.spread(&self.shell);
        if config.dhcp.router_solicitations {
            running.answer_solicitations(&self.shell, &interface);
        }
        self.running.insert(index, running);
        Ok(())
    }

    /// Tells what is wrong, once when it begins.
    fn say(&self, all: &[Interface], mut warnings: Vec<String>) {
        let missing = self.selectors.iter().filter(|selector| {
            let is_meant = |interface: &Interface| interface.up && is_meant(std::slice::from_ref(*selector), interface);
            !all.iter().any(is_meant)
        });
        warnings
            .extend(missing.map(|selector| {
                format!("interface {selector} is not there, or is down: no DHCP there until it comes")
            }));
        warnings.extend(self.hosts.clone());
        let routers = self.running.values().filter_map(|running| {
            let router = running.router.load_full()?;
            let name = running.port.name();
            Some(format!(
                "interface {name}: {router} advertises itself as a router, so router solicitations are left to it"
            ))
        });
        warnings.extend(routers);
        let before = self.warnings.load();
        for warning in warnings.iter().filter(|warning| !before.contains(warning)) {
            tracing::warn!("{warning}");
        }
        if **before != warnings {
            self.warnings.store(Arc::new(warnings));
        }
    }
}

impl Running {
    /// Opens the sockets for unicast. When they cannot be had, the first one hears everything.
    fn spread(&mut self, shell: &Arc<Shell>) {
        self.spread = Threads::default();
        let threads = shell.deps().config.dhcp.threads;
        if threads < 2 {
            return;
        }
        let name = self.port.name().to_owned();
        let mut spread = || -> Result<(), String> {
            let receivers = self.port.spread(threads).map_err(|error| error.to_string())?;
            for (number, receiver) in receivers.into_iter().enumerate() {
                let thread = format!("dhcp-{name}-{number}");
                let begun = self.spread.receive(receiver, thread, shell);
                begun.map_err(|error| error.to_string())?;
            }
            Ok(())
        };
        if let Err(error) = spread() {
            tracing::warn!(interface = name, error, "unicast is not spread over threads");
            // A socket without a thread would keep its packets.
            self.spread = Threads::default();
        }
    }

    /// A bridge changes its hardware address when ports come and go; addresses come and go.
    fn follow(&mut self, interface: Interface, shell: &Arc<Shell>) {
        let before = self.port.interface();
        let moved = before.addresses != interface.addresses;
        self.port.follow(interface);
        if moved {
            self.spread(shell);
        }
    }

    /// Where the system has no IPv6 nobody answers, which costs iPXE its wait and nothing else.
    fn answer_solicitations(&mut self, shell: &Shell, interface: &Interface) {
        let opened = Icmp6::open(interface).map_err(|error| error.to_string());
        let begun = opened.and_then(|socket| {
            let service = router::service::Service {
                socket,
                interface: interface.name.clone(),
                says: shell.deps().config.dhcp.router_advertisement.clone(),
                dhcp6: Dhcp6::None,
                router: Arc::clone(&self.router),
                metrics: Arc::clone(&shell.deps().metrics),
            };
            let ending = Arc::clone(&self.threads.ending);
            let name = format!("nd-{}", interface.name);
            let begun = self.threads.begin(name, move || service.run(&ending));
            begun.map_err(|error| error.to_string())
        });
        if let Err(error) = begun {
            let interface = &interface.name;
            tracing::warn!(interface, error, "router solicitations are not answered");
        }
    }
}

/// Threads that end together, when this goes: within about half a second.
#[derive(Default)]
struct Threads {
    threads: Vec<JoinHandle<()>>,
    ending: Arc<AtomicBool>,
}

impl Threads {
    fn receive(&mut self, receiver: Receiver, name: String, shell: &Arc<Shell>) -> std::io::Result<()> {
        let (shell, ending) = (Arc::clone(shell), Arc::clone(&self.ending));
        self.begin(name, move || receiver.receive(&shell, &ending))
    }

    fn begin(&mut self, name: String, work: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
        let thread = std::thread::Builder::new().name(name).spawn(work)?;
        self.threads.push(thread);
        Ok(())
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // It catches panics itself; one outside of a packet has been printed by now.
            let _ = thread.join();
        }
    }
}

fn is_meant(selectors: &[Selector], interface: &Interface) -> bool {
    let mut selectors = selectors.iter();
    selectors.any(|selector| selector.means(&interface.name, &interface.addresses))
}

/// Between two tries to hear of changes.
const PAUSE: Duration = Duration::from_secs(1);
