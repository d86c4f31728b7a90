//! The lowest rate at which an origin may bring an object that is being fetched.
//!
//! A fetch holds one of few places, so an origin that drips, or breaks after every few bytes, must not have it for ever. Only the time that is
//! spent on waiting for the origin counts; a slow disk is not its fault. Pure: the fill tells how long it waited and what came.

use std::time::Duration;

/// The lowest rate, over one window.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lowest {
    /// So long an origin is waited for,
    pub(super) window: Duration,
    /// and these bytes it must have brought by then.
    pub(super) bytes: u64,
    /// Windows in a row with less, with which a fetch is over.
    pub(super) windows: u32,
}

/// How fast a fetch is.
#[derive(Debug)]
pub(super) struct Rate {
    lowest: Lowest,
    waited: Duration,
    brought: u64,
    slow: u32,
}

/// What becomes of a fetch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Going {
    /// It goes on.
    On,
    /// It stalls: the connection is worth no more, another one may be.
    Stalled,
    /// It stalled too often.
    Over,
}

impl Lowest {
    /// 1 KiB/s over a minute, and three minutes at most below that: a line that is so slow takes twelve days for 1 GiB.
    pub(super) const OF_ORIGINS: Self = Self {
        window: Duration::from_secs(60),
        bytes: 60 << 10,
        windows: 3,
    };
}

impl Rate {
    pub(super) fn new(lowest: Lowest) -> Self {
        Self {
            lowest,
            waited: Duration::ZERO,
            brought: 0,
            slow: 0,
        }
    }

    /// How long the origin may be waited for before [`Rate::took`] wants to know.
    pub(super) fn left(&self) -> Duration {
        self.lowest.window.saturating_sub(self.waited)
    }

    /// So long it was waited for, and this came.
    pub(super) fn took(&mut self, waited: Duration, bytes: u64) -> Going {
        self.waited = self.waited.saturating_add(waited);
        self.brought = self.brought.saturating_add(bytes);
        if self.waited < self.lowest.window {
            return Going::On;
        }
        let is_slow = self.brought < self.lowest.bytes;
        (self.waited, self.brought) = (Duration::ZERO, 0);
        self.slow = if is_slow { self.slow.saturating_add(1) } else { 0 };
        match self.slow {
            0 => Going::On,
            slow if slow < self.lowest.windows => Going::Stalled,
            _ => Going::Over,
        }
    }
}

impl std::fmt::Display for Lowest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let window = humantime::format_duration(self.window);
        write!(f, "the origin brought less than {} bytes in {window}", self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// What becomes of a fetch that brings so many bytes each second, and when that is said.
    fn dripping(each_second: u64) -> Vec<(u64, Going)> {
        let mut rate = Rate::new(Lowest::OF_ORIGINS);
        let going = (1..=300).map(|second| (second, rate.took(SECOND, each_second)));
        going.filter(|(_, going)| *going != Going::On).take(3).collect()
    }

    #[test]
    fn what_drips_stalls_after_a_minute_and_is_over_after_three() {
        let ends = [(60, Going::Stalled), (120, Going::Stalled), (180, Going::Over)];
        assert_eq!(dripping(0), ends);
        assert_eq!(dripping(1), ends);
        assert_eq!(dripping(1023), ends);
        assert_eq!(dripping(1024), []);
    }

    #[test]
    fn a_good_minute_makes_up_for_two_bad_ones() {
        let mut rate = Rate::new(Lowest::OF_ORIGINS);
        let minute = Duration::from_secs(60);
        for _ in 0..10 {
            assert_eq!(rate.took(minute, 1), Going::Stalled);
            assert_eq!(rate.took(minute, 1), Going::Stalled);
            assert_eq!(rate.took(minute, 1 << 20), Going::On);
        }
    }

    #[test]
    fn only_waiting_counts() {
        let mut rate = Rate::new(Lowest::OF_ORIGINS);
        for _ in 0..100_000 {
            assert_eq!(rate.took(Duration::ZERO, 1), Going::On);
        }
        assert_eq!(rate.left(), Duration::from_secs(60));
        rate.took(SECOND, 0);
        assert_eq!(rate.left(), Duration::from_secs(59));
    }
}
