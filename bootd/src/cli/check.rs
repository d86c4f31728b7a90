//! `bootd check`: everything that is wrong, at once. Opens no server socket, writes nothing.
//!
//! Mistakes (exit 64) are what keeps something from working as configured: keys, data files, plugins, loaders, files that boot scripts
//! name. Advice does not change the exit code: an interface that is not there yet, kernel limits that are small for this inventory.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;

use super::{Exit, Look, print_mistakes};
use crate::auth;
use crate::cache::Artifacts;
use crate::config::{self, Config, ConfigError, Selector, Service};
use crate::dhcp::Hosts;
use crate::explain;
use crate::http::{App, Bounds, Certificates};
use crate::inventory::{Inventory, ServedSubnets, Snapshot};
use crate::metrics::Metrics;
use crate::net::Interface;
use crate::plugins::{Core, LoadError, Plugins, Purpose};
use crate::tftp::Files;

/// Memory that the kernel charges for a waiting DHCP packet.
const PACKET_MEMORY: u64 = 1280;

pub(super) fn run(look: &Look) -> Exit {
    let place = &look.place;
    let config = match config::load(&place.config) {
        Ok(config) => config,
        Err(ConfigError::Mistakes { mistakes, .. }) if look.json => {
            return print_json(&Findings {
                mistakes: mistakes.iter().map(ToString::to_string).collect(),
                ..Findings::default()
            });
        }
        Err(error) => {
            print_mistakes(&error);
            return Exit::Wrong;
        }
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("bootd: {error}");
            return Exit::Failed;
        }
    };
    let findings = runtime.block_on(find(config));
    if look.json {
        return print_json(&findings);
    }
    for advice in &findings.advice {
        say!("advice: {advice}");
    }
    for mistake in &findings.mistakes {
        say!("mistake: {mistake}");
    }
    if findings.mistakes.is_empty() {
        say!("{}: good ({})", place.config.display(), findings.nodes);
        Exit::Good
    } else {
        say!("{}: {} mistake(s)", place.config.display(), findings.mistakes.len());
        Exit::Wrong
    }
}

fn print_json(findings: &Findings) -> Exit {
    say!("{:#}", serde_json::json!(findings));
    match findings.mistakes.as_slice() {
        [] => Exit::Good,
        _ => Exit::Wrong,
    }
}

#[derive(Default, serde::Serialize)]
struct Findings {
    mistakes: Vec<String>,
    advice: Vec<String>,
    nodes: String,
}

async fn find(config: Config) -> Findings {
    let mut found = Findings::default();
    let metrics = Arc::<Metrics>::default();
    let (files, missing) = Files::load(&config);
    found.mistakes.extend(missing.iter().map(ToString::to_string));
    let root = &config.tftp.root;
    match std::fs::metadata(root) {
        Ok(root) if root.is_dir() => {}
        Ok(_) => found
            .mistakes
            .push(format!("tftp.root: {} is no folder", root.display())),
        Err(error) if *root != Path::new(config::LOADERS) => {
            found.advice.push(format!(
                "tftp.root: {}: {error}; no file of it is served",
                root.display()
            ));
        }
        Err(_) => {}
    }

    match Certificates::open(&config) {
        Ok(certificates) => found.advice.extend(certificates.warnings()),
        Err(ConfigError::Mistakes { mistakes, .. }) => found.mistakes.extend(mistakes.iter().map(ToString::to_string)),
        Err(error) => found.mistakes.push(error.to_string()),
    }
    if let Err(error) = Hosts::open(config.dhcp.hosts.as_ref()) {
        found.mistakes.push(format!("dhcp.hosts: {error}"));
    }
    let hosts6 = config.dhcp6.as_ref().and_then(|dhcp6| dhcp6.hosts.as_ref());
    if let Err(error) = Hosts::open(hosts6) {
        found.mistakes.push(format!("dhcp6.hosts: {error}"));
    }
    let keys = auth::mistakes(&config);
    found.mistakes.extend(keys.iter().map(ToString::to_string));

    let names: Vec<String> = config.plugins.iter().map(|plugin| plugin.name.clone()).collect();
    let inventory = match Inventory::new(&names, ServedSubnets::of(&config), None, Arc::clone(&metrics)) {
        Ok(inventory) => Arc::new(inventory),
        Err(error) => {
            found.mistakes.push(error.to_string());
            return found;
        }
    };
    let core = Core::new(Arc::clone(&inventory), None, Arc::clone(&metrics));
    let plugins = Plugins::load(&config, core, Purpose::Check);
    if let Err(ConfigError::Mistakes { mistakes, .. }) = plugins.settings_are_good(&config) {
        found.mistakes.extend(mistakes.iter().map(ToString::to_string));
    }
    for (name, error) in plugins.out_of_service() {
        match error.as_deref() {
            Some(LoadError::Settings(_)) => {}
            Some(error) => found.mistakes.push(format!("plugin {name}: {error}")),
            None => found.mistakes.push(format!("plugin {name}: its init does not return")),
        }
    }
    for (name, health) in plugins.health() {
        found.mistakes.extend(
            health
                .mistakes
                .iter()
                .map(|mistake| format!("plugin {name}: {mistake}")),
        );
    }
    let snapshot = inventory.snapshot();
    found.nodes = snapshot.count();
    interfaces(&config, &mut found);
    found.mistakes.extend(pools(&config, &snapshot));
    listeners(&config, &mut found);
    found.advice.extend(kernel_limits(clients(&config, &snapshot), sysctl));
    let (artifacts, mistakes) = Artifacts::new(&config, Arc::clone(&metrics));
    found.mistakes.extend(mistakes.iter().map(ToString::to_string));
    let app = App {
        config: Arc::new(config),
        listeners: Vec::new(),
        inventory,
        plugins,
        artifacts: Arc::new(artifacts),
        files: Arc::new(ArcSwap::from_pointee(files)),
        certificates: Arc::default(),
        auth: None,
        metrics,
        watch: Default::default(),
        readiness: Arc::default(),
        bounds: Arc::<Bounds>::default(),
        admin: OnceLock::new(),
    };
    let files = explain::boot_files(&app).await;
    found.mistakes.extend(files.missing);
    found.advice.extend(files.elsewhere);
    found
}

