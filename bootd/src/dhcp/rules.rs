//! What the rules of the configuration say about a client (contract 1.5).
//!
//! In order; a rule fits when all its criteria do. The first one that fits ends it, unless it says that later ones count, too; one that
//! ignores ends it at once. They are the same for both families: `Asks` is what they look at in a packet. Pure but for a line at level debug,
//! and without memory of its own unless more than a few rules fit.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use bootd_sdk::mac::Mac;
use bootd_sdk::wire::Node;
use ipnet::IpNet;
use smallvec::SmallVec;

use crate::config::{Arch, Criteria, DomainOf, Glob, NamePattern, Rule, RuleLog};
use crate::inventory::Snapshot;

/// What comes of the rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ruling<'a> {
    /// The client is not answered, by this rule.
    Ignore(&'a Rule),
    /// It is.
    Serve(Said<'a>),
}

/// What rules say about an answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Said<'a> {
    /// The rules that fit, in order.
    pub rules: SmallVec<[&'a Rule; 4]>,
    /// The mask of the CIDR that holds the address, when the last rule with a mask wants that.
    pub mask: Option<Ipv4Addr>,
    /// The client's name.
    pub name: Option<Name<'a>>,
}

/// A host name, which is text only once it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Name<'a> {
    pattern: &'a NamePattern,
    number: u64,
    id: &'a str,
    domains: [Option<&'a str>; 2],
}

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.pattern.write(self.number, self.id, f)?;
        self.domains
            .iter()
            .flatten()
            .try_for_each(|domain| write!(f, ".{domain}"))
    }
}

/// A packet of either family, as far as rules look at it.
pub(super) trait Asks {
    /// The client's architecture. `strict`: one that upstream knows.
    fn arch(&self, strict: bool) -> Option<Arch>;
    /// The vendor classes.
    fn vendor_classes(&self) -> impl Iterator<Item = &[u8]>;
    /// The user classes.
    fn user_classes(&self) -> impl Iterator<Item = &[u8]>;
    /// The client's link, as its relay names it.
    fn circuit_id(&self) -> Option<&[u8]>;
    /// Who the client is, as its relay knows it.
    fn remote_id(&self) -> Option<&[u8]>;
}

/// The rules of the configuration, and what else says how clients are called.
#[derive(Clone, Copy)]
pub(super) struct Book<'a> {
    pub(super) rules: &'a [Rule],
    /// What is appended to host names.
    pub(super) domain: Option<&'a str>,
    /// What nodes are called that no rule names, by their type.
    pub(super) hostnames: &'a BTreeMap<String, NamePattern>,
    /// As upstream has it.
    pub(super) strict: bool,
}

/// A client, as far as rules look at it.
pub(super) struct Client<'a, R> {
    pub(super) request: &'a R,
    /// `None`: nobody knows it.
    pub(super) mac: Option<Mac>,
    pub(super) node: Option<&'a Node>,
    /// The address that it gets; for clients of a pool one of the pool's. `None`: it gets none.
    pub(super) ip: Option<IpAddr>,
}

impl<'a> Said<'a> {
    /// The loader that the last rule with one names.
    pub fn loader(&self) -> Option<&'a str> {
        self.rules.iter().rev().find_map(|rule| rule.loader.as_deref())
    }

    /// The script that the last rule with one names.
    pub fn script(&self) -> Option<&'a str> {
        self.rules.iter().rev().find_map(|rule| rule.script.as_deref())
    }

    /// The domain that the last rule with one names.
    pub fn domain(&self) -> Option<&'a str> {
        self.rules.iter().rev().find_map(|rule| rule.domain.as_deref())
    }
}

/// Asks the rules about a client, and what it is called.
pub(super) fn rule<'a, R: Asks>(book: Book<'a>, snapshot: &Snapshot, client: &Client<'a, R>) -> Ruling<'a> {
    let mut said = Said::default();
    for rule in book.rules {
        if !fits(&rule.criteria, client, book.strict) {
            continue;
        }
        if rule.log == RuleLog::Debug {
            let mac = client.mac.unwrap_or(Mac([0; 6]));
            tracing::debug!(rule = rule.name, %mac, ignore = rule.ignore, "dhcp rule fits");
        }
        if rule.ignore {
            return Ruling::Ignore(rule);
        }
        if rule.mask_of_subnet {
            said.mask = mask(&rule.criteria, client.ip, book.strict);
        } else if rule.options.get(1).is_some() {
            said.mask = None;
        }
        said.rules.push(rule);
        if !rule.goes_on {
            break;
        }
    }
    said.name = name(book, &said, snapshot, client.node);
    Ruling::Serve(said)
}

