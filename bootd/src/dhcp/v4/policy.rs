//! What the configuration says about answers, in the form in which they are decided.
//!
//! Knows which subnets a client may be in. Never changes; a new configuration makes a new one.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use bootd_sdk::mac::Mac;

use super::answer::Why;
use super::hosts::{Hosts, HostsError};
use super::pool::Terms;
use super::request::Request;
use crate::config::{Arch, Config, NamePattern, Nbp, OptionSet, Rule, Service, Subnet, UnknownClients, When};
use crate::dhcp::rules::Book;

/// The rules for answers.
#[derive(Debug, Clone)]
pub struct Policy {
    /// bootd's own address, where it has one on all interfaces.
    pub address: Option<Ipv4Addr>,
    /// The served subnets. What is for everybody, the netmask, the routers and the name servers are among their options.
    pub subnets: Vec<Subnet>,
    /// Seconds of a known node's lease.
    pub lease_time: u32,
    /// What is appended to host names.
    pub domain: Option<String>,
    /// What nodes are called that no rule names, by their type.
    pub hostnames: BTreeMap<String, NamePattern>,
    /// Rules, in order.
    pub rules: Vec<Rule>,
    /// Where boot scripts are: a URL that ends with `mac=`. `None`: below `boot`.
    pub script_url: Option<String>,
    /// The listener with the boot scripts. `None`: there is none, and without `script_url` nobody is given a script.
    pub boot: Option<Base>,
    /// The listener with the loaders.
    pub loaders_at: Option<Base>,
    /// The architectures that have a loader.
    pub loaders: BTreeSet<Arch>,
    /// The boot file of those who have no other.
    pub nbp: Option<Nbp>,
    /// Clients that are not answered.
    pub ignore: BTreeSet<Mac>,
    /// The value of option 108 for those who list it.
    pub ipv6_only: Option<u32>,
    /// Clients that the inventory does not know.
    pub unknown: UnknownClients,
    /// Addresses of single clients.
    pub hosts: Option<Arc<Hosts>>,
    /// Upstream's packets, byte for byte.
    pub strict: bool,
    /// How dynamic leases are given.
    pub terms: Terms,
}

/// Where an HTTP listener is for clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Base {
    /// At this URL, without a slash at its end.
    At(String),
    /// At bootd's address for the client.
    OfServer {
        /// `http` or `https`.
        scheme: &'static str,
        /// The port.
        port: u16,
    },
}

impl Base {
    fn of(config: &Config, service: Service) -> Option<Self> {
        let listener = config.listener_of(service)?;
        if listener.address.ip().is_unspecified() && config.address.is_none() {
            let (scheme, port) = (listener.scheme(), listener.address.port());
            return Some(Self::OfServer { scheme, port });
        }
        config.url_of(service).map(Self::At)
    }
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
    /// The rules of a configuration, without its file of hosts.
    pub fn new(config: &Config) -> Self {
        let dhcp = &config.dhcp;
        Self {
            address: config.address,
            subnets: dhcp
                .subnets
                .iter()
                .map(|subnet| with_options(subnet, &dhcp.options))
                .collect(),
            lease_time: seconds(dhcp.lease_time),
            domain: dhcp.domain.clone().filter(|domain| !domain.is_empty()),
            hostnames: dhcp.hostnames.clone(),
            rules: dhcp.rules.clone(),
            script_url: dhcp
                .script_url
                .as_deref()
                .map(|url| script_url(url, config.compat.strict)),
            boot: Base::of(config, Service::Boot),
            loaders_at: Base::of(config, Service::Loaders),
            loaders: config.tftp.loaders.keys().copied().collect(),
            nbp: dhcp.nbp.clone(),
            ignore: dhcp.ignore.clone(),
            ipv6_only: dhcp
                .ipv6_only
                .map(|time| u32::try_from(time.as_secs()).unwrap_or(u32::MAX)),
            unknown: dhcp.unknown.clone(),
            hosts: None,
            strict: config.compat.strict,
            terms: Terms::new(config),
        }
    }

