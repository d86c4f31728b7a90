//! How many info lines clients can cause: as many as boots need, and a flood of packets is no flood of lines.
//!
//! A bucket: [`BURST`] lines at once, one [`EACH`] in the long run, which is 200 a second. What is left out is counted, and said at most
//! once a second. The time is passed in.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Allows lines, all threads together.
#[derive(Debug)]
pub(crate) struct Lines(Mutex<Bucket>);

#[derive(Debug)]
struct Bucket {
    /// Lines that may be written now.
    room: u32,
    filled: Instant,
    left_out: u64,
    said: Instant,
}

impl Lines {
    /// With room for a burst.
    pub(crate) fn new(now: Instant) -> Self {
        Self(Mutex::new(Bucket {
            room: BURST,
            filled: now,
            left_out: 0,
            said: now,
        }))
    }

    /// Whether a line may be written; otherwise it is counted.
    pub(crate) fn may_write(&self, now: Instant) -> bool {
        let mut bucket = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        bucket.fill(now);
        match bucket.room.checked_sub(1) {
            Some(room) => {
                bucket.room = room;
                true
            }
            None => {
                bucket.left_out += 1;
                false
            }
        }
    }

    /// How many lines were left out, when there were some and it is time to say so.
    pub(crate) fn left_out(&self, now: Instant) -> Option<u64> {
        let mut bucket = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if bucket.left_out == 0 || now.saturating_duration_since(bucket.said) < BETWEEN {
            return None;
        }
        bucket.said = now;
        Some(std::mem::take(&mut bucket.left_out))
    }
}

impl Bucket {
    fn fill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.filled);
        let lines = u32::try_from(passed.as_micros() / EACH.as_micros()).unwrap_or(u32::MAX);
        self.room = self.room.saturating_add(lines).min(BURST);
        // What is not enough for a line counts for the next one.
        self.filled += EACH * lines;
    }
}

/// Lines at once: some racks that power on.
const BURST: u32 = 1000;
/// The time for a line after that.
const EACH: Duration = Duration::from_millis(5);
/// Between two words about those left out.
const BETWEEN: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_written_and_a_flood_is_counted() {
        let start = Instant::now();
        let lines = Lines::new(start);
        assert!((0..1000).all(|_| lines.may_write(start)));
        assert_eq!(lines.left_out(start + BETWEEN), None);
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
        assert!(lines.left_out(end + BETWEEN).is_some());
        assert!((0..1000).all(|_| lines.may_write(end + Duration::from_secs(6))));
    }
}
