//! Boot parameters: which entry a node boots, and how BSS's API lists them.
//!
//! Each target (a MAC, a host name, a NID) leads to one entry; who adds a target twice hears where the first is. The most exact target wins:
//! MAC, xname, NID, group, role, `Default`. Pure data: knows neither files nor requests.

use std::collections::HashMap;
use std::fmt::Display;

use bootd_sdk::mac::Mac;
use bootd_sdk::wire::Node;
use bootd_sdk::xname;
use serde_json::{Value, json};

/// What a kernel is booted with, and where that stands.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Entry {
    pub(crate) kernel: String,
    pub(crate) initrd: Option<String>,
    pub(crate) params: String,
    pub(crate) hosts: Vec<String>,
    pub(crate) macs: Vec<Mac>,
    pub(crate) nids: Vec<u64>,
    /// File and line, for people.
    pub(crate) origin: String,
}

/// All boot parameters.
#[derive(Debug, Default)]
pub(crate) struct Params {
    entries: Vec<Entry>,
    macs: HashMap<Mac, usize>,
    hosts: HashMap<String, usize>,
    nids: HashMap<u64, usize>,
}

impl Params {
    /// Adds an entry. Targets that another has already stay with that one; each is told to `taken` with the other's origin.
    pub(crate) fn add(&mut self, mut entry: Entry, mut taken: impl FnMut(String)) {
        let place = self.entries.len();
        let entries = &self.entries;
        let mut tell = |target: &dyn Display, first: usize| {
            let origin = entries
                .get(first)
                .map_or(entry.origin.as_str(), |first| first.origin.as_str());
            taken(format!("{target} is already in {origin}, which counts"));
        };
        entry
            .macs
            .retain(|mac| claim(&mut self.macs, *mac, place, |first| tell(&format!("MAC {mac}"), first)));
        entry.hosts.retain(|host| {
            claim(&mut self.hosts, host.clone(), place, |first| {
                tell(&format!("host {host}"), first)
            })
        });
        entry
            .nids
            .retain(|nid| claim(&mut self.nids, *nid, place, |first| tell(&format!("NID {nid}"), first)));
        self.entries.push(entry);
    }

    /// How many entries there are.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// How many targets they have.
    pub(crate) fn targets(&self) -> usize {
        self.macs.len() + self.hosts.len() + self.nids.len()
    }

    /// What this node boots. `mac`: the address that asks; without it, each of the node's counts.
    pub(crate) fn choose(&self, mac: Option<Mac>, node: &Node) -> Option<&Entry> {
        let by_mac = match mac {
            Some(mac) => self.macs.get(&mac),
            None => self.mac_of(node).and_then(|mac| self.macs.get(&mac)),
        };
        let place = by_mac
            .or_else(|| self.hosts.get(&node.id))
            .or_else(|| self.nids.get(&node.nid?))
            // Of several groups the entry that stands first.
            .or_else(|| node.groups.iter().filter_map(|group| self.hosts.get(group)).min())
            .or_else(|| self.hosts.get(&node.role).filter(|_| !node.role.is_empty()))
            .or_else(|| self.hosts.get("Default"))?;
        self.entries.get(*place)
    }

    /// The address by which a node asks that did not say one: the first with an entry, so that it boots the same again, else its first.
    pub(crate) fn mac_of(&self, node: &Node) -> Option<Mac> {
        let mut macs = node.interfaces.iter().map(|interface| interface.mac);
        let first = macs.clone().next();
        macs.find(|mac| self.macs.contains_key(mac)).or(first)
    }