    /// The rules of a configuration, with its file of hosts.
    pub fn read(config: &Config) -> Result<Self, HostsError> {
        let hosts = Hosts::open(config.dhcp.hosts.as_ref())?.map(Arc::new);
        let policy = Self::new(config);
        Ok(Self { hosts, ..policy })
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

    /// Whether the request speaks to another server: it names it in option 54, which upstream does not look at, or in `siaddr`. A relay may
    /// have had its client see another address of ours (RFC 5107).
    pub fn is_for_another(&self, request: &Request<'_>, receiving: &Receiving) -> bool {
        let other = |ip: Ipv4Addr| !self.is_us(ip, receiving);
        let named = request.server_id.filter(|ip| Some(*ip) != request.server_override());
        (!self.strict && named.is_some_and(other)) || (!request.siaddr.is_unspecified() && other(request.siaddr))
    }

    /// An address of the link that the client is on, when a relay says so. Upstream knows of `giaddr` only.
    pub fn link_of(&self, request: &Request<'_>) -> Option<Ipv4Addr> {
        let link = request.relayed_from();
        if self.strict {
            link.map(|_| request.giaddr)
        } else {
            link
        }
    }

    /// What the rules are asked with.
    pub(in crate::dhcp) fn book(&self) -> Book<'_> {
        Book {
            rules: &self.rules,
            domain: self.domain.as_deref(),
            hostnames: &self.hostnames,
            strict: self.strict,
        }
    }

    /// The subnet with all that no other one holds, if there is one.
    pub fn catch_all(&self) -> Option<&Subnet> {
        self.subnets.iter().find(|subnet| subnet.is_catch_all())
    }

    /// The subnet of a client that has no address: the relay's, else one on the wire of the receiving interface.
    pub fn subnet_at(&self, request: &Request<'_>, receiving: &Receiving) -> Result<&Subnet, Why> {
        if let Some(link) = self.link_of(request) {
            return self.subnet_of(link).ok_or(Why::RelayNotServed);
        }
        let on_wire = |subnet: &&Subnet| !subnet.is_catch_all() && Self::is_local(subnet, receiving);
        let mut all = self.subnets.iter();
        all.clone()
            .find(|subnet| Self::is_addressed(subnet, receiving))
            .or_else(|| all.find(on_wire))
            .or_else(|| self.catch_all())
            .ok_or(Why::NoPool)
    }

    /// bootd's address for a client with this address: the subnet's, else one of the receiving interface on the client's link, else its first.
    /// Upstream, without its plugin `server_id`, has none.
    pub fn server_of(&self, subnet: &Subnet, client: Ipv4Addr, receiving: &Receiving) -> Ipv4Addr {
        let own = || receiving.addresses.iter().copied().filter(|_| !self.strict);
        subnet
            .server
            .or_else(|| own().find(|ip| subnet.are_neighbours(*ip, client)))
            .or_else(|| own().next())
            .unwrap_or(Ipv4Addr::UNSPECIFIED)
    }

    /// Whether an address of a subnet is on a link of which the receiving interface has an address.
    pub fn is_near(subnet: &Subnet, ip: Ipv4Addr, receiving: &Receiving) -> bool {
        receiving.addresses.iter().any(|own| subnet.are_neighbours(*own, ip))
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

/// A subnet with all options that its clients get.
fn with_options(subnet: &Subnet, global: &OptionSet) -> Subnet {
    let mut options = global.clone();
    if let Some(mask) = subnet.netmask {
        options.set_addresses(1, When::Always, &[mask]);
    }
    options.set_addresses(3, When::Always, &subnet.routers);
    options.set_addresses(6, When::Requested, &subnet.dns);
    options.extend(&subnet.options);
    Subnet {
        options,
        ..subnet.clone()
    }
}

/// What a client's hardware address is appended to. Upstream does not look whether there is a query already.
pub(in crate::dhcp) fn script_url(url: &str, strict: bool) -> String {
    let joint = if url.contains('?') && !strict { '&' } else { '?' };
    format!("{url}{joint}mac=")
}

/// Neither of "this network" nor of this machine, nor for many.
pub(super) fn is_unicast(ip: Ipv4Addr) -> bool {
    ip.octets()[0] != 0 && !ip.is_loopback() && !ip.is_multicast() && !ip.is_broadcast()
}

/// A duration as DHCP counts: whole seconds, at least one, and never the all-ones that means "for ever".
pub(in crate::dhcp) fn seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs())
        .unwrap_or(u32::MAX)
        .clamp(1, u32::MAX - 1)
}
