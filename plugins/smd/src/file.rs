//! The static discovery file: both spellings of `ochami discover static`, and a bare list of nodes.
//!
//! Turns a text into rows of the inventory, in the order in which they win: nodes, then BMCs, each in the file's order. Promises a line for
//! each row and each mistake. A wrong value costs its row, an unknown key does not. Whether rows fit together (a MAC address twice) is the
//! inventory's to say.

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;

use bootd_sdk::mac::Mac;
use bootd_sdk::text::shown;
use bootd_sdk::wire::{Address, Interface, Mistake, Node};
use bootd_sdk::xname;
use bootd_sdk::yaml::{self, Item, Mistakes, Row as Fields, Value};

use crate::api::is_label;
use crate::exchange::Sections;
use crate::rows::{Family, Set};
use crate::values::{self, canonical};

/// A row of the inventory and the line that it comes from.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Row {
    pub(crate) node: Node,
    pub(crate) line: u64,
}

/// A group or a partition with members of its own, as an export has it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct FileSet {
    pub(crate) family: Family,
    pub(crate) label: String,
    pub(crate) row: Set,
    /// Xnames and their lines.
    pub(crate) members: Vec<(String, u64)>,
}

/// A whole text.
#[derive(Default)]
pub(crate) struct Text {
    pub(crate) rows: Vec<Row>,
    pub(crate) sets: Vec<FileSet>,
    pub(crate) sections: Sections,
}

/// Who reads a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reads {
    /// The nodes file, which takes nothing from what only an export has.
    Nodes,
    /// An import.
    Everything,
}

/// The good rows of a file's text, and its mistakes.
pub(crate) fn read(name: &str, text: &str) -> (Vec<Row>, Vec<Mistake>) {
    let (text, mistakes) = read_as(Reads::Nodes, name, text);
    (text.rows, mistakes)
}

/// The same, with all that an export has beside.
pub(crate) fn read_all(name: &str, text: &str) -> (Text, Vec<Mistake>) {
    read_as(Reads::Everything, name, text)
}

fn read_as(reads: Reads, name: &str, text: &str) -> (Text, Vec<Mistake>) {
    let mut reader = Reader {
        reads,
        mistakes: Mistakes::new(name),
        nodes: Vec::new(),
        bmcs: BTreeMap::new(),
        declared: HashSet::new(),
        sets: Vec::new(),
        sections: Sections::default(),
    };
    if let Some(root) = yaml::read(text, &mut reader.mistakes) {
        reader.root(&root);
    }
    let mut bmcs: Vec<Row> = reader.bmcs.into_values().collect();
    bmcs.sort_by_key(|row| row.line);
    let mut rows = reader.nodes;
    rows.append(&mut bmcs);
    let text = Text {
        rows,
        sets: reader.sets,
        sections: reader.sections,
    };
    (text, reader.mistakes.into_list())
}

struct Reader {
    reads: Reads,
    mistakes: Mistakes,
    nodes: Vec<Row>,
    /// By xname.
    bmcs: BTreeMap<String, Row>,
    /// What a node's `bmc` may name: names, xnames and MACs of the list `bmcs`.
    declared: HashSet<String>,
    sets: Vec<FileSet>,
    sections: Sections,
}

impl Reader {
    fn root(&mut self, root: &Item) {
        if let Value::List(items) = &root.value {
            items.iter().for_each(|item| self.node(item));
            return;
        }
        let Some(mut fields) = Fields::of(root, "discovery file", &mut self.mistakes) else {
            return;
        };
        let bmcs = fields.rows("bmcs");
        if fields.item("nodes").is_none() {
            fields.bad(0, "has no list 'nodes'; write 'nodes: []' for none");
        }
        let nodes = fields.rows("nodes");
        let (groups, partitions) = (fields.rows("groups"), fields.rows("partitions"));
        let sections = Sections::KEYS.map(|key| match self.reads {
            Reads::Everything => fields.rows(key),
            Reads::Nodes => fields.item(key).map_or(&[] as &[Item], |_| &[]),
        });
        fields.done();
        self.sections = Sections::read(sections, &mut self.mistakes);
        groups.iter().for_each(|item| self.set(Family::Group, item));
        partitions.iter().for_each(|item| self.set(Family::Partition, item));
        bmcs.iter().for_each(|item| self.bmc(item));
        nodes.iter().for_each(|item| self.node(item));
    }

