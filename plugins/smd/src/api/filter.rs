//! Which components a list shows (contract 2.3): the query of a list, of memberships, or the body of a `Query`.
//!
//! A name given several times shows any of its values, `!` before a value all others; several names must all agree. Names come in any case,
//! unknown ones are ignored, a value that its field cannot have is refused.

use std::collections::BTreeMap;

use bootd_sdk::form;
use bootd_sdk::xname;

use super::out::Shown;
use crate::rows::{Component, Family, Id};
use crate::tables::Tables;
use crate::values;

/// Values that a query may name. Each is compared with every row.
const MOST_VALUES: usize = 64;

/// A query that was understood.
#[derive(Debug, Default)]
pub(super) struct Filter {
    /// By the field's name in lower case.
    values: BTreeMap<String, Vec<Value>>,
    first_nid: u64,
    last_nid: Option<u64>,
    pub(super) shown: Shown,
}

/// A value, written as the rows' own values are.
#[derive(Debug)]
struct Value {
    not: bool,
    text: String,
}

/// The names and values of a request's query; the error is the whole of a 400's detail.
pub(super) fn pairs(query: &str) -> Result<Vec<(String, String)>, String> {
    let pairs = form::pairs(query).ok_or("the query is not well formed")?;
    if pairs.len() > MOST_VALUES {
        return Err("the query names more than 64 values".into());
    }
    Ok(pairs
        .into_iter()
        .map(|(name, value)| (name.to_ascii_lowercase(), value))
        .collect())
}

impl Filter {
    pub(super) fn of_query(query: &str) -> Result<Self, String> {
        Self::of(pairs(query)?)
    }

    /// Of names in lower case and their values.
    pub(super) fn of(pairs: Vec<(String, String)>) -> Result<Self, String> {
        let mut filter = Self::default();
        for (name, value) in pairs {
            filter.add(name, &value)?;
        }
        Ok(filter)
    }

    fn add(&mut self, name: String, value: &str) -> Result<(), String> {
        let is_asked = value.eq_ignore_ascii_case("true");
        match name.as_str() {
            "nid_start" => self.first_nid = nid(value)?,
            "nid_end" => self.last_nid = Some(nid(value)?),
            "stateonly" => self.shown.state = is_asked,
            "flagonly" => self.shown.flag = is_asked,
            "roleonly" => self.shown.role = is_asked,
            "nidonly" => self.shown.nid = is_asked,
            _ => {
                let (not, text) = match value.strip_prefix('!') {
                    Some(text) => (true, text),
                    None => (false, value),
                };
                if let Some(text) = canonical(&name, text)? {
                    self.values.entry(name).or_default().push(Value { not, text });
                }
            }
        }
        Ok(())
    }

    pub(super) fn shows(&self, tables: &Tables, id: &str, row: &Component) -> bool {
        let nid = || row.nid.map(|nid| nid.to_string()).unwrap_or_default();
        let in_set = |family: Family, label: &str| {
            let labels: &[Id] = tables.sets(family).labels_of(id);
            if label.eq_ignore_ascii_case("null") {
                labels.is_empty()
            } else {
                labels.iter().any(|own| **own == *label)
            }
        };
        let same = |own: &str, value: &str| own.eq_ignore_ascii_case(value);
        self.allows("id", |value| value == id)
            && self.allows("type", |value| same(row.kind, value))
            && self.allows("state", |value| same(row.state.0, value))
            && self.allows("flag", |value| same(row.flag.0, value))
            && self.allows("role", |value| same(&row.role, value))
            && self.allows("subrole", |value| same(&row.sub_role, value))
            && self.allows("subtype", |value| same(&row.subtype, value))
            && self.allows("softwarestatus", |value| same(&row.software_status, value))
            && self.allows("arch", |value| same(row.arch.0, value))
            && self.allows("class", |value| same(row.class.0, value))
            && self.allows("nid", |value| value == nid())
            && self.allows("enabled", |value| value == bool_text(row.enabled))
            && self.allows("locked", |value| value == bool_text(row.locked))
            && self.allows("reservation_disabled", |value| {
                value == bool_text(row.reservation_disabled)
            })
            && self.allows("group", |value| in_set(Family::Group, value))
            && self.allows("partition", |value| in_set(Family::Partition, value))
            && self.allows_nid(row.nid)
    }

    fn allows(&self, name: &str, is: impl Fn(&str) -> bool) -> bool {
        let Some(values) = self.values.get(name) else {
            return true;
        };
        values.iter().any(|value| is(&value.text) != value.not)
    }

    fn allows_nid(&self, nid: Option<u64>) -> bool {
        if self.first_nid == 0 && self.last_nid.is_none() {
            return true;
        }
        nid.is_some_and(|nid| nid >= self.first_nid && self.last_nid.is_none_or(|last| nid <= last))
    }
}

/// A value as rows write it. `None`: nobody knows the name.
fn canonical(name: &str, text: &str) -> Result<Option<String>, String> {
    let word = |list, what: &str| match values::canonical(list, text) {
        Some(word) => Ok(Some(word.to_owned())),
        None => Err(format!("bad query param: Argument was not a valid {what}")),
    };
    match name {
        "id" => match super::xname_of(text) {
            Some(id) => Ok(Some(id)),
            None => Err("bad query param: Argument was not a valid xname ID".into()),
        },
        "type" => word(xname::TYPES, "HMS Type"),
        "state" => word(values::STATES, "HMS State"),
        "flag" => word(values::FLAGS, "HMS Flag"),
        "arch" => word(values::ARCHS, "HMS Arch"),
        "class" => word(values::CLASSES, "HMS Class"),
        "role" if text.is_empty() => Err("bad query param: Argument was not a valid HMS Role".into()),
        "subrole" if text.is_empty() => Err("bad query param: Argument was not a valid HMS SubRole".into()),
        "nid" => Ok(Some(nid(text)?.to_string())),
        "enabled" | "locked" | "reservation_disabled" => match text.to_ascii_lowercase().as_str() {
            value @ ("true" | "false") => Ok(Some(value.to_owned())),
            "1" => Ok(Some("true".into())),
            "0" => Ok(Some("false".into())),
            _ => Err("bad query param: Argument did not match any valid input".into()),
        },
        "group" | "partition" => Ok(Some(text.to_lowercase())),
        "role" | "subrole" | "subtype" | "softwarestatus" => Ok(Some(text.to_owned())),
        _ => Ok(None),
    }
}

fn nid(text: &str) -> Result<u64, String> {
    text.trim().parse().map_err(|_| NOT_AN_INTEGER.to_owned())
}

fn bool_text(value: bool) -> &'static str {
    if value { "true" } else { "false" }
}

pub(super) const NOT_AN_INTEGER: &str = "bad query param: a required argument was not an integer";
