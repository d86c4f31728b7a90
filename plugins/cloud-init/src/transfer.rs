//! Export and import of all that is stored, as one YAML document with the seed's files in it: `cluster-defaults`, `groups` and `instances`.
//!
//! An import is all or nothing, and touches nothing that it does not name.

use std::convert::Infallible;

use bootd_sdk::prelude::*;
use serde::Serialize;

use crate::book::{Book, By, Draft};
use crate::emit::{Doc, document};
use crate::file::{Files, Kind, read_text};
use crate::ledger::{Ledger, NotWritten};

/// All, as a file.
pub(crate) fn export(book: &Book) -> Answer {
    let documents = &book.documents;
    let groups = documents.groups.values().map(|group| doc(&group.data)).collect();
    let instances = book.overrides().filter_map(|id| documents.instances.get(id));
    let instances = instances.map(|own| doc(&**own)).collect();
    let body = document(&[
        ("cluster-defaults".into(), doc(&*documents.defaults)),
        ("groups".into(), Doc::List(groups)),
        ("instances".into(), Doc::List(instances)),
    ]);
    Answer::new(200, "application/yaml", body)
}

fn doc<T: Serialize>(value: &T) -> Doc {
    Doc::from(&serde_json::to_value(value).unwrap_or_default())
}

/// Takes a file: 204, or 400 with every mistake.
pub(crate) fn import(ledger: &Ledger, text: &str) -> Answer {
    let mut files = Files::default();
    let mistakes = read_text(Kind::Import, "import", text, &mut files);
    if !mistakes.is_empty() {
        let told: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
        return Answer::problem(400, "Bad Request", &told.join("\n"));
    }
    let rows = files.rows();
    let written = ledger.write(|book| {
        let mut draft = Draft::of(book);
        draft.set_all(&rows, By::Api);
        Ok::<_, Infallible>(draft)
    });
    match written {
        Ok(_) => Answer {
            status: 204,
            ..Answer::default()
        },
        Err(NotWritten::Store(error)) => {
            Answer::problem(500, "Internal Server Error", &format!("nothing was imported: {error}"))
        }
        Err(NotWritten::Refused(never)) => match never {},
    }
}
