//! Everything that smd holds as YAML, and back: the nodes file's newer form, with what that cannot say in keys that other tools ignore.
//!
//! Passwords are not kept, so there are none to leave out.

use std::fmt::Write;

use bootd_sdk::prelude::*;
use bootd_sdk::wire;
use bootd_sdk::xname;

use crate::api;
use crate::draft::Draft;
use crate::file::{self, FileSet, Row};
use crate::rows::{Family, Id, Set};
use crate::tables::{Tables, is_node};

/// All rows as a nodes file.
pub(crate) fn written(tables: &Tables) -> String {
    let mut text = String::from(
        "# What bootd's smd plugin holds. `bootd import` takes it back; `ochami discover static` reads it, too.\n",
    );
    let (nodes, controllers): (Vec<Id>, Vec<Id>) = tables
        .node_ids()
        .into_iter()
        .partition(|id| tables.components.get(id).is_some_and(|row| is_node(row.kind)));
    heading(&mut text, "bmcs", controllers.is_empty());
    for node in controllers.iter().filter_map(|id| tables.node(id)) {
        controller(&mut text, &node);
    }
    heading(&mut text, "nodes", nodes.is_empty());
    for node in nodes.iter().filter_map(|id| tables.node(id)) {
        machine(&mut text, &node);
    }
    for family in Family::ALL {
        let (key, name) = match family {
            Family::Group => ("groups", "label"),
            Family::Partition => ("partitions", "name"),
        };
        let sets = tables.sets(family);
        heading(&mut text, key, sets.rows.is_empty());
        for (label, (set, members)) in &sets.rows {
            field(&mut text, "- ", name, label);
            field(&mut text, "  ", "description", &set.description);
            list(&mut text, "tags", set.tags.iter().map(|tag| &**tag));
            field(&mut text, "  ", "exclusive_group", &set.exclusive);
            list(&mut text, "members", members.iter().map(|id| &**id));
        }
    }
    text
}

fn controller(text: &mut String, node: &Node) {
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

fn machine(text: &mut String, node: &Node) {
    field(text, "- ", "xname", &node.id);
    field(text, "  ", "name", &node.name);
    if let Some(nid) = node.nid {
        field(text, "  ", "nid", &nid.to_string());
    }
    if let Some(bmc) = xname::bmc_of(&node.id) {
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
    heading_at(text, "  ", "interfaces", node.interfaces.is_empty());
    for interface in &node.interfaces {
        field(text, "  - ", "mac_addr", &interface.mac.to_string());
        heading_at(text, "    ", "ip_addrs", interface.ips.is_empty());
        for wire::Address { network, ip } in &interface.ips {
            field(text, "    - ", "ip_addr", &ip.to_string());
            field(text, "      ", "name", network);
        }
    }
}

fn heading(text: &mut String, key: &str, is_empty: bool) {
    heading_at(text, "", key, is_empty);
}

fn heading_at(text: &mut String, indent: &str, key: &str, is_empty: bool) {
    text.push_str(indent);
    text.push_str(key);
    text.push_str(if is_empty { ": []\n" } else { ":\n" });
}

fn field(text: &mut String, indent: &str, key: &str, value: &str) {
    if !value.is_empty() {
        // Writing to a text cannot fail.
        let _ = writeln!(text, "{indent}{key}: {}", quoted(value));
    }
}

fn list<'a>(text: &mut String, key: &str, values: impl Iterator<Item = &'a str>) {
    let values: Vec<String> = values.map(quoted).collect();
    if !values.is_empty() {
        let _ = writeln!(text, "  {key}: [{}]", values.join(", "));
    }
}

/// A scalar, in quotes unless it cannot be mistaken for anything else.
fn quoted(text: &str) -> String {
    let is_plain = text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.ends_with(|c: char| c.is_ascii_alphanumeric())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':'))
        && !["null", "true", "false", "yes", "no", "on", "off"]
            .iter()
            .any(|word| word.eq_ignore_ascii_case(text));
    if is_plain {
        text.to_owned()
    } else {
        serde_json::Value::from(text).to_string()
    }
}

/// What an import says, and every mistake in it.
pub(crate) fn read(text: &str) -> (Vec<Row>, Vec<FileSet>, Vec<Mistake>) {
    file::read_all("import", text)
}

/// Writes the groups and partitions without their members.
pub(crate) fn put_sets(draft: &mut Draft<'_>, sets: &[FileSet]) {
    for set in sets {
        draft.put_set(set.family, &set.label, Set::clone(&set.row));
    }
}

/// Adds their members, once the components are there. The error is every member that cannot be one.
pub(crate) fn put_members(draft: &mut Draft<'_>, sets: &[FileSet]) -> Result<(), Vec<String>> {
    let mut mistakes = Vec::new();
    for set in sets {
        for (id, line) in &set.members {
            if let Err(reason) = api::enter(draft, set.family, &set.label, id) {
                mistakes.push(format!("import:{line}: {reason}"));
            }
        }
    }
    if mistakes.is_empty() { Ok(()) } else { Err(mistakes) }
}
