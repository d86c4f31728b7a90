//! Everything out and in again, as YAML in the form of the nodes file.

use bootd_sdk::prelude::*;

use super::{Call, out};
use crate::{exchange, nodes_file};

pub(super) fn export(call: &Call<'_>) -> Answer {
    Answer::new(200, "application/yaml", exchange::written(&call.service.tables()))
}

/// All or nothing; what is not named stays.
pub(super) fn import(call: &Call<'_>) -> Answer {
    let (rows, sets, mistakes) = exchange::read(&call.request.body);
    if !mistakes.is_empty() {
        let list: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
        return super::problem(400, &list.join("\n"));
    }
    call.service.write(|draft| {
        exchange::put_sets(draft, &sets);
        let (nodes, controllers): (Vec<_>, Vec<_>) = rows.iter().partition(|row| row.node.kind == "Node");
        for row in controllers.into_iter().chain(nodes) {
            nodes_file::put(draft, &row.node, None);
        }
        exchange::put_members(draft, &sets).map_err(|list| super::problem(400, &list.join("\n")))?;
        Ok(out::no_content())
    })
}
