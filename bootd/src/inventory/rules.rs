//! What a row must be to become a node: pure, row by row. A refused row costs only itself.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use bootd_sdk::mac::Mac;
use bootd_sdk::wire::{Node, Overlay, Refusal};
use bootd_sdk::xname;

use super::snapshot::{Entry, Snapshot};
use crate::config::{Config, Subnet, Subnet6};

/// Why a row is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// It is not a node record: a field is missing or of the wrong type.
    NotANode(String),
    /// It is not an overlay.
    NotAnOverlay(String),
    /// Its id is not an xname of something that boots or manages.
    BadXname(String),
    /// Its id stands in this publication already.
    DuplicateId,
    /// Another plugin, earlier in the configuration, publishes this id.
    OwnedBy(String),
    /// A hardware address that no interface has: zero or multicast.
    BadMac(Mac),
    /// Another node has this hardware address.
    DuplicateMac(Mac, String),
    /// Another node has this address, which bootd serves.
    DuplicateIp(IpAddr, String),
    /// An address of a served subnet that no node can have: its own address, its broadcast address, bootd's address.
    ReservedIp(IpAddr, &'static str),
    /// Another node has this NID.
    DuplicateNid(u64, String),
    /// An option that bootd sets itself, or whose value is not hexadecimal of 1 to 255 bytes.
    BadOption(u8),
}

impl Reason {
    /// The reason why the other one of two rows with something in common must go: because of the node `by` of this plugin.
    pub(super) fn of_the_other(self, plugin: &str, by: &str) -> Self {
        match self {
            Self::OwnedBy(_) => Self::OwnedBy(plugin.to_owned()),
            Self::DuplicateMac(mac, _) => Self::DuplicateMac(mac, by.to_owned()),
            Self::DuplicateIp(ip, _) => Self::DuplicateIp(ip, by.to_owned()),
            Self::DuplicateNid(nid, _) => Self::DuplicateNid(nid, by.to_owned()),
            other => other,
        }
    }

    /// The metric label.
    pub fn label(&self) -> &'static str {
        match self {
            Self::NotANode(_) => "not_a_node",
            Self::NotAnOverlay(_) => "not_an_overlay",
            Self::BadXname(_) => "bad_xname",
            Self::DuplicateId => "duplicate_id",
            Self::OwnedBy(_) => "owned_by_another",
            Self::BadMac(_) => "bad_mac",
            Self::DuplicateMac(..) => "duplicate_mac",
            Self::DuplicateIp(..) => "duplicate_ip",
            Self::ReservedIp(..) => "reserved_ip",
            Self::DuplicateNid(..) => "duplicate_nid",
            Self::BadOption(_) => "bad_option",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotANode(error) => write!(f, "not a node: {error}"),
            Self::NotAnOverlay(error) => write!(f, "not an overlay: {error}"),
            Self::BadXname(id) => write!(
                f,
                "'{id}' is not the xname of a node or a controller, such as x1000c0s0b0n0"
            ),
            Self::DuplicateId => f.write_str("this id stands in an earlier row"),
            Self::OwnedBy(plugin) => write!(f, "the plugin {plugin} comes first and has this id"),
            Self::BadMac(mac) => write!(f, "{mac} is not the address of an interface"),
            Self::DuplicateMac(mac, other) => write!(f, "MAC {mac} is {other}'s already"),
            Self::DuplicateIp(ip, other) => write!(f, "address {ip} is {other}'s already"),
            Self::ReservedIp(ip, what) => write!(f, "address {ip} is {what}"),
            Self::DuplicateNid(nid, other) => write!(f, "NID {nid} is {other}'s already"),
            Self::BadOption(code) => write!(
                f,
                "option {code} is not one to set here, or its value is not hexadecimal of 1 to 255 bytes"
            ),
        }
    }
}

/// A row that is refused.
pub(super) fn refusal(row: usize, id: String, reason: &Reason) -> Refusal {
    let reason = reason.to_string();
    Refusal { row, id, reason }
}

/// The subnets that bootd serves, as far as rows are concerned.
#[derive(Debug, Clone, Default)]
pub struct ServedSubnets {
    subnets: Vec<Subnet>,
    subnets6: Vec<Subnet6>,
}

/// What a served address is to its subnet.
enum Served {
    /// One that a node may have.
    Host,
    /// One that no node can have, and whose it is.
    Reserved(&'static str),
}

impl ServedSubnets {
    /// Those of a configuration.
    pub fn of(config: &Config) -> Self {
        let subnets6 = config.dhcp6.iter().flat_map(|dhcp6| dhcp6.subnets.clone());
        Self {
            subnets: config.dhcp.subnets.clone(),
            subnets6: subnets6.collect(),
        }
    }

