//! How long a plugin that failed waits for its next try: pure. One second, then twice as long each time, at most a minute; a plugin that
//! ran well for a minute begins anew.

use std::time::Duration;

/// Failures in a row, as far as waiting is concerned.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// It failed after it ran well for this long. Gives the time until the next try.
    pub(super) fn failed_after(&mut self, ran: Duration) -> Duration {
        if ran >= RAN_WELL {
            self.failures = 0;
        }
        let wait = FIRST.saturating_mul(1 << self.failures.min(16)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        wait
    }
}

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);
/// After this long a failure is a new one.
const RAN_WELL: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_minute_and_begin_anew_after_a_good_minute() {
        let mut backoff = Backoff::default();
        let waits: Vec<u64> = (0..8)
            .map(|_| backoff.failed_after(Duration::from_secs(5)).as_secs())
            .collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(backoff.failed_after(RAN_WELL), FIRST);
        assert_eq!(backoff.failed_after(Duration::ZERO), 2 * FIRST);
        for _ in 0..100 {
            assert!(backoff.failed_after(Duration::ZERO) <= LONGEST);
        }
    }
}
