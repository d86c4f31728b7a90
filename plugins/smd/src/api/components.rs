//! `/State/Components`: lists, rows, and writing whole rows (contract 2.3).

use bootd_sdk::json::{folded_list, null_is_default};
use bootd_sdk::prelude::*;
use bootd_sdk::xname;
use serde_json::Value;

use super::filter::{Filter, NOT_AN_INTEGER};
use super::out::{self, ComponentOut};
use super::{Call, body, is_clean, problem, xname_of};
use crate::draft::Draft;
use crate::rows::Component;
use crate::tables::{Tables, is_node};
use crate::values::{self, Word};

pub(super) fn list(call: &Call<'_>) -> Answer {
    match Filter::of_query(&call.request.query) {
        Ok(filter) => shown(&call.service.tables(), &filter, |_| true),
        Err(detail) => problem(400, &detail),
    }
}

/// The components that a filter and a test show.
pub(super) fn shown(tables: &Tables, filter: &Filter, also: impl Fn(&str) -> bool) -> Answer {
    let rows = tables
        .components
        .iter()
        .filter(|(id, row)| also(id) && filter.shows(tables, id, row))
        .map(|(id, row)| ComponentOut::new(id, row).only(filter.shown));
    out::list(r#"{"Components":"#, rows, "}")
}

pub(super) fn get(call: &Call<'_>) -> Answer {
    let id = xname_of(call.param(0)).unwrap_or_default();
    // Only what the guarded routes cover: anything else came through the open list's.
    let is_guarded = super::COMPONENT_FIRSTS.contains(call.param(0).chars().next().unwrap_or(' '));
    match call.service.tables().components.get(id.as_str()) {
        Some(row) if is_guarded => out::json(200, &ComponentOut::new(&id, row)),
        _ => problem(404, "no such xname."),
    }
}

pub(super) fn by_nid(call: &Call<'_>) -> Answer {
    let Ok(nid) = call.param(0).parse::<i64>() else {
        return problem(400, NOT_AN_INTEGER);
    };
    let tables = call.service.tables();
    let nid = u64::try_from(nid).ok();
    let id = nid.and_then(|nid| tables.with_nid(nid, nid).next());
    match id.and_then(|id| tables.components.get_key_value(id)) {
        Some((id, row)) => out::json(200, &ComponentOut::new(id, row)),
        None => problem(404, "no such NID."),
    }
}

pub(super) fn post(call: &Call<'_>) -> Answer {
    #[derive(Deserialize)]
    struct Body {
        #[serde(default, deserialize_with = "folded_list")]
        components: Vec<Posted>,
        #[serde(default, deserialize_with = "null_is_default")]
        force: bool,
    }
    let posted = match body::<Body>(call) {
        Ok(body) => body,
        Err(answer) => return answer,
    };
    if posted.components.first().is_none_or(|first| first.id.is_empty()) {
        return problem(400, "Missing Components");
    }
    call.service.write(|draft| {
        for component in &posted.components {
            let (id, row) = component.checked().map_err(invalid)?;
            upsert(draft, &id, row, posted.force);
        }
        Ok(out::no_content())
    })
}

pub(super) fn put(call: &Call<'_>) -> Answer {
    #[derive(Deserialize)]
    struct Body {
        #[serde(default, deserialize_with = "bootd_sdk::json::folded")]
        component: Posted,
        #[serde(default, deserialize_with = "null_is_default")]
        force: bool,
    }
    let posted = match body::<Body>(call) {
        Ok(body) => body,
        Err(answer) => return answer,
    };
    let wanted = xname::normalise(call.param(0));
    if xname::normalise(&posted.component.id) != wanted {
        return problem(400, "xname in URL and PUT body do not match");
    }
    call.service.write(|draft| {
        let (id, row) = posted.component.checked().map_err(invalid)?;
        upsert(draft, &id, row, posted.force);
        Ok(out::no_content())
    })
}

pub(super) fn delete(call: &Call<'_>) -> Answer {
    let Some(id) = xname_of(call.param(0)) else {
        return problem(400, "invalid xname");
    };
    call.service.write(|draft| match draft.delete_component(&id) {
        true => Ok(out::deleted(1)),
        false => Err(problem(404, "no such xname.")),
    })
}

pub(super) fn delete_all(call: &Call<'_>) -> Answer {
    call.service.write(|draft| {
        let tables = draft.tables();
        for id in tables.components.keys() {
            draft.delete_component(id);
        }
        match tables.components.len() {
            0 => Err(problem(404, "no entries to delete")),
            count => Ok(out::deleted(count)),
        }
    })
}

fn invalid(detail: String) -> Answer {
    problem(400, &format!("couldn't validate components: {detail}"))
}

/// A new component enters as it is. One that is there keeps what it has, unless forced, and then all but a few fields.
fn upsert(draft: &mut Draft<'_>, id: &str, row: Component, force: bool) {
    let Some(known) = draft.component(id) else {
        draft.put_component(id, row);
        return;
    };
    if force {
        let mut known = known.clone();
        (known.state, known.flag, known.subtype) = (row.state, row.flag, row.subtype);
        (known.net_type, known.arch, known.class) = (row.net_type, row.arch, row.class);
        draft.put_component(id, known);
    }
}

/// A component as clients send it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Posted {
    #[serde(deserialize_with = "null_is_default")]
    id: String,
    #[serde(deserialize_with = "null_is_default")]
    state: String,
    #[serde(deserialize_with = "null_is_default")]
    flag: String,
    enabled: Option<bool>,
    #[serde(deserialize_with = "null_is_default")]
    softwarestatus: String,
    #[serde(deserialize_with = "null_is_default")]
    role: String,
    #[serde(deserialize_with = "null_is_default")]
    subrole: String,
    nid: Value,
    #[serde(deserialize_with = "null_is_default")]
    subtype: String,
    #[serde(deserialize_with = "null_is_default")]
    nettype: String,
    #[serde(deserialize_with = "null_is_default")]
    arch: String,
    #[serde(deserialize_with = "null_is_default")]
    class: String,
    #[serde(deserialize_with = "null_is_default")]
    reservationdisabled: bool,
    #[serde(deserialize_with = "null_is_default")]
    locked: bool,
}

