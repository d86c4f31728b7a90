//! Whether somebody gets no file for want of a place: written by the service, read by who shows its state. Nothing waits for either.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Whether somebody gets no file for want of a place.
#[derive(Debug)]
pub struct Trouble {
    reads: usize,
    start: Instant,
    /// How many did not, and seconds from the start to the last one.
    refused: AtomicU64,
    last: AtomicU64,
}

impl Trouble {
    pub(super) fn new(reads: usize) -> Self {
        Self {
            reads,
            start: Instant::now(),
            refused: AtomicU64::new(0),
            last: AtomicU64::new(0),
        }
    }

    /// Somebody got none, now.
    pub(super) fn had_no_place(&self) {
        self.last.store(self.start.elapsed().as_secs(), Ordering::Relaxed);
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// What is wrong, if it was so within the last minutes.
    pub fn text(&self) -> Option<String> {
        let refused = self.refused.load(Ordering::Relaxed);
        let ago = self.start.elapsed().as_secs() - self.last.load(Ordering::Relaxed);
        (refused > 0 && ago < TROUBLE_LASTS).then(|| {
            format!(
                "tftp: all {} transfers at once were taken, {refused} requests were refused so far, the last one {ago} s ago: \
                 bootd_done_total says how transfers end",
                self.reads
            )
        })
    }
}

/// In seconds.
const TROUBLE_LASTS: u64 = 300;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_how_many_got_no_place() {
        let trouble = Trouble::new(4096);
        assert_eq!(trouble.text(), None);
        trouble.had_no_place();
        trouble.had_no_place();
        let text = trouble.text().unwrap();
        assert!(
            text.starts_with("tftp: all 4096 transfers at once were taken, 2 requests were refused so far"),
            "{text}"
        );
    }
}
