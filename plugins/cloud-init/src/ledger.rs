//! The book, kept: readers get it without waiting, writers change it one after the other.
//!
//! A write is in the store before it is in the book, and in the book before anybody hears of it. A writer's lock is held while the store
//! writes; readers never wait for it. Another instance may write to the same store while one takes the place of the other: each write
//! counts a revision up, and one that finds another revision than its book's decides anew. An instance that is not in service yet writes
//! nothing: what its book has more than the store is pending, and goes with its first write.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use bootd_sdk::wire::Commit;
use bootd_sdk::{Host, HostError};

use crate::book::{self, Book, Draft};

/// The book and its store.
pub(crate) struct Ledger {
    host: Host,
    book: RwLock<Arc<Book>>,
    /// Count what the admin API lists: the cluster's defaults, and the groups.
    editions: [AtomicU64; 2],
    writer: Mutex<Writer>,
}

/// How the book and the store differ.
#[derive(Default)]
struct Writer {
    /// The revision of the store that the book was made of.
    revision: u64,
    /// What the store is to have besides: texts by key, none for those to delete.
    pending: BTreeMap<String, Option<String>>,
}

/// What has a number of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Edition {
    Defaults,
    Groups,
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
        let writer = Writer {
            revision,
            ..Writer::default()
        };
        Ok(Self {
            host,
            book: RwLock::new(Arc::new(book)),
            editions: Default::default(),
            writer: Mutex::new(writer),
        })
    }

    /// Takes a draft into the book, and into the store with the next write.
    pub(crate) fn prepare(&self, draft: Draft) {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let (book, changes) = draft.done();
        writer.pending.extend(changes);
        self.swap(book);
    }

    /// The newest book.
    pub(crate) fn book(&self) -> Arc<Book> {
        Arc::clone(&self.book.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Writes what `decide` makes of the newest book, and what is pending. It may be asked again, with a newer one.
    pub(crate) fn write<R>(&self, decide: impl Fn(&Book) -> Result<Draft, R>) -> Result<Written, NotWritten<R>> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        for _ in 0..MOST_TRIES {
            let (book, changes) = decide(&self.book()).map_err(NotWritten::Refused)?.done();
            let written = if changes.is_empty() {
                Written::Same
            } else {
                Written::New
            };
            let mut commit = Commit {
                expect: BTreeMap::from([(REVISION.into(), known(writer.revision))]),
                ..Commit::default()
            };
            let mut all = writer.pending.clone();
            all.extend(changes);
            if all.is_empty() {
                return Ok(Written::Same);
            }
            for (key, text) in all {
                match text {
                    Some(text) => drop(commit.put.insert(key, text)),
                    None => commit.delete.push(key),
                }
            }
            let next = writer.revision.saturating_add(1);
            commit.put.insert(REVISION.into(), next.to_string());
            if self.host.store_commit(&commit).map_err(NotWritten::Store)? {
                *writer = Writer {
                    revision: next,
                    ..Writer::default()
                };
                self.swap(book);
                return Ok(written);
            }
            self.read_again(&mut writer).map_err(NotWritten::Store)?;
            self.host.bump();
        }
        let text = "others write all the time; try again".to_owned();
        Err(NotWritten::Store(HostError::Failed(text)))
    }

    /// Reads what another instance wrote since. What was pending is to be decided anew then.
    pub(crate) fn catch_up(&self) -> Result<Written, HostError> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let stored = self.host.store_get(REVISION)?;
        // Without a store (bootd check) there is no revision, and nobody else.
        if stored.is_none() || stored == known(writer.revision) {
            return Ok(Written::Same);
        }
        self.read_again(&mut writer)?;
        Ok(Written::New)
    }

    fn read_again(&self, writer: &mut Writer) -> Result<(), HostError> {
        let (book, revision) = read(self.host)?;
        *writer = Writer {
            revision,
            ..Writer::default()
        };
        self.swap(book);
        Ok(())
    }

    /// A number that is another whenever these are others. To be asked before the book: an older number for a newer book costs a client an
    /// answer that it has, the other way round would keep a newer answer from it.
    pub(crate) fn edition(&self, of: Edition) -> u64 {
        self.edition_of(of).load(Ordering::Acquire)
    }

    fn edition_of(&self, of: Edition) -> &AtomicU64 {
        let [defaults, groups] = &self.editions;
        match of {
            Edition::Defaults => defaults,
            Edition::Groups => groups,
        }
    }

    fn swap(&self, book: Book) {
        let before = self.book();
        let (new, old) = (&book.documents, &before.documents);
        let defaults = new.defaults != old.defaults;
        let mut both = new.groups.iter().zip(&old.groups);
        let groups = new.groups.len() != old.groups.len()
            || both.any(|((name, group), (other, before))| name != other || !Arc::ptr_eq(group, before));
        *self.book.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(book);
        for (of, is_new) in [(Edition::Defaults, defaults), (Edition::Groups, groups)] {
            self.edition_of(of).fetch_add(u64::from(is_new), Ordering::AcqRel);
        }
    }
}

fn known(revision: u64) -> Option<String> {
    (revision > 0).then(|| revision.to_string())
}

fn read(host: Host) -> Result<(Book, u64), HostError> {
    let mut store = BTreeMap::new();
    for prefix in book::PREFIXES {
        store.append(&mut host.store_scan(prefix)?);
    }
    let book = Book::read(&store);
    if !book.unread.is_empty() {
        tracing::error!(
            unread = book.unread.len(),
            "stored cloud-init data that cannot be read are left out"
        );
    }
    let revision = host.store_get(REVISION)?.and_then(|text| text.parse().ok());
    Ok((book, revision.unwrap_or(0)))
}

/// The key of the number that each write counts up.
const REVISION: &str = "revision";
/// How often a write decides anew because another instance wrote meanwhile.
const MOST_TRIES: usize = 32;
