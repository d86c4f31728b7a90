//! What a row must be to become a node: pure, row by row. A refused row costs only itself.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use bootd_sdk::mac::Mac;
use bootd_sdk::wire::Node;
use bootd_sdk::xname;

use crate::config::{Config, Subnet};

/// Why a row is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// It is not a node record: a field is missing or of the wrong type.
    NotANode(String),
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
    /// The metric label.
    pub fn label(&self) -> &'static str {
        match self {
            Self::NotANode(_) => "not_a_node",
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

/// The subnets that bootd serves, as far as rows are concerned.
#[derive(Debug, Clone, Default)]
pub struct ServedSubnets {
    subnets: Vec<Subnet>,
}

impl ServedSubnets {
    /// Those of a configuration.
    pub fn of(config: &Config) -> Self {
        Self {
            subnets: config.dhcp.subnets.clone(),
        }
    }

    fn of_ip(&self, ip: IpAddr) -> Option<(&Subnet, Ipv4Addr)> {
        let IpAddr::V4(ip) = ip.to_canonical() else { return None };
        self.subnets
            .iter()
            .find(|subnet| subnet.contains(ip))
            .map(|subnet| (subnet, ip))
    }
}

/// Checks rows one after the other: an accepted row is held against those that follow.
#[derive(Debug, Default)]
pub(super) struct Checker<'a> {
    subnets: Option<&'a ServedSubnets>,
    owners: HashMap<String, String>,
    macs: HashMap<Mac, String>,
    ips: HashMap<IpAddr, String>,
    nids: HashMap<u64, String>,
}

impl<'a> Checker<'a> {
    pub(super) fn new(subnets: &'a ServedSubnets) -> Self {
        Self {
            subnets: Some(subnets),
            ..Self::default()
        }
    }

    /// Accepts a row of this owner, or says why not.
    pub(super) fn accept(&mut self, owner: &str, node: &Node) -> Result<(), Reason> {
        self.check(owner, node)?;
        let id = &node.id;
        self.owners.insert(id.clone(), owner.to_owned());
        if let Some(nid) = node.nid {
            self.nids.insert(nid, id.clone());
        }
        for interface in &node.interfaces {
            self.macs.insert(interface.mac, id.clone());
            for address in &interface.ips {
                self.ips.insert(address.ip.to_canonical(), id.clone());
            }
        }
        Ok(())
    }

    fn check(&self, owner: &str, node: &Node) -> Result<(), Reason> {
        if xname::kind(&node.id).is_none() {
            return Err(Reason::BadXname(node.id.chars().take(64).collect()));
        }
        match self.owners.get(&node.id) {
            Some(other) if other == owner => return Err(Reason::DuplicateId),
            Some(other) => return Err(Reason::OwnedBy(other.clone())),
            None => {}
        }
        if let Some((nid, other)) = node.nid.and_then(|nid| Some((nid, self.nids.get(&nid)?))) {
            return Err(Reason::DuplicateNid(nid, other.clone()));
        }
        for (at, interface) in node.interfaces.iter().enumerate() {
            let mac = interface.mac;
            if mac.0[0] & 1 == 1 || mac.0 == [0; 6] {
                return Err(Reason::BadMac(mac));
            }
            if let Some(other) = self.macs.get(&mac) {
                return Err(Reason::DuplicateMac(mac, other.clone()));
            }
            if node.interfaces[..at].iter().any(|earlier| earlier.mac == mac) {
                return Err(Reason::DuplicateMac(mac, node.id.clone()));
            }
            for (number, address) in interface.ips.iter().enumerate() {
                self.check_ip(node, address.ip)?;
                let earlier = node.interfaces[..at]
                    .iter()
                    .flat_map(|i| &i.ips)
                    .chain(&interface.ips[..number]);
                let served = self.subnets.is_some_and(|s| s.of_ip(address.ip).is_some());
                if served && earlier.into_iter().any(|other| other.ip == address.ip) {
                    return Err(Reason::DuplicateIp(address.ip, node.id.clone()));
                }
            }
        }
        node.options.iter().try_for_each(|(&code, hex)| check_option(code, hex))
    }

    /// Addresses outside the served subnets are data: kept, not served, so not checked.
    fn check_ip(&self, node: &Node, ip: IpAddr) -> Result<(), Reason> {
        let Some((subnet, v4)) = self.subnets.and_then(|subnets| subnets.of_ip(ip)) else {
            return Ok(());
        };
        match self.ips.get(&ip.to_canonical()) {
            Some(other) if *other != node.id => return Err(Reason::DuplicateIp(ip, other.clone())),
            _ => {}
        }
        if v4 == subnet.network {
            return Err(Reason::ReservedIp(ip, "the subnet's own address"));
        }
        if v4 == subnet.broadcast() {
            return Err(Reason::ReservedIp(ip, "the subnet's broadcast address"));
        }
        if v4 == subnet.server {
            return Err(Reason::ReservedIp(ip, "bootd's own address"));
        }
        Ok(())
    }
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