    /// The list of `GET /bootparameters`; `null` when there are none, as BSS writes it. An error: nothing matches the filter.
    pub(crate) fn list(&self, filter: &Filter) -> Result<Value, String> {
        let mut configs: Vec<Entry> = Vec::new();
        for entry in &self.entries {
            let entry = filter.apply(entry);
            if !filter.is_all() && entry.hosts.is_empty() && entry.macs.is_empty() && entry.nids.is_empty() {
                continue;
            }
            let same = |other: &&mut Entry| {
                (&other.kernel, &other.initrd, &other.params) == (&entry.kernel, &entry.initrd, &entry.params)
            };
            match configs.iter_mut().find(same) {
                Some(config) => {
                    config.hosts.extend(entry.hosts);
                    config.macs.extend(entry.macs);
                    config.nids.extend(entry.nids);
                }
                None => configs.push(entry),
            }
        }
        if configs.is_empty() {
            return if filter.is_all() {
                Ok(Value::Null)
            } else {
                Err(filter.nothing())
            };
        }
        Ok(configs.iter().map(as_bss).collect())
    }
}

/// Takes a target unless it is taken.
fn claim<T: Eq + std::hash::Hash>(
    map: &mut HashMap<T, usize>,
    target: T,
    place: usize,
    taken: impl FnOnce(usize),
) -> bool {
    match map.entry(target) {
        std::collections::hash_map::Entry::Occupied(first) => {
            taken(*first.get());
            false
        }
        std::collections::hash_map::Entry::Vacant(free) => {
            free.insert(place);
            true
        }
    }
}

/// Which targets a list shows.
#[derive(Debug, Default)]
pub(crate) struct Filter {
    macs: Vec<Mac>,
    hosts: Vec<String>,
    nids: Vec<u64>,
}

impl Filter {
    /// From `mac`, `name` and `nid`, each repeated or separated by commas.
    pub(crate) fn new(query: &[(String, String)]) -> Result<Self, String> {
        let mut filter = Self::default();
        for (name, values) in query {
            for value in values.split(',').filter(|value| !value.is_empty()) {
                match name.as_str() {
                    "mac" => filter.macs.push(value.parse().map_err(|error| format!("{error}"))?),
                    "name" => filter.hosts.push(host(value)),
                    "nid" => {
                        let nid = value
                            .parse()
                            .map_err(|_| format!("Bad Request - Invalid nid '{value}'"))?;
                        filter.nids.push(nid);
                    }
                    _ => {}
                }
            }
        }
        Ok(filter)
    }

    fn is_all(&self) -> bool {
        self.macs.is_empty() && self.hosts.is_empty() && self.nids.is_empty()
    }

    fn apply(&self, entry: &Entry) -> Entry {
        let mut entry = entry.clone();
        if !self.is_all() {
            entry.macs.retain(|mac| self.macs.contains(mac));
            entry.hosts.retain(|host| self.hosts.contains(host));
            entry.nids.retain(|nid| self.nids.contains(nid));
        }
        entry
    }

    fn nothing(&self) -> String {
        let kinds = [
            ("Hosts", self.hosts.is_empty()),
            ("MACs", self.macs.is_empty()),
            ("NIDs", self.nids.is_empty()),
        ];
        let asked: Vec<&str> = kinds.iter().filter(|kind| !kind.1).map(|kind| kind.0).collect();
        format!("Cannot find boot parameters for requested {}", asked.join(" or "))
    }
}

/// A host name as it is compared: xnames in their canonical form, all else (`Default`, groups, roles) as it is.
pub(crate) fn host(text: &str) -> String {
    let id = xname::normalise(text);
    if xname::kind(&id).is_some() {
        id
    } else {
        text.trim().to_owned()
    }
}

fn as_bss(entry: &Entry) -> Value {
    let mut value = json!({
        "params": entry.params,
        "kernel": entry.kernel,
        "cloud-init": {
            "meta-data": null,
            "user-data": null,
            "phone-home": {
                "pub_key_dsa": "", "pub_key_rsa": "", "pub_key_ecdsa": "", "instance_id": "", "hostname": "", "fqdn": "",
            },
        },
    });
    if let Some(initrd) = &entry.initrd {
        value["initrd"] = json!(initrd);
    }
    if !entry.hosts.is_empty() {
        value["hosts"] = json!(entry.hosts);
    }
    if !entry.macs.is_empty() {
        value["macs"] = json!(entry.macs);
    }
    if !entry.nids.is_empty() {
        value["nids"] = json!(entry.nids);
    }
    value
}
