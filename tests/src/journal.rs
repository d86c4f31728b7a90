//! What happened in the rack, with its time: the answers of the servers and the lines of the consoles, in one list.
//!
//! Writers are the threads that read a process's output; readers poll it through [`crate::eventually`]. An entry's
//! time is the moment at which the harness read it, which is some milliseconds after it happened.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde_json::Value;

/// Who asks for an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The machine's own firmware.
    Firmware,
    /// iPXE.
    Ipxe,
    /// An operating system.
    Os,
}

/// How something was fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// TFTP.
    Tftp,
    /// HTTP GET or HEAD.
    Http,
    /// HTTP POST and others.
    HttpWrite,
}

/// Something that happened.
#[derive(Debug, Clone)]
pub enum Event {
    /// An address was given (DHCPACK).
    Address {
        /// To whom, lower case with colons.
        mac: String,
        /// Which.
        ip: Ipv4Addr,
        /// The asker's stage of the boot.
        stage: Stage,
    },
    /// Something was served in full.
    Served {
        /// To whom.
        peer: Ipv4Addr,
        /// The file or the path, with the query where the server logs it.
        path: String,
        /// By which protocol.
        how: How,
        /// Its size, where the server logs it.
        bytes: u64,
    },
    /// A line on a node's console; the last one may be incomplete, as prompts are.
    Console {
        /// The node's number.
        node: u8,
        /// The line.
        line: String,
    },
    /// A line of bootd's log, as it was.
    Log(Value),
}

/// An event and its time.
#[derive(Debug, Clone)]
pub struct Entry {
    /// When the harness saw it.
    pub at: Instant,
    /// What.
    pub event: Event,
}

/// All entries, in the order in which they came.
#[derive(Debug, Clone, Default)]
pub struct Journal(Arc<Mutex<Vec<Entry>>>);

impl Journal {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Writes something down, now.
    pub fn write(&self, event: Event) {
        let at = Instant::now();
        self.lock().push(Entry { at, event });
    }

    /// How many entries there are: a place from which to read on.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether nothing happened yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The first entry from place `from` on for which `pick` gives something.
    pub fn find<T>(&self, from: usize, mut pick: impl FnMut(&Entry) -> Option<T>) -> Option<T> {
        self.lock().iter().skip(from).find_map(&mut pick)
    }

    /// How many entries from place `from` on match.
    pub fn count(&self, from: usize, mut matches: impl FnMut(&Event) -> bool) -> usize {
        self.lock()
            .iter()
            .skip(from)
            .filter(|entry| matches(&entry.event))
            .count()
    }

    /// All entries from place `from` on.
    pub fn since(&self, from: usize) -> Vec<Entry> {
        self.lock().get(from..).unwrap_or_default().to_vec()
    }

    /// A console line of a node that contains `text`, from place `from` on.
    pub fn console(&self, from: usize, node: u8, text: &str) -> Option<String> {
        self.find(from, |entry| match &entry.event {
            Event::Console { node: n, line } if *n == node && line.contains(text) => Some(line.clone()),
            _ => None,
        })
    }

    /// A line of bootd's log with this message, from place `from` on, for which `matches` holds of its fields.
    pub fn log(&self, from: usize, message: &str, matches: impl Fn(&Value) -> bool) -> Option<Value> {
        self.find(from, |entry| match &entry.event {
            Event::Log(line) if line["fields"]["message"] == message && matches(&line["fields"]) => {
                Some(line["fields"].clone())
            }
            _ => None,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
