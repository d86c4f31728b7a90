//! What the commands show, as JSON. The schema of a node is the one that plugins publish.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bootd_sdk::mac::Mac;
use bootd_sdk::wire::Node;
use serde::{Deserialize, Serialize};

use super::Admin;
use crate::boots::Boots;
use crate::cache::Cached;
use crate::capture::Whose;
use crate::config::{Access, Config, Mode};
use crate::dhcp::LeaseView;
use crate::http::App;
use crate::inventory::Snapshot;
use crate::log;

/// `bootd nodes --json`.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Nodes<N = Node> {
    /// The inventory, by xname.
    pub nodes: Vec<OwnedNode<N>>,
    /// Rows that are left out.
    pub refused: Vec<RefusedRow>,
    /// Hardware addresses that DHCP does not answer, because the operator says so.
    #[serde(default)]
    pub ignored: Vec<Mac>,
}

/// What became of `bootd nodes ignore` or `unignore`.
#[derive(Debug, Serialize, Deserialize)]
pub struct Ignoring {
    /// The client.
    pub mac: Mac,
    /// Whether it is ignored now.
    pub ignored: bool,
    /// Whether it was otherwise before.
    pub changed: bool,
}

/// `bootd leases --json`.
#[derive(Debug, Serialize, Deserialize)]
pub struct Leases {
    /// The addresses of the pools that clients have or had last, and those that rest; by address.
    pub leases: Vec<LeaseView>,
}

/// What became of `bootd leases free`.
#[derive(Debug, Serialize, Deserialize)]
pub struct Freed {
    /// The address.
    pub ip: Ipv4Addr,
}

/// `bootd cache ls --json`.
#[derive(Debug, Serialize, Deserialize)]
pub struct Cache {
    /// All that is kept, being fetched, or pinned; by path.
    pub objects: Vec<Cached>,
}

/// What became of `bootd cache pin`, `unpin` or `rm`.
#[derive(Debug, Serialize, Deserialize)]
pub struct Changed {
    /// The object's path at the artifacts listener.
    pub path: String,
    /// Whether it was otherwise before.
    pub changed: bool,
}

/// All boots, and the nodes that nobody heard of.
pub(super) fn boots(admin: &Admin) -> Boots {
    let mut boots = admin.app().watch.boots();
    let heard: HashSet<&str> = boots.boots.iter().map(|boot| boot.who.as_str()).collect();
    let snapshot = admin.app().inventory.snapshot();
    let nodes = snapshot.entries().iter().filter(|entry| entry.node.kind == "Node");
    let silent = nodes.filter(|entry| !heard.contains(entry.node.id.as_str()));
    boots.unseen = silent.map(|entry| entry.node.id.clone()).collect();
    boots
}

/// Under which addresses packets of a client are kept, and what is known of it.
pub(super) fn whose(admin: &Admin, who: &str) -> (Vec<Whose>, String) {
    let app = admin.app();
    let (mac, ip) = (who.parse::<Mac>().ok(), who.parse::<IpAddr>().ok());
    let snapshot = app.inventory.snapshot();
    let node = match (mac, ip) {
        (Some(mac), _) => snapshot.by_mac(mac).map(|(node, _)| node),
        (None, Some(ip)) => snapshot.by_ip(ip),
        (None, None) => snapshot.by_id(who),
    };
    let mut whose: Vec<Whose> = mac.map(Whose::Mac).into_iter().chain(ip.map(Whose::Ip)).collect();
    let interfaces = node.iter().flat_map(|node| &node.interfaces);
    for interface in interfaces.filter(|interface| mac.is_none_or(|mac| interface.mac == mac)) {
        whose.push(Whose::Mac(interface.mac));
        whose.extend(interface.ips.iter().map(|ip| Whose::Ip(ip.ip)));
    }
    let timeline = app.watch.timeline(who);
    let attempts = timeline.iter().flat_map(|timeline| &timeline.record.attempts);
    whose.extend(attempts.filter_map(|attempt| attempt.ip).map(Whose::Ip));
    whose.sort_unstable();
    whose.dedup();
    let about = match node {
        Some(node) => format!("{who}: {} in the inventory", node.id),
        None => format!("{who}: not in the inventory"),
    };
    (whose, about)
}

/// A node and whose it is.
#[derive(Debug, Serialize, Deserialize)]
pub struct OwnedNode<N = Node> {
    /// The plugin that published it.
    pub plugin: String,
    /// It is from the last run: its plugin has not published since the start.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub last_good: bool,
    /// The node.
    #[serde(flatten)]
    pub node: N,
}

