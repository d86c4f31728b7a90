//! How many info lines clients can cause: as many as boots need, and a flood of packets is no flood of lines.
//!
//! A bucket: [`BURST`] lines at once, one [`EACH`] in the long run, which is 200 a second. What is left out is counted, and said at most
//! once a second. The time is passed in.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Allows lines, all threads together. None of them waits for another.
#[derive(Debug)]
pub(crate) struct Lines {
    start: Instant,
    /// Microseconds after `start` at which the bucket is full again.
    full: AtomicU64,
    left_out: AtomicU64,
    /// Microseconds after `start` at which it was said how many were left out.
    said: AtomicU64,
}

impl Lines {
    /// With room for a burst.
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            start: now,
            full: AtomicU64::new(0),
            left_out: AtomicU64::new(0),
            said: AtomicU64::new(0),
        }
    }

    /// Whether a line may be written; otherwise it is counted.
    pub(crate) fn may_write(&self, now: Instant) -> bool {
        let now = self.since_start(now);
        let mut full = self.full.load(Ordering::Relaxed);
        loop {
            let then = full.max(now) + EACH;
            if then - now > BURST * EACH {
                self.left_out.fetch_add(1, Ordering::Relaxed);
                return false;
            }
            match self
                .full
                .compare_exchange_weak(full, then, Ordering::Relaxed, Ordering::Relaxed)
            {
                Ok(_) => return true,
                Err(other) => full = other,
            }
        }
    }

    /// How many lines were left out, when there were some and it is time to say so.
    pub(crate) fn left_out(&self, now: Instant) -> Option<u64> {
        if self.left_out.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let (now, said) = (self.since_start(now), self.said.load(Ordering::Relaxed));
        if now.saturating_sub(said) < BETWEEN {
            return None;
        }
        // Another thread may say it at the same time.
        let mine = self
            .said
            .compare_exchange(said, now, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok();
        mine.then(|| self.left_out.swap(0, Ordering::Relaxed))
    }

    fn since_start(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.start).as_micros()).unwrap_or(u64::MAX / 2)
    }
}

/// Lines at once: some racks that power on.
const BURST: u64 = 1000;
/// The time for a line after that, in microseconds.
const EACH: u64 = 5_000;
/// Between two words about those left out, in microseconds.
const BETWEEN: u64 = 1_000_000;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SECOND: Duration = Duration::from_micros(BETWEEN);

    #[test]
    fn a_burst_is_written_and_a_flood_is_counted() {
        let start = Instant::now();
        let lines = Lines::new(start);
        assert!((0..1000).all(|_| lines.may_write(start)));
        assert_eq!(lines.left_out(start + SECOND), None);
        let mut written = 0;
        // 25 packets a millisecond for ten seconds.
        for packet in 0..250_000 {
            let now = start + Duration::from_micros(40 * packet);
            written += u32::from(lines.may_write(now));
        }
        assert!((1990..=2000).contains(&written), "{written}");
        let end = start + Duration::from_secs(10);
        assert_eq!(lines.left_out(end), Some(250_000 - u64::from(written)));
        assert!(!(0..1000).all(|_| lines.may_write(end)));
        assert_eq!(lines.left_out(end), None);
        assert!(lines.left_out(end + SECOND).is_some());
        assert!((0..1000).all(|_| lines.may_write(end + Duration::from_secs(6))));
    }
}
