//! Where boot parameters come from, besides the API: files that are looked at again and again, or a site.

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use bootd_sdk::prelude::*;
use bootd_sdk::sources::{Seen, Sources};
use bootd_sdk::text::counted;
use bootd_sdk::wire::Health;

use crate::apply::{self, Gone};
use crate::file::{self, Files};
use crate::ledger::{Ledger, NotWritten, Written};
use crate::routes;
use crate::settings::Local;
use crate::site::Mirrored;

/// The one of this instance.
pub(crate) enum Source {
    Files(Watched),
    Site(Box<Mirrored>),
}

/// Files that are looked at, and applied.
pub(crate) struct Watched {
    sources: Sources<Files>,
    count: usize,
    seen: Mutex<Seen>,
    /// What is gone from the files is not deleted yet, or they could not be applied: the next look goes on.
    unfinished: AtomicBool,
}

impl Source {
    pub(crate) fn written(&self) -> routes::Written {
        match self {
            Self::Files(_) => routes::Written::Here,
            Self::Site(_) => routes::Written::There,
        }
    }
}

impl Watched {
    pub(crate) fn open(
        settings: &Local,
        folder: &std::path::Path,
        ledger: &Ledger,
    ) -> Result<(Self, Written), HostError> {
        let (sources, seen) = Sources::open(&settings.boot.below(folder), file::read);
        let watched = Self {
            unfinished: AtomicBool::new(sources.is_whole()),
            count: settings.boot.0.len(),
            seen: Mutex::new(seen),
            sources,
        };
        let written = watched.apply(ledger, Gone::Waits)?;
        Ok((watched, written))
    }

    pub(crate) fn look(&self, ledger: &Ledger) {
        let seen = self.sources.look();
        let gone = match &seen {
            Some(seen) => {
                tracing::info!(mistakes = seen.mistakes.len(), "data files read again");
                Some(Gone::Waits)
            }
            None if !self.unfinished.load(Ordering::Relaxed) => None,
            // As they were a second ago: what is gone from them is gone.
            None if self.sources.is_whole() => Some(Gone::Deleted),
            None => Some(Gone::Waits),
        };
        if let Some(gone) = gone {
            let applied = self.apply(ledger, gone);
            if let Err(error) = &applied {
                tracing::warn!(%error, "boot parameter files are not applied yet");
            }
            let may_delete = gone == Gone::Waits && self.sources.is_whole();
            self.unfinished.store(applied.is_err() || may_delete, Ordering::Relaxed);
        }
        if let Some(seen) = seen {
            *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = seen;
        }
    }

    fn apply(&self, ledger: &Ledger, gone: Gone) -> Result<Written, HostError> {
        let files = self.sources.data();
        let written = ledger.write(|book| Ok::<_, Infallible>(apply::apply(book, &files.entries, gone)));
        written.map_err(|not_written| match not_written {
            NotWritten::Store(error) => error,
            NotWritten::Refused(never) => match never {},
        })
    }

    pub(crate) fn health(&self, line: &str) -> Health {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        Health {
            text: seen.said(&format!("{line}; {} applied", counted(self.count, "file"))),
            mistakes: seen.mistakes.clone(),
        }
    }
}
