//! The meta-data document of a node.
//!
//! Merge rules: what an instance says wins over the cluster's defaults, public keys are joined, a group's meta-data stands below
//! `vendor_data.groups` only. Pure data: the same input gives the same bytes, also the instance id, so a restart never makes a node new.

use std::net::IpAddr;

use crate::book::Documents;
use crate::emit::{Doc, document, entry};
use crate::model::{GroupData, Instance};
use bootd_sdk::wire::Node;

impl Documents {
    /// The configured URL of cloud-init for a node.
    pub(crate) fn base_url(&self, node: &Node) -> Option<&str> {
        let own = self
            .instances
            .get(&node.id)
            .and_then(|instance| instance.cloud_init_base_url.as_deref());
        own.or(self.defaults.base_url.as_deref())
    }

    /// The meta-data document of a node.
    pub(crate) fn meta_data(&self, node: &Node, base_url: &str) -> String {
        let none = Instance::default();
        let own = self.instances.get(&node.id).map_or(&none, |own| &**own);
        let defaults = &self.defaults;
        let cluster = own.cluster_name.as_ref().or(defaults.cluster_name.as_ref());
        let cluster = cluster.cloned().unwrap_or_default();
        let id = own.effective_id(&node.id);
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
    pub(crate) fn hostname(&self, node: &Node, cluster: &str) -> String {
        let digits = self.defaults.nid_length.filter(|digits| *digits > 0).unwrap_or(4);
        let short = self.defaults.short_name.clone();
        let short = short.unwrap_or_else(|| cluster.chars().take(2).collect());
        format!("{short}{:0digits$}", node.nid.unwrap_or(0))
    }

    fn groups_of(&self, node: &Node) -> Doc {
        let mut names: Vec<&String> = node.groups.iter().collect();
        names.sort();
        names.dedup();
        let mut lines = String::new();
        for name in names {
            match self.groups.get(name) {
                Some(group) => lines.push_str(&group.lines),
                None => lines.push_str(&group_lines(name, None)),
            }
        }
        Doc::Written(lines)
    }
}

/// What meta-data say of a group: the same for all of its members.
pub(crate) fn group_lines(name: &str, group: Option<&GroupData>) -> String {
    let mut fields = Map::default();
    if !group.is_some_and(|group| group.meta_data.contains_key("Description")) {
        let description = group.and_then(|group| group.description.as_deref());
        fields.add("Description", Doc::text(description.unwrap_or("No description Found")));
    }
    for (key, value) in group.iter().flat_map(|group| &group.meta_data) {
        fields.add(key, Doc::from(value));
    }
    entry(name, Doc::Map(fields.0), GROUPS_INDENT)
}

/// How far the names of groups are indented in the document.
const GROUPS_INDENT: usize = 8;

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
pub(crate) fn address(node: &Node) -> Option<IpAddr> {
    let mut ips = node.interfaces.iter().flat_map(|interface| &interface.ips);
    ips.find(|address| address.ip.is_ipv4()).map(|address| address.ip)
}