fn fits<R: Asks>(criteria: &Criteria, client: &Client<'_, R>, strict: bool) -> bool {
    let Client { request, mac, node, ip } = client;
    let one = |globs: &[Glob], value: Option<&[u8]>| {
        globs.is_empty() || value.is_some_and(|value| globs.iter().any(|glob| glob.fits(value)))
    };
    let anybody = criteria.types.is_empty() && criteria.ids.is_empty() && criteria.groups.is_empty();
    let known = anybody
        || node.is_some_and(|node| {
            (criteria.types.is_empty() || criteria.types.iter().any(|kind| kind == "*" || *kind == node.kind))
                && one(&criteria.ids, Some(node.id.as_bytes()))
                && (criteria.groups.is_empty() || criteria.groups.iter().any(|group| node.groups.contains(group)))
        });
    known
        && (criteria.subnets.is_empty() || ip.is_some_and(|ip| criteria.subnets.iter().any(|net| net.contains(&ip))))
        && (criteria.macs.is_empty() || mac.is_some_and(|mac| one(&criteria.macs, Some(&text(mac)))))
        && (criteria.archs.is_empty() || request.arch(strict).is_some_and(|arch| criteria.archs.contains(&arch)))
        && (criteria.vendor_classes.is_empty()
            || request
                .vendor_classes()
                .any(|class| one(&criteria.vendor_classes, Some(class))))
        && (criteria.user_classes.is_empty()
            || request
                .user_classes()
                .any(|class| one(&criteria.user_classes, Some(class))))
        && one(&criteria.circuit_ids, request.circuit_id())
        && one(&criteria.remote_ids, request.remote_id())
}

/// The mask of the CIDR that holds the address. Upstream took the first one's (contract 2.5).
fn mask(criteria: &Criteria, ip: Option<IpAddr>, strict: bool) -> Option<Ipv4Addr> {
    let of_ipv4 = |net: &IpNet| match net {
        IpNet::V4(net) => Some(*net),
        IpNet::V6(_) => None,
    };
    let mut all = criteria.subnets.iter().filter_map(of_ipv4);
    let net = match ip {
        _ if strict => all.next(),
        Some(IpAddr::V4(ip)) => all.find(|net| net.contains(&ip)),
        _ => None,
    };
    net.map(|net| net.netmask())
}

/// The name of the last rule that can name the client, else, of nodes only, what its type is called.
fn name<'a>(book: Book<'a>, said: &Said<'a>, snapshot: &Snapshot, node: Option<&'a Node>) -> Option<Name<'a>> {
    let global = book.domain;
    let named = |pattern: &'a NamePattern, domains| {
        let number = match node {
            _ if !pattern.needs_number() => 0,
            Some(node) => number(node, snapshot, book.strict)?,
            None => return None,
        };
        let id = match node {
            Some(node) => node.id.as_str(),
            None if pattern.needs_id() => return None,
            None => "",
        };
        Some(Name {
            pattern,
            number,
            id,
            domains,
        })
    };
    let by_rule = said.rules.iter().rev().find_map(|rule| {
        let domain = |of: &DomainOf| match of {
            DomainOf::Rule => rule.domain.as_deref(),
            DomainOf::Global => global,
        };
        let domains = match rule.domain_append.as_deref() {
            None => [rule.domain.as_deref().or(global), None],
            Some(list) => [list.first().and_then(domain), list.get(1).and_then(domain)],
        };
        named(rule.hostname.as_ref()?, domains)
    });
    by_rule.or_else(|| {
        let names = book.hostnames;
        let pattern = names.get(node?.kind.as_str()).or_else(|| names.get("*"))?;
        named(pattern, [global, None])
    })
}

/// The number in a name: the node's NID, of a controller that of the first node that it controls. Upstream had 0 for all of them.
fn number(node: &Node, snapshot: &Snapshot, strict: bool) -> Option<u64> {
    if node.kind == "Node" {
        return node.nid.or(strict.then_some(0));
    }
    if strict {
        return Some(0);
    }
    node.nid.or_else(|| {
        let mut id: SmallVec<[u8; 64]> = node.id.as_bytes().into();
        id.extend_from_slice(b"n0");
        snapshot.by_id(std::str::from_utf8(&id).ok()?)?.nid
    })
}

/// A hardware address in lower case with colons.
fn text(mac: Mac) -> [u8; 17] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = [b':'; 17];
    for (at, byte) in mac.0.iter().enumerate() {
        text[3 * at] = DIGITS[usize::from(byte >> 4)];
        text[3 * at + 1] = DIGITS[usize::from(byte & 15)];
    }
    text
}

#[cfg(test)]
#[path = "rules_tests.rs"]
mod tests;
