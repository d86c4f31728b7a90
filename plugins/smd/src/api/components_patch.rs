//! Changing one field of components: `StateData`, `FlagOnly`, `Enabled`, `SoftwareStatus`, `Role`, `NID`, each for one component and for
//! many (contract 2.3). Components that nobody knows are left out without a word, as in SMD.

use bootd_sdk::json::{folded_list, null_is_default};
use bootd_sdk::prelude::*;
use bootd_sdk::xname;
use serde_json::Value;

use super::components::{Nid, nid};
use super::{Call, body, is_clean, out, problem, xname_of};
use crate::draft::Draft;
use crate::rows::Component;
use crate::values::{self, Transition, Word, transition};

/// The body of each of these, for one component or many.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Patch {
    id: Option<String>,
    #[serde(deserialize_with = "null_is_default")]
    componentids: Vec<String>,
    #[serde(deserialize_with = "null_is_default")]
    force: bool,
    state: Option<String>,
    flag: Option<String>,
    enabled: Option<bool>,
    softwarestatus: Option<String>,
    role: Option<String>,
    subrole: Option<String>,
    nid: Value,
}

/// What a [`Patch`] does, once it is understood.
enum Step {
    State {
        state: Word,
        flag: Option<Word>,
        force: bool,
    },
    Flag(Word),
    Enabled(bool),
    SoftwareStatus(Box<str>),
    Role {
        role: Box<str>,
        sub_role: Option<Box<str>>,
    },
    Nid(Option<u64>),
}

pub(super) fn one(call: &Call<'_>) -> Answer {
    let Some(id) = xname_of(call.param(0)) else {
        return problem(400, "invalid xname ID");
    };
    let patch = match body::<Patch>(call) {
        Ok(patch) => patch,
        Err(answer) => return answer,
    };
    if patch
        .id
        .as_deref()
        .is_some_and(|other| !other.is_empty() && xname::normalise(other) != id)
    {
        return problem(400, "xname in URL and body do not match");
    }
    write(call, &patch, &[id])
}

pub(super) fn bulk(call: &Call<'_>) -> Answer {
    let patch = match body::<Patch>(call) {
        Ok(patch) => patch,
        Err(answer) => return answer,
    };
    if patch.componentids.is_empty() {
        return problem(400, "Missing ComponentIDs");
    }
    let ids: Option<Vec<String>> = patch.componentids.iter().map(|id| xname_of(id)).collect();
    match ids {
        Some(ids) => write(call, &patch, &ids),
        None => problem(400, "invalid xname ID"),
    }
}

pub(super) fn bulk_nid(call: &Call<'_>) -> Answer {
    #[derive(Deserialize)]
    struct Body {
        #[serde(default, deserialize_with = "folded_list")]
        components: Vec<Patch>,
    }
    let posted = match body::<Body>(call) {
        Ok(posted) => posted,
        Err(answer) => return answer,
    };
    if posted.components.is_empty() {
        return problem(400, "Missing Components");
    }
    call.service.write(|draft| {
        for patch in &posted.components {
            let id = patch.id.as_deref().and_then(xname_of);
            let id = id.ok_or_else(|| problem(400, "invalid xname ID"))?;
            let step = nid_step(patch).map_err(|detail| problem(400, &detail))?;
            take(draft, &id, &step);
        }
        Ok(out::no_content())
    })
}

fn write(call: &Call<'_>, patch: &Patch, ids: &[String]) -> Answer {
    let step = match step(call.last_segment().trim_start_matches("Bulk"), patch) {
        Ok(step) => step,
        Err(detail) => return problem(400, &detail),
    };
    call.service.write(|draft| {
        for id in ids {
            take(draft, id, &step);
        }
        Ok(out::no_content())
    })
}

fn step(what: &str, patch: &Patch) -> Result<Step, String> {
    let word = |what: &str, list, text: &Option<String>| -> Result<Option<Word>, String> {
        let Some(text) = text.as_deref().filter(|text| !text.is_empty()) else {
            return Ok(None);
        };
        let word = values::canonical(list, text).map(Word);
        word.map(Some)
            .ok_or_else(|| format!("{what} '{}' is invalid", bootd_sdk::text::shown(text)))
    };
    match what {
        "StateData" => {
            let state = word("state", values::STATES, &patch.state)?.ok_or("Missing State")?;
            let flag = word("flag", values::FLAGS, &patch.flag)?;
            if !patch.force && transition("", state.0) == Transition::OnlyForced {
                return Err(format!("state '{}' needs Force", state.0));
            }
            Ok(Step::State {
                state,
                flag,
                force: patch.force,
            })
        }
        "FlagOnly" => Ok(Step::Flag(
            word("flag", values::FLAGS, &patch.flag)?.ok_or("Missing Flag")?,
        )),
        "Enabled" => Ok(Step::Enabled(patch.enabled.ok_or("Missing Enabled")?)),
        "SoftwareStatus" => {
            let text = patch.softwarestatus.as_deref().ok_or("Missing SoftwareStatus")?;
            if !is_clean(text) {
                return Err("SoftwareStatus is too long or has control characters".into());
            }
            Ok(Step::SoftwareStatus(text.into()))
        }
        "Role" => {
            let role = word("role", values::ROLES, &patch.role)?.ok_or("Missing Role")?;
            let sub_role = word("subRole", values::SUB_ROLES, &patch.subrole)?;
            Ok(Step::Role {
                role: role.0.into(),
                sub_role: sub_role.map(|word| word.0.into()),
            })
        }
        _ => nid_step(patch),
    }
}

fn nid_step(patch: &Patch) -> Result<Step, String> {
    match nid(&patch.nid)? {
        Nid::Absent => Err("NID value missing.  Use NID < 0 to unset.".into()),
        Nid::None => Ok(Step::Nid(None)),
        Nid::Some(nid) => Ok(Step::Nid(Some(nid))),
    }
}

fn take(draft: &mut Draft<'_>, id: &str, step: &Step) {
    let Some(before) = draft.component(id) else { return };
    let mut row: Component = before.clone();
    match step {
        Step::State { state, flag, force } => {
            if !force && transition(row.state.0, state.0) != Transition::Allowed {
                return;
            }
            row.state = *state;
            row.flag = flag.unwrap_or(Word("OK"));
        }
        Step::Flag(flag) => row.flag = *flag,
        Step::Enabled(enabled) => row.enabled = *enabled,
        Step::SoftwareStatus(text) => row.software_status.clone_from(text),
        Step::Role { role, sub_role } => {
            row.role.clone_from(role);
            if let Some(sub_role) = sub_role {
                row.sub_role.clone_from(sub_role);
            }
        }
        Step::Nid(nid) => row.nid = *nid,
    }
    draft.put_component(id, row);
}
