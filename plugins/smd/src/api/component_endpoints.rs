//! `/Inventory/ComponentEndpoints`: what Redfish endpoints manage (contract 2.5). Written by discoveries only.

use bootd_sdk::prelude::*;
use bootd_sdk::xname;

use super::filter::pairs;
use super::out::{self, ComponentEndpointOut};
use super::{Call, problem, xname_of};
use crate::rows::Redfish;
use crate::tables::Tables;
use crate::values::canonical;

pub(super) fn list(call: &Call<'_>) -> Answer {
    let wanted = match wanted(&call.request.query) {
        Ok(wanted) => wanted,
        Err(detail) => return problem(400, &detail),
    };
    let tables = call.service.tables();
    let rows = tables.component_endpoints.iter().filter(|(id, row)| {
        let redfish = match row.of {
            Redfish::System => "ComputerSystem",
            Redfish::Manager => "Manager",
            Redfish::Outlet => "Outlet",
        };
        let own = [id, &*row.rfe, xname::component_type(id).unwrap_or_default(), redfish];
        wanted
            .iter()
            .zip(own)
            .all(|(values, own)| values.is_empty() || values.iter().any(|value| value == own))
    });
    out::list(
        r#"{"ComponentEndpoints":"#,
        rows.filter_map(|(id, _)| out(&tables, id)),
        "}",
    )
}

/// The values of `id`, `redfish_ep`, `type` and `redfish_type`.
fn wanted(query: &str) -> Result<[Vec<String>; 4], String> {
    let mut wanted: [Vec<String>; 4] = Default::default();
    let [ids, endpoints, kinds, redfish] = &mut wanted;
    let id = |text: &str| xname_of(text).ok_or("bad query param: Argument was not a valid xname ID");
    for (name, value) in pairs(query)? {
        match name.as_str() {
            "id" => ids.push(id(&value)?),
            "redfish_ep" => endpoints.push(id(&value)?),
            "type" => {
                let kind = canonical(xname::TYPES, &value);
                kinds.push(
                    kind.ok_or("bad query param: Argument was not a valid HMS Type")?
                        .to_owned(),
                );
            }
            "redfish_type" => redfish.push(value),
            _ => {}
        }
    }
    Ok(wanted)
}

pub(super) fn get(call: &Call<'_>) -> Answer {
    let id = xname_of(call.param(0)).unwrap_or_default();
    match out(&call.service.tables(), &id) {
        Some(row) => out::json(200, &row),
        None => problem(404, "no such xname."),
    }
}

pub(super) fn delete(call: &Call<'_>) -> Answer {
    let Some(id) = xname_of(call.param(0)) else {
        return problem(400, "Argument was not a valid xname ID");
    };
    call.service.write(|draft| match draft.delete_component_endpoint(&id) {
        true => Ok(out::deleted(1)),
        false => Err(problem(404, "no such xname.")),
    })
}

pub(super) fn delete_all(call: &Call<'_>) -> Answer {
    call.service.write(|draft| {
        let tables = draft.tables();
        for id in tables.component_endpoints.keys() {
            draft.delete_component_endpoint(id);
        }
        match tables.component_endpoints.len() {
            0 => Err(problem(404, "no entries to delete")),
            count => Ok(out::deleted(count)),
        }
    })
}

fn out<'t>(tables: &'t Tables, id: &str) -> Option<ComponentEndpointOut<'t>> {
    let (id, row) = tables.component_endpoints.get_key_value(id)?;
    let parent = tables.endpoints.get(&row.rfe);
    Some(ComponentEndpointOut { id, row, parent })
}
