//! DHCP as the code uses it: subnets, scopes of options, rules.
//!
//! Options are encoded when the configuration is checked, so a packet only copies them. Nothing here knows a packet.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::time::Duration;

use bootd_sdk::mac::Mac;
use ipnet::IpNet;

use super::pattern::{Glob, NamePattern};
use super::{Arch, Options6};

/// Which interfaces answer DHCP. Names are there from the start or come back; patterns and addresses follow interfaces that appear later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selector {
    /// The interface with this name.
    Name(String),
    /// Interfaces whose names fit a pattern with `*`.
    Pattern(Glob),
    /// The interface that has this address.
    Address(IpAddr),
}

impl Selector {
    /// Whether an interface with this name and these addresses is meant.
    pub fn means(&self, name: &str, addresses: impl IntoIterator<Item = IpAddr>) -> bool {
        match self {
            Self::Name(wanted) => wanted == name,
            Self::Pattern(pattern) => pattern.fits(name.as_bytes()),
            Self::Address(ip) => addresses.into_iter().any(|address| address == *ip),
        }
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Pattern(pattern) => pattern.fmt(f),
            Self::Address(ip) => ip.fmt(f),
        }
    }
}

/// DHCP settings.
#[derive(Debug, Clone)]
pub struct Dhcp {
    /// UDP port of the server; replies go to client port 68 and relay port 67.
    pub port: u16,
    /// Lease time of known nodes.
    pub lease_time: Duration,
    /// Appended to host names, with a dot between.
    pub domain: Option<String>,
    /// Whether router solicitations are answered, so that iPXE does not wait for a router.
    pub router_solicitations: bool,
    /// What the answer promises: nothing, unless configured.
    pub router_advertisement: RouterAdvertisement,
    /// Where iPXE finds its boot script; `mac=` is appended. `None`: at this box's own boot listener.
    pub script_url: Option<String>,
    /// What a node is called that no rule names, by its SMD type; `*` stands for all other types.
    pub hostnames: BTreeMap<String, NamePattern>,
    /// Options for everybody.
    pub options: OptionSet,
    /// Clients that list option 108 get it with this time (RFC 8925), and no address.
    pub ipv6_only: Option<Duration>,
    /// Threads that receive unicast, an interface; at least one.
    pub threads: usize,
    /// How long an answer to an ARP probe is waited for before a dynamic offer; zero: nobody is probed.
    pub probe: Duration,
    /// Packets a second of one client, twice as many in a burst; 0: as many as it likes.
    pub rate_limit: u32,
    /// What a dynamic lease belongs to.
    pub bind_to: BindTo,
    /// The boot file of those who have no other.
    pub nbp: Option<Nbp>,
    /// Clients that are not answered.
    pub ignore: BTreeSet<Mac>,
    /// Addresses of single clients, in a file.
    pub hosts: Option<Hosts>,
    /// Clients that the inventory does not know.
    pub unknown: UnknownClients,
    /// The served subnets. Two of them overlap only when the smaller one says that it is nested; it has its addresses then.
    pub subnets: Vec<Subnet>,
    /// Rules, in order.
    pub rules: Vec<Rule>,
}

/// What router advertisements say (RFC 4861).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RouterAdvertisement {
    /// On-link prefixes from which hosts make addresses, with their lengths.
    pub prefixes: Vec<(Ipv6Addr, u8)>,
    /// Name servers (RFC 8106).
    pub rdnss: Vec<Ipv6Addr>,
    /// For how long this box is a default router; zero: it is none. At most 9000 s.
    pub lifetime: Duration,
    /// Whether they are sent where another router advertises, too.
    pub beside_routers: bool,
}

impl Default for Dhcp {
    fn default() -> Self {
        Self {
            port: 67,
            lease_time: Duration::from_secs(3600),
            domain: None,
            router_solicitations: true,
            router_advertisement: RouterAdvertisement::default(),
            script_url: None,
            hostnames: [("Node".to_owned(), NamePattern::nid4())].into(),
            options: OptionSet::default(),
            ipv6_only: None,
            threads: 1,
            probe: Duration::from_millis(300),
            rate_limit: 64,
            bind_to: BindTo::Mac,
            nbp: None,
            ignore: BTreeSet::new(),
            hosts: None,
            unknown: UnknownClients::default(),
            subnets: Vec::new(),
            rules: Vec::new(),
        }
    }
}

