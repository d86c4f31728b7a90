//! A site of ten thousand nodes, as bootd, its plugin smd and Kea know it: node `n` has the MAC `02:00:00:00:00:00` + `n`, which are the
//! clients that perfdhcp makes up, and an address of 10.1.0.0/16.

use std::net::Ipv4Addr;
use std::path::Path;

use anyhow::Result;
use bootd::config::{self, Config};
use bootd::inventory::{Inventory, ServedSubnets};
use serde_json::{Value, json};

/// How many nodes there are.
pub const NODES: u32 = 10_000;
/// bootd's address.
pub const SERVER: Ipv4Addr = Ipv4Addr::new(10, 1, 255, 254);
/// The relay's, in the same subnet: it is the client of perfdhcp.
pub const RELAY: Ipv4Addr = Ipv4Addr::new(10, 1, 255, 253);

/// The hardware address of a node.
pub fn mac(n: u32) -> [u8; 6] {
    let [a, b, c, d] = n.to_be_bytes();
    [2, 0, a, b, c, d]
}

/// The same as text.
pub fn mac_text(n: u32) -> String {
    mac(n).map(|byte| format!("{byte:02x}")).join(":")
}

/// The address of a node.
pub fn ip(n: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(Ipv4Addr::new(10, 1, 1, 0).to_bits() + n)
}

/// The xname of a node.
pub fn xname(n: u32) -> String {
    format!("x{}c{}s{}b0n{}", 1000 + n / 256, n / 32 % 8, n / 4 % 8, n % 4)
}

/// A row of the inventory, as smd publishes it for a node of a site.
pub fn row(n: u32, state: &str) -> Value {
    json!({
        "id": xname(n), "nid": n + 1, "kind": "Node", "role": "Compute", "sub_role": "Worker", "class": "River", "state": state,
        "arch": "X86", "enabled": true, "name": format!("compute{n}"), "groups": ["compute", "all"],
        "interfaces": [{"mac": mac_text(n), "ips": [{"network": "management", "ip": ip(n)}]}],
    })
}

/// The text of a full publication.
pub fn publication(state: &str) -> String {
    let rows: Vec<Value> = (0..NODES).map(|n| row(n, state)).collect();
    json!({"full": true, "nodes": rows}).to_string()
}

/// The configuration of the appliance there; `more` is appended.
pub fn config_text(dir: &Path, more: &str) -> String {
    let dir = dir.display();
    format!(
        r#"[server]
interfaces = ["eth0"]
address = "{SERVER}"
state_dir = "{dir}/state"
cache_dir = "{dir}/cache"

[dhcp]
lease_time = "1h"
domain = "cluster.local"
[[dhcp.subnet]]
cidr = "10.1.0.0/16"
routers = ["{SERVER}"]
dns = ["{SERVER}"]

[[http.listener]]
address = "0.0.0.0:8081"
serve = ["boot", "loaders"]
auth = "none"

[admin]
socket = "{dir}/admin.sock"
{more}"#
    )
}

/// The configuration, read.
pub fn config() -> Result<Config> {
    let dir = std::env::temp_dir();
    Ok(config::parse(&config_text(&dir, ""), &dir.join("bootd.toml"))?)
}

/// An inventory without nodes.
pub fn inventory(store: Option<bootd::state::Store>) -> Result<Inventory> {
    let subnets = ServedSubnets::of(&config()?);
    Ok(Inventory::new(&["smd".into()], subnets, store, Default::default())?)
}
