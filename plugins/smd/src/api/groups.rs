//! `/groups` and `/partitions`, which mirror them (contract 2.7).

use std::collections::BTreeSet;

use bootd_sdk::json::{folded, null_is_default};
use bootd_sdk::prelude::*;
use bootd_sdk::text::shown;
use serde::Serialize;

use super::filter::pairs;
use super::{Call, body, is_clean, out, problem, xname_of};
use crate::draft::Draft;
use crate::rows::{Family, Id, Set};
use crate::tables::Tables;

/// A group as clients send it. `name` is a partition's label.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Posted {
    #[serde(deserialize_with = "null_is_default")]
    label: String,
    #[serde(deserialize_with = "null_is_default")]
    name: String,
    description: Option<String>,
    tags: Option<Vec<String>>,
    #[serde(deserialize_with = "null_is_default")]
    exclusivegroup: String,
    #[serde(deserialize_with = "folded")]
    members: Option<Members>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Members {
    #[serde(deserialize_with = "null_is_default")]
    ids: Vec<String>,
}

/// A group as SMD writes it.
#[derive(Serialize)]
struct SetOut<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    description: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    tags: &'a [Box<str>],
    #[serde(rename = "exclusiveGroup", skip_serializing_if = "str::is_empty")]
    exclusive: &'a str,
    members: MembersOut<'a>,
}

#[derive(Serialize)]
pub(super) struct MembersOut<'a> {
    pub(super) ids: Vec<&'a str>,
}

/// Groups or partitions: the path says it.
pub(super) fn family(call: &Call<'_>) -> Family {
    if call.request.path.starts_with("/hsm/v2/partitions") {
        Family::Partition
    } else {
        Family::Group
    }
}

/// Where they are, below `/hsm/v2`.
pub(super) fn list_of(family: Family) -> &'static str {
    match family {
        Family::Group => "groups",
        Family::Partition => "partitions",
    }
}

pub(super) fn no_such(family: Family, label: &str) -> Answer {
    let what = match family {
        Family::Group => "group",
        Family::Partition => "partition",
    };
    problem(404, &format!("No such {what}: {}", shown(label)))
}

fn set_out<'t>(tables: &'t Tables, family: Family, label: &'t str, set: &'t Set, within: &Within) -> SetOut<'t> {
    let members = tables.sets(family).members(label);
    SetOut {
        label: (family == Family::Group).then_some(label),
        name: (family == Family::Partition).then_some(label),
        description: &set.description,
        tags: &set.tags,
        exclusive: &set.exclusive,
        members: MembersOut {
            ids: members.filter(|id| within.has(tables, id)).map(|id| &**id).collect(),
        },
    }
}

/// Which members a `partition` of the query leaves.
pub(super) enum Within {
    All,
    Partition(String),
    NoPartition,
}

impl Within {
    pub(super) fn of(call: &Call<'_>) -> Result<Self, Answer> {
        let pairs = pairs(&call.request.query).map_err(|detail| problem(400, &detail))?;
        let partition = pairs.into_iter().find(|(name, _)| name == "partition");
        match partition.map(|(_, value)| value.to_lowercase()) {
            None => Ok(Self::All),
            Some(name) if name == "null" => Ok(Self::NoPartition),
            Some(name) if is_name(Family::Partition, &name) => Ok(Self::Partition(name)),
            Some(_) => Err(problem(400, "Invalid partition name.")),
        }
    }

    pub(super) fn has(&self, tables: &Tables, id: &str) -> bool {
        let labels: &[Id] = match self {
            Self::All => return true,
            _ => tables.sets(Family::Partition).labels_of(id),
        };
        match self {
            Self::Partition(name) => labels.iter().any(|label| **label == **name),
            _ => labels.is_empty(),
        }
    }
}

