//! What a site lists takes the place of all that was there. Pure: from a book and a list to the next book.
//!
//! Whom an entry that cannot be used is for keeps what it had. Where a target stands in lists stays; new ones follow in the site's order. What
//! local files said counts no more: in local mode again they are applied afresh, and all else stays as the site said it last.

use crate::book::{Applied, Book, By, Draft};
use crate::entry::Target;
use crate::listed::Listed;

/// The next book, when the site lists this.
pub(crate) fn mirror(book: &Book, listed: &Listed) -> Draft {
    let mut draft = Draft::of(book);
    for target in gone(book, listed) {
        draft.remove(target);
    }
    for entry in &listed.entries {
        for target in entry.targets() {
            draft.set(&target, &entry.config, By::Site);
        }
    }
    if !book.applied.is_empty() {
        draft.apply(Applied::new());
    }
    draft
}

/// How many targets would be lost, whoever wrote them.
pub(crate) fn lost(book: &Book, listed: &Listed) -> usize {
    gone(book, listed).count()
}

fn gone<'b>(book: &'b Book, listed: &'b Listed) -> impl Iterator<Item = &'b Target> {
    book.each_target().filter(|target| !listed.has(target))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bootd_sdk::changes::Changes;
    use serde_json::{Value, json};

    use super::*;
    use crate::apply::{self, Gone};
    use crate::file::{Files, Text, read_text};
    use crate::listed::boot_parameters;

    fn taken(book: &Book, list: &Value) -> (Book, BTreeMap<String, String>, Vec<String>) {
        mirror(book, &boot_parameters(&list.to_string()).unwrap()).done()
    }

    fn listing(book: &Book) -> Vec<String> {
        let entries = book.entries(None);
        let targets =
            |entry: &crate::entry::Entry| entry.targets().map(|t| t.to_string()).collect::<Vec<_>>().join(" ");
        entries
            .iter()
            .map(|entry| format!("{}: {}", entry.config.kernel, targets(entry)))
            .collect()
    }

    #[test]
    fn what_is_gone_goes_what_changed_changes_and_the_order_is_the_sites() {
        let (book, put, delete) = taken(
            &Book::default(),
            &json!([{"nids": [3, 1], "kernel": "k"}, {"macs": ["525400beef02"], "hosts": ["Default"], "kernel": "d"}]),
        );
        assert_eq!(
            listing(&book),
            ["k: NID 3 NID 1", "d: host Default MAC 52:54:00:be:ef:02"]
        );
        assert_eq!((put.len(), delete.len()), (6, 0));
        let list = json!([{"hosts": ["Default"], "kernel": "d"}, {"nids": [1, 3, 7], "kernel": "l"}]);
        let (book, put, delete) = taken(&book, &list);
        assert_eq!(listing(&book), ["l: NID 3 NID 1 NID 7", "d: host Default"]);
        assert_eq!(put.keys().collect::<Vec<_>>(), ["config/2", "nid/1", "nid/3", "nid/7"]);
        assert_eq!(delete, ["config/0", "mac/52:54:00:be:ef:02"]);
        let (_, put, delete) = taken(&book, &list);
        assert!(put.is_empty() && delete.is_empty(), "{put:?} {delete:?}");
    }

    #[test]
    fn targets_that_come_go_and_lead_elsewhere_are_counted() {
        let (book, ..) = taken(&Book::default(), &json!([{"nids": [1, 2, 3], "kernel": "k"}]));
        let list = json!([{"nids": [1], "kernel": "k"}, {"nids": [2, 4, 5], "kernel": "l"}]);
        let changes = |list: &Value| mirror(&book, &boot_parameters(&list.to_string()).unwrap()).changes();
        let (added, removed, changed) = (2, 1, 1);
        assert_eq!(
            changes(&list),
            Changes {
                added,
                removed,
                changed
            }
        );
        assert_eq!(
            changes(&json!([{"nids": [1, 2, 3], "kernel": "k"}])),
            Changes::default()
        );
    }

    #[test]
    fn whom_a_bad_entry_is_for_keeps_what_it_had() {
        let (book, ..) = taken(&Book::default(), &json!([{"nids": [1, 2, 3], "kernel": "k"}]));
        let list = json!([{"nids": [1], "kernel": "a b"}, {"nids": [2], "kernel": "l"}]);
        let listed = boot_parameters(&list.to_string()).unwrap();
        assert_eq!(lost(&book, &listed), 1);
        assert_eq!(listing(&mirror(&book, &listed).done().0), ["k: NID 1", "l: NID 2"]);
    }

    #[test]
    fn files_are_applied_afresh_after_the_site() {
        let mut files = Files::default();
        let text = "- {kernel: http://h/file, nids: [1, 2]}\n";
        assert_eq!(read_text("f", text, Text::File, &mut files), []);
        let local = apply::apply(&Book::default(), &files.entries, Gone::Deleted).done().0;
        let (book, put, _) = taken(&local, &json!([{"nids": [2, 3], "kernel": "k"}]));
        assert_eq!(listing(&book), ["k: NID 2 NID 3"]);
        assert_eq!(put["applied"], "[]");
        let again = apply::apply(&book, &files.entries, Gone::Deleted).done().0;
        assert_eq!(listing(&again), ["http://h/file: NID 2 NID 1", "k: NID 3"]);
    }
}
