//! An immutable set of nodes with its indexes.
//!
//! Snapshots share what they have in common, so the next one costs little more than what is different. Readers only read; the inventory
//! makes the next one from a [`Snapshot::draft`].

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, OnceLock};

use bootd_sdk::mac::Mac;
use bootd_sdk::wire::{Interface, Node};

use super::shards::Shards;
use crate::config::{DhcpOption, OptionSet, When, hex_bytes};

/// A node of a snapshot and whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The plugin that published it.
    pub owner: Arc<str>,
    /// The node, with what overlays add to it.
    pub node: Arc<Node>,
}

/// All nodes at one moment.
#[derive(Debug, Default)]
pub struct Snapshot {
    generation: u64,
    by_id: Shards<String, Entry>,
    by_mac: Shards<Mac, (Arc<Node>, usize)>,
    by_ip: Shards<IpAddr, Arc<Node>>,
    by_nid: Shards<u64, Arc<Node>>,
    /// Further nodes with an address that is another's too: outside of the served subnets that is none of our business.
    further: Shards<IpAddr, Vec<Arc<Node>>>,
    /// The DHCP options of nodes that have some of their own, by xname: encoded here, so that a packet only copies them.
    options: Shards<String, Arc<OptionSet>>,
    /// Ordered by xname, once somebody wants it.
    ordered: OnceLock<Vec<Entry>>,
}

impl Snapshot {
    /// Indexes entries that were checked: where two share a key the first one has it.
    pub fn new(generation: u64, entries: Vec<Entry>) -> Self {
        let mut new = Self {
            generation,
            ..Self::default()
        };
        for entry in entries {
            if new.by_id.get(&entry.node.id).is_none() {
                new.insert(entry);
            }
        }
        new
    }

    /// Counts the snapshots since the start.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// How many nodes there are.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// All nodes, ordered by xname. The first one to ask has them ordered.
    pub fn entries(&self) -> &[Entry] {
        self.ordered.get_or_init(|| {
            let mut entries: Vec<Entry> = self.by_id.iter().map(|(_, entry)| entry.clone()).collect();
            entries.sort_by(|a, b| natural(&a.node.id, &b.node.id));
            entries
        })
    }

    /// How many there are, for humans: `5 nodes and 5 controllers`.
    pub fn count(&self) -> String {
        let nodes = self.by_id.iter().filter(|(_, entry)| entry.node.kind == "Node").count();
        match self.len() - nodes {
            0 => format!("{nodes} nodes"),
            others => format!("{nodes} nodes and {others} controllers"),
        }
    }

    /// The node and the interface with this hardware address.
    pub fn by_mac(&self, mac: Mac) -> Option<(&Arc<Node>, &Interface)> {
        let (node, interface) = self.by_mac.get(&mac)?;
        Some((node, &node.interfaces[*interface]))
    }

    /// The node with this address.
    pub fn by_ip(&self, ip: IpAddr) -> Option<&Arc<Node>> {
        self.by_ip.get(&ip.to_canonical())
    }

    /// The node with this xname, in canonical form.
    pub fn by_id(&self, id: &str) -> Option<&Arc<Node>> {
        self.entry(id).map(|entry| &entry.node)
    }

    /// The node with this xname, in canonical form, and whose it is.
    pub fn entry(&self, id: &str) -> Option<&Entry> {
        self.by_id.get(id)
    }

    /// The node with this NID.
    pub fn by_nid(&self, nid: u64) -> Option<&Arc<Node>> {
        self.by_nid.get(&nid)
    }

    /// The DHCP options of a node of this snapshot, if it has some of its own.
    pub fn options_of(&self, node: &Node) -> Option<&OptionSet> {
        if node.options.is_empty() {
            return None;
        }
        self.options.get(&node.id).map(|options| &**options)
    }

    /// Whether any node has this address: such an address is never given to somebody else.
    pub fn owns(&self, ip: Ipv4Addr) -> bool {
        self.by_ip.get(&IpAddr::V4(ip)).is_some()
    }

    /// The next one, so far the same.
    pub(super) fn draft(&self) -> Self {
        Self {
            generation: self.generation + 1,
            by_id: self.by_id.clone(),
            by_mac: self.by_mac.clone(),
            by_ip: self.by_ip.clone(),
            by_nid: self.by_nid.clone(),
            further: self.further.clone(),
            options: self.options.clone(),
            ordered: OnceLock::new(),
        }
    }

    /// Adds a node whose id is not there.
    pub(super) fn insert(&mut self, entry: Entry) {
        let node = &entry.node;
        if let Some(nid) = node.nid.filter(|nid| self.by_nid.get(nid).is_none()) {
            self.by_nid.insert(nid, Arc::clone(node));
        }
        for (number, interface) in node.interfaces.iter().enumerate() {
            if self.by_mac.get(&interface.mac).is_none() {
                self.by_mac.insert(interface.mac, (Arc::clone(node), number));
            }
            for address in &interface.ips {
                self.insert_ip(address.ip.to_canonical(), node);
            }
        }
        if !node.options.is_empty() {
            self.options.insert(node.id.clone(), encoded(&node.options).into());
        }
        self.by_id.insert(node.id.clone(), entry);
    }