pub(super) fn list(call: &Call<'_>) -> Answer {
    let family = family(call);
    let pairs = match pairs(&call.request.query) {
        Ok(pairs) => pairs,
        Err(detail) => return problem(400, &detail),
    };
    let within = match Within::of(call) {
        Ok(within) if family == Family::Group => within,
        Ok(_) => Within::All,
        Err(answer) => return answer,
    };
    let values = |name: &str| -> BTreeSet<String> {
        let values = pairs.iter().filter(|(other, value)| other == name && !value.is_empty());
        values.map(|(_, value)| value.to_lowercase()).collect()
    };
    let (labels, tags) = (
        values(if family == Family::Group { "group" } else { "partition" }),
        values("tag"),
    );
    if labels.iter().any(|label| !is_name(family, label)) {
        return problem(400, "Invalid group label.");
    }
    if tags.iter().any(|tag| !is_word(tag)) {
        return problem(400, "Invalid tag.");
    }
    let tables = call.service.tables();
    let rows = tables.sets(family).rows.iter().filter(|(label, (set, _))| {
        (labels.is_empty() || labels.contains(&***label))
            && (tags.is_empty() || set.tags.iter().any(|tag| tags.contains(&**tag)))
    });
    out::list(
        "",
        rows.map(|(label, (set, _))| set_out(&tables, family, label, set, &within)),
        "",
    )
}

pub(super) fn labels(call: &Call<'_>) -> Answer {
    let tables = call.service.tables();
    out::list("", tables.sets(family(call)).rows.keys().map(|label| &**label), "")
}

pub(super) fn get(call: &Call<'_>) -> Answer {
    let (family, label) = (family(call), call.param(0).to_lowercase());
    let within = match Within::of(call) {
        Ok(within) => within,
        Err(answer) => return answer,
    };
    let tables = call.service.tables();
    match tables.sets(family).get(&label) {
        Some(set) => out::json(200, &set_out(&tables, family, &label, set, &within)),
        None => no_such(family, &label),
    }
}

pub(super) fn post(call: &Call<'_>) -> Answer {
    let family = family(call);
    let posted = match body::<Posted>(call) {
        Ok(posted) => posted,
        Err(answer) => return answer,
    };
    call.service.write(|draft| {
        let (label, set) = posted.checked(family)?;
        let members = members_of(&posted)?;
        let distinct: BTreeSet<&String> = members.iter().collect();
        if draft.set(family, &label).is_some() || distinct.len() != members.len() {
            let what = match family {
                Family::Group => "group that has the same label or duplicate ids found in request.",
                Family::Partition => "partition that has the same name or duplicate ids found in request.",
            };
            return Err(problem(
                409,
                &format!("operation would conflict with an existing {what}"),
            ));
        }
        draft.put_set(family, &label, set);
        for id in &members {
            enter(draft, family, &label, id)?;
        }
        Ok(out::created(list_of(family), &[&label]))
    })
}

/// A description and tags are replaced; members are added, since a discovery that is repeated means it so (contract 1.7).
pub(super) fn patch(call: &Call<'_>) -> Answer {
    let (family, label) = (family(call), call.param(0).to_lowercase());
    let posted = match body::<Posted>(call) {
        Ok(posted) => posted,
        Err(answer) => return answer,
    };
    call.service.write(|draft| {
        let members = members_of(&posted)?;
        if posted.description.is_none() && posted.tags.is_none() && members.is_empty() {
            return Err(problem(400, "Request must have at least one patch field."));
        }
        let Some(mut set) = draft.set(family, &label).cloned() else {
            let what = list_of(family).trim_end_matches('s');
            return Err(problem(404, &format!("no such {what}.")));
        };
        let (_, new) = Posted {
            label: label.clone(),
            name: label.clone(),
            ..posted.clone_texts()
        }
        .checked(family)?;
        if posted.description.is_some() {
            set.description = new.description;
        }
        if posted.tags.is_some() {
            set.tags = new.tags;
        }
        draft.put_set(family, &label, set);
        for id in members.iter().collect::<BTreeSet<_>>() {
            if !draft.is_member(family, &label, id) {
                enter(draft, family, &label, id)?;
            }
        }
        Ok(out::no_content())
    })
}

