//! Rows as lines of an export: the nodes file's form, and the sections of whole rows, which [`super::sections`] reads.

use std::iter::Peekable;
use std::net::IpAddr;

use bootd_sdk::mac::Mac;
use bootd_sdk::wire::{self, Node};
use bootd_sdk::xname;

use super::text::{field, heading, list};
use crate::rows::{Component, ComponentEndpoint, Endpoint, Family, Id, Interface, Redfish};
use crate::tables::Tables;

/// The list `bmcs`.
pub(super) fn controllers(text: &mut String, controllers: &[Node]) {
    heading(text, "", "bmcs", controllers.is_empty());
    for node in controllers.iter().map(as_controller) {
        field(text, "- ", "xname", &node.id);
        field(text, "  ", "name", &node.name);
        if let Some(interface) = node.interfaces.first() {
            field(text, "  ", "mac", &interface.mac.to_string());
            if let Some(address) = interface.ips.first() {
                field(text, "  ", "ip", &address.ip.to_string());
            }
        } else if let Some(ip) = node.extra.get("ip").and_then(|ip| ip.as_str()) {
            field(text, "  ", "ip", ip);
        }
        field(text, "  ", "fqdn", &node.fqdn);
    }
}

/// What reading such a row gives: one interface with one address, which has no network.
pub(super) fn as_controller(node: &Node) -> Node {
    let mut read = Node {
        id: node.id.clone(),
        kind: node.kind.clone(),
        enabled: true,
        name: node.name.clone(),
        fqdn: node.fqdn.clone(),
        ..Node::default()
    };
    match node.interfaces.first() {
        Some(first) => {
            let ip = first.ips.first().map(|address| wire::Address {
                network: String::new(),
                ip: address.ip,
            });
            read.interfaces = vec![wire::Interface {
                mac: first.mac,
                ips: ip.into_iter().collect(),
            }];
        }
        None => read.extra = node.extra.clone(),
    }
    read
}

/// The list `nodes`. The controllers are those that the text has: nodes refer to no others.
pub(super) fn nodes(text: &mut String, nodes: &[Node], controllers: &[Node]) {
    heading(text, "", "nodes", nodes.is_empty());
    for node in nodes {
        field(text, "- ", "xname", &node.id);
        field(text, "  ", "name", &node.name);
        field(
            text,
            "  ",
            "nid",
            &node.nid.map(|nid| nid.to_string()).unwrap_or_default(),
        );
        let bmc = xname::bmc_of(&node.id).unwrap_or_default();
        if controllers.binary_search_by(|other| other.id.as_str().cmp(bmc)).is_ok() {
            field(text, "  ", "bmc", bmc);
        }
        field(text, "  ", "role", &node.role);
        field(text, "  ", "sub_role", &node.sub_role);
        field(text, "  ", "state", &node.state);
        field(text, "  ", "arch", &node.arch);
        field(text, "  ", "class", &node.class);
        if !node.enabled {
            field(text, "  ", "enabled", "false");
        }
        list(text, "groups", node.groups.iter().map(String::as_str));
        heading(text, "  ", "interfaces", node.interfaces.is_empty());
        for interface in &node.interfaces {
            field(text, "  - ", "mac_addr", &interface.mac.to_string());
            heading(text, "    ", "ip_addrs", interface.ips.is_empty());
            for wire::Address { network, ip } in &interface.ips {
                field(text, "    - ", "ip_addr", &ip.to_string());
                field(text, "      ", "name", network);
            }
        }
    }
}

/// What reading such a row gives: always a role and a state, and no name in the network.
pub(super) fn as_node(node: &Node) -> Node {
    let mut read = Node {
        fqdn: String::new(),
        extra: Default::default(),
        ..node.clone()
    };
    if read.role.is_empty() {
        read.role = "Compute".into();
    }
    if read.state.is_empty() {
        read.state = "On".into();
    }
    read
}

/// Groups and partitions, with all their members.
pub(super) fn sets(text: &mut String, tables: &Tables) {
    for family in Family::ALL {
        let (key, name) = match family {
            Family::Group => ("groups", "label"),
            Family::Partition => ("partitions", "name"),
        };
        let sets = tables.sets(family);
        heading(text, "", key, sets.rows.is_empty());
        for (label, (set, members)) in &sets.rows {
            field(text, "- ", name, label);
            field(text, "  ", "description", &set.description);
            list(text, "tags", set.tags.iter().map(|tag| &**tag));
            field(text, "  ", "exclusive_group", &set.exclusive);
            list(text, "members", members.iter().map(|id| &**id));
        }
    }
}

/// Whether two rows are the same, whoever wrote them.
pub(super) fn is_same_component(row: &Component, derived: &Component) -> bool {
    let derived = Component {
        kind: row.kind,
        of_file: row.of_file,
        ..derived.clone()
    };
    *row == derived
}

