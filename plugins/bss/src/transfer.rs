//! Export and import of all boot parameters as YAML, in the form of the files: a list of documents as `ochami bss boot params set` takes them.
//!
//! An import is all or nothing, and touches nothing that it does not name.

use std::convert::Infallible;

use bootd_sdk::prelude::*;
use serde_json::{Map, Value};

use crate::book::{Book, By, Draft};
use crate::bootparameters::refused;
use crate::entry::Entry;
use crate::file::{Files, Text, read_text};
use crate::ledger::{Ledger, NotWritten};
use crate::yaml;

/// All, as a file.
pub(crate) fn export(book: &Book) -> Answer {
    let entries: Vec<Value> = book.entries(None).iter().map(as_file).collect();
    Answer::new(200, "application/yaml", yaml::list(&entries))
}

/// Takes a file: 204, or 400 with every mistake.
pub(crate) fn import(ledger: &Ledger, text: &str) -> Answer {
    let mut files = Files::default();
    let mistakes = read_text("import", text, Text::Import, &mut files);
    if !mistakes.is_empty() {
        let told: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
        return Answer::problem(400, "Bad Request", &told.join("\n"));
    }
    let written = ledger.write(|book| {
        let mut draft = Draft::of(book);
        for entry in &files.entries {
            for target in entry.targets() {
                draft.set(&target, &entry.config, By::Api);
            }
        }
        Ok::<_, Infallible>(draft)
    });
    match written {
        Ok(_) => Answer {
            status: 204,
            ..Answer::default()
        },
        Err(NotWritten::Store(error)) => refused(NotWritten::Store(error)),
        Err(NotWritten::Refused(never)) => match never {},
    }
}

/// Without what is empty, `cloud-init` among it.
fn as_file(entry: &Entry) -> Value {
    match serde_json::to_value(entry) {
        Ok(Value::Object(mut map)) => {
            map.retain(|_, value| value.as_str().is_none_or(|text| !text.is_empty()));
            Value::Object(map)
        }
        _ => Value::Object(Map::new()),
    }
}
