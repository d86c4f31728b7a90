//! The boot parameters, kept: a [`Book`] that readers get without waiting, and writers change one after the other.
//!
//! A write is in the store before it is in the book, and in the book before anybody hears of it. A writer's lock is held while the store
//! writes; readers never wait for it. Another instance may write to the same store while one takes the place of the other: each write
//! counts a revision up, and one that finds another revision than its book's decides anew.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use bootd_sdk::wire::Commit;
use bootd_sdk::{Host, HostError};

use crate::book::{Book, Draft};

/// The book and its store.
pub(crate) struct Ledger {
    host: Host,
    book: RwLock<Arc<Book>>,
    /// The revision of the book.
    writer: Mutex<u64>,
}

/// What came of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Written {
    /// The book is another.
    New,
    /// All was so already.
    Same,
}

/// Why a write did not happen.
#[derive(Debug)]
pub(crate) enum NotWritten<R> {
    /// It was refused.
    Refused(R),
    /// The store did not take it.
    Store(HostError),
}

impl Ledger {
    /// Reads what the store has.
    pub(crate) fn open(host: Host) -> Result<Self, HostError> {
        let (book, revision) = read(host)?;
        Ok(Self {
            host,
            book: RwLock::new(Arc::new(book)),
            writer: Mutex::new(revision),
        })
    }

    /// The newest book.
    pub(crate) fn book(&self) -> Arc<Book> {
        Arc::clone(&self.book.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Writes what `decide` makes of the newest book. It may be asked again, with a newer one.
    pub(crate) fn write<R>(&self, decide: impl Fn(&Book) -> Result<Draft, R>) -> Result<Written, NotWritten<R>> {
        let mut revision = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        for _ in 0..MOST_TRIES {
            let draft = decide(&self.book()).map_err(NotWritten::Refused)?;
            let (book, mut put, delete) = draft.done();
            if put.is_empty() && delete.is_empty() {
                return Ok(Written::Same);
            }
            let next = revision.saturating_add(1);
            put.insert(REVISION.into(), next.to_string());
            let known = (*revision > 0).then(|| revision.to_string());
            let commit = Commit {
                expect: BTreeMap::from([(REVISION.into(), known)]),
                put,
                delete,
            };
            if self.host.store_commit(&commit).map_err(NotWritten::Store)? {
                *revision = next;
                self.swap(book);
                self.host.bump();
                return Ok(Written::New);
            }
            let (book, newer) = read(self.host).map_err(NotWritten::Store)?;
            *revision = newer;
            self.swap(book);
        }
        Err(NotWritten::Store(HostError::Failed(
            "others write all the time; try again".into(),
        )))
    }

    /// Reads what another instance wrote since.
    pub(crate) fn catch_up(&self) -> Result<Written, HostError> {
        let mut revision = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let known = (*revision > 0).then(|| revision.to_string());
        if self.host.store_get(REVISION)? == known {
            return Ok(Written::Same);
        }
        let (book, newer) = read(self.host)?;
        *revision = newer;
        self.swap(book);
        Ok(Written::New)
    }

    fn swap(&self, book: Book) {
        *self.book.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(book);
    }
}

fn read(host: Host) -> Result<(Book, u64), HostError> {
    let mut store = BTreeMap::new();
    for prefix in ["config/", "host/", "mac/", "nid/", "applied", REVISION] {
        store.append(&mut host.store_scan(prefix)?);
    }
    let (book, unread) = Book::read(&store);
    if unread > 0 {
        tracing::error!(unread, "stored boot parameters that cannot be read are left out");
    }
    let revision = store.get(REVISION).and_then(|text| text.parse().ok()).unwrap_or(0);
    Ok((book, revision))
}

/// The key of the number that each write counts up.
const REVISION: &str = "revision";
/// How often a write decides anew because another instance wrote meanwhile.
const MOST_TRIES: usize = 8;
