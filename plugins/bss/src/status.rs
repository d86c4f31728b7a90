//! How the plugin is: what is wrong with its files, and one line of what it has. Said when a look finds it another than what was said last.

use std::sync::{Mutex, PoisonError};

use bootd_sdk::prelude::*;
use bootd_sdk::sources::Seen;
use bootd_sdk::wire::Health;

/// What was said.
pub(crate) struct Status {
    host: Host,
    said: Mutex<Said>,
}

#[derive(Default)]
struct Said {
    seen: Seen,
    text: String,
}

impl Status {
    /// Says what was seen of the files.
    pub(crate) fn new(host: Host, seen: Seen, line: String) -> Self {
        let status = Self {
            host,
            said: Mutex::default(),
        };
        status.say(Some(seen), line);
        status
    }

    /// Says it when it is new. `seen`: what a look at the files found; `None`: they are as they were.
    pub(crate) fn say(&self, seen: Option<Seen>, line: String) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let has_seen = seen.is_some();
        if let Some(seen) = seen {
            said.seen = seen;
        }
        let line = said.seen.said(&line);
        if has_seen || said.text != line {
            let mistakes = said.seen.mistakes.clone();
            said.text.clone_from(&line);
            self.host.health(&Health { text: line, mistakes });
        }
    }
}
