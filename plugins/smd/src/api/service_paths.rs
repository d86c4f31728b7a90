//! `/service/*` and the OpenAPI document.

use bootd_sdk::prelude::*;
use bootd_sdk::xname;
use serde_json::json;

use super::{Call, out};
use crate::values;

/// The service can answer; whether its data are right is health's to say.
pub(super) fn ready(_: &Call<'_>) -> Answer {
    out::message("HSM is healthy")
}

pub(super) fn liveness(_: &Call<'_>) -> Answer {
    out::no_content()
}

const LISTS: &[(&str, &[&str])] = &[
    ("Arch", values::ARCHS),
    ("Class", values::CLASSES),
    ("Flag", values::FLAGS),
    ("NetType", values::NET_TYPES),
    ("Role", values::ROLES),
    ("SubRole", values::SUB_ROLES),
    ("State", values::STATES),
    ("Type", xname::TYPES),
];

pub(super) fn values(_: &Call<'_>) -> Answer {
    let lists = LISTS.iter().map(|(name, words)| ((*name).to_owned(), json!(words)));
    out::json(200, &lists.collect::<serde_json::Map<_, _>>())
}

pub(super) fn value_list(call: &Call<'_>) -> Answer {
    let wanted = call.param(0);
    match LISTS.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted)) {
        Some((name, words)) => out::json(200, &json!({*name: words})),
        None => Answer::text(404, "404 page not found\n"),
    }
}

pub(super) fn openapi(_: &Call<'_>) -> Answer {
    Answer::new(200, "application/json", OPENAPI).kept()
}

pub(crate) const OPENAPI: &str = include_str!("openapi.json");
