//! Files are applied, not owned: what they say is written when it is another than they said before, and what others wrote since stays.
//!
//! Pure. What is gone from the files goes only when nobody wrote it since, and only once the files were the same at two looks: a file may be
//! half written and look right.

use crate::book::{Book, By, Draft, Rows};

/// What happens to what is gone from the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gone {
    /// It is deleted.
    Deleted,
    /// It stays for now: the files have mistakes, or were changed just now.
    Waits,
}

/// The next book, when the files say this.
pub(crate) fn apply(book: &Book, files: &Rows, gone: Gone) -> Draft {
    let mut draft = Draft::of(book);
    let mut now = files.clone();
    for (key, value) in files {
        if book.applied.get(key) != Some(value) {
            draft.set(key, value, By::File);
        }
    }
    for (key, value) in &book.applied {
        if now.contains_key(key) {
            continue;
        }
        match gone {
            Gone::Waits => drop(now.insert(key.clone(), value.clone())),
            Gone::Deleted => {
                let ours = book
                    .row(key)
                    .is_some_and(|row| row.by == By::File && row.value == *value);
                if ours {
                    draft.remove(key);
                }
            }
        }
    }
    if now != book.applied {
        draft.note_applied(now);
    }
    draft
}