/// What is not here now may be there when bootd serves.
fn interfaces(config: &Config, found: &mut Findings) {
    // While they cannot be listed nothing can be said of them.
    let all = Interface::all().unwrap_or_default();
    let meant = |selector: &Selector| all.iter().any(|i| selector.means(&i.name, i.ips()));
    let of_six = config.dhcp6.iter().flat_map(|dhcp6| &dhcp6.interfaces);
    let of_six = of_six.filter(|selector| !config.interfaces.contains(selector));
    let selectors = config.interfaces.iter().map(|selector| ("server", selector));
    let selectors = selectors.chain(of_six.map(|selector| ("dhcp6", selector)));
    for (table, selector) in selectors.filter(|(_, selector)| !meant(selector)) {
        let says = match selector {
            Selector::Name(name) => format!("there is no interface {name} now"),
            Selector::Pattern(pattern) => format!("no interface is like {pattern} now"),
            Selector::Address(ip) => format!("no interface has {ip} now"),
        };
        let advice = format!("{table}.interfaces: {says}; DHCP is answered there when it comes");
        found.advice.push(advice);
    }
    let served = all.iter().filter(|i| {
        config
            .interfaces
            .iter()
            .any(|selector| selector.means(&i.name, i.ips()))
    });
    let own: Vec<Ipv4Addr> = served.flat_map(|interface| interface.addresses.clone()).collect();
    if let Some(address) = config
        .address
        .filter(|address| !own.is_empty() && !own.contains(address))
    {
        found
            .advice
            .push(format!("server.address: {address} is on none of server.interfaces now"));
    }
    let is_here = |address: IpAddr| address.is_unspecified() || all.iter().any(|i| i.ips().any(|ip| ip == address));
    if let Some(address) = config
        .tftp
        .address
        .filter(|address| !all.is_empty() && !is_here(*address))
    {
        let advice = format!("tftp.address: no interface has {address} now; bootd does not start until one does");
        found.advice.push(advice);
    }
    for (i, subnet) in config.dhcp.subnets.iter().enumerate() {
        let Some(pool) = &subnet.pool else { continue };
        let held = own
            .iter()
            .filter(|&&ip| (pool.first..=pool.last).contains(&ip) && subnet.server != Some(ip));
        found
            .mistakes
            .extend(held.map(|ip| format!("dhcp.subnet[{i}].pool: holds {ip}, which is an address of this box")));
    }
}

/// Nodes whose addresses clients of a pool might be given. bootd never does, but other servers of the site know only the pool.
fn pools(config: &Config, snapshot: &Snapshot) -> Vec<String> {
    let mut mistakes = Vec::new();
    for (i, subnet) in config.dhcp.subnets.iter().enumerate() {
        let Some(pool) = &subnet.pool else { continue };
        for entry in snapshot.entries() {
            let ips = entry.node.interfaces.iter().flat_map(|interface| &interface.ips);
            let held = ips.filter(
                |address| matches!(address.ip.to_canonical(), IpAddr::V4(ip) if (pool.first..=pool.last).contains(&ip)),
            );
            mistakes.extend(held.map(|address| {
                format!(
                    "dhcp.subnet[{i}].pool: holds {}, which is {}'s",
                    address.ip, entry.node.id
                )
            }));
        }
    }
    if let Some(more) = mistakes.len().checked_sub(NAMED).filter(|more| *more > 0) {
        mistakes.truncate(NAMED);
        mistakes.push(format!("dhcp.subnet: {more} more addresses of nodes are in pools"));
    }
    mistakes
}

