//! What the configuration says about answers, in the form in which they are decided.
//!
//! Knows which subnets a client may be in. Never changes; a new configuration makes a new one.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::Duration;

use bootd_sdk::mac::Mac;

use super::answer::Why;
use super::pool::Terms;
use super::request::Request;
use crate::config::{Arch, Config, Service, Subnet};

/// The rules for answers.
#[derive(Debug, Clone)]
pub struct Policy {
    /// bootd's own address, where it has one on all interfaces.
    pub address: Option<Ipv4Addr>,
    /// The served subnets; they do not overlap.
    pub subnets: Vec<Subnet>,
    /// Seconds of a known node's lease.
    pub lease_time: u32,
    /// What is appended to host names.
    pub domain: Option<String>,
    /// Where boot scripts are, without a slash at the end.
    pub boot_url: String,
    /// Where loaders are by HTTP, without a slash at the end.
    pub loaders_url: Option<String>,
    /// The architectures that have a loader.
    pub loaders: BTreeSet<Arch>,
    /// How dynamic leases are given.
    pub terms: Terms,
}

/// The interface on which a packet came.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Receiving {
    /// Its addresses.
    pub addresses: Vec<Ipv4Addr>,
    /// Its number and its hardware address, when it is Ethernet: there, addresses can be probed.
    pub link: Option<(u32, Mac)>,
}

impl Policy {
    /// The rules of a configuration.
    pub fn new(config: &Config) -> Self {
        Self {
            address: config.address,
            subnets: config.dhcp.subnets.clone(),
            lease_time: seconds(config.dhcp.lease_time),
            domain: config.dhcp.domain.clone().filter(|domain| !domain.is_empty()),
            boot_url: config.boot_url(),
            loaders_url: config.url_of(Service::Loaders).map(|url| format!("{url}/loaders")),
            loaders: config.tftp.loaders.keys().copied().collect(),
            terms: Terms::new(config),
        }
    }

    /// The served subnet with this address; the longest prefix, should they ever overlap.
    pub fn subnet_of(&self, ip: Ipv4Addr) -> Option<&Subnet> {
        self.subnets
            .iter()
            .filter(|subnet| subnet.contains(ip))
            .max_by_key(|subnet| subnet.prefix)
    }

    /// Whether an address can be a host's in a served subnet. Nothing is sent to another address that a packet names.
    pub fn is_host(&self, ip: Ipv4Addr) -> bool {
        is_unicast(ip)
            && self
                .subnet_of(ip)
                .is_some_and(|subnet| ip != subnet.network && ip != subnet.broadcast())
    }

    /// Whether the relay that a request names, if any, can be one: replies go to it. With link selection (RFC 3527) too the relay's own
    /// address must be in a served subnet.
    pub fn check_relay(&self, request: &Request<'_>, receiving: &Receiving) -> Result<(), Why> {
        let relay = request.giaddr;
        if relay.is_unspecified() || (self.is_host(relay) && !self.is_us(relay, receiving)) {
            Ok(())
        } else if is_unicast(relay) && self.subnet_of(relay).is_none() {
            Err(Why::RelayNotServed)
        } else {
            Err(Why::BadRelay)
        }
    }

    /// Whether a client means this server by this address.
    pub fn is_us(&self, ip: Ipv4Addr, receiving: &Receiving) -> bool {
        let of_subnet = || self.subnets.iter().any(|subnet| subnet.server == Some(ip));
        self.address == Some(ip) || receiving.addresses.contains(&ip) || of_subnet()
    }

    /// Whether the request speaks to another server: it names it in option 54, or in `siaddr`.
    pub fn is_for_another(&self, request: &Request<'_>, receiving: &Receiving) -> bool {
        let other = |ip: Ipv4Addr| !self.is_us(ip, receiving);
        request.server_id.is_some_and(other) || (!request.siaddr.is_unspecified() && other(request.siaddr))
    }

    /// bootd's address for a client with this address: the subnet's, else one of the receiving interface on the client's link, else its first.
    pub fn server_of(subnet: &Subnet, client: Ipv4Addr, receiving: &Receiving) -> Ipv4Addr {
        let own = || receiving.addresses.iter().copied();
        subnet
            .server
            .or_else(|| own().find(|ip| subnet.are_neighbours(*ip, client)))
            .or_else(|| own().next())
            .unwrap_or(Ipv4Addr::UNSPECIFIED)
    }

    /// Whether the receiving interface has an address in a subnet.
    pub fn is_addressed(subnet: &Subnet, receiving: &Receiving) -> bool {
        !subnet.is_catch_all() && receiving.addresses.iter().any(|ip| subnet.contains(*ip))
    }

    /// Whether a subnet is on the wire of the receiving interface. What no other subnet holds may be anywhere.
    pub fn is_local(subnet: &Subnet, receiving: &Receiving) -> bool {
        let own = |ip: &Ipv4Addr| subnet.server == Some(*ip) || subnet.contains(*ip);
        subnet.is_catch_all() || receiving.addresses.iter().any(own)
    }
}

/// Neither of "this network" nor of this machine, nor for many.
fn is_unicast(ip: Ipv4Addr) -> bool {
    ip.octets()[0] != 0 && !ip.is_loopback() && !ip.is_multicast() && !ip.is_broadcast()
}

/// A duration as DHCP counts: whole seconds, at least one, and never the all-ones that means "for ever".
pub(super) fn seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs())
        .unwrap_or(u32::MAX)
        .clamp(1, u32::MAX - 1)
}
