//! What is known for cloud-init, and the meta-data document made of it.
//!
//! Merge rules: what an instance says wins over the cluster's defaults, public keys are joined, a group's meta-data stands below
//! `vendor_data.groups` only. Pure data: the same input gives the same bytes, also the instance id, so a restart never makes a node new.

use std::collections::BTreeMap;
use std::net::IpAddr;

use bootd_sdk::wire::Node;
use serde_json::Value;

use crate::emit::{Doc, document};

/// The cluster's defaults.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Defaults {
    pub(crate) base_url: Option<String>,
    pub(crate) cluster_name: Option<String>,
    pub(crate) short_name: Option<String>,
    /// Digits of the number in a computed host name.
    pub(crate) nid_length: Option<usize>,
    pub(crate) public_keys: Vec<String>,
    pub(crate) region: Option<String>,
    pub(crate) availability_zone: Option<String>,
    pub(crate) cloud_provider: Option<String>,
}

/// A group's document and meta-data.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Group {
    pub(crate) description: Option<String>,
    pub(crate) meta_data: BTreeMap<String, Value>,
    pub(crate) content: Content,
    /// File and line, for people.
    pub(crate) origin: String,
}

/// What a group's members get.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) enum Content {
    /// Nothing was said.
    #[default]
    None,
    /// This, decoded.
    Text(String),
    /// It cannot be decoded; why.
    Broken(String),
}

/// What is different about one node.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Instance {
    pub(crate) instance_id: Option<String>,
    pub(crate) local_hostname: Option<String>,
    pub(crate) hostname: Option<String>,
    pub(crate) cluster_name: Option<String>,
    pub(crate) region: Option<String>,
    pub(crate) availability_zone: Option<String>,
    pub(crate) cloud_provider: Option<String>,
    pub(crate) instance_type: Option<String>,
    pub(crate) base_url: Option<String>,
    pub(crate) public_keys: Vec<String>,
    /// File and line, for people.
    pub(crate) origin: String,
}

/// All of it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Documents {
    pub(crate) defaults: Defaults,
    /// By name.
    pub(crate) groups: BTreeMap<String, Group>,
    /// By xname.
    pub(crate) instances: BTreeMap<String, Instance>,
}

impl Documents {
    /// The configured URL of cloud-init for a node.
    pub(crate) fn base_url(&self, node: &Node) -> Option<&str> {
        let own = self
            .instances
            .get(&node.id)
            .and_then(|instance| instance.base_url.as_deref());
        own.or(self.defaults.base_url.as_deref())
    }

    /// The meta-data document of a node.
    pub(crate) fn meta_data(&self, node: &Node, base_url: &str) -> String {
        let none = Instance::default();
        let own = self.instances.get(&node.id).unwrap_or(&none);
        let defaults = &self.defaults;
        let cluster = own.cluster_name.as_ref().or(defaults.cluster_name.as_ref());
        let cluster = cluster.cloned().unwrap_or_default();
        let id = own.instance_id.clone().unwrap_or_else(|| instance_id(&node.id));
        let hostname = self.hostname(node, &cluster);
        let keys: Vec<Doc> = [&defaults.public_keys, &own.public_keys]
            .into_iter()
            .flatten()
            .map(|key| Doc::text(key))
            .collect();

        let mut v1 = Map::default();
        v1.some(
            "availability_zone",
            own.availability_zone.as_ref().or(defaults.availability_zone.as_ref()),
        );
        v1.add("instance_id", Doc::text(&id));
        v1.some("instance_type", own.instance_type.as_ref());
        v1.some("region", own.region.as_ref().or(defaults.region.as_ref()));
        v1.some("local_ipv4", address(node).map(|ip| ip.to_string()).as_ref());
        v1.some(
            "cloud_provider",
            own.cloud_provider.as_ref().or(defaults.cloud_provider.as_ref()),
        );
        if !keys.is_empty() {
            v1.add("public_keys", Doc::List(keys));
        }
        let mut vendor_data = Map::default();
        vendor_data.add("version", Doc::text("1.0"));
        vendor_data.some(
            "cloud_init_base_url",
            Some(&base_url.to_owned()).filter(|url| !url.is_empty()),
        );
        vendor_data.some("cluster_name", Some(&cluster).filter(|name| !name.is_empty()));
        vendor_data.add("groups", self.groups_of(node));
        v1.add("vendor_data", Doc::Map(vendor_data.0));

        let mut instance_data = Map::default();
        instance_data.add("v1", Doc::Map(v1.0));
        let mut root = Map::default();
        root.add("instance-id", Doc::text(&id));
        root.add(
            "local-hostname",
            Doc::text(own.local_hostname.as_ref().unwrap_or(&hostname)),
        );
        root.add("hostname", Doc::text(own.hostname.as_ref().unwrap_or(&hostname)));
        root.add("cluster-name", Doc::text(&cluster));
        root.add("instance_data", Doc::Map(instance_data.0));
        document(&root.0)
    }

    /// The computed name: a short name and the node's number, such as `nid001`.
    fn hostname(&self, node: &Node, cluster: &str) -> String {
        let digits = self.defaults.nid_length.filter(|digits| *digits > 0).unwrap_or(4);
        let short = self.defaults.short_name.clone();
        let short = short.unwrap_or_else(|| cluster.chars().take(2).collect());
        format!("{short}{:0digits$}", node.nid.unwrap_or(0))
    }

    fn groups_of(&self, node: &Node) -> Doc {
        let mut names: Vec<&String> = node.groups.iter().collect();
        names.sort();
        names.dedup();
        let mut groups = Map::default();
        for name in names {
            let mut fields = Map::default();
            let group = self.groups.get(name);
            if !group.is_some_and(|group| group.meta_data.contains_key("Description")) {
                let description = group.and_then(|group| group.description.as_deref());
                fields.add("Description", Doc::text(description.unwrap_or("No description Found")));
            }
            for (key, value) in group.iter().flat_map(|group| &group.meta_data) {
                fields.add(key, Doc::from(value));
            }
            groups.add(name, Doc::Map(fields.0));
        }
        Doc::Map(groups.0)
    }
}

#[derive(Default)]
struct Map(Vec<(String, Doc)>);

impl Map {
    fn add(&mut self, key: &str, value: Doc) {
        self.0.push((key.into(), value));
    }

    fn some(&mut self, key: &str, value: Option<&String>) {
        if let Some(value) = value {
            self.add(key, Doc::text(value));
        }
    }
}

/// The first IPv4 address of the node, of its first interface that has one.
fn address(node: &Node) -> Option<IpAddr> {
    let mut ips = node.interfaces.iter().flat_map(|interface| &interface.ips);
    ips.find(|address| address.ip.is_ipv4()).map(|address| address.ip)
}

/// `i-` and the 32-bit FNV-1a hash of the xname: the same on every box, after every restart.
fn instance_id(xname: &str) -> String {
    let hash = xname.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    format!("i-{hash:08x}")
}