/// The section `components`. `tells_groups`: of which the groups stand here, since `nodes` does not have them.
pub(super) fn components<'t>(
    text: &mut String,
    tables: &Tables,
    rows: impl Iterator<Item = (&'t Id, &'t Component)>,
    tells_groups: impl Fn(&str) -> bool,
) {
    for (id, row) in section(text, "components", rows) {
        field(text, "- ", "ID", id);
        field(text, "  ", "State", row.state.0);
        field(text, "  ", "Flag", row.flag.0);
        flag(text, "Enabled", row.enabled, true);
        field(text, "  ", "SoftwareStatus", &row.software_status);
        field(text, "  ", "Role", &row.role);
        field(text, "  ", "SubRole", &row.sub_role);
        field(
            text,
            "  ",
            "NID",
            &row.nid.map(|nid| nid.to_string()).unwrap_or_default(),
        );
        field(text, "  ", "Subtype", &row.subtype);
        field(text, "  ", "NetType", row.net_type.0);
        field(text, "  ", "Arch", row.arch.0);
        field(text, "  ", "Class", row.class.0);
        flag(text, "ReservationDisabled", row.reservation_disabled, false);
        flag(text, "Locked", row.locked, false);
        field(text, "  ", "Name", &row.name);
        field(text, "  ", "FQDN", &row.fqdn);
        field(
            text,
            "  ",
            "IPAddress",
            &row.ip.as_ref().map(IpAddr::to_string).unwrap_or_default(),
        );
        if tells_groups(id) {
            let labels = tables.sets(Family::Group).labels_of(id);
            list(text, "Groups", labels.iter().map(|label| &**label));
        }
    }
}

/// The section `redfish-endpoints`.
pub(super) fn endpoints<'t>(text: &mut String, rows: impl Iterator<Item = (&'t Id, &'t Endpoint)>) {
    for (id, row) in section(text, "redfish-endpoints", rows) {
        field(text, "- ", "ID", id);
        field(text, "  ", "Name", &row.name);
        field(text, "  ", "Hostname", &row.hostname);
        field(text, "  ", "Domain", &row.domain);
        field(text, "  ", "FQDN", &row.fqdn);
        flag(text, "Enabled", row.enabled, true);
        field(text, "  ", "UUID", &row.uuid);
        field(text, "  ", "User", &row.user);
        flag(text, "UseSSDP", row.use_ssdp, false);
        flag(text, "MACRequired", row.mac_required, false);
        field(text, "  ", "MACAddr", &row.mac);
        field(text, "  ", "IPAddress", &row.ip);
        flag(text, "RediscoverOnUpdate", row.rediscover, false);
        field(text, "  ", "TemplateID", &row.template);
    }
}

/// The section `component-endpoints`.
pub(super) fn component_endpoints<'t>(text: &mut String, rows: impl Iterator<Item = (&'t Id, &'t ComponentEndpoint)>) {
    for (id, row) in section(text, "component-endpoints", rows) {
        field(text, "- ", "ID", id);
        let kind = match row.of {
            Redfish::System => "ComputerSystem",
            Redfish::Manager => "Manager",
            Redfish::Outlet => "Outlet",
        };
        field(text, "  ", "RedfishType", kind);
        field(text, "  ", "RedfishEndpointID", &row.rfe);
        field(text, "  ", "UUID", &row.uuid);
        field(text, "  ", "OdataID", &row.odata);
        field(text, "  ", "Name", &row.name);
        list(text, "Actions", row.actions.iter().map(|action| &**action));
        if !row.nics.is_empty() {
            heading(text, "  ", "EthernetNICInfo", false);
        }
        for nic in &row.nics {
            field(text, "  - ", "MACAddress", &nic.mac.to_string());
            field(text, "    ", "RedfishId", &nic.uri);
            field(text, "    ", "Description", &nic.description);
        }
    }
}

/// Whether two rows are the same, whenever they were written.
pub(super) fn is_same_interface(row: &Interface, derived: &Interface) -> bool {
    let derived = Interface {
        updated: row.updated,
        ..derived.clone()
    };
    *row == derived
}

/// The section `interfaces`.
pub(super) fn interfaces<'t>(text: &mut String, rows: impl Iterator<Item = (&'t Mac, &'t Interface)>) {
    for (mac, row) in section(text, "interfaces", rows) {
        field(text, "- ", "MACAddress", &mac.to_string());
        field(text, "  ", "ComponentID", &row.component);
        field(text, "  ", "Description", &row.description);
        flag(text, "Discovered", row.derived, false);
        if !row.addresses.is_empty() {
            heading(text, "  ", "IPAddresses", false);
        }
        for address in &row.addresses {
            field(text, "  - ", "IPAddress", &address.ip);
            field(text, "    ", "Network", &address.network);
        }
    }
}

/// The rows of a section, below its heading when there are any.
fn section<I: Iterator>(text: &mut String, key: &str, rows: I) -> Peekable<I> {
    let mut rows = rows.peekable();
    if rows.peek().is_some() {
        heading(text, "", key, false);
    }
    rows
}

/// A field that is not as it is by itself.
fn flag(text: &mut String, key: &str, is: bool, by_itself: bool) {
    if is != by_itself {
        // Plain, so not by `field`.
        text.push_str(&format!("  {key}: {is}\n"));
    }
}
