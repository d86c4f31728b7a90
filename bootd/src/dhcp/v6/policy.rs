//! What the configuration says about answers over IPv6, in the form in which they are decided.
//!
//! Knows which subnets a client may be in. Never changes; a new configuration makes a new one.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv6Addr;
use std::sync::Arc;

use bootd_sdk::mac::Mac;

use super::answer::Why;
use super::identity::{self, Duid};
use crate::config::{Arch, Config, Dhcp6, NamePattern, Options6, Rule, Service, Subnet6, Unknown6};
use crate::dhcp::rules::Book;
use crate::dhcp::v4::hosts::{Hosts, HostsError};
use crate::dhcp::v4::policy::{Base, script_url, seconds};

/// The rules for answers.
#[derive(Debug, Clone)]
pub struct Policy {
    /// Who this server is.
    pub server_id: Duid,
    /// The served subnets. What is for everybody is among their options.
    pub subnets: Vec<Subnet6>,
    /// Seconds of an address.
    pub lease_time: u32,
    /// The value of option 7.
    pub preference: Option<u8>,
    /// What is appended to host names.
    pub domain: Option<String>,
    /// What nodes are called that no rule names, by their type.
    pub hostnames: BTreeMap<String, NamePattern>,
    /// Rules, in order.
    pub rules: Vec<Rule>,
    /// Where boot scripts are: a URL that ends with `mac=`. `None`: below `boot`.
    pub script_url: Option<String>,
    /// The listener with the boot scripts, when IPv6 reaches it.
    pub boot: Option<Base>,
    /// The listener with the loaders, when IPv6 reaches it.
    pub loaders_at: Option<Base>,
    /// The architectures that have a loader.
    pub loaders: BTreeSet<Arch>,
    /// The port of TFTP, unless it is the usual one.
    pub tftp_port: Option<u16>,
    /// The boot file of those who have no other.
    pub nbp: Option<String>,
    /// The value of option 60; empty when there is none.
    pub boot_params: Box<[u8]>,
    /// What iPXE of clients that the inventory does not know fetches.
    pub unknown_script: Option<String>,
    /// Clients that are not answered.
    pub ignore: BTreeSet<Mac>,
    /// What SOLICIT of clients gets that the inventory does not know.
    pub unknown: Unknown6,
    /// Addresses of single clients.
    pub hosts: Option<Arc<Hosts>>,
}

/// The interface on which a packet came.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Receiving {
    /// Its addresses, but those of the link.
    pub addresses: Vec<Ipv6Addr>,
}

impl Receiving {
    /// Of an interface with these addresses.
    pub fn of(addresses: impl IntoIterator<Item = Ipv6Addr>) -> Self {
        let is_global = |ip: &Ipv6Addr| !ip.is_unicast_link_local();
        Self {
            addresses: addresses.into_iter().filter(is_global).collect(),
        }
    }
}

impl Policy {
    /// The rules of a configuration, without its file of hosts. `kept`: the server's DUID where the configuration has none.
    pub fn new(config: &Config, dhcp6: &Dhcp6, kept: Duid) -> Self {
        let dhcp = &config.dhcp;
        let script = dhcp6.script_url.as_deref().or(dhcp.script_url.as_deref());
        let own = dhcp6.server_id.as_deref().map(Duid::from);
        Self {
            server_id: own.unwrap_or(kept),
            subnets: dhcp6
                .subnets
                .iter()
                .map(|subnet| with_options(subnet, &dhcp6.options))
                .collect(),
            lease_time: seconds(dhcp6.lease_time),
            preference: dhcp6.preference,
            domain: dhcp.domain.clone().filter(|domain| !domain.is_empty()),
            hostnames: dhcp.hostnames.clone(),
            rules: dhcp.rules.clone(),
            script_url: script.map(|url| script_url(url, false)),
            boot: base(config, Service::Boot),
            loaders_at: base(config, Service::Loaders),
            loaders: config.tftp.loaders.keys().copied().collect(),
            tftp_port: Some(config.tftp.port).filter(|port| *port != TFTP),
            nbp: dhcp6.nbp.clone(),
            boot_params: dhcp6.boot_params.clone(),
            unknown_script: dhcp.unknown.script.clone(),
            ignore: dhcp.ignore.clone(),
            unknown: dhcp6.unknown,
            hosts: None,
        }
    }