/// Addresses of nodes in pools that are told one by one.
const NAMED: usize = 10;

fn listeners(config: &Config, found: &mut Findings) {
    for service in [Service::Boot, Service::Loaders, Service::Artifacts] {
        let only = config.listener_of(service);
        if let Some(listener) = only.filter(|listener| listener.tls.is_some()) {
            found.advice.push(format!(
                "http.listener: \"{}\" is served with TLS only ({}), so nodes are given https URLs: a loader that does not trust the \
                 certificate does not boot; a listener without tls beside it is what they are then given",
                service.name(),
                listener.address
            ));
        }
    }
    if let Some(dhcp6) = &config.dhcp6
        && dhcp6.script_url.is_none()
        && config.dhcp.script_url.is_none()
        && config.listener6_of(Service::Boot).is_none()
    {
        found.advice.push(
            "dhcp6: IPv6 reaches no http.listener with \"boot\", so iPXE gets no boot script over IPv6; have one on [::], or set dhcp6.script_url"
                .into(),
        );
    }
    if !config.origins.is_empty() && config.listener_of(Service::Artifacts).is_none() {
        found
            .mistakes
            .push("origin: no http.listener serves \"artifacts\", so nobody can fetch them".into());
    }
}

/// How many clients may speak at once: the inventory's addresses in served subnets, and all of the pools.
fn clients(config: &Config, snapshot: &Snapshot) -> u64 {
    let served =
        |ip: &IpAddr| matches!(ip, IpAddr::V4(ip) if config.dhcp.subnets.iter().any(|subnet| subnet.contains(*ip)));
    let interfaces = snapshot.entries().iter().flat_map(|entry| &entry.node.interfaces);
    let known = interfaces
        .flat_map(|interface| &interface.ips)
        .filter(|address| served(&address.ip));
    let pools = config.dhcp.subnets.iter().filter_map(|subnet| subnet.pool.as_ref());
    let dynamic = pools.map(|pool| u64::from(pool.last.to_bits() - pool.first.to_bits()) + 1);
    known.count() as u64 + dynamic.sum::<u64>()
}

/// A rack that boots at once fills the kernel's tables before it fills bootd's. A limit that this network namespace does not show is not
/// judged.
fn kernel_limits(clients: u64, limit_of: impl Fn(&str) -> Option<u64>) -> Vec<String> {
    let mut advice = Vec::new();
    let neighbours = "net.ipv4.neigh.default.gc_thresh3";
    if let Some(limit) = limit_of(neighbours).filter(|limit| *limit < clients + clients / 4) {
        let wanted = (clients * 2).next_power_of_two();
        advice.push(format!(
            "{neighbours} is {limit}, and up to {clients} clients are served: the neighbour table overflows in a storm; \
             sysctl -w {neighbours}={wanted} (and gc_thresh2={})",
            wanted / 2
        ));
    }
    let buffer = "net.core.rmem_max";
    let needed = clients * PACKET_MEMORY;
    if let Some(limit) = limit_of(buffer).filter(|limit| *limit < needed) {
        advice.push(format!(
            "{buffer} is {limit}, and one DHCP packet of each of {clients} clients needs {needed}: some are lost in a storm; \
             sysctl -w {buffer}={}",
            needed.next_power_of_two()
        ));
    }
    advice
}

fn sysctl(name: &str) -> Option<u64> {
    let path = format!("/proc/sys/{}", name.replace('.', "/"));
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::kernel_limits;

    /// Debian's defaults.
    fn debian(name: &str) -> Option<u64> {
        match name {
            "net.ipv4.neigh.default.gc_thresh3" => Some(1024),
            "net.core.rmem_max" => Some(212_992),
            _ => None,
        }
    }

    #[test]
    fn a_rack_that_is_too_large_for_the_kernel_s_defaults_is_told_what_to_set() {
        assert_eq!(kernel_limits(100, debian), [""; 0]);
        let advice = kernel_limits(10_000, debian);
        assert!(
            advice[0].contains("sysctl -w net.ipv4.neigh.default.gc_thresh3=32768"),
            "{advice:?}"
        );
        assert!(advice[1].contains("sysctl -w net.core.rmem_max=16777216"), "{advice:?}");
        assert_eq!(kernel_limits(10_000, |_| None), [""; 0]);
    }
}
