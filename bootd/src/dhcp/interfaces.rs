//! Which interfaces DHCP is on, in either family, as they come, change and go.
//!
//! [`Watch`] owns a port with its threads for each interface that is up and that the configuration means. Those that are there at the start
//! are opened before anything is answered, and what is wrong with them is an error; later, and for those that are not there, it is a warning,
//! which [`Watch::warnings`] tells, and looked at again with each change of the interfaces, and every few seconds anyway. A new configuration
//! finds its ports opened before it counts ([`Watch::prepare`]); then they are heard, and those that it does not mean are closed
//! ([`Watch::take`]); ports that it means as before are never closed. It never touches a packet.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, ArcSwapOption};

use super::router::{self, advertisement::Dhcp6};
use super::served::{self, Line};
use super::{Deps, DhcpError, LOOK_AGAIN, v4, v6};
use crate::config::{Config, RouterAdvertisement, Selector};
use crate::net::{Changed, Changes, Icmp6, Interface, Sockets};
use crate::watchdog::{Pulse, Rounds};

/// What is wrong with interfaces at present, for the operator.
pub type Warnings = Arc<ArcSwap<Vec<String>>>;

/// The ports.
pub(super) struct Watch {
    config: Arc<Config>,
    v4: Family<v4::service::Shell>,
    /// `None`: there is no DHCPv6.
    v6: Option<Family<v6::service::Shell>>,
    /// By the number of the interface: made anew, it has another one.
    running: BTreeMap<u32, Running>,
    warnings: Warnings,
    /// What is wrong with files of hosts.
    hosts: BTreeMap<&'static str, String>,
    lines: Arc<served::Served>,
    /// Ends what the configuration before had and this one has not.
    closing: Option<JoinHandle<()>>,
}

/// What a new configuration needs that is not there yet.
pub(super) struct Prepared {
    config: Arc<Config>,
    /// `None`: there is no DHCPv6.
    v6: Option<Six>,
    /// Open, and heard by nobody yet.
    ports: Vec<Opened>,
    warnings: Vec<String>,
}

/// DHCPv6 of a new configuration.
enum Six {
    /// It is there, and goes by these rules then.
    Other(Box<v6::service::Rules>),
    /// It begins.
    New(Arc<v6::service::Shell>),
}

/// Ports of an interface.
struct Opened {
    interface: Interface,
    v4: Option<v4::port::Port>,
    v6: Option<v6::port::Port>,
}

/// Where DHCP of one family is.
struct Family<S> {
    shell: Arc<S>,
    selectors: Vec<Selector>,
}

/// What an interface is to have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Wants {
    v4: bool,
    v6: bool,
}

/// An interface that is served.
struct Running {
    name: String,
    wants: Wants,
    v4: Option<Served<v4::port::Port>>,
    v6: Option<Served<v6::port::Port>>,
    /// Answers router solicitations, with this.
    neighbours: Threads,
    says: Option<(RouterAdvertisement, Dhcp6)>,
    /// Another router, to which they are left.
    router: Arc<ArcSwapOption<Ipv6Addr>>,
}

/// A family on an interface.
struct Served<P> {
    threads: Threads,
    /// Those for unicast; they are others when the addresses are.
    spread: Threads,
    port: P,
}

