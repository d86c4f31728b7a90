//! How the plugin is: what is wrong with its files and its store, and one line of what it has. Said when a look finds it another than what
//! was said last.

use std::sync::{Mutex, PoisonError};

use bootd_sdk::prelude::*;
use bootd_sdk::sources::Seen;
use bootd_sdk::text::shown;
use bootd_sdk::wire::{Health, Mistake};

use crate::book::Book;

/// What was said.
pub(crate) struct Status {
    host: Host,
    said: Mutex<Said>,
}

#[derive(Default)]
struct Said {
    seen: Seen,
    health: Option<Health>,
}

impl Status {
    /// Nothing was said yet.
    pub(crate) fn new(host: Host) -> Self {
        Self {
            host,
            said: Mutex::default(),
        }
    }

    /// Says it when it is new. `seen`: what a look at the files found; `None`: they are as they were.
    pub(crate) fn say(&self, seen: Option<Seen>, book: &Book) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(seen) = seen {
            said.seen = seen;
        }
        let health = health(&said.seen, book);
        if said.health.as_ref() != Some(&health) {
            self.host.health(&health);
            said.health = Some(health);
        }
    }
}

fn health(seen: &Seen, book: &Book) -> Health {
    let documents = &book.documents;
    let (groups, instances) = (documents.groups.len(), documents.instances.len());
    let text = seen.said(&format!("{groups} groups and {instances} node overrides"));
    let unread = book.unread.iter().map(|key| Mistake {
        file: "store".into(),
        line: 0,
        text: format!(
            "{} cannot be read and is left out; delete it, or write it again",
            shown(key)
        ),
    });
    let mistakes = seen.mistakes.iter().cloned().chain(unread).collect();
    Health { text, mistakes }
}