    /// The same with its file of hosts.
    pub fn read(config: &Config, dhcp6: &Dhcp6, kept: Duid) -> Result<Self, HostsError> {
        let hosts = Hosts::open(dhcp6.hosts.as_ref())?.map(Arc::new);
        let policy = Self::new(config, dhcp6, kept);
        Ok(Self { hosts, ..policy })
    }

    /// The same without a store: a server that is never heard needs no identity of its own.
    pub fn rehearsed(config: &Config, dhcp6: &Dhcp6) -> Self {
        let kept = identity::of_nobody();
        // A file of hosts that cannot be read keeps DHCP from starting; `bootd check` tells.
        Self::read(config, dhcp6, kept.clone()).unwrap_or_else(|_| Self::new(config, dhcp6, kept))
    }

    /// What the rules are asked with.
    pub(in crate::dhcp) fn book(&self) -> Book<'_> {
        Book {
            rules: &self.rules,
            domain: self.domain.as_deref(),
            hostnames: &self.hostnames,
            strict: false,
        }
    }

    /// The subnet of an address: of those that hold it the smallest.
    pub fn subnet_of(&self, ip: Ipv6Addr) -> Option<&Subnet6> {
        if !is_global(ip) {
            return None;
        }
        let holding = self.subnets.iter().filter(|subnet| subnet.contains(ip));
        holding.max_by_key(|subnet| subnet.prefix.prefix_len())
    }

    /// The subnet of a client that has no address: the relay's, else one in which the receiving interface has an address, else the one that
    /// holds everything, else the only one.
    pub fn subnet_at(&self, link: Option<Ipv6Addr>, receiving: &Receiving) -> Result<&Subnet6, Why> {
        if let Some(link) = link {
            return self.subnet_of(link).ok_or(Why::RelayNotServed);
        }
        let near = receiving.addresses.iter().filter_map(|ip| self.subnet_of(*ip));
        let catch_all = || self.subnets.iter().find(|subnet| subnet.is_catch_all());
        let only = || match self.subnets.as_slice() {
            [one] => Some(one),
            _ => None,
        };
        near.min_by_key(|subnet| subnet.is_catch_all())
            .or_else(catch_all)
            .or_else(only)
            .ok_or(Why::NoSubnet)
    }

    /// bootd's address for a client of a subnet: the subnet's, else one of the receiving interface in it, else its first. `None`: it has none.
    pub fn server_of(&self, subnet: &Subnet6, receiving: &Receiving) -> Option<Ipv6Addr> {
        let own = || receiving.addresses.iter().copied();
        subnet
            .server
            .or_else(|| own().find(|ip| subnet.contains(*ip)))
            .or_else(|| own().next())
    }
}

/// An address that a node may be given.
fn is_global(ip: Ipv6Addr) -> bool {
    let is_v4 = ip.to_ipv4_mapped().is_some();
    !(ip.is_unspecified() || ip.is_loopback() || ip.is_multicast() || ip.is_unicast_link_local() || is_v4)
}

/// Where an HTTP listener is for clients of IPv6.
fn base(config: &Config, service: Service) -> Option<Base> {
    let listener = config.listener6_of(service)?;
    let (scheme, address) = (listener.scheme(), listener.address);
    Some(match address.ip().is_unspecified() {
        true => Base::OfServer {
            scheme,
            port: address.port(),
        },
        false => Base::At(format!("{scheme}://{address}")),
    })
}

/// A subnet with all options that its clients get.
fn with_options(subnet: &Subnet6, global: &Options6) -> Subnet6 {
    let mut options = global.clone();
    options.extend(&subnet.options);
    Subnet6 {
        options,
        ..subnet.clone()
    }
}

/// The usual port of TFTP.
const TFTP: u16 = 69;