impl Watch {
    /// Opens the ports of the interfaces that are there.
    pub(super) fn start(
        shell: Arc<v4::service::Shell>,
        shell6: Option<Arc<v6::service::Shell>>,
    ) -> Result<Self, DhcpError> {
        let config = Arc::clone(&shell.rules().config);
        let (selectors, selectors6) = selectors(&config);
        let mut watch = Self {
            config,
            v4: Family { shell, selectors },
            v6: shell6.map(|shell| Family {
                shell,
                selectors: selectors6,
            }),
            running: BTreeMap::new(),
            warnings: Warnings::default(),
            hosts: BTreeMap::new(),
            lines: Arc::default(),
            closing: None,
        };
        let all = Interface::all().map_err(|source| DhcpError::Net {
            interface: "any interface".into(),
            source,
        })?;
        let mut warnings = Vec::new();
        for (interface, wants) in watch.wanted(&all) {
            match watch.open(interface, wants) {
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

    /// Where DHCP is at present.
    pub(super) fn lines(&self) -> Arc<served::Served> {
        Arc::clone(&self.lines)
    }

    /// Follows the interfaces until told to end, then ends the ports.
    pub(super) fn run(watch: &Mutex<Self>, ending: &AtomicBool) {
        let mut changes = None;
        let mut looked = Instant::now();
        while !ending.load(Ordering::Relaxed) {
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
            let mut watch = locked(watch);
            watch.look_at_hosts();
            // While they cannot be listed, the last state stays.
            if let Ok(all) = Interface::all() {
                watch.follow(&all);
            }
        }
        // All are told before any is waited for.
        let running = std::mem::take(&mut locked(watch).running);
        running.values().for_each(Running::end);
    }

    /// Opens what a new configuration needs and is not there; nobody notices. What is wrong with interfaces that come and go is a warning.
    pub(super) fn prepare(&mut self, config: &Arc<Config>) -> Result<Prepared, DhcpError> {
        // What the reload before closed may be what this one opens.
        if let Some(closing) = self.closing.take() {
            let _ = closing.join();
        }
        let deps = self.v4.shell.deps();
        let v6 = match (&config.dhcp6, &self.v6) {
            (None, _) => None,
            (Some(dhcp6), Some(_)) => {
                let rules = v6::service::Rules::read(config, dhcp6, &deps.store)?;
                Some(Six::Other(Box::new(rules)))
            }
            (Some(dhcp6), None) => {
                let rules = v6::service::Rules::read(config, dhcp6, &deps.store)?;
                let shell = v6::service::Shell::with(deps.clone(), rules);
                Some(Six::New(Arc::new(shell)))
            }
        };
        let all = Interface::all().map_err(|source| DhcpError::Net {
            interface: "any interface".into(),
            source,
        })?;
        let mut prepared = Prepared {
            config: Arc::clone(config),
            v6,
            ports: Vec::new(),
            warnings: Vec::new(),
        };
        for (interface, wants) in wanted(&all, &selectors(config)) {
            let running = self.running.get(&interface.index);
            let has = running.map_or_else(Wants::default, Running::has);
            match Opened::open(interface, wants, has, config, &deps.sockets) {
                Err(DhcpError::Net { interface, source }) if !source.is_lasting() => {
                    let warning = format!("interface {interface}: no DHCP there: {source}");
                    prepared.warnings.push(warning);
                }
                Err(error) => return Err(error),
                Ok(opened) => prepared.ports.push(opened),
            }
        }
        Ok(prepared)
    }

    /// Has what was prepared heard, and ends what the configuration does not mean any more.
    pub(super) fn take(&mut self, prepared: Prepared) {
        let (selectors, selectors6) = selectors(&prepared.config);
        self.config = prepared.config;
        self.v4.selectors = selectors;
        let shell6 = match (prepared.v6, self.v6.take()) {
            (None, _) => None,
            (Some(Six::Other(rules)), Some(family)) => {
                family.shell.take(*rules);
                Some(family.shell)
            }
            (Some(Six::New(shell)), _) => Some(shell),
            // It was there when this was prepared, and nobody else takes it away.
            (Some(Six::Other(_)), None) => None,
        };
        self.v6 = shell6.map(|shell| Family {
            shell,
            selectors: selectors6,
        });
        let mut closed = Closed::default();
        let wanted: Vec<u32> = prepared.ports.iter().map(|opened| opened.interface.index).collect();
        let (v4, v6) = (&self.v4.selectors, self.v6.as_ref().map(|v6| &v6.selectors));
        // One that came a moment ago was opened meanwhile.
        let came = |running: &Running| {
            let interface = running.interface();
            interface.is_some_and(|i| is_meant(v4, &i) || v6.is_some_and(|v6| is_meant(v6, &i)))
        };
        let gone = self
            .running
            .extract_if(.., |index, running| !wanted.contains(index) && !came(running));
        for (_, running) in gone {
            tracing::info!(
                interface = running.name,
                "no DHCP there any more: the configuration does not mean it"
            );
            self.lines.end(&running.name);
            closed.running.push(running);
        }
        for opened in prepared.ports {
            let name = opened.interface.name.clone();
            if let Err(error) = self.begin(opened, &mut closed) {
                // As with an interface that comes later: it is tried again.
                self.v4
                    .shell
                    .deps()
                    .metrics
                    .refused("dhcp4", "open_failed", &name, &error);
            }
        }
        self.closing = closed.put_away();
        // While they cannot be listed, what is wrong is said with the next look.
        if let Ok(all) = Interface::all() {
            self.say(&all, prepared.warnings);
        }
    }

    /// Has an interface served by what was opened for it, and by what was there. After an error it is not served at all.
    fn begin(&mut self, opened: Opened, closed: &mut Closed) -> Result<(), DhcpError> {
        let index = opened.interface.index;
        let begun = self.try_begin(opened, closed);
        if begun.is_err()
            && let Some(running) = self.running.remove(&index)
        {
            self.lines.end(&running.name);
            closed.running.push(running);
        }
        begun
    }

    fn try_begin(&mut self, opened: Opened, closed: &mut Closed) -> Result<(), DhcpError> {
        let interface = opened.interface;
        let wants = Wants {
            v4: is_meant(&self.v4.selectors, &interface),
            v6: self.v6.as_ref().is_some_and(|v6| is_meant(&v6.selectors, &interface)),
        };
        let running = self.running.entry(interface.index).or_insert_with(|| Running {
            name: interface.name.clone(),
            wants,
            v4: None,
            v6: None,
            neighbours: Threads::default(),
            says: None,
            router: Arc::default(),
        });
        running.wants = wants;
        match (opened.v4, wants.v4, &running.v4) {
            (Some(port), true, None) => running.v4 = Some(self.v4.serve(port)?),
            (_, false, _) => closed.v4.extend(running.v4.take()),
            _ => {}
        }
        match (opened.v6, &self.v6, &running.v6) {
            (Some(port), Some(v6), None) if wants.v6 => running.v6 = Some(v6.serve(port)?),
            (_, _, _) if !wants.v6 => closed.v6.extend(running.v6.take()),
            _ => {}
        }
        let before = running.answer_solicitations(&self.config, &self.v4.shell, &interface);
        closed.neighbours.extend(before);
        let line = Line {
            v4: wants.v4,
            v6: wants.v6,
        };
        self.lines.begin(&running.name, line);
        Ok(())
    }

    fn look_at_hosts(&mut self) {
        let v6 = self.v6.as_ref().and_then(|v6| v6.shell.look_at_hosts());
        for (key, looked) in [("dhcp.hosts", self.v4.shell.look_at_hosts()), ("dhcp6.hosts", v6)] {
            match looked {
                None => {}
                Some(Ok(clients)) => {
                    tracing::info!(key, clients, "the file of hosts is taken over");
                    self.hosts.remove(key);
                }
                Some(Err(error)) => {
                    let text = format!("{key}: {error}: what it said before counts");
                    self.hosts.insert(key, text);
                }
            }
        }
    }

    /// Ends, changes and opens what must be.
    fn follow(&mut self, all: &[Interface]) {
        let wanted = self.wanted(all);
        let is_wanted = |index: u32, running: &Running| {
            let mut wanted = wanted.iter();
            wanted.any(|(interface, wants)| {
                interface.index == index && interface.name == running.name && *wants == running.wants
            })
        };
        let gone: Vec<Running> = self
            .running
            .extract_if(.., |index, running| !is_wanted(*index, running))
            .map(|(_, running)| running)
            .collect();
        for running in gone {
            tracing::warn!(
                interface = running.name,
                "the interface went, or is down: no DHCP there until it comes back"
            );
            self.lines.end(&running.name);
            drop(running);
        }
        let mut warnings = Vec::new();
        for (interface, wants) in wanted {
            if let Some(running) = self.running.get_mut(&interface.index) {
                running.follow(interface, &self.v4, self.v6.as_ref());
                continue;
            }
            let name = interface.name.clone();
            match self.open(interface, wants) {
                Ok(()) => tracing::info!(interface = name, "DHCP is heard on an interface that came"),
                Err(error) => {
                    let metrics = &self.v4.shell.deps().metrics;
                    metrics.refused("dhcp4", "open_failed", &name, &error);
                    warnings.push(format!("interface {name}: no DHCP there: {error}"));
                }
            }
        }
        self.say(all, warnings);
    }

    /// The interfaces that are to be served, and in which families.
    fn wanted(&self, all: &[Interface]) -> Vec<(Interface, Wants)> {
        let selectors6 = self.v6.as_ref().map(|v6| v6.selectors.clone()).unwrap_or_default();
        wanted(all, &(self.v4.selectors.clone(), selectors6))
    }

    fn open(&mut self, interface: Interface, wants: Wants) -> Result<(), DhcpError> {
        let opened = Opened::open(
            interface,
            wants,
            Wants::default(),
            &self.config,
            &self.v4.shell.deps().sockets,
        )?;
        self.begin(opened, &mut Closed::default())
    }

    /// Tells what is wrong, once when it begins.
    fn say(&self, all: &[Interface], mut warnings: Vec<String>) {
        let selectors6 = self.v6.iter().flat_map(|v6| &v6.selectors);
        let mut missing: Vec<&Selector> = Vec::new();
        for selector in self.v4.selectors.iter().chain(selectors6) {
            let is_meant = |interface: &Interface| interface.up && is_meant(std::slice::from_ref(selector), interface);
            if !all.iter().any(is_meant) && !missing.contains(&selector) {
                missing.push(selector);
            }
        }
        warnings.extend(
            missing
                .iter()
                .map(|selector| format!("interface {selector} is not there, or is down: no DHCP there until it comes")),
        );
        warnings.extend(self.hosts.values().cloned());
        let routers = self.running.values().filter_map(|running| {
            let (name, router) = (&running.name, running.router.load_full()?);
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

impl Opened {
    /// Opens the ports that an interface is to have and has not.
    fn open(
        interface: Interface,
        wants: Wants,
        has: Wants,
        config: &Config,
        sockets: &Sockets,
    ) -> Result<Self, DhcpError> {
        let failed = |source| DhcpError::Net {
            interface: interface.name.clone(),
            source,
        };
        let v4 = match wants.v4 && !has.v4 {
            true => Some(v4::port::Port::open(interface.clone(), config.dhcp.port, sockets).map_err(failed)?),
            false => None,
        };
        let v6 = match config.dhcp6.as_ref().filter(|_| wants.v6 && !has.v6) {
            Some(dhcp6) => Some(v6::port::Port::open(interface.clone(), dhcp6.port, sockets).map_err(failed)?),
            None => None,
        };
        Ok(Self { interface, v4, v6 })
    }
}

/// What is not heard any more. Its threads are waited for elsewhere: they end within half a second.
#[derive(Default)]
struct Closed {
    running: Vec<Running>,
    v4: Vec<Served<v4::port::Port>>,
    v6: Vec<Served<v6::port::Port>>,
    neighbours: Vec<Threads>,
}

impl Closed {
    /// `None`: nothing is waited for any more.
    fn put_away(self) -> Option<JoinHandle<()>> {
        if self.running.is_empty() && self.v4.is_empty() && self.v6.is_empty() && self.neighbours.is_empty() {
            return None;
        }
        self.running.iter().for_each(Running::end);
        // Without a thread they are waited for here.
        let thread = std::thread::Builder::new().name("dhcp-closing".into());
        thread.spawn(move || drop(self)).ok()
    }
}

/// Where DHCP of each family is to be.
fn selectors(config: &Config) -> (Vec<Selector>, Vec<Selector>) {
    // Whoever has no subnets of a family is not served in it.
    let v4 = match config.dhcp.subnets.is_empty() {
        true => Vec::new(),
        false => config.interfaces.clone(),
    };
    let v6 = config.dhcp6.iter().flat_map(|dhcp6| dhcp6.interfaces.clone());
    (v4, v6.collect())
}

/// The interfaces that are to be served, and in which families.
fn wanted(all: &[Interface], (v4, v6): &(Vec<Selector>, Vec<Selector>)) -> Vec<(Interface, Wants)> {
    let of = |interface: &Interface| Wants {
        v4: is_meant(v4, interface),
        v6: is_meant(v6, interface),
    };
    let up = all.iter().filter(|interface| interface.up);
    up.map(|interface| (interface.clone(), of(interface)))
        .filter(|(_, wants)| wants.v4 || wants.v6)
        .collect()
}

impl Family<v4::service::Shell> {
    /// Has a port heard.
    fn serve(&self, port: v4::port::Port) -> Result<Served<v4::port::Port>, DhcpError> {
        let name = port.interface().name.clone();
        let (mut threads, receiver) = (Threads::default(), port.receiver());
        let shell = Arc::clone(&self.shell);
        threads
            .receive(self.shell.deps(), format!("dhcp-{name}"), move |rounds| {
                receiver.receive(&shell, rounds)
            })
            .map_err(|source| DhcpError::Thread {
                interface: name,
                source,
            })?;
        let mut served = Served {
            threads,
            spread: Threads::default(),
            port,
        };
        self.spread(&mut served);
        Ok(served)
    }

    /// Opens the sockets for unicast. When they cannot be had, the first one hears everything.
    fn spread(&self, served: &mut Served<v4::port::Port>) {
        served.spread = Threads::default();
        let name = served.port.interface().name.clone();
        let sockets = &self.shell.deps().sockets;
        let receivers = |threads| served.port.spread(threads, sockets).map_err(|error| error.to_string());
        let opened = spread(self.shell.deps().config.dhcp.threads, receivers, |number, receiver| {
            let shell = Arc::clone(&self.shell);
            let thread = format!("dhcp-{name}-{number}");
            served.spread.receive(self.shell.deps(), thread, move |rounds| {
                receiver.receive(&shell, rounds)
            })
        });
        if let Err(error) = opened {
            tracing::warn!(interface = name, error, "unicast is not spread over threads");
            // A socket without a thread would keep its packets.
            served.spread = Threads::default();
        }
    }
}

impl Family<v6::service::Shell> {
    /// Has a port heard.
    fn serve(&self, port: v6::port::Port) -> Result<Served<v6::port::Port>, DhcpError> {
        let name = port.interface().name.clone();
        let (mut threads, receiver) = (Threads::default(), port.receiver());
        let shell = Arc::clone(&self.shell);
        threads
            .receive(self.shell.deps(), format!("dhcp6-{name}"), move |rounds| {
                receiver.receive(&shell, rounds)
            })
            .map_err(|source| DhcpError::Thread {
                interface: name,
                source,
            })?;
        let mut served = Served {
            threads,
            spread: Threads::default(),
            port,
        };
        self.spread(&mut served);
        Ok(served)
    }

    /// As for IPv4.
    fn spread(&self, served: &mut Served<v6::port::Port>) {
        served.spread = Threads::default();
        let name = served.port.interface().name.clone();
        let sockets = &self.shell.deps().sockets;
        let receivers = |threads| served.port.spread(threads, sockets).map_err(|error| error.to_string());
        let opened = spread(self.shell.deps().config.dhcp.threads, receivers, |number, receiver| {
            let shell = Arc::clone(&self.shell);
            let thread = format!("dhcp6-{name}-{number}");
            served.spread.receive(self.shell.deps(), thread, move |rounds| {
                receiver.receive(&shell, rounds)
            })
        });
        if let Err(error) = opened {
            tracing::warn!(interface = name, error, "unicast of IPv6 is not spread over threads");
            served.spread = Threads::default();
        }
    }
}

/// Has each receiver of so many begin in a thread, when there are to be more than one.
fn spread<R>(
    threads: usize,
    receivers: impl FnOnce(usize) -> Result<Vec<R>, String>,
    mut begin: impl FnMut(usize, R) -> std::io::Result<()>,
) -> Result<(), String> {
    if threads < 2 {
        return Ok(());
    }
    for (number, receiver) in receivers(threads)?.into_iter().enumerate() {
        begin(number, receiver).map_err(|error| error.to_string())?;
    }
    Ok(())
}

impl Running {
    /// A bridge changes its hardware address when ports come and go; addresses come and go.
    fn follow(
        &mut self,
        interface: Interface,
        v4: &Family<v4::service::Shell>,
        v6: Option<&Family<v6::service::Shell>>,
    ) {
        if let (Some(served), Some(v6)) = (&mut self.v6, v6) {
            let spread_over = v6::port::spread_over;
            let moved = spread_over(&served.port.interface()) != spread_over(&interface);
            served.port.follow(interface.clone());
            if moved {
                v6.spread(served);
            }
        }
        if let Some(served) = &mut self.v4 {
            let moved = served.port.interface().addresses != interface.addresses;
            served.port.follow(interface);
            if moved {
                v4.spread(served);
            }
        }
    }

    /// What it was when it was looked at last.
    fn interface(&self) -> Option<Arc<Interface>> {
        let v4 = self.v4.as_ref().map(|served| served.port.interface());
        v4.or_else(|| self.v6.as_ref().map(|served| served.port.interface()))
    }

    /// What it has.
    fn has(&self) -> Wants {
        Wants {
            v4: self.v4.is_some(),
            v6: self.v6.is_some(),
        }
    }

    /// Answers router solicitations as the configuration says; what answered otherwise before comes back. Where the system has no IPv6 nobody
    /// answers, which costs iPXE its wait and nothing else.
    fn answer_solicitations(
        &mut self,
        config: &Config,
        shell: &v4::service::Shell,
        interface: &Interface,
    ) -> Option<Threads> {
        let dhcp6 = match self.wants.v6 {
            true => Dhcp6::Managed,
            false => Dhcp6::None,
        };
        let says = &config.dhcp.router_advertisement;
        let says = config.dhcp.router_solicitations.then(|| (says.clone(), dhcp6));
        if self.says == says {
            return None;
        }
        let before = std::mem::take(&mut self.neighbours);
        before.ending.store(true, Ordering::Relaxed);
        self.router.store(None);
        self.says.clone_from(&says);
        let Some((says, dhcp6)) = says else {
            return Some(before);
        };
        let opened = Icmp6::open(interface).map_err(|error| error.to_string());
        let begun = opened.and_then(|socket| {
            let service = router::service::Service {
                socket,
                interface: interface.name.clone(),
                says,
                dhcp6,
                router: Arc::clone(&self.router),
                metrics: Arc::clone(&shell.deps().metrics),
            };
            let name = format!("nd-{}", interface.name);
            let begun = self
                .neighbours
                .receive(shell.deps(), name, move |rounds| service.run(rounds));
            begun.map_err(|error| error.to_string())
        });
        if let Err(error) = begun {
            let interface = &interface.name;
            tracing::warn!(interface, error, "router solicitations are not answered");
        }
        Some(before)
    }

    /// Tells all threads to end.
    fn end(&self) {
        let v4 = self.v4.iter().flat_map(|served| [&served.threads, &served.spread]);
        let v6 = self.v6.iter().flat_map(|served| [&served.threads, &served.spread]);
        for threads in v4.chain(v6).chain([&self.neighbours]) {
            threads.ending.store(true, Ordering::Relaxed);
        }
    }
}

/// Threads that end together, when this goes: within about half a second.
#[derive(Default)]
struct Threads {
    /// Each with its pulse, which stands still when a thread ends before it is told.
    threads: Vec<(JoinHandle<()>, Arc<Pulse>)>,
    ending: Arc<AtomicBool>,
}

impl Threads {
    /// Begins one, which works in rounds.
    fn receive(
        &mut self,
        deps: &Deps,
        name: String,
        work: impl FnOnce(&Rounds) + Send + 'static,
    ) -> std::io::Result<()> {
        let pulse = deps.metrics.pulses().begin(name.clone());
        let rounds = Rounds::new(Arc::clone(&pulse), Arc::clone(&self.ending), Arc::clone(&deps.pause));
        let thread = std::thread::Builder::new().name(name).spawn(move || work(&rounds))?;
        self.threads.push((thread, pulse));
        Ok(())
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::Relaxed);
        for (thread, _) in self.threads.drain(..) {
            // It catches panics itself; one outside of a packet has been printed by now.
            let _ = thread.join();
        }
    }
}

fn locked(watch: &Mutex<Watch>) -> MutexGuard<'_, Watch> {
    watch.lock().unwrap_or_else(PoisonError::into_inner)
}

fn is_meant(selectors: &[Selector], interface: &Interface) -> bool {
    let mut selectors = selectors.iter();
    selectors.any(|selector| selector.means(&interface.name, interface.ips()))
}

/// Between two tries to hear of changes.
const PAUSE: Duration = Duration::from_secs(1);