impl Posted {
    /// Its xname and its row, with what a new component gets by default.
    fn checked(&self) -> Result<(String, Component), String> {
        let id =
            xname_of(&self.id).ok_or_else(|| format!("xname ID '{}' is invalid", bootd_sdk::text::shown(&self.id)))?;
        let is_node = xname::component_type(&id).is_some_and(is_node);
        let word = |what: &str, list, text: &str| match values::canonical(list, text) {
            None if !text.is_empty() => Err(format!("{what} '{}' is invalid", bootd_sdk::text::shown(text))),
            word => Ok(Word(word.unwrap_or_default())),
        };
        let state = word("state", values::STATES, &self.state)?;
        if state.is_empty() {
            return Err("state '' is invalid".into());
        }
        for (what, text) in [
            ("role", &self.role),
            ("subRole", &self.subrole),
            ("softwareStatus", &self.softwarestatus),
            ("subtype", &self.subtype),
        ] {
            if !is_clean(text) {
                return Err(format!("{what} is too long or has control characters"));
            }
        }
        let flag = word("flag", values::FLAGS, &self.flag)?;
        let role = if self.role.is_empty() && is_node {
            "Compute"
        } else {
            &self.role
        };
        let nid = nid(&self.nid)?;
        let row = Component {
            state,
            flag: if flag.is_empty() { Word("OK") } else { flag },
            enabled: self.enabled.unwrap_or(true),
            software_status: self.softwarestatus.as_str().into(),
            role: values::canonical(values::ROLES, role).unwrap_or(role).into(),
            sub_role: values::canonical(values::SUB_ROLES, &self.subrole)
                .unwrap_or(&self.subrole)
                .into(),
            nid: match nid {
                Nid::Absent => xname::default_nid(&id),
                Nid::None => None,
                Nid::Some(nid) => Some(nid),
            },
            subtype: self.subtype.as_str().into(),
            net_type: word("netType", values::NET_TYPES, &self.nettype)?,
            arch: word("arch", values::ARCHS, &self.arch)?,
            class: word("class", values::CLASSES, &self.class)?,
            reservation_disabled: self.reservationdisabled,
            locked: self.locked,
            ..Component::default()
        };
        Ok((id, row))
    }
}

/// A NID as clients send it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Nid {
    /// Nothing is said of it.
    Absent,
    /// It is to have none: a negative one.
    None,
    Some(u64),
}

/// Reads a NID: a number, or its digits as a text.
pub(super) fn nid(value: &Value) -> Result<Nid, String> {
    let number = match value {
        Value::Null => return Ok(Nid::Absent),
        Value::String(text) if text.is_empty() => return Ok(Nid::Absent),
        Value::String(text) => text.parse::<i64>().ok(),
        value => value.as_i64(),
    };
    match number {
        Some(number) => Ok(u64::try_from(number).map_or(Nid::None, Nid::Some)),
        None => Err("NID is not an integer".into()),
    }
}
