//! Who is in a group or a partition (contract 2.7).

use std::collections::BTreeSet;

use bootd_sdk::json::null_is_default;
use bootd_sdk::prelude::*;
use bootd_sdk::text::shown;

use super::groups::{MembersOut, Within, enter, family, list_of, no_such};
use super::{Call, body, out, problem, xname_of};

pub(super) fn get(call: &Call<'_>) -> Answer {
    let (family, label) = (family(call), call.param(0).to_lowercase());
    let within = match Within::of(call) {
        Ok(within) => within,
        Err(answer) => return answer,
    };
    let tables = call.service.tables();
    let sets = tables.sets(family);
    if sets.get(&label).is_none() {
        return no_such(family, &label);
    }
    let ids = sets
        .members(&label)
        .filter(|id| within.has(&tables, id))
        .map(|id| &**id);
    out::json(200, &MembersOut { ids: ids.collect() })
}

pub(super) fn post(call: &Call<'_>) -> Answer {
    #[derive(Deserialize)]
    struct Body {
        #[serde(default, deserialize_with = "null_is_default")]
        id: String,
    }
    let (family, label) = (family(call), call.param(0).to_lowercase());
    let posted = match body::<Body>(call) {
        Ok(posted) => posted,
        Err(answer) => return answer,
    };
    call.service.write(|draft| {
        let id = xname_of(&posted.id).ok_or_else(|| problem(400, "invalid xname ID"))?;
        if draft.set(family, &label).is_none() {
            return Err(no_such(family, &label));
        }
        if draft.is_member(family, &label, &id) {
            let what = list_of(family).trim_end_matches('s');
            let detail = format!("operation would conflict with an existing member in the same {what}.");
            return Err(problem(409, &detail));
        }
        enter(draft, family, &label, &id)?;
        Ok(out::created(&format!("{}/{label}/members", list_of(family)), &[&id]))
    })
}

/// Exactly this list.
pub(super) fn put(call: &Call<'_>) -> Answer {
    #[derive(Deserialize)]
    struct Body {
        #[serde(default, deserialize_with = "null_is_default")]
        ids: Vec<String>,
    }
    let (family, label) = (family(call), call.param(0).to_lowercase());
    let posted = match body::<Body>(call) {
        Ok(posted) => posted,
        Err(answer) => return answer,
    };
    call.service.write(|draft| {
        let (mut ids, mut bad) = (BTreeSet::new(), Vec::new());
        for text in &posted.ids {
            match xname_of(text) {
                Some(id) => drop(ids.insert(id)),
                None => bad.push(shown(text)),
            }
        }
        if !bad.is_empty() {
            return Err(problem(400, &format!("invalid xname IDs: [{}]", bad.join(" "))));
        }
        if draft.set(family, &label).is_none() {
            return Err(no_such(family, &label));
        }
        for id in draft.members(family, &label) {
            if !ids.contains(&*id) {
                draft.set_member(family, &label, &id, false);
            }
        }
        for id in &ids {
            if !draft.is_member(family, &label, id) {
                enter(draft, family, &label, id)?;
            }
        }
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        Ok(out::created(&format!("{}/{label}/members", list_of(family)), &ids))
    })
}

pub(super) fn delete(call: &Call<'_>) -> Answer {
    let (family, label) = (family(call), call.param(0).to_lowercase());
    call.service.write(|draft| {
        if draft.set(family, &label).is_none() {
            return Err(no_such(family, &label));
        }
        let what = list_of(family).trim_end_matches('s');
        let id = xname_of(call.param(1)).ok_or_else(|| problem(400, "invalid xname ID"))?;
        if !draft.is_member(family, &label, &id) {
            return Err(problem(404, &format!("{what} has no such member.")));
        }
        draft.set_member(family, &label, &id, false);
        Ok(out::deleted(1))
    })
}
