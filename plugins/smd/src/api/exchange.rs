//! Everything out and in again, as YAML in the form of the nodes file and the API's own bodies.

use bootd_sdk::prelude::*;

use super::{Call, out};
use crate::exchange;

pub(super) fn export(call: &Call<'_>) -> Answer {
    Answer::new(200, "application/yaml", exchange::written(&call.service.tables()))
}

/// All or nothing; what is not named stays.
pub(super) fn import(call: &Call<'_>) -> Answer {
    let (text, mistakes) = exchange::read(&call.request.body);
    let told = |list: &[Mistake]| {
        let list: Vec<String> = list.iter().map(ToString::to_string).collect();
        super::problem(400, &list.join("\n"))
    };
    if !mistakes.is_empty() {
        return told(&mistakes);
    }
    call.service.write(|draft| {
        exchange::put(draft, &text).map_err(|mistakes| told(&mistakes))?;
        Ok(out::no_content())
    })
}
