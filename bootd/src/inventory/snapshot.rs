//! An immutable set of nodes with its indexes.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use bootd_sdk::mac::Mac;
use bootd_sdk::wire::{Interface, Node};

/// A node of a snapshot and whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The plugin that published it.
    pub owner: Arc<str>,
    /// The node.
    pub node: Arc<Node>,
}

/// All nodes at one moment.
#[derive(Debug, Default)]
pub struct Snapshot {
    generation: u64,
    entries: Vec<Entry>,
    by_mac: HashMap<Mac, (usize, usize)>,
    by_ip: HashMap<IpAddr, usize>,
    by_id: HashMap<String, usize>,
    by_nid: HashMap<u64, usize>,
}

impl Snapshot {
    /// Indexes entries that were checked: where two share a key the first one has it.
    pub fn new(generation: u64, mut entries: Vec<Entry>) -> Self {
        entries.sort_by_cached_key(|entry| natural(&entry.node.id));
        let mut new = Self {
            generation,
            ..Self::default()
        };
        for (at, entry) in entries.iter().enumerate() {
            new.by_id.entry(entry.node.id.clone()).or_insert(at);
            if let Some(nid) = entry.node.nid {
                new.by_nid.entry(nid).or_insert(at);
            }
            for (number, interface) in entry.node.interfaces.iter().enumerate() {
                new.by_mac.entry(interface.mac).or_insert((at, number));
                for address in &interface.ips {
                    new.by_ip.entry(address.ip).or_insert(at);
                }
            }
        }
        new.entries = entries;
        new
    }

    /// Counts the snapshots since the start.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// All nodes, ordered by xname.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// How many there are, for humans: `5 nodes and 5 controllers`.
    pub fn count(&self) -> String {
        let nodes = self.entries.iter().filter(|entry| entry.node.kind == "Node").count();
        match self.entries.len() - nodes {
            0 => format!("{nodes} nodes"),
            others => format!("{nodes} nodes and {others} controllers"),
        }
    }

    /// The node and the interface with this hardware address.
    pub fn by_mac(&self, mac: Mac) -> Option<(&Arc<Node>, &Interface)> {
        let &(at, interface) = self.by_mac.get(&mac)?;
        let node = &self.entries[at].node;
        Some((node, &node.interfaces[interface]))
    }

    /// The node with this address.
    pub fn by_ip(&self, ip: IpAddr) -> Option<&Arc<Node>> {
        let ip = ip.to_canonical();
        self.by_ip.get(&ip).map(|&at| &self.entries[at].node)
    }

    /// The node with this xname, in canonical form.
    pub fn by_id(&self, id: &str) -> Option<&Arc<Node>> {
        self.by_id.get(id).map(|&at| &self.entries[at].node)
    }

    /// The node with this NID.
    pub fn by_nid(&self, nid: u64) -> Option<&Arc<Node>> {
        self.by_nid.get(&nid).map(|&at| &self.entries[at].node)
    }

    /// Whether any node has this address: such an address is never given to somebody else.
    pub fn owns(&self, ip: Ipv4Addr) -> bool {
        self.by_ip.contains_key(&IpAddr::V4(ip))
    }
}

/// Orders `x1000c0s2b0n0` before `x1000c0s10b0n0`.
fn natural(xname: &str) -> Vec<(char, u64)> {
    let mut parts = Vec::new();
    for c in xname.chars() {
        match (c.to_digit(10), parts.last_mut()) {
            (Some(digit), Some((_, number))) => {
                *number = u64::saturating_add(u64::saturating_mul(*number, 10), digit.into())
            }
            _ => parts.push((c, 0)),
        }
    }
    parts
}