pub(super) fn delete(call: &Call<'_>) -> Answer {
    let (family, label) = (family(call), call.param(0).to_lowercase());
    call.service.write(|draft| match draft.delete_set(family, &label) {
        true => Ok(out::deleted(1)),
        false => Err(no_such(family, &label)),
    })
}

/// Makes a component a member, if the rules let it.
pub(super) fn enter(draft: &mut Draft<'_>, family: Family, label: &str, id: &str) -> Result<(), Answer> {
    if draft.component(id).is_none() {
        return Err(problem(400, &format!("linked component does not exist: {id}")));
    }
    let exclusive = draft
        .set(family, label)
        .map(|set| set.exclusive.clone())
        .unwrap_or_default();
    if family == Family::Partition || !exclusive.is_empty() {
        for other in draft.labels_of(family, id).iter().filter(|other| ***other != *label) {
            let same = draft.set(family, other).is_some_and(|set| set.exclusive == exclusive);
            if family == Family::Partition {
                let detail = "operation would conflict with an existing member in another partition.";
                return Err(problem(409, detail));
            }
            if same {
                let detail = "operation would conflict with an existing member in another exclusive group.";
                return Err(problem(409, detail));
            }
        }
    }
    draft.set_member(family, label, id, true);
    Ok(())
}

fn members_of(posted: &Posted) -> Result<Vec<String>, Answer> {
    let ids = posted.members.iter().flat_map(|members| &members.ids);
    let known = ids.map(|id| xname_of(id).ok_or_else(|| problem(400, &format!("invalid xname ID: {}", shown(id)))));
    known.collect()
}

impl Posted {
    fn clone_texts(&self) -> Self {
        Self {
            description: self.description.clone(),
            tags: self.tags.clone(),
            ..Self::default()
        }
    }

    fn checked(&self, family: Family) -> Result<(String, Set), Answer> {
        let label = match family {
            Family::Group => self.label.to_lowercase(),
            Family::Partition => self.name.to_lowercase(),
        };
        let invalid = |detail: &str| problem(400, &format!("couldn't validate group: {detail}"));
        if !is_name(family, &label) {
            return Err(match family {
                Family::Group => invalid("group or partition field has invalid characters"),
                Family::Partition => problem(400, "couldn't validate partition: the name must be p# or p#.#"),
            });
        }
        let description = self.description.as_deref().unwrap_or_default();
        if !is_clean(description) {
            return Err(invalid("the description is too long or has control characters"));
        }
        let exclusive = self.exclusivegroup.to_lowercase();
        let tags: Vec<Box<str>> = self
            .tags
            .iter()
            .flatten()
            .map(|tag| tag.to_lowercase().into())
            .collect();
        if tags.iter().any(|tag| !is_word(tag)) || (!exclusive.is_empty() && !is_word(&exclusive)) {
            return Err(invalid("group or partition field has invalid characters"));
        }
        let set = Set {
            description: description.into(),
            tags,
            exclusive: exclusive.into(),
            of_file: false,
        };
        Ok((label, set))
    }
}

fn is_name(family: Family, name: &str) -> bool {
    match family {
        Family::Group => is_label(name),
        Family::Partition => bootd_sdk::xname::component_type(name) == Some("Partition"),
    }
}

fn is_word(text: &str) -> bool {
    is_label(text)
}

/// Whether it can be a group's label, in lower case.
pub(crate) fn is_label(text: &str) -> bool {
    let may_be = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-:._".contains(&byte);
    (1..=LONGEST_LABEL).contains(&text.len()) && text.bytes().all(may_be)
}

/// Bytes of a label.
const LONGEST_LABEL: usize = 255;