    fn set(&mut self, family: Family, item: &Item) {
        let (what, key) = match family {
            Family::Group => ("group", "label"),
            Family::Partition => ("partition", "name"),
        };
        let Some(mut fields) = Fields::of(item, what, &mut self.mistakes) else {
            return;
        };
        let label = fields.required(key).unwrap_or_default().to_lowercase();
        let is_good = match family {
            Family::Group => is_label(&label),
            Family::Partition => xname::component_type(&label) == Some("Partition"),
        };
        if !is_good && fields.is_good() {
            let text = format!("{key}: '{}' is not the {key} of a {what}", shown(&label));
            fields.bad(fields.line_of(key), text);
        }
        let row = Set {
            description: fields.text("description").unwrap_or_default().into(),
            tags: fields
                .list::<String>("tags")
                .into_iter()
                .map(|(tag, _)| tag.into())
                .collect(),
            exclusive: fields.text("exclusive_group").unwrap_or_default().into(),
            of_file: false,
        };
        let members = fields.list::<String>("members");
        let members = members
            .into_iter()
            .map(|(id, line)| (xname::normalise(&id), line))
            .collect();
        if fields.done() {
            self.sets.push(FileSet {
                family,
                label,
                row,
                members,
            });
        }
    }

    fn bmc(&mut self, item: &Item) {
        let Some(mut fields) = Fields::of(item, "BMC", &mut self.mistakes) else {
            return;
        };
        let line = fields.line;
        let name = fields.text("name").unwrap_or_default();
        let id = fields.required("xname").map(|id| xname::normalise(&id));
        if let Some(id) = id.as_deref().filter(|id| !is_bmc(id)) {
            let text = format!("xname: '{id}' is not the xname of a BMC (such as x1000c0s0b0)");
            fields.bad(fields.line_of("xname"), text);
        }
        let mac: Option<Mac> = fields.parsed("mac");
        let ip = fields.parsed("ip");
        let fqdn = fields.text("fqdn").unwrap_or_default();
        if !fields.done() {
            return;
        }
        let id = id.unwrap_or_default();
        self.declared.extend([name.clone(), id.clone()]);
        self.declared.extend(mac.map(|mac| mac.to_string()));
        let node = bmc_node(&id, name, mac, ip, fqdn);
        self.add_bmc(Row { node, line });
    }

    fn node(&mut self, item: &Item) {
        let Some(mut fields) = Fields::of(item, "node", &mut self.mistakes) else {
            return;
        };
        let line = fields.line;
        let name = fields.text("name").unwrap_or_default();
        let nid = fields.parsed("nid");
        if fields.item("nid").is_none() {
            fields.mistakes.add(line, "this node has no nid");
        }
        let id = fields.required("xname").map(|id| xname::normalise(&id));
        if let Some(id) = id.as_deref().filter(|id| xname::kind(id) != Some("Node")) {
            let text = format!("xname: '{id}' is not the xname of a node (such as x1000c0s0b0n0, chassis 0 to 7)");
            fields.bad(fields.line_of("xname"), text);
        }
        let mut groups: Vec<String> = fields.list("groups").into_iter().map(|(group, _)| group).collect();
        groups.extend(fields.text("group"));
        groups.retain(|group| !group.is_empty());
        if let Some(group) = groups.iter().find(|group| !is_label(&group.to_lowercase())) {
            let text = format!(
                "groups: '{}' is not the label of a group (letters, digits, -:._)",
                shown(group)
            );
            fields.bad(fields.line_of("groups"), text);
        }
        groups.sort();
        groups.dedup();
        let bmc_line = fields.line_of("bmc_mac");
        let bmc_mac: Option<Mac> = fields.parsed("bmc_mac");
        let bmc_ip: Option<IpAddr> = fields.parsed("bmc_ip");
        let bmc_fqdn = fields.text("bmc_fqdn");
        if let Some(bmc) = fields.text("bmc").filter(|bmc| !is_declared(&self.declared, bmc)) {
            let text = format!("bmc: no BMC of this file has the name, xname or MAC '{}'", shown(&bmc));
            fields.mistakes.add(fields.line_of("bmc"), text);
        }
        let role = fields.text("role").unwrap_or_else(|| "Compute".into());
        let sub_role = fields.text("sub_role").unwrap_or_default();
        let state = word(&mut fields, "state", values::STATES).unwrap_or("On");
        let arch = word(&mut fields, "arch", values::ARCHS).unwrap_or_default();
        let class = word(&mut fields, "class", values::CLASSES).unwrap_or_default();
        let enabled = fields.parsed("enabled").unwrap_or(true);
        let interfaces = interfaces(&mut fields);
        if !fields.done() {
            return;
        }
        let id = id.unwrap_or_default();
        if let Some(bmc) = xname::bmc_of(&id)
            && (bmc_mac.is_some() || bmc_ip.is_some() || bmc_fqdn.is_some())
        {
            let node = bmc_node(bmc, name.clone(), bmc_mac, bmc_ip, bmc_fqdn.unwrap_or_default());
            let line = bmc_line;
            self.add_bmc(Row { node, line });
        }
        let node = Node {
            id,
            nid,
            kind: "Node".into(),
            role,
            sub_role,
            state: state.into(),
            arch: arch.into(),
            class: class.into(),
            enabled,
            name,
            groups,
            interfaces,
            ..Node::default()
        };
        self.nodes.push(Row { node, line });
    }

