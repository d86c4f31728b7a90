//! What is told of a file while it is read: notes, each with the key that it is about, and mistakes.

use std::fmt;

use super::{Kind, Mistake, Note};

/// Notes and mistakes in the order in which they were found.
#[derive(Debug, Default)]
pub(super) struct Told {
    pub(super) notes: Vec<About>,
    pub(super) mistakes: Vec<Mistake>,
}

/// A note and the key of the new configuration beside which it belongs, such as `dhcp.domain`; the empty one is the file itself.
#[derive(Debug)]
pub(super) struct About {
    pub(super) key: String,
    pub(super) note: Note,
}

impl Told {
    pub(super) fn understood(&mut self, place: &str, key: &str, text: impl Into<String>) {
        self.note(Kind::Understood, place, key, text.into());
    }

    pub(super) fn changed(&mut self, place: &str, key: &str, text: impl Into<String>) {
        self.note(Kind::Changed, place, key, text.into());
    }

    pub(super) fn ignored(&mut self, place: &str, key: &str, text: impl Into<String>) {
        self.note(Kind::Ignored, place, key, text.into());
    }

    pub(super) fn wrong(&mut self, place: &str, text: impl Into<String>) {
        self.mistakes.push(Mistake {
            key: place.into(),
            text: text.into(),
        });
    }

    /// The value, or a mistake when there is none.
    pub(super) fn or_wrong<T>(&mut self, value: Option<T>, place: &str, text: impl fmt::Display) -> Option<T> {
        if value.is_none() {
            self.wrong(place, text.to_string());
        }
        value
    }

    fn note(&mut self, kind: Kind, place: &str, key: &str, text: String) {
        self.notes.push(About {
            key: key.into(),
            note: Note {
                kind,
                place: place.into(),
                text,
            },
        });
    }
}
