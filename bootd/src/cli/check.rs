//! `bootd check`: everything that is wrong, at once. Opens no server socket, writes nothing.
//!
//! Mistakes (exit 64) are what keeps something from working as configured: keys, data files, plugins, loaders, files that boot scripts
//! name. Advice does not change the exit code: an interface that is not there yet, kernel limits that are small for this inventory.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;

use super::{Exit, Place, load};
use crate::admin::explain::{self, Asker};
use crate::cache::Artifacts;
use crate::config::Config;
use crate::http::App;
use crate::inventory::{Inventory, ServedSubnets, Snapshot};
use crate::metrics::Metrics;
use crate::net::Interface;
use crate::plugins::{Core, Plugins, Purpose};
use crate::tftp::Files;

/// Memory that the kernel charges for a waiting DHCP packet.
const PACKET_MEMORY: u64 = 1280;

pub(super) fn run(place: &Place) -> Exit {
    let config = match load(place) {
        Ok(config) => config,
        Err(exit) => return exit,
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("bootd: {error}");
            return Exit::Failed;
        }
    };
    let findings = runtime.block_on(look(config));
    for advice in &findings.advice {
        println!("advice: {advice}");
    }
    for mistake in &findings.mistakes {
        println!("mistake: {mistake}");
    }
    if findings.mistakes.is_empty() {
        println!("{}: good ({} nodes)", place.config.display(), findings.nodes);
        Exit::Good
    } else {
        println!("{}: {} mistake(s)", place.config.display(), findings.mistakes.len());
        Exit::Wrong
    }
}

#[derive(Default)]
struct Findings {
    mistakes: Vec<String>,
    advice: Vec<String>,
    nodes: usize,
}

async fn look(config: Config) -> Findings {
    let mut found = Findings::default();
    let metrics = Arc::<Metrics>::default();
    let (files, missing) = Files::load(&config);
    found.mistakes.extend(missing.iter().map(ToString::to_string));

    let names: Vec<String> = config.plugins.iter().map(|plugin| plugin.name.clone()).collect();
    let inventory = match Inventory::new(&names, ServedSubnets::of(&config), None, Arc::clone(&metrics)) {
        Ok(inventory) => Arc::new(inventory),
        Err(error) => {
            found.mistakes.push(error.to_string());
            return found;
        }
    };
    let core = Core {
        inventory: Arc::clone(&inventory),
        store: None,
        metrics: Arc::clone(&metrics),
    };
    let plugins = Plugins::load(&config, core, Purpose::Check);
    for (name, error) in plugins.failed() {
        found.mistakes.push(format!("plugin {name}: {error}"));
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
    found.nodes = snapshot.entries().len();
    interfaces(&config, &mut found);
    kernel_limits(&config, &snapshot, &mut found);
    let (artifacts, mistakes) = Artifacts::new(&config, Arc::clone(&metrics));
    found.mistakes.extend(mistakes.iter().map(ToString::to_string));
    let app = App {
        config: Arc::new(config),
        inventory,
        plugins,
        artifacts: Arc::new(artifacts),
        files: Arc::new(ArcSwap::from_pointee(files)),
        metrics,
    };
    boot_files(&app, &snapshot, &mut found).await;
    found
}

/// Every file that some node's boot script names must be there.
async fn boot_files(app: &App, snapshot: &Snapshot, found: &mut Findings) {
    let mut scripts = BTreeSet::new();
    for entry in snapshot.entries().iter().filter(|entry| entry.node.kind == "Node") {
        for interface in &entry.node.interfaces {
            let (node, address) = (Some(&*entry.node), None);
            let asker = Asker {
                plugins: &app.plugins,
                inventory: &app.inventory,
                config: &app.config,
                node,
                address,
            };
            scripts.extend(asker.script(interface.mac, None).await.map(|script| script.rewritten));
        }
    }
    let mut asked = BTreeSet::new();
    for script in scripts {
        // Nodes share files: each is asked for once.
        let words: Vec<&str> = script
            .split_whitespace()
            .filter(|word| asked.insert((*word).to_owned()))
            .collect();
        for file in explain::files_of(app, &words.join(" ")).await {
            if let Some(problem) = file.problem {
                found.mistakes.push(format!(
                    "{}: {problem}: a boot script names it; put it there or correct the boot parameters",
                    file.name
                ));
            }
        }
    }
}

fn interfaces(config: &Config, found: &mut Findings) {
    for name in &config.interfaces {
        if let Err(error) = Interface::find(name) {
            found
                .advice
                .push(format!("server.interfaces: {error}; bootd serve needs it"));
        }
    }
}

/// A rack that boots at once fills the kernel's tables before it fills bootd's.
fn kernel_limits(config: &Config, snapshot: &Snapshot, found: &mut Findings) {
    let served =
        |ip: &IpAddr| matches!(ip, IpAddr::V4(ip) if config.dhcp.subnets.iter().any(|subnet| subnet.contains(*ip)));
    let addresses = snapshot
        .entries()
        .iter()
        .flat_map(|entry| &entry.node.interfaces)
        .flat_map(|interface| &interface.ips);
    let known = addresses.filter(|address| served(&address.ip)).count() as u64;
    let pools = config.dhcp.subnets.iter().filter_map(|subnet| subnet.pool.as_ref());
    let dynamic: u64 = pools
        .map(|pool| u64::from(pool.last.to_bits() - pool.first.to_bits()) + 1)
        .sum();
    let clients = known + dynamic;
    let neighbours = "net.ipv4.neigh.default.gc_thresh3";
    if let Some(limit) = sysctl(neighbours).filter(|limit| *limit < clients + clients / 4) {
        let wanted = (clients * 2).next_power_of_two();
        found.advice.push(format!(
            "{neighbours} is {limit}, and up to {clients} clients are served: the neighbour table overflows in a storm; \
             sysctl -w {neighbours}={wanted} (and gc_thresh2={})",
            wanted / 2
        ));
    }
    let buffer = "net.core.rmem_max";
    if let Some(limit) = sysctl(buffer).filter(|limit| *limit < clients * PACKET_MEMORY) {
        found.advice.push(format!(
            "{buffer} is {limit}, and one DHCP packet of each of {clients} clients needs {}: some are lost in a storm; sysctl -w {buffer}={}",
            clients * PACKET_MEMORY,
            (clients * PACKET_MEMORY).next_power_of_two()
        ));
    }
}

/// A kernel limit; `None` when this network namespace does not show it.
fn sysctl(name: &str) -> Option<u64> {
    let path = format!("/proc/sys/{}", name.replace('.', "/"));
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}