    /// Takes a node out.
    pub(super) fn remove(&mut self, id: &str) -> Option<Entry> {
        let entry = self.by_id.remove(id)?;
        if !entry.node.options.is_empty() {
            self.options.remove(id);
        }
        let node = &entry.node;
        if let Some(nid) = node
            .nid
            .filter(|nid| self.by_nid.get(nid).is_some_and(|of| of.id == id))
        {
            self.by_nid.remove(&nid);
        }
        for interface in &node.interfaces {
            if self.by_mac.get(&interface.mac).is_some_and(|(of, _)| of.id == id) {
                self.by_mac.remove(&interface.mac);
            }
            for address in &interface.ips {
                self.remove_ip(address.ip.to_canonical(), id);
            }
        }
        Some(entry)
    }

    fn insert_ip(&mut self, ip: IpAddr, node: &Arc<Node>) {
        match self.by_ip.get(&ip) {
            None => self.by_ip.insert(ip, Arc::clone(node)),
            Some(first) if first.id == node.id => {}
            Some(_) => {
                let mut further = self.further.remove(&ip).unwrap_or_default();
                further.push(Arc::clone(node));
                self.further.insert(ip, further);
            }
        }
    }

    fn remove_ip(&mut self, ip: IpAddr, id: &str) {
        let mut further = self.further.remove(&ip).unwrap_or_default();
        further.retain(|node| node.id != id);
        if self.by_ip.get(&ip).is_some_and(|first| first.id == id) {
            self.by_ip.remove(&ip);
            if !further.is_empty() {
                self.by_ip.insert(ip, further.remove(0));
            }
        }
        if !further.is_empty() {
            self.further.insert(ip, further);
        }
    }
}

/// What is not an option to set, or not hexadecimal, was reported to who published it; here it is only left out.
fn encoded(options: &BTreeMap<u8, String>) -> OptionSet {
    let mut set = OptionSet::default();
    for (code, hex) in options {
        let protocols = matches!(code, 0 | 51..=54 | 61 | 82 | 255);
        if let Some(value) = hex_bytes(hex).filter(|_| !protocols) {
            set.set(DhcpOption::new(*code, When::Always, &value));
        }
    }
    set
}

/// Orders `x1000c0s2b0n0` before `x1000c0s10b0n0`. Canonical xnames have no leading zeros, so of two numbers the longer one is larger.
fn natural(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.as_bytes(), b.as_bytes());
    loop {
        let digits = |text: &[u8]| text.iter().take_while(|c| c.is_ascii_digit()).count();
        match (digits(a), digits(b)) {
            (0, 0) => match (a.split_first(), b.split_first()) {
                (Some((x, rest_a)), Some((y, rest_b))) if x == y => (a, b) = (rest_a, rest_b),
                (x, y) => return x.map(|(x, _)| x).cmp(&y.map(|(y, _)| y)),
            },
            (x, y) => {
                let order = x.cmp(&y).then_with(|| a[..x].cmp(&b[..y]));
                if order.is_ne() {
                    return order;
                }
                (a, b) = (&a[x..], &b[y..]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bootd_sdk::wire::Address;

    fn entry(id: &str, ips: &[&str]) -> Entry {
        let ips = ips.iter().map(|ip| Address {
            network: String::new(),
            ip: ip.parse().unwrap(),
        });
        let interface = Interface {
            mac: Mac([2, 0, 0, 0, 0, id.len() as u8]),
            ips: ips.collect(),
        };
        Entry {
            owner: "smd".into(),
            node: Arc::new(Node {
                id: id.into(),
                interfaces: vec![interface],
                ..Node::default()
            }),
        }
    }

    #[test]
    fn nodes_are_ordered_as_humans_count() {
        let ids = ["x1c0s10b0n0", "x1c0s2b0n1", "x1c0s2b0n0", "x1c0s2b0", "x10c0", "x1m0"];
        let snapshot = Snapshot::new(1, ids.iter().map(|id| entry(id, &[])).collect());
        let ordered: Vec<&str> = snapshot.entries().iter().map(|entry| entry.node.id.as_str()).collect();
        assert_eq!(
            ordered,
            ["x1c0s2b0", "x1c0s2b0n0", "x1c0s2b0n1", "x1c0s10b0n0", "x1m0", "x10c0"]
        );
    }

    #[test]
    fn an_address_of_two_nodes_stays_the_others_when_one_goes() {
        let ip = "10.9.9.9".parse().unwrap();
        let all = ["x1", "x22", "x333"].map(|id| entry(id, &["10.9.9.9", "10.9.9.9"]));
        let mut snapshot = Snapshot::new(1, all.into());
        let id = |snapshot: &Snapshot| snapshot.by_ip(ip).map(|node| node.id.clone());
        assert_eq!(id(&snapshot).as_deref(), Some("x1"));
        snapshot.remove("x22");
        snapshot.remove("x1");
        assert_eq!(id(&snapshot).as_deref(), Some("x333"));
        snapshot.remove("x333");
        assert_eq!(id(&snapshot), None);
        assert!(snapshot.is_empty() && snapshot.further.is_empty() && snapshot.by_mac.is_empty());
    }
}
