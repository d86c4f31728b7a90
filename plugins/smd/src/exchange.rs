//! Everything that smd holds as YAML, and back.
//!
//! Nodes, BMCs and groups stand in the form of the nodes file, as far as that can have them. Whatever an import would not make of those stands
//! in sections of whole rows, which win; the nodes file and other tools take nothing from them. Not in it: the time of an interface's last
//! change, and what the nodes file applied. Passwords are not kept, so there are none to leave out.

mod put;
mod sections;
mod text;
mod write;

use std::collections::HashSet;

use bootd_sdk::prelude::*;
use bootd_sdk::xname;

use crate::draft::{Change, Draft, Origin};
use crate::file::{self, Text, is_bmc};
use crate::nodes_file;
use crate::tables::{Tables, is_node};

pub(crate) use put::put;
pub(crate) use sections::Sections;

/// All rows as a text.
pub(crate) fn written(tables: &Tables) -> String {
    let ids = tables.node_ids();
    let mut bare = HashSet::new();
    let mut nodes = Vec::new();
    for id in ids.iter().filter(|id| xname::kind(id) == Some("Node")) {
        let Some(node) = tables.node(id).filter(|node| node.nid.is_some()) else {
            continue;
        };
        // A node that its BMC does not manage: the list `bmcs` has only those that manage all of theirs.
        if !tables.component_endpoints.contains_key(id) {
            bare.extend(xname::bmc_of(id).map(str::to_owned));
        }
        nodes.push(node);
    }
    let controllers = ids.iter().filter(|id| {
        let is_discovered = tables.endpoints.contains_key(*id) && tables.component_endpoints.contains_key(*id);
        is_bmc(id) && is_discovered && !bare.contains(&***id)
    });
    let controllers: Vec<Node> = controllers.filter_map(|id| tables.node(id)).collect();
    let derived = derived(&controllers, &nodes);

    let mut text = String::from(
        "# What bootd's smd plugin holds. `bootd import` takes it back; `ochami discover static` reads its nodes, too.\n",
    );
    write::controllers(&mut text, &controllers);
    write::nodes(&mut text, &nodes, &controllers);
    write::sets(&mut text, tables);
    let others = tables.components.iter().filter(|(id, row)| {
        let derived = derived.components.get(*id).and_then(Option::as_ref);
        derived.is_none_or(|derived| !write::is_same_component(row, derived))
    });
    write::components(&mut text, tables, others, |id| {
        let is_listed = derived.components.contains_key(id);
        !is_listed && tables.components.get(id).is_some_and(|row| is_node(row.kind))
    });
    let others = tables.endpoints.iter();
    write::endpoints(
        &mut text,
        others.filter(|(id, row)| !has(derived.endpoints.get(*id), row)),
    );
    let others = tables.component_endpoints.iter();
    write::component_endpoints(
        &mut text,
        others.filter(|(id, row)| !has(derived.component_endpoints.get(*id), row)),
    );
    let others = tables.interfaces.iter().filter(|(mac, row)| {
        let derived = derived.interfaces.get(*mac).and_then(Option::as_ref);
        derived.is_none_or(|derived| !write::is_same_interface(row, derived))
    });
    write::interfaces(&mut text, others);
    text
}

/// What an import into nothing makes of these, as the text has them.
fn derived(controllers: &[Node], nodes: &[Node]) -> Change {
    let nothing = Tables::default();
    let mut draft = Draft::new(&nothing, Origin::Api, 0);
    for node in controllers {
        nodes_file::put(&mut draft, &write::as_controller(node), None);
    }
    for node in nodes {
        nodes_file::put(&mut draft, &write::as_node(node), None);
    }
    draft.into_change()
}

fn has<R: PartialEq>(derived: Option<&Option<R>>, row: &R) -> bool {
    derived.and_then(Option::as_ref) == Some(row)
}

/// What an import says, and every mistake in it.
pub(crate) fn read(text: &str) -> (Text, Vec<Mistake>) {
    file::read_all("import", text)
}
