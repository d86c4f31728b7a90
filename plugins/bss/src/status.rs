//! How the plugin is: what is wrong with its files or its site, and one line of what it has. Said when it is another than what was said last.

use std::sync::{Mutex, PoisonError};

use bootd_sdk::prelude::*;
use bootd_sdk::wire::Health;

/// What was said.
pub(crate) struct Status {
    host: Host,
    said: Mutex<Option<Health>>,
}

impl Status {
    /// Says nothing yet.
    pub(crate) fn new(host: Host) -> Self {
        Self {
            host,
            said: Mutex::default(),
        }
    }

    /// Says it when it is new. Of two who say something at once, the last one knows what the first one knew.
    pub(crate) fn say(&self, health: impl FnOnce() -> Health) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let health = health();
        if said.as_ref() != Some(&health) {
            self.host.health(&health);
            *said = Some(health);
        }
    }
}
