//! The network configuration of a node, in netplan's form (version 2): addresses of the networks that the settings name, DHCP on the rest.
//!
//! Pure. What an inventory does not know, such as the length of a prefix, comes from the settings.

use std::collections::BTreeMap;
use std::net::IpAddr;

use bootd_sdk::wire::{Interface, Node};
use serde::de::{self, Deserialize, Deserializer};

use crate::emit::{Doc, document};

/// Networks by name, as the nodes' addresses name them.
pub(crate) type Networks = BTreeMap<String, Network>;

/// What is true of all addresses of a network.
#[derive(Debug, Clone, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Network {
    /// Bits of the prefix of its IPv4 addresses.
    #[serde(deserialize_with = "bits::<32, _>")]
    prefix: u8,
    /// Bits of the prefix of its IPv6 addresses.
    #[serde(default = "prefix6", deserialize_with = "bits::<128, _>")]
    prefix6: u8,
    /// Bytes of a packet.
    #[serde(default)]
    mtu: Option<u32>,
    /// The way to everywhere else.
    #[serde(default)]
    gateway: Option<IpAddr>,
}

fn prefix6() -> u8 {
    64
}

/// A number of bits that no address has is a mistake in bootd.toml.
fn bits<'de, const MOST: u8, D: Deserializer<'de>>(deserializer: D) -> Result<u8, D::Error> {
    let bits = u8::deserialize(deserializer)?;
    if bits > MOST {
        return Err(de::Error::custom(format_args!("a prefix has at most {MOST} bits")));
    }
    Ok(bits)
}

/// The document.
pub(crate) fn config(networks: &Networks, node: &Node) -> String {
    let ethernets = node.interfaces.iter().enumerate();
    let ethernets = ethernets.map(|(at, interface)| (format!("nic{at}"), ethernet(networks, interface)));
    document(&[
        ("version".into(), Doc::Other(2.into())),
        ("ethernets".into(), Doc::Map(ethernets.collect())),
    ])
}

fn ethernet(networks: &Networks, interface: &Interface) -> Doc {
    let mac = Doc::text(&interface.mac.to_string());
    let mut map = vec![("match".to_owned(), Doc::Map(vec![("macaddress".into(), mac)]))];
    let known: Vec<_> = interface
        .ips
        .iter()
        .filter_map(|address| Some((address.ip, networks.get(&address.network)?)))
        .collect();
    if known.is_empty() {
        map.push(("dhcp4".into(), Doc::Other(true.into())));
        return Doc::Map(map);
    }
    let addresses = known.iter().map(|(ip, network)| {
        let bits = if ip.is_ipv4() { network.prefix } else { network.prefix6 };
        Doc::Text(format!("{ip}/{bits}"))
    });
    map.push(("addresses".into(), Doc::List(addresses.collect())));
    if let Some(mtu) = known.iter().find_map(|(_, network)| network.mtu) {
        map.push(("mtu".into(), Doc::Other(mtu.into())));
    }
    if let Some(gateway) = known.iter().find_map(|(_, network)| network.gateway) {
        let to = if gateway.is_ipv4() { "0.0.0.0/0" } else { "::/0" };
        let route = vec![
            ("to".to_owned(), Doc::text(to)),
            ("via".to_owned(), Doc::Text(gateway.to_string())),
        ];
        map.push(("routes".into(), Doc::List(vec![Doc::Map(route)])));
    }
    Doc::Map(map)
}