    /// `None`: it is of no served subnet.
    fn of_ip(&self, ip: IpAddr) -> Option<Served> {
        Some(match ip.to_canonical() {
            IpAddr::V4(ip) => {
                let holding = self.subnets.iter().filter(|subnet| subnet.contains(ip));
                let subnet = holding.max_by_key(|subnet| subnet.prefix)?;
                if ip == subnet.network {
                    Served::Reserved("the subnet's own address")
                } else if ip == subnet.broadcast() {
                    Served::Reserved("the subnet's broadcast address")
                } else if Some(ip) == subnet.server {
                    Served::Reserved("bootd's own address")
                } else {
                    Served::Host
                }
            }
            // Each link has those of its own, and they are never given.
            IpAddr::V6(ip) if ip.is_unicast_link_local() => return None,
            IpAddr::V6(ip) => {
                let holding = self.subnets6.iter().filter(|subnet| subnet.contains(ip));
                let subnet = holding.max_by_key(|subnet| subnet.prefix.prefix_len())?;
                if ip == subnet.prefix.network() && subnet.prefix.prefix_len() < 127 {
                    Served::Reserved("the subnet's own address")
                } else if Some(ip) == subnet.server {
                    Served::Reserved("bootd's own address")
                } else {
                    Served::Host
                }
            }
        })
    }
}

/// Checks a row by itself.
pub(super) fn check_row(node: &Node, subnets: &ServedSubnets) -> Result<(), Reason> {
    check_id(&node.id)?;
    for (at, interface) in node.interfaces.iter().enumerate() {
        let (mac, earlier) = (interface.mac, &node.interfaces[..at]);
        if !mac.is_host() {
            return Err(Reason::BadMac(mac));
        }
        if earlier.iter().any(|earlier| earlier.mac == mac) {
            return Err(Reason::DuplicateMac(mac, node.id.clone()));
        }
        for (number, address) in interface.ips.iter().enumerate() {
            // Addresses outside the served subnets are data: kept, not served, so not checked.
            match subnets.of_ip(address.ip) {
                None => continue,
                Some(Served::Reserved(what)) => return Err(Reason::ReservedIp(address.ip, what)),
                Some(Served::Host) => {}
            }
            let mut before = earlier.iter().flat_map(|i| &i.ips).chain(&interface.ips[..number]);
            if before.any(|other| other.ip == address.ip) {
                return Err(Reason::DuplicateIp(address.ip, node.id.clone()));
            }
        }
    }
    check_options(&node.options)
}

/// Checks an overlay by itself.
pub(super) fn check_overlay(overlay: &Overlay) -> Result<(), Reason> {
    check_id(&overlay.id)?;
    check_options(&overlay.options)
}

/// What a row would have in common with nodes that are there, each with the reason for which one of the two must go.
pub(super) fn clashes<'s>(
    node: &Node,
    snapshot: &'s Snapshot,
    subnets: &ServedSubnets,
) -> impl Iterator<Item = (&'s Entry, Reason)> {
    let entry_of = |other: &'s Arc<Node>| snapshot.entry(&other.id);
    let same = snapshot
        .entry(&node.id)
        .map(|entry| (entry, Reason::OwnedBy(entry.owner.to_string())));
    let nid = node.nid.and_then(|nid| {
        let other = snapshot.by_nid(nid)?;
        Some((entry_of(other)?, Reason::DuplicateNid(nid, other.id.clone())))
    });
    let macs = node.interfaces.iter().filter_map(move |interface| {
        let (other, _) = snapshot.by_mac(interface.mac)?;
        Some((entry_of(other)?, Reason::DuplicateMac(interface.mac, other.id.clone())))
    });
    let ips = node.interfaces.iter().flat_map(|interface| &interface.ips);
    let ips = ips.filter_map(move |address| {
        subnets.of_ip(address.ip)?;
        let other = snapshot.by_ip(address.ip)?;
        Some((entry_of(other)?, Reason::DuplicateIp(address.ip, other.id.clone())))
    });
    // In the order in which a human would look; collected, since those that are found go while others are looked at.
    let found: Vec<_> = same.into_iter().chain(nid).chain(macs).chain(ips).collect();
    found.into_iter()
}

fn check_id(id: &str) -> Result<(), Reason> {
    match xname::kind(id) {
        Some(_) => Ok(()),
        None => Err(Reason::BadXname(id.chars().take(64).collect())),
    }
}

fn check_options(options: &BTreeMap<u8, String>) -> Result<(), Reason> {
    options.iter().try_for_each(|(&code, hex)| check_option(code, hex))
}

/// Options that make a DHCP message what it is are not a row's to set.
fn check_option(code: u8, hex: &str) -> Result<(), Reason> {
    let own = matches!(code, 0 | 50..=54 | 57 | 61 | 82 | 255);
    let good = !hex.is_empty()
        && hex.len() <= 510
        && hex.len().is_multiple_of(2)
        && hex.bytes().all(|b| b.is_ascii_hexdigit());
    if own || !good {
        Err(Reason::BadOption(code))
    } else {
        Ok(())
    }
}