    /// Several nodes may share a BMC, and each row says so; it takes its name from the first.
    fn add_bmc(&mut self, row: Row) {
        let Some(first) = self.bmcs.get(&row.node.id) else {
            self.bmcs.insert(row.node.id.clone(), row);
            return;
        };
        let same = first.node.interfaces == row.node.interfaces && first.node.fqdn == row.node.fqdn;
        if !same || first.node.extra != row.node.extra {
            let text = format!(
                "the BMC {} is described differently on line {}, which counts",
                row.node.id, first.line
            );
            self.mistakes.add(row.line, text);
        }
    }
}

fn word(fields: &mut Fields<'_, '_>, key: &'static str, words: &'static [&'static str]) -> Option<&'static str> {
    let text = fields.text(key)?;
    let word = canonical(words, &text);
    if word.is_none() {
        let text = format!("{key}: '{}' is none of {}", shown(&text), words.join(", "));
        fields.bad(fields.line_of(key), text);
    }
    word
}

fn interfaces(fields: &mut Fields<'_, '_>) -> Vec<Interface> {
    let mut interfaces = Vec::new();
    if fields.item("interfaces").is_none() {
        fields.mistakes.add(fields.line, "this node has no interfaces");
    }
    for item in fields.rows("interfaces") {
        match interface(item, fields.mistakes) {
            Some(interface) => interfaces.push(interface),
            None => fields.spoil(),
        }
    }
    interfaces
}

fn interface(item: &Item, mistakes: &mut Mistakes) -> Option<Interface> {
    let mut fields = Fields::of(item, "network interface", mistakes)?;
    if fields.item("mac_addr").is_none() {
        fields.bad(fields.line, "this network interface has no mac_addr");
    }
    let mac = fields.parsed("mac_addr");
    let mut ips = Vec::new();
    for item in fields.rows("ip_addrs") {
        match address(item, fields.mistakes) {
            Some(address) => ips.push(address),
            None => fields.spoil(),
        }
    }
    let good = fields.done();
    mac.filter(|_| good).map(|mac| Interface { mac, ips })
}

fn address(item: &Item, mistakes: &mut Mistakes) -> Option<Address> {
    let mut fields = Fields::of(item, "network address", mistakes)?;
    // The tool reads `network`, the tutorial writes `name`.
    let name = fields.text("name");
    let network = fields.text("network").or(name).unwrap_or_default();
    if fields.item("ip_addr").is_none() {
        fields.bad(fields.line, "this network address has no ip_addr");
    }
    let ip = fields.parsed("ip_addr");
    let good = fields.done();
    ip.filter(|_| good).map(|ip| Address { network, ip })
}

fn bmc_node(id: &str, name: String, mac: Option<Mac>, ip: Option<IpAddr>, fqdn: String) -> Node {
    let ips = ip.map(|ip| Address {
        network: String::new(),
        ip,
    });
    let mut node = Node {
        id: id.into(),
        kind: xname::kind(id).unwrap_or("NodeBMC").into(),
        enabled: true,
        name,
        fqdn,
        ..Node::default()
    };
    match (mac, ip) {
        (Some(mac), _) => {
            node.interfaces = vec![Interface {
                mac,
                ips: ips.into_iter().collect(),
            }]
        }
        // Without a MAC there is no interface that could have the address.
        (None, Some(ip)) => {
            node.extra.insert("ip".into(), ip.to_string().into());
        }
        (None, None) => {}
    }
    node
}

/// Whether the list `bmcs` can have it.
pub(crate) fn is_bmc(id: &str) -> bool {
    xname::kind(id).is_some_and(|kind| kind.ends_with("BMC"))
}

fn is_declared(declared: &HashSet<String>, bmc: &str) -> bool {
    let mac = bmc.parse::<Mac>().map(|mac| mac.to_string());
    declared.contains(bmc) || declared.contains(&xname::normalise(bmc)) || mac.is_ok_and(|mac| declared.contains(&mac))
}
