//! What an import says, put into a draft: groups, then what the nodes file's form says, then whole rows, then who is in which group.

use bootd_sdk::prelude::*;

use crate::api;
use crate::draft::Draft;
use crate::file::{Row, Text};
use crate::nodes_file;
use crate::rows::{Family, Set};

/// Drafts all of it. The error is every row that does not fit to the others, or to what is there.
pub(crate) fn put(draft: &mut Draft<'_>, text: &Text) -> Result<(), Vec<Mistake>> {
    for set in &text.sets {
        draft.put_set(set.family, &set.label, Set::clone(&set.row));
    }
    // Controllers first: nodes are managed by them.
    let (nodes, controllers): (Vec<&Row>, Vec<&Row>) = text.rows.iter().partition(|row| row.node.kind == "Node");
    for row in controllers.into_iter().chain(nodes) {
        nodes_file::put(draft, &row.node, None);
    }
    let mut mistakes = Vec::new();
    put_rows(draft, text, &mut mistakes);
    put_members(draft, text, &mut mistakes);
    if mistakes.is_empty() {
        return Ok(());
    }
    mistakes.sort_by_key(|mistake| mistake.line);
    Err(mistakes)
}

fn put_rows(draft: &mut Draft<'_>, text: &Text, mistakes: &mut Vec<Mistake>) {
    let sections = &text.sections;
    for found in &sections.interfaces {
        draft.put_interface(found.id, found.row.clone());
    }
    for found in &sections.endpoints {
        draft.put_endpoint(&found.id, found.row.clone());
    }
    // When all are there: two may have changed their names with each other.
    for found in &sections.endpoints {
        let fqdn = found.row.fqdn_or(&found.id);
        let others = [draft.with_fqdn(fqdn), draft.tables().with_fqdn(fqdn).cloned()];
        let has_it = |id: &str| draft.endpoint(id).is_some_and(|row| row.fqdn_or(id) == fqdn);
        let mut others = others.into_iter().flatten();
        if let Some(other) = others.find(|other| **other != *found.id && has_it(other)) {
            let text = format!("{other} has the same FQDN as {}", found.id);
            mistakes.push(mistake(found.line, text));
        }
    }
    for found in &sections.component_endpoints {
        draft.put_component_endpoint(&found.id, found.row.clone());
    }
    // After their interfaces and endpoints: writing those for a client touches the component, too.
    for found in &sections.components {
        draft.put_component(&found.id, found.row.row.clone());
        for label in &found.row.groups {
            if draft.set(Family::Group, label).is_none() {
                draft.put_set(Family::Group, label, Set::default());
            }
            draft.set_member(Family::Group, label, &found.id, true);
        }
    }
}

fn put_members(draft: &mut Draft<'_>, text: &Text, mistakes: &mut Vec<Mistake>) {
    for set in &text.sets {
        for (id, line) in &set.members {
            // What a node says of itself is taken as in the nodes file.
            if draft.component(id).is_some() && draft.is_member(set.family, &set.label, id) {
                continue;
            }
            if let Err(reason) = api::enter(draft, set.family, &set.label, id) {
                mistakes.push(mistake(*line, reason));
            }
        }
    }
}

fn mistake(line: u64, text: impl Into<String>) -> Mistake {
    Mistake {
        file: "import".into(),
        line,
        text: text.into(),
    }
}
