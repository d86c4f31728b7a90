//! DHCPv6 as the code uses it: subnets, options, the server's identity.
//!
//! Rules, host names, the list of the ignored and the limits are those of [`Dhcp`](super::Dhcp): they hold for both families. Nothing here
//! knows a packet.

use std::fmt;
use std::net::Ipv6Addr;
use std::time::Duration;

use ipnet::Ipv6Net;

use super::{Hosts, Selector, When};

/// DHCPv6 settings.
#[derive(Debug, Clone)]
pub struct Dhcp6 {
    /// UDP port of the server. Clients and relays are answered at the port that they speak from.
    pub port: u16,
    /// Interfaces on which it is answered; never empty, unless nothing is served.
    pub interfaces: Vec<Selector>,
    /// Preferred and valid lifetime of a node's address.
    pub lease_time: Duration,
    /// The server's DUID, 1 to 128 bytes. `None`: one that is made at the first start and kept.
    pub server_id: Option<Box<[u8]>>,
    /// The value of option 7. `None`: it is not sent, which means 0.
    pub preference: Option<u8>,
    /// Where iPXE finds its boot script; `mac=` is appended. `None`: at `dhcp.script_url`, else at this box's own boot listener.
    pub script_url: Option<String>,
    /// What SOLICIT of a client that the inventory does not know gets.
    pub unknown: Unknown6,
    /// The boot file of those who have no other: option 59.
    pub nbp: Option<String>,
    /// The value of option 60, as it is on the wire (RFC 5970 section 3.2). Empty: there is none.
    pub boot_params: Box<[u8]>,
    /// Addresses of single clients, in a file.
    pub hosts: Option<Hosts>,
    /// Options for everybody.
    pub options: Options6,
    /// The served subnets. Two of them overlap only when the smaller one says that it is nested; it has its addresses then.
    pub subnets: Vec<Subnet6>,
}

impl Default for Dhcp6 {
    fn default() -> Self {
        Self {
            port: 547,
            interfaces: Vec::new(),
            lease_time: Duration::from_secs(3600),
            server_id: None,
            preference: None,
            script_url: None,
            unknown: Unknown6::Silence,
            nbp: None,
            boot_params: Box::default(),
            hosts: None,
            options: Options6::default(),
            subnets: Vec::new(),
        }
    }
}

/// What SOLICIT of a client that the inventory does not know gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unknown6 {
    /// No answer, so that another server may have one.
    Silence,
    /// An ADVERTISE with the status NoAddrsAvail.
    NoAddress,
}

/// A served subnet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subnet6 {
    /// Its addresses, without host bits; `::/0`: all that no other subnet holds.
    pub prefix: Ipv6Net,
    /// bootd's address for clients of this subnet, in the URLs that they are given. `None`: the receiving interface's.
    pub server: Option<Ipv6Addr>,
    /// Its options; name servers and search list are among them.
    pub options: Options6,
}

impl Subnet6 {
    /// Whether it holds everything that no other subnet does.
    pub fn is_catch_all(&self) -> bool {
        self.prefix.prefix_len() == 0
    }

    /// Whether an address is in the subnet.
    pub fn contains(&self, ip: Ipv6Addr) -> bool {
        self.prefix.contains(&ip)
    }
}

impl fmt::Display for Subnet6 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.prefix.fmt(f)
    }
}

/// An option of DHCPv6, ready for the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Option6 {
    /// Its code, never 0.
    pub code: u16,
    /// When it is sent; here "requested" is what option 6 lists.
    pub when: When,
    /// Code, length and value.
    pub wire: Box<[u8]>,
}

impl Option6 {
    /// Encodes an option; of a value over 65,535 bytes the beginning.
    pub fn new(code: u16, when: When, value: &[u8]) -> Self {
        let length = u16::try_from(value.len()).unwrap_or(u16::MAX);
        let mut wire = Vec::with_capacity(value.len() + 4);
        wire.extend_from_slice(&code.to_be_bytes());
        wire.extend_from_slice(&length.to_be_bytes());
        wire.extend_from_slice(value.get(..length.into()).unwrap_or(value));
        let wire = wire.into();
        Self { code, when, wire }
    }

    /// Its value.
    pub fn value(&self) -> &[u8] {
        self.wire.get(4..).unwrap_or_default()
    }
}

/// Options of one scope: ascending by code, each once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options6(Vec<Option6>);

impl Options6 {
    /// Adds an option; it takes the place of one with the same code.
    pub fn set(&mut self, option: Option6) {
        match self.0.binary_search_by_key(&option.code, |option| option.code) {
            Ok(at) => self.0[at] = option,
            Err(at) => self.0.insert(at, option),
        }
    }

    /// Adds addresses, unless there are none.
    pub fn set_addresses(&mut self, code: u16, when: When, addresses: &[Ipv6Addr]) {
        if !addresses.is_empty() {
            let value: Vec<u8> = addresses.iter().flat_map(Ipv6Addr::octets).collect();
            self.set(Option6::new(code, when, &value));
        }
    }

    /// Adds all of another scope; they win.
    pub fn extend(&mut self, other: &Self) {
        other.iter().for_each(|option| self.set(option.clone()));
    }

    /// The option with this code.
    pub fn get(&self, code: u16) -> Option<&Option6> {
        let at = self.0.binary_search_by_key(&code, |option| option.code).ok()?;
        self.0.get(at)
    }

    /// All of them, ascending.
    pub fn iter(&self) -> std::slice::Iter<'_, Option6> {
        self.0.iter()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
