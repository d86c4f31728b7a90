//! Files are applied, not owned: what they say is written when it is another than they said before, and what others wrote since stays.
//!
//! Pure. What is gone from the files goes only when nobody wrote it since, and only once the files were the same at two looks: a file may be
//! half written and look right.

use std::sync::Arc;

use crate::book::{Applied, Book, By, Draft, applied};
use crate::entry::Entry;

/// What happens to what is gone from the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gone {
    /// It is deleted.
    Deleted,
    /// It stays for now: the files have mistakes, or were changed just now.
    Waits,
}

/// The next book, when the files say this.
pub(crate) fn apply(book: &Book, files: &[Entry], gone: Gone) -> Draft {
    let mut draft = Draft::of(book);
    let before = &book.applied;
    let mut now: Applied = applied(files);
    for entry in files {
        for target in entry.targets() {
            let Some(config) = now.get(&target) else { continue };
            if before.get(&target).is_none_or(|before| before != config) {
                draft.set(&target, config, By::File);
            }
        }
    }
    for (target, config) in before.iter() {
        if now.contains_key(target) {
            continue;
        }
        match gone {
            Gone::Waits => {
                now.insert(target.clone(), Arc::clone(config));
            }
            Gone::Deleted => {
                let row = book.row(target);
                if row.is_some_and(|row| row.by == By::File && row.config() == &**config) {
                    draft.remove(target);
                }
            }
        }
    }
    if now != **before {
        draft.apply(now);
    }
    draft
}
