//! Local mode: the data files are looked at, and what they say is brought into effect.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use bootd_sdk::sources::{Seen, Sources};
use bootd_sdk::wire::Health;

use crate::CloudInit;
use crate::apply::{self, Gone};
use crate::book::Book;
use crate::file::{self, Files, Kind};
use crate::ledger::{Ledger, NotWritten, Written};
use crate::settings::LocalSettings;
use crate::status;

/// The files.
pub(crate) struct Local {
    sources: Sources<Files>,
    seen: Mutex<Seen>,
    /// What is gone from the files is not deleted yet, or they could not be applied: the next look goes on.
    unfinished: AtomicBool,
}

impl Local {
    /// Reads the files for the first time. What they say is in effect, and is stored with the first write.
    pub(crate) fn open(settings: &LocalSettings, folder: &Path, ledger: &Ledger) -> Self {
        let files = [
            (Kind::Defaults, settings.defaults.iter().collect::<Vec<_>>()),
            (Kind::Groups, settings.groups.0.iter().collect()),
            (Kind::Instances, settings.instances.iter().collect()),
        ];
        let files: Vec<(Kind, PathBuf)> = files
            .iter()
            .flat_map(|(kind, paths)| paths.iter().map(|path| (*kind, folder.join(path))))
            .collect();
        let (kinds, paths): (Vec<_>, Vec<_>) = files.into_iter().unzip();
        let (sources, seen) = Sources::open(&paths, move |place, name, text, files: &mut Files| {
            let kind = kinds.get(place).copied().unwrap_or(Kind::Import);
            file::read_text(kind, name, text, files)
        });
        ledger.prepare(apply::apply(&ledger.book(), &sources.data().rows(), Gone::Waits));
        Self {
            seen: Mutex::new(seen),
            unfinished: AtomicBool::new(sources.is_whole()),
            sources,
        }
    }

    /// The instance is in service.
    pub(crate) fn begin(&self, plugin: &CloudInit, caught_up: Written) {
        if caught_up == Written::New || self.apply(&plugin.ledger, Gone::Waits) == Written::New {
            self.apply(&plugin.ledger, Gone::Waits);
            plugin.host.bump();
        }
    }

    /// Looks at the files and brings what is new into effect.
    pub(crate) fn look(&self, plugin: &CloudInit) {
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
        if gone.map(|gone| self.apply(&plugin.ledger, gone)) == Some(Written::New) {
            plugin.host.bump();
        }
        if let Some(seen) = seen {
            *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = seen;
        }
    }

    /// What is wrong with the files and the store, and one line of what there is.
    pub(crate) fn health(&self, book: &Book) -> Health {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        Health {
            text: seen.said(&status::line(book)),
            mistakes: seen.mistakes.iter().cloned().chain(status::unread(book)).collect(),
        }
    }

    /// Writes what the files say. What cannot be stored is tried again at the next look.
    fn apply(&self, ledger: &Ledger, gone: Gone) -> Written {
        let files = self.sources.data().rows();
        let applied = ledger.write(|book| Ok::<_, Infallible>(apply::apply(book, &files, gone)));
        let may_delete = gone == Gone::Waits && self.sources.is_whole();
        self.unfinished.store(applied.is_err() || may_delete, Ordering::Relaxed);
        match applied {
            Ok(written) => written,
            Err(NotWritten::Store(error)) => {
                tracing::error!(%error, "data files cannot be applied");
                Written::Same
            }
            Err(NotWritten::Refused(never)) => match never {},
        }
    }
}
