//! Packets of pool clients that come while another process has the leases yet: they are kept, and decided when the leases are here.
//!
//! A bound number: who comes when it is reached gets no answer and asks again. When the leases are here looking costs one load of a flag.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::prober::Kept;

/// Those that wait. The default: none do, the leases are here.
#[derive(Default)]
pub(super) struct Early {
    awaits: AtomicBool,
    packets: Mutex<Vec<Kept>>,
}

/// What becomes of a packet.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Keeping {
    /// The leases are here: it is decided at once.
    Unneeded,
    /// It waits.
    Kept,
    /// Too many wait.
    Full,
}

impl Early {
    /// The leases are elsewhere.
    pub(super) fn awaiting() -> Self {
        Self {
            awaits: true.into(),
            packets: Mutex::default(),
        }
    }

    /// Has a packet wait, if it must.
    pub(super) fn keep(&self, packet: impl FnOnce() -> Kept) -> Keeping {
        if !self.awaits.load(Ordering::Acquire) {
            return Keeping::Unneeded;
        }
        let mut packets = self.packets();
        if !self.awaits.load(Ordering::Acquire) {
            return Keeping::Unneeded;
        }
        if packets.len() >= MOST {
            return Keeping::Full;
        }
        packets.push(packet());
        Keeping::Kept
    }

    /// The leases are here. What waited for them.
    pub(super) fn end(&self) -> Vec<Kept> {
        let mut packets = self.packets();
        self.awaits.store(false, Ordering::Release);
        std::mem::take(&mut *packets)
    }

    fn packets(&self) -> MutexGuard<'_, Vec<Kept>> {
        self.packets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Packets that wait at once; each has some hundred bytes.
const MOST: usize = 8192;
