//! How the plugin is, said when it is another than what was said last; and what is said of the book in either mode.

use std::sync::{Mutex, PoisonError};

use bootd_sdk::prelude::*;
use bootd_sdk::text::{counted, shown};
use bootd_sdk::wire::{Health, Mistake};

use crate::book::Book;

/// What was said.
pub(crate) struct Status {
    host: Host,
    said: Mutex<Option<Health>>,
}

impl Status {
    /// Nothing was said yet.
    pub(crate) fn new(host: Host) -> Self {
        Self {
            host,
            said: Mutex::default(),
        }
    }

    /// Says it when it is new.
    pub(crate) fn say(&self, health: Health) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.as_ref() != Some(&health) {
            self.host.health(&health);
            *said = Some(health);
        }
    }
}

/// What there is.
pub(crate) fn line(book: &Book) -> String {
    let (groups, overrides) = (book.documents.groups.len(), book.overrides().count());
    format!(
        "{} and {}",
        counted(groups, "group"),
        counted(overrides, "node override")
    )
}

/// Stored rows that cannot be read.
pub(crate) fn unread(book: &Book) -> impl Iterator<Item = Mistake> + '_ {
    book.unread.iter().map(|key| Mistake {
        file: "store".into(),
        line: 0,
        text: format!(
            "{} cannot be read and is left out; delete it, or write it again",
            shown(key)
        ),
    })
}