/// A row that is left out: by its plugin, which names file and line, or by the inventory.
#[derive(Debug, Serialize, Deserialize)]
pub struct RefusedRow {
    /// The plugin.
    pub plugin: String,
    /// Where it stands, or its id, as far as that is known.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub row: String,
    /// Why.
    pub reason: String,
}

/// `bootd status --json`.
#[derive(Debug, Serialize, Deserialize)]
pub struct Status {
    /// bootd's version.
    pub version: String,
    /// Seconds since it was ready.
    pub uptime_s: u64,
    /// What the inventory holds.
    pub inventory: String,
    /// The HTTP listeners.
    #[serde(default)]
    pub listeners: Vec<ListenerStatus>,
    /// The interfaces with DHCP, and the families on each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dhcp: Vec<String>,
    /// What is kept of artifacts; empty when nothing is.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cache: String,
    /// Whether the files that boot scripts name are here; empty when nobody knows.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub boot_files: String,
    /// What plugins mirror of a site, as of when, and what they do not; of those that run well.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mirrors: Vec<String>,
    /// Everything that is not as it should be.
    pub warnings: Vec<String>,
}

/// An HTTP listener.
#[derive(Debug, Serialize, Deserialize)]
pub struct ListenerStatus {
    /// `http://` or `https://`, address and port.
    pub url: String,
    /// What it serves: `boot`, `loaders`, `artifacts`, `cloud-init`, `bss-root`.
    pub serves: String,
    /// `token` or `none`.
    pub auth: String,
}

pub(super) fn nodes<'a>(admin: &Admin, snapshot: &'a Snapshot) -> Nodes<&'a Node> {
    let app = admin.app();
    let app = &*app;
    let nodes = snapshot.entries().iter().map(|entry| OwnedNode {
        plugin: entry.owner.to_string(),
        last_good: app.inventory.is_last_good(&entry.owner),
        node: &*entry.node,
    });
    Nodes {
        nodes: nodes.collect(),
        refused: refused(app),
        ignored: admin.ignored.all().iter().copied().collect(),
    }
}

/// A plugin that knows the lines of its mistakes says more than the inventory, which knows only rows.
fn refused(app: &App) -> Vec<RefusedRow> {
    let mut refused = Vec::new();
    let mut told = Vec::new();
    for (plugin, health) in app.plugins.health_of_providers() {
        for mistake in health.mistakes {
            let row = match mistake.line {
                0 => mistake.file,
                line => format!("{}:{line}", mistake.file),
            };
            refused.push(RefusedRow {
                plugin: plugin.into(),
                row,
                reason: mistake.text,
            });
            told.push(plugin);
        }
    }
    for (plugin, refusal) in app.inventory.refused() {
        if !told.contains(&plugin.as_str()) {
            refused.push(RefusedRow {
                plugin,
                row: refusal.id,
                reason: refusal.reason,
            });
        }
    }
    refused
}

pub(super) fn status(admin: &Admin) -> Status {
    let app = admin.app();
    let app = &*app;
    let mut warnings = admin.warnings.load().to_vec();
    warnings.extend(admin.interfaces.load().iter().cloned());
    warnings.extend(admin.missing.load().iter().cloned());
    warnings.extend(admin.tftp.as_ref().and_then(|tftp| tftp.text()));
    warnings.extend(app.readiness.failures());
    warnings.extend(
        admin
            .store
            .trouble()
            .map(|text| format!("state: {text}: dynamic leases and changes are refused")),
    );
    let lost = log::lost();
    warnings
        .extend((lost > 0).then(|| format!("{lost} log lines were lost: whoever reads standard error was too slow")));
    let is_mirror = |name: &str| {
        let mut plugins = app.config.plugins.iter();
        plugins.any(|plugin| plugin.name == name && plugin.mode == Mode::Upstream)
    };
    let mut mirrors = Vec::new();
    for plugin in app.plugins.status() {
        if plugin.state != "running" {
            warnings.push(format!("plugin {}: {}: {}", plugin.name, plugin.state, plugin.text));
        } else if is_mirror(&plugin.name) {
            mirrors.push(format!("plugin {}: {}", plugin.name, plugin.text));
        }
        warnings.extend(
            plugin
                .mistakes
                .iter()
                .map(|mistake| format!("plugin {}: {mistake}", plugin.name)),
        );
    }
    warnings.extend(elsewhere(&app.config, &app.inventory.snapshot()));
    warnings.extend(app.artifacts.warnings());
    warnings.extend(app.certificates.warnings());
    warnings.extend(app.auth.as_ref().and_then(|auth| auth.trouble()));
    for listener in app
        .config
        .http
        .listeners
        .iter()
        .filter(|listener| listener.access == Access::None)
    {
        warnings.push(format!(
            "http.listener {}: auth is \"none\": whoever reaches it may read and change everything",
            listener.address
        ));
    }
    let listeners = app.config.http.listeners.iter().map(|listener| ListenerStatus {
        url: format!("{}://{}", listener.scheme(), listener.address),
        serves: listener.services(),
        auth: listener.access.name().into(),
    });
    Status {
        listeners: listeners.collect(),
        dhcp: [admin.served.lines(), configured(&app.config)].concat(),
        version: env!("CARGO_PKG_VERSION").into(),
        uptime_s: admin.started.elapsed().as_secs(),
        inventory: app.inventory.snapshot().count(),
        cache: app.artifacts.kept().unwrap_or_default(),
        boot_files: app.readiness.text().unwrap_or_default(),
        mirrors,
        warnings,
    }
}

