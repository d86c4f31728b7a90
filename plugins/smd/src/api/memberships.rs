//! `/memberships`: the groups and the partition of each component (contract 2.7).

use bootd_sdk::prelude::*;
use serde::Serialize;

use super::filter::Filter;
use super::{Call, out, problem, xname_of};
use crate::rows::Family;
use crate::tables::Tables;

#[derive(Serialize)]
struct Membership<'a> {
    id: &'a str,
    #[serde(rename = "groupLabels")]
    groups: Vec<&'a str>,
    #[serde(rename = "partitionName")]
    partition: &'a str,
}

pub(super) fn list(call: &Call<'_>) -> Answer {
    let filter = match Filter::of_query(&call.request.query) {
        Ok(filter) => filter,
        Err(detail) => return problem(400, &detail),
    };
    let tables = call.service.tables();
    let rows = tables
        .components
        .iter()
        .filter(|(id, row)| filter.shows(&tables, id, row));
    out::list("", rows.map(|(id, _)| membership(&tables, id)), "")
}

pub(super) fn get(call: &Call<'_>) -> Answer {
    let Some(id) = xname_of(call.param(0)) else {
        return problem(400, "invalid xname");
    };
    let tables = call.service.tables();
    match tables.components.get_key_value(id.as_str()) {
        Some((id, _)) => out::json(200, &membership(&tables, id)),
        None => problem(404, &format!("No such xname: {id}")),
    }
}

fn membership<'t>(tables: &'t Tables, id: &'t str) -> Membership<'t> {
    let partition = tables.sets(Family::Partition).labels_of(id).first();
    Membership {
        id,
        groups: tables
            .sets(Family::Group)
            .labels_of(id)
            .iter()
            .map(|label| &**label)
            .collect(),
        partition: partition.map_or("", |name| name),
    }
}
