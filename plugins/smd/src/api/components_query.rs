//! Components by a `Query`: ids, what lies below an xname, ranges of NIDs (contract 2.3).

use std::collections::BTreeSet;

use bootd_sdk::prelude::*;
use serde_json::Value;

use super::components::shown;
use super::filter::{Filter, NOT_AN_INTEGER};
use super::out::{self, ComponentOut};
use super::{Call, body, problem, xname_of};

pub(super) fn query(call: &Call<'_>) -> Answer {
    let fields = match body::<serde_json::Map<String, Value>>(call) {
        Ok(fields) => fields,
        Err(answer) => return answer,
    };
    let mut ids: Option<BTreeSet<String>> = None;
    let mut pairs = Vec::new();
    for (name, value) in &fields {
        let Some(texts) = texts(value) else {
            return problem(
                400,
                &format!("bad query param: {name} is neither a value nor a list of values"),
            );
        };
        if name == "componentids" {
            // An id that is none names no component.
            ids = Some(texts.iter().filter_map(|text| xname_of(text)).collect());
        } else {
            pairs.extend(texts.into_iter().map(|text| (name.clone(), text)));
        }
    }
    if ids.as_ref().is_none_or(BTreeSet::is_empty) {
        return problem(400, "Missing IDs");
    }
    match Filter::of(pairs) {
        Ok(filter) => {
            let covered = |id: &str| ids.as_ref().is_none_or(|ids| ids.contains(id));
            shown(&call.service.tables(), &filter, covered)
        }
        Err(detail) => problem(400, &detail),
    }
}

/// A component, and all that its xname contains; `s0` and `all` are everything.
pub(super) fn below(call: &Call<'_>) -> Answer {
    let Some(root) = xname_of(call.param(0)) else {
        return problem(400, "bad query param: Argument was not a valid xname ID");
    };
    let filter = match Filter::of_query(&call.request.query) {
        Ok(filter) => filter,
        Err(detail) => return problem(400, &detail),
    };
    let is_everything = matches!(root.as_str(), "s0" | "all" | "all_comp");
    shown(&call.service.tables(), &filter, |id| {
        let rest = id.strip_prefix(root.as_str());
        is_everything || rest.is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_digit()))
    })
}

pub(super) fn nids(call: &Call<'_>) -> Answer {
    let mut fields = match body::<serde_json::Map<String, Value>>(call) {
        Ok(fields) => fields,
        Err(answer) => return answer,
    };
    let ranges = fields.remove("nidranges").unwrap_or_default();
    let Some(ranges) = texts(&ranges) else {
        return problem(400, NOT_AN_INTEGER);
    };
    let mut pairs = Vec::new();
    for (name, value) in &fields {
        let texts = texts(value).unwrap_or_default();
        pairs.extend(texts.into_iter().map(|text| (name.clone(), text)));
    }
    let filter = match Filter::of(pairs) {
        Ok(filter) => filter,
        Err(detail) => return problem(400, &detail),
    };
    let tables = call.service.tables();
    let mut ids = BTreeSet::new();
    for range in &ranges {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (Ok(first), Ok(last)) = (first.trim().parse::<u64>(), last.trim().parse::<u64>()) else {
            return problem(400, NOT_AN_INTEGER);
        };
        ids.extend(tables.with_nid(first, last));
    }
    let rows = ids.into_iter().filter_map(|id| tables.components.get_key_value(id));
    let rows = rows
        .filter(|(id, row)| filter.shows(&tables, id, row))
        .map(|(id, row)| ComponentOut::new(id, row).only(filter.shown));
    out::list(r#"{"Components":"#, rows, "}")
}

/// A value or a list of values, as texts. `None`: it is something else.
fn texts(value: &Value) -> Option<Vec<String>> {
    let text = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(value) => Some(value.to_string()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    match value {
        Value::Null => Some(Vec::new()),
        Value::Array(values) => values.iter().map(text).collect(),
        value => Some(vec![text(value)?]),
    }
}