/// Nodes that get no address, because all that they have of a family are in no subnet of it.
fn elsewhere(config: &Config, snapshot: &Snapshot) -> Vec<String> {
    let subnets = &config.dhcp.subnets;
    let serves4 = |ip: Ipv4Addr| subnets.iter().any(|subnet| subnet.contains(ip));
    let subnets6 = config.dhcp6.iter().flat_map(|dhcp6| &dhcp6.subnets);
    let serves6 = |ip: Ipv6Addr| subnets6.clone().any(|subnet| subnet.contains(ip));
    let told = |key: &str, has: &dyn Fn(IpAddr) -> Option<bool>| {
        let nodes = snapshot.entries().iter().map(|entry| &entry.node).filter(|node| {
            let ips = node.interfaces.iter().flat_map(|interface| &interface.ips);
            let serves: Vec<bool> = ips.filter_map(|address| has(address.ip)).collect();
            !serves.is_empty() && !serves.contains(&true)
        });
        let ids: Vec<&str> = nodes.map(|node| node.id.as_str()).collect();
        let named = ids.get(..NAMED).unwrap_or(&ids).join(", ");
        let more = if ids.len() > NAMED { ", …" } else { "" };
        (!ids.is_empty()).then(|| {
            let count = ids.len();
            format!("{key}: nodes whose addresses are in none of them, so they get none: {count} ({named}{more})")
        })
    };
    let v4 = told("dhcp.subnet", &|ip| match ip {
        IpAddr::V4(ip) if !subnets.is_empty() => Some(serves4(ip)),
        _ => None,
    });
    let v6 = told("dhcp6.subnet", &|ip| match ip {
        IpAddr::V6(ip) if config.dhcp6.is_some() => Some(serves6(ip)),
        _ => None,
    });
    v4.into_iter().chain(v6).collect()
}

/// Nodes that a warning names.
const NAMED: usize = 3;

/// What is served beside that, as configured.
fn configured(config: &Config) -> Vec<String> {
    let mut lines = Vec::new();
    let list = |all: Vec<String>| all.join(", ");
    if let Some(dhcp6) = &config.dhcp6 {
        let subnets = list(dhcp6.subnets.iter().map(ToString::to_string).collect());
        lines.push(format!("DHCPv6 for {subnets}"));
    }
    let said = &config.dhcp.router_advertisement;
    let mut says = Vec::new();
    if !said.prefixes.is_empty() {
        let prefixes = said.prefixes.iter().map(|(ip, length)| format!("{ip}/{length}"));
        says.push(format!("prefixes {}", list(prefixes.collect())));
    }
    if !said.rdnss.is_empty() {
        says.push(format!(
            "name servers {}",
            list(said.rdnss.iter().map(ToString::to_string).collect())
        ));
    }
    if !said.lifetime.is_zero() {
        says.push(format!("a router for {} s", said.lifetime.as_secs()));
    }
    lines.push(match (config.dhcp.router_solicitations, says.is_empty()) {
        (false, _) => "router solicitations are not answered".into(),
        (true, true) => "router solicitations are answered, without any prefix or router".into(),
        (true, false) => format!("router advertisements: {}", says.join("; ")),
    });
    lines.push(config.tftp_text());
    lines
}