/// What a dynamic lease belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BindTo {
    /// The hardware address.
    Mac,
    /// Option 61, where the client sends it.
    ClientId,
}

/// A boot file for everybody (CoreDHCP's plugin `nbp`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nbp {
    /// Option 66: host and port; `None` when the file is a whole URL.
    pub server: Option<String>,
    /// Option 67.
    pub file: String,
}

/// A file with lines of `MAC IP` (CoreDHCP's plugin `file`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hosts {
    /// The file.
    pub file: PathBuf,
    /// Whether it is read again when it changes.
    pub refresh: bool,
    /// Lease time of its clients.
    pub lease_time: Duration,
    /// Whether it counts before the inventory, for who is in both.
    pub before_inventory: bool,
}

/// What clients get that the inventory does not know.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnknownClients {
    /// What is said to clients that send option 116 and get no address (RFC 2563).
    pub autoconfigure: Option<Autoconfigure>,
    /// What their iPXE fetches; `None`: this box's boot script.
    pub script: Option<String>,
    /// Options for them.
    pub options: OptionSet,
    /// Whether they are answered without an address when there is none for them (CoreDHCP's habit).
    pub answer_without_address: bool,
}

/// The value of option 116.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Autoconfigure {
    /// 0
    DoNotAutoConfigure,
    /// 1
    AutoConfigure,
}

/// A served subnet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subnet {
    /// The network's address, host bits zero.
    pub network: Ipv4Addr,
    /// Length of the prefix, 1 to 30; 0: all that no other subnet holds.
    pub prefix: u8,
    /// Option 1; `None`: there is none, as CoreDHCP without its plugin `netmask`.
    pub netmask: Option<Ipv4Addr>,
    /// Option 3.
    pub routers: Vec<Ipv4Addr>,
    /// Option 6.
    pub dns: Vec<Ipv4Addr>,
    /// bootd's address for clients of this subnet: siaddr, option 54. `None`: the receiving interface's.
    pub server: Option<Ipv4Addr>,
    /// Addresses for clients that the inventory does not know.
    pub pool: Option<Pool>,
    /// Further options; they win over the ones above.
    pub options: OptionSet,
}

impl Subnet {
    /// The mask of the prefix.
    pub fn mask(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0))
    }

    /// The broadcast address.
    pub fn broadcast(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.network.to_bits() | !self.mask().to_bits())
    }

    /// Whether an address is in the subnet.
    pub fn contains(&self, ip: Ipv4Addr) -> bool {
        ip.to_bits() & self.mask().to_bits() == self.network.to_bits()
    }

    /// Whether it holds everything that no other subnet does.
    pub fn is_catch_all(&self) -> bool {
        self.prefix == 0
    }

    /// Whether two addresses of it are on one link, as far as its clients know.
    pub fn are_neighbours(&self, a: Ipv4Addr, b: Ipv4Addr) -> bool {
        let mask = self.netmask.unwrap_or_else(|| self.mask()).to_bits();
        self.contains(a) && self.contains(b) && a.to_bits() & mask == b.to_bits() & mask
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix)
    }
}

/// A dynamic pool: both ends are within its subnet and belong to the pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    /// First address.
    pub first: Ipv4Addr,
    /// Last address.
    pub last: Ipv4Addr,
    /// Lease time of its clients.
    pub lease_time: Duration,
}

/// When an option is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// Always.
    Always,
    /// When option 55 lists it, or is not there at all (contract 1.3, "requested").
    Requested,
}

/// An option, ready for the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DhcpOption {
    /// Its code, 1 to 254.
    pub code: u8,
    /// When it is sent.
    pub when: When,
    /// Code, length and value; the parts of a long value one after the other (RFC 3396).
    pub wire: Box<[u8]>,
}

impl DhcpOption {
    /// Encodes an option.
    pub fn new(code: u8, when: When, value: &[u8]) -> Self {
        let mut wire = Vec::with_capacity(value.len() + 2);
        if value.is_empty() {
            wire.extend_from_slice(&[code, 0]);
        }
        for part in value.chunks(usize::from(u8::MAX)) {
            wire.extend_from_slice(&[code, part.len() as u8]);
            wire.extend_from_slice(part);
        }
        let wire = wire.into();
        Self { code, when, wire }
    }

