//! The boot parameters, kept: a [`Book`] that readers get without waiting, and writers change one after the other.
//!
//! A write is in the store before it is in the book, and in the book before anybody hears of it. A writer's lock is held while the store
//! writes; readers never wait for it. Another instance may write to the same store while one takes the place of the other: each write
//! counts a revision up, and one that finds another revision than its book's decides anew.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use bootd_sdk::etag::Tags;
use bootd_sdk::wire::Commit;
use bootd_sdk::{Host, HostError};

use crate::book::{Book, Draft};

/// The book and its store.
pub(crate) struct Ledger {
    host: Host,
    now: RwLock<Edition>,
    /// Held by who writes.
    writer: Mutex<()>,
    tags: Tags,
}

/// A book, and which one it is.
#[derive(Clone)]
struct Edition {
    book: Arc<Book>,
    revision: u64,
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
        Ok(Self {
            host,
            now: RwLock::new(read(host)?),
            writer: Mutex::default(),
            tags: Tags::default(),
        })
    }

    /// The newest book.
    pub(crate) fn book(&self) -> Arc<Book> {
        self.now().book
    }

    /// The newest book, and the entity tag of what is listed of it.
    pub(crate) fn tagged(&self) -> (Arc<Book>, String) {
        let Edition { book, revision } = self.now();
        (book, self.tags.tag(revision))
    }

    /// Writes what `decide` makes of the newest book. It may be asked again, with a newer one.
    pub(crate) fn write<R>(&self, decide: impl Fn(&Book) -> Result<Draft, R>) -> Result<Written, NotWritten<R>> {
        let _writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        for _ in 0..MOST_TRIES {
            let Edition { book, revision } = self.now();
            let draft = decide(&book).map_err(NotWritten::Refused)?;
            let (book, mut put, delete) = draft.done();
            if put.is_empty() && delete.is_empty() {
                return Ok(Written::Same);
            }
            let next = revision.saturating_add(1);
            put.insert(REVISION.into(), next.to_string());
            let commit = Commit {
                expect: BTreeMap::from([(REVISION.into(), stored(revision))]),
                put,
                delete,
            };
            if self.host.store_commit(&commit).map_err(NotWritten::Store)? {
                self.swap(Edition {
                    book: Arc::new(book),
                    revision: next,
                });
                self.host.bump();
                return Ok(Written::New);
            }
            self.swap(read(self.host).map_err(NotWritten::Store)?);
        }
        Err(NotWritten::Store(HostError::Failed(
            "others write all the time; try again".into(),
        )))
    }

    /// Reads what another instance wrote since.
    pub(crate) fn catch_up(&self) -> Result<Written, HostError> {
        let _writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if self.host.store_get(REVISION)? == stored(self.now().revision) {
            return Ok(Written::Same);
        }
        self.swap(read(self.host)?);
        Ok(Written::New)
    }

    fn now(&self) -> Edition {
        self.now.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn swap(&self, next: Edition) {
        *self.now.write().unwrap_or_else(PoisonError::into_inner) = next;
    }
}

/// A revision as the store has it. Before the first write there is none.
fn stored(revision: u64) -> Option<String> {
    (revision > 0).then(|| revision.to_string())
}

fn read(host: Host) -> Result<Edition, HostError> {
    let mut store = BTreeMap::new();
    for prefix in ["config/", "host/", "mac/", "nid/", "applied", REVISION] {
        store.append(&mut host.store_scan(prefix)?);
    }
    let (book, unread) = Book::read(&store);
    if unread > 0 {
        tracing::error!(unread, "stored boot parameters that cannot be read are left out");
    }
    let revision = store.get(REVISION).and_then(|text| text.parse().ok()).unwrap_or(0);
    Ok(Edition {
        book: Arc::new(book),
        revision,
    })
}

/// The key of the number that each write counts up.
const REVISION: &str = "revision";
/// How often a write decides anew because another instance wrote meanwhile.
const MOST_TRIES: usize = 32;