    /// Its value, all parts of it.
    pub fn value(&self) -> Vec<u8> {
        let mut value = Vec::new();
        let mut rest = &*self.wire;
        while let [_, length, after @ ..] = rest {
            let (part, next) = after.split_at_checked((*length).into()).unwrap_or((after, &[]));
            value.extend_from_slice(part);
            rest = next;
        }
        value
    }
}

/// Options of one scope: ascending by code, each once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OptionSet(Vec<DhcpOption>);

impl OptionSet {
    /// Adds an option; it takes the place of one with the same code.
    pub fn set(&mut self, option: DhcpOption) {
        match self.0.binary_search_by_key(&option.code, |option| option.code) {
            Ok(at) => self.0[at] = option,
            Err(at) => self.0.insert(at, option),
        }
    }

    /// Adds addresses, unless there are none.
    pub fn set_addresses(&mut self, code: u8, when: When, addresses: &[Ipv4Addr]) {
        if !addresses.is_empty() {
            let value: Vec<u8> = addresses.iter().flat_map(Ipv4Addr::octets).collect();
            self.set(DhcpOption::new(code, when, &value));
        }
    }

    /// Adds all of another scope; they win.
    pub fn extend(&mut self, other: &Self) {
        other.iter().for_each(|option| self.set(option.clone()));
    }

    /// The option with this code.
    pub fn get(&self, code: u8) -> Option<&DhcpOption> {
        let at = self.0.binary_search_by_key(&code, |option| option.code).ok()?;
        self.0.get(at)
    }

    /// All of them, ascending.
    pub fn iter(&self) -> std::slice::Iter<'_, DhcpOption> {
        self.0.iter()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A rule: what clients get to whom all its criteria apply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// What it is called in logs and by `bootd explain`.
    pub name: String,
    /// To whom it applies.
    pub criteria: Criteria,
    /// The host name.
    pub hostname: Option<NamePattern>,
    /// The domain of that name.
    pub domain: Option<String>,
    /// Which domains the name gets, in this order. `None`: the rule's, else the global one.
    pub domain_append: Option<Vec<DomainOf>>,
    /// The netmask is that of the CIDR of `criteria.subnets` which holds the client's address.
    pub mask_of_subnet: bool,
    /// Options; routers and a fixed netmask are among them.
    pub options: OptionSet,
    /// Options of DHCPv6.
    pub options6: Options6,
    /// The loader instead of the one that the architecture gets.
    pub loader: Option<String>,
    /// The boot script instead of the usual one.
    pub script: Option<String>,
    /// Who it applies to is not answered. Later rules do not count.
    pub ignore: bool,
    /// Whether later rules count, too.
    pub goes_on: bool,
    /// How loudly a match is told.
    pub log: RuleLog,
}

/// To whom a rule applies: to who fits all lists that are not empty, each with at least one of its values.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Criteria {
    /// SMD component types, `*` for each. Like ids and groups, only nodes of the inventory have one.
    pub types: Vec<String>,
    /// xnames.
    pub ids: Vec<Glob>,
    /// SMD groups.
    pub groups: Vec<String>,
    /// Networks of the address that the client gets; for clients of a pool, of the pool.
    pub subnets: Vec<IpNet>,
    /// Hardware addresses, in lower case with colons.
    pub macs: Vec<Glob>,
    /// Architectures of option 93, of DHCPv6 option 61.
    pub archs: Vec<Arch>,
    /// Option 60, of DHCPv6 any value of option 16.
    pub vendor_classes: Vec<Glob>,
    /// Option 77, as sent or any of its values in the form of RFC 3004; of DHCPv6 option 15.
    pub user_classes: Vec<Glob>,
    /// Sub-option 1 of option 82, of DHCPv6 option 18 of the relay that is nearest to the client.
    pub circuit_ids: Vec<Glob>,
    /// Sub-option 2 of option 82, of DHCPv6 option 37 without its enterprise number.
    pub remote_ids: Vec<Glob>,
}

/// A domain that a host name gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DomainOf {
    /// The rule's.
    Rule,
    /// `dhcp.domain`.
    Global,
}

/// How loudly the match of a rule is told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RuleLog {
    /// In the line of the reply.
    #[default]
    Info,
    /// In a line of its own, at level debug.
    Debug,
    /// Not at all.
    None,
}
